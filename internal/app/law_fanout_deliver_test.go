package app

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/contract"
	"posthorn/internal/config"
	"posthorn/webhook"
)

// One event of a tenant with very many endpoints is POSTed to each of them once,
// and another tenant's events, which come on the same partition and go to the
// same partitions of deliveries, don't queue behind it. Every produce takes its
// time here: in virtual time nothing else does, and the fan-out would be over
// before the next event came.
func TestAFanOutIsDeliveredToEveryEndpointOnceBesideATrickle(t *testing.T) {
	n := 4_000 // the hundred thousand belong to the long suites
	switch {
	case os.Getenv("POSTHORN_FANOUT_FULL") != "":
		n = 100_000
	case testing.Short() || underRace:
		n = 1_000
	}
	small := func(c *config.Config) { c.Fanout.TaskSize = n / 50 }
	inVirtualTime(t, small, func(w *world) {
		trickles := make(map[string]time.Time)
		w.receiver(8080, nil)
		w.many("huge", n)
		w.endpoint("trickle")
		p := w.process()
		time.Sleep(5 * time.Second)
		w.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.broker.KeepControl()
			w.broker.SleepControl(func() { time.Sleep(100 * time.Millisecond) })
			return nil, nil, false
		})
		for i := range 100 {
			if i == 5 {
				r := orderOf("huge", "order.created")
				for j := range r.Headers {
					if r.Headers[j].Key == "ce_tenant" {
						r.Headers[j].Value = []byte("huge")
					}
				}
				w.produce(r)
			}
			id := fmt.Sprint("trickle", i)
			trickles[`{"id":"`+id+`"}`] = time.Now()
			w.produce(orderOf(id, "order.created"))
			time.Sleep(50 * time.Millisecond)
		}
		for range 600 {
			if len(w.received("")) >= n+100 {
				break
			}
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		p.terminate()

		seen := make(map[string]int, n)
		var late []time.Duration
		var first, last time.Time
		for _, h := range w.received("") {
			if h.endpoint == "/trickle" {
				late = append(late, h.at.Sub(trickles[h.body]))
				continue
			}
			seen[h.endpoint]++
			if first.IsZero() || h.at.Before(first) {
				first = h.at
			}
			if h.at.After(last) {
				last = h.at
			}
		}
		if tasks := len(w.read("posthorn.fanout")); tasks != 50 {
			t.Errorf("%d tasks, want 50", tasks)
		}
		if len(seen) != n || len(late) != 100 {
			t.Fatalf("%d of %d endpoints and %d of 100 of the trickle", len(seen), n, len(late))
		}
		for path, times := range seen {
			if times != 1 {
				t.Errorf("%s got it %d times", path, times)
			}
		}
		slices.Sort(late)
		t.Logf("the fan-out was delivered over %v; the trickle came after %v (median), %v at most", last.Sub(first), late[50], late[99])
		if late[99] > time.Second {
			t.Errorf("the trickle came up to %v late", late[99])
		}
		for _, s := range w.settlements() {
			if s.Kind != webhook.KindAttempt && s.Kind != webhook.KindPark {
				t.Fatalf("settled as %s: %+v", s.Kind, s)
			}
		}
	})
}

// many registers n endpoints of a tenant, each on a path of its own.
func (w *world) many(tenant string, n int) {
	w.t.Helper()
	rs := make([]*kgo.Record, 0, n)
	for i := range n {
		e := &webhook.Endpoint{ID: fmt.Sprintf("%s%06d", webhook.EndpointPrefix, i), Tenant: tenant, URL: fmt.Sprintf("http://hooks.example.com:8080/%06d", i),
			Contract: contract.Default, CreatedAt: time.Now(), UpdatedAt: time.Now(), Version: 1}
		rs = append(rs, w.sealedRecord(e))
	}
	w.produceAll(rs)
}
