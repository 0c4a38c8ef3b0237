package app

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/internal/config"
	"posthorn/webhook"
)

// countProduced counts the records that are produced from now on, and calls
// enough once when there are more than that many.
func (w *world) countProduced(most int64, enough func()) *atomic.Int64 {
	n := new(atomic.Int64)
	w.broker.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		w.broker.KeepControl()
		for _, topic := range request.(*kmsg.ProduceRequest).Topics {
			for _, partition := range topic.Partitions {
				var batch kmsg.RecordBatch
				if batch.ReadFrom(partition.Records) != nil {
					continue
				}
				added := int64(batch.NumRecords)
				if now := n.Add(added); now > most && now-added <= most {
					go enough()
				}
			}
		}
		return nil, nil, false
	})
	return n
}

// A flood at an endpoint that takes one POST a second: what is put back leaves
// its owner for its turn, also where no tier is as short as a spill's least
// wait, and comes back for nothing only while the pace isn't known. (Records
// count hops too: with a tier of 1 s there are several to each turn.)
func TestWhatIsPutBackDoesNotCircleWhateverTheTiers(t *testing.T) {
	events := 8000
	ladders := [][]time.Duration{
		{time.Second, 10 * time.Second, time.Minute},
		{5 * time.Second, time.Minute, 5 * time.Minute},
		{time.Minute, 5 * time.Minute},
	}
	if underRace { // its minutes go into the bookkeeping of two minutes of virtual time
		events, ladders = 1500, ladders[2:]
	}
	for _, tiers := range ladders {
		t.Run(fmt.Sprint(tiers), func(t *testing.T) {
			inVirtualTime(t, func(c *config.Config) {
				onePartition(c)
				c.Delivery.Tiers = tiers
				c.Delivery.ByteBudget = 8 * config.MiB
				if err := c.Validate(); err != nil {
					t.Fatal(err)
				}
			}, func(w *world) {
				w.receiver(8080, func(_ *hit, _ http.ResponseWriter, r *http.Request) { pause(r, time.Second) })
				w.put(&webhook.Endpoint{ID: webhook.EndpointPrefix + "a", Tenant: "acme", URL: "http://hooks.example.com:8080/a", Contract: "standard",
					MaxInFlight: 1, CreatedAt: time.Now(), UpdatedAt: time.Now(), Version: 1})
				var rs []*kgo.Record
				for i := range events {
					rs = append(rs, orderOf(fmt.Sprint("e", i), "order.created"))
				}
				w.produceAll(rs)
				started := make(chan struct{})
				var p *process
				produced := w.countProduced(int64(20*events), func() { <-started; p.kill() })
				p = w.process()
				close(started)
				time.Sleep(2 * time.Minute)
				posts := len(w.received("/a"))
				w.t.Logf("in two minutes: %d records produced, %d POSTs", produced.Load(), posts)
				if n := produced.Load(); n > int64(20*events) {
					w.t.Fatalf("%d records produced for %d deliveries: they circle", n, events)
				}
				if posts < 60 {
					w.t.Errorf("%d POSTs in two minutes at one a second: the endpoint idles", posts)
				}
				p.terminate()
				parks := count(w.settlements(), func(s *webhook.Settlement) bool { return s.Kind == webhook.KindPark })
				w.t.Logf("put back %d times", parks)
				if parks > 4*events {
					w.t.Errorf("%d were put back %d times in two minutes", events, parks)
				}
			})
		})
	}
}

// Three endpoints that fail slowly, each with enough to fill the byte budget,
// before their breakers can know.
func TestEndpointsThatFailSlowlyDelayNobodyByTheByteBudget(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { onePartition(c); c.Delivery.ByteBudget = 8 * config.MiB }, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(h.endpoint, "/bad") {
				pause(r, 4500*time.Millisecond)
				h.status = 500
			}
		})
		for i := range 3 {
			w.endpoint(fmt.Sprint("bad", i), "bad")
		}
		w.endpoint("fine", "fine")
		p := w.process()
		time.Sleep(5 * time.Second)
		var rs []*kgo.Record
		for i := range 5000 {
			rs = append(rs, orderOf(fmt.Sprint("b", i), "bad"))
		}
		w.produceAll(rs)
		begun := make(map[string]time.Time)
		for i := range 60 {
			id := fmt.Sprint("f", i)
			begun[`{"id":"`+id+`"}`] = time.Now()
			w.produce(orderOf(id, "fine"))
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		fine := w.received("/fine")
		if len(fine) != 60 {
			t.Errorf("%d of 60 delivered", len(fine))
		}
		var worst time.Duration
		for _, h := range fine {
			worst = max(worst, h.at.Sub(begun[h.body]))
		}
		if worst > 2*time.Second {
			t.Errorf("delivered up to %v late beside three that fail", worst)
		}
		t.Logf("at most %v; %d POSTs to those that fail", worst, len(w.received(""))-len(fine))
		p.terminate()
		put := make(map[webhook.Reason]int)
		for _, s := range w.settlements() {
			if s.Kind == webhook.KindPark {
				put[s.Reason]++
			}
		}
		t.Logf("put back: %v", put)
		if n := put[webhook.ReasonLaneFull] + put[webhook.ReasonLaneStalled] + put[webhook.ReasonBreakerOpen]; n > 6*15000 {
			t.Errorf("15,000 were put back %d times in two minutes", n)
		}
	})
}

// A few deliveries for an endpoint that takes one in 100 s, in a partition with
// steady traffic: they leave it for their turn instead of being queued.
func TestASlowEndpointDoesNotHoldTheWatermark(t *testing.T) {
	inVirtualTime(t, onePartition, func(w *world) {
		w.receiver(8080, nil)
		w.put(&webhook.Endpoint{ID: webhook.EndpointPrefix + "slow", Tenant: "acme", URL: "http://hooks.example.com:8080/slow", Contract: "standard",
			Events: []string{"slow"}, RateLimit: 0.01, CreatedAt: time.Now(), UpdatedAt: time.Now(), Version: 1})
		w.endpoint("fine", "fine")
		p := w.process()
		time.Sleep(5 * time.Second)
		var rs []*kgo.Record
		for i := range 20 {
			rs = append(rs, orderOf(fmt.Sprint("s", i), "slow"))
		}
		w.produceAll(rs)
		const minutes, perMinute = 20, 50
		for m := range minutes {
			rs = rs[:0]
			for i := range perMinute {
				rs = append(rs, orderOf(fmt.Sprint("f", m, "-", i), "fine"))
			}
			w.produceAll(rs)
			time.Sleep(time.Minute)
			ends, err := kadm.NewClient(w.client).ListEndOffsets(context.Background(), "posthorn.deliveries")
			if err != nil {
				t.Fatal(err)
			}
			end, _ := ends.Lookup("posthorn.deliveries", 0)
			for _, o := range w.commits("posthorn.dispatch") {
				if end.Offset-o.At > perMinute {
					t.Errorf("after %d minutes %d of %d are committed", m+1, o.At, end.Offset)
				}
			}
		}
		if n := len(w.received("/fine")); n != minutes*perMinute {
			t.Errorf("%d delivered", n)
		}
		if n := len(w.received("/slow")); n < 11 || n > 13 {
			t.Errorf("%d POSTs in 20 minutes at one in 100 s", n)
		}
		p.terminate()
		checkLedger(t, w.settlements())
	})
}
