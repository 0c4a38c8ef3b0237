package app

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
)

// The records of a topic that was made anew have the offsets of the old one's,
// and the memory of repeats is as long as a quiet line needs for 10,000 records.
func TestEventsWithoutIDsOfATopicMadeAnewAreNoRepeats(t *testing.T) {
	mapped := func(c *config.Config) {
		c.Sources[0].Format = config.FormatJSON
		c.Sources[0].Type = config.Mapping{Constant: "order.created"}
		c.Sources[0].Tenant = config.Mapping{Constant: "acme"}
	}
	inVirtualTime(t, mapped, func(w *world) {
		const each = 20
		w.receiver(8080, nil)
		w.endpoint("e")
		adm := kadm.NewClient(w.client)
		for _, life := range []string{"first", "second"} {
			p := w.process()
			time.Sleep(5 * time.Second)
			var rs []*kgo.Record
			for i := range each {
				rs = append(rs, &kgo.Record{Topic: "orders", Key: []byte("one partition"), Value: fmt.Appendf(nil, `{"life":%q,"i":%d}`, life, i)})
			}
			w.produceAll(rs)
			time.Sleep(10 * time.Second)
			p.terminate()
			n := 0
			for _, h := range w.received("/e") {
				if strings.Contains(h.body, life) {
					n++
				}
			}
			if n != each {
				t.Errorf("%s life of the topic: %d of %d events were delivered", life, n, each)
			}
			if life == "second" {
				break
			}
			if _, err := adm.DeleteTopic(context.Background(), "orders"); err != nil {
				t.Fatal(err)
			}
			// A broker that deletes a topic drops the commits on it.
			if _, err := adm.DeleteOffsets(context.Background(), "posthorn.match", kadm.TopicsSet{"orders": {0: {}, 1: {}, 2: {}, 3: {}}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
			if _, err := adm.CreateTopic(context.Background(), 4, 1, nil, "orders"); err != nil {
				t.Fatal(err)
			}
		}
	})
}
