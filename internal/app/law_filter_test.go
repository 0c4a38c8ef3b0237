package app

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/webhook"
)

func TestAFilterDecidesWhichEventsOfASubscribedTypeArrive(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"matched at once":      nil,
		"as tasks of a fanout": func(c *config.Config) { c.Fanout.TaskSize = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, change, func(w *world) {
				w.receiver(8080, nil)
				for name, filter := range map[string]string{
					"all": "", "large": "data.total > 100", "eu": `extension.region == "eu"`, "broken": "data.total / data.nothing > 1.0", "troubled": `data.total + "x" == "y"`,
				} {
					e := w.endpoint(name, "order.*")
					e.Filter = filter
					w.put(e)
				}
				p := w.process()
				time.Sleep(5 * time.Second)
				for i, total := range []int{50, 150, 250} {
					r := orderOf(fmt.Sprint("e", i), "order.created")
					r.Value = fmt.Appendf(nil, `{"id":"e%d","total":%d}`, i, total)
					if i == 2 {
						r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_region", Value: []byte("eu")})
					}
					w.produce(r)
				}
				other := orderOf("other", "invoice.created")
				other.Value = []byte(`{"total":1000}`)
				w.produce(other)
				time.Sleep(10 * time.Second)
				for path, want := range map[string]int{"/all": 3, "/large": 2, "/eu": 1, "/broken": 0, "/troubled": 0} {
					if got := len(w.received(path)); got != want {
						t.Errorf("%s got %d, want %d", path, got, want)
					}
				}
				// A filter that is changed counts within a second.
				e := w.endpoint("large", "order.*")
				e.Filter, e.Version = "data.total < 100", 2
				w.put(e)
				time.Sleep(time.Second)
				r := orderOf("late", "order.created")
				r.Value = []byte(`{"total":10}`)
				w.produce(r)
				time.Sleep(10 * time.Second)
				p.terminate()
				if got := w.received("/large"); len(got) != 3 || !slices.ContainsFunc(got, func(h hit) bool { return h.body == `{"total":10}` }) {
					t.Errorf("after the change: %d", len(got))
				}
				troubles := map[string]int{}
				for _, r := range w.read("posthorn.registry") {
					if string(r.Key) == "filter/ep_troubled" {
						var trouble webhook.FilterTrouble
						if err := json.Unmarshal(r.Value, &trouble); err != nil || trouble.Reason != "error" || trouble.At.IsZero() {
							t.Errorf("recorded %s, %v", r.Value, err)
						}
						troubles["troubled"]++
					} else if len(r.Key) > 7 && string(r.Key[:7]) == "filter/" {
						troubles[string(r.Key)]++
					}
				}
				if troubles["troubled"] != 1 || len(troubles) != 1 {
					t.Errorf("troubles recorded: %v, want one of the one endpoint", troubles)
				}
			})
		})
	}
}
