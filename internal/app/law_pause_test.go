package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/webhook"
)

// change writes an endpoint's record anew.
func (w *world) change(e *webhook.Endpoint, f func(*webhook.Endpoint)) {
	w.t.Helper()
	f(e)
	e.Version++
	w.record(e)
}

// pauseRecord writes or removes the record of a pause.
func (w *world) pauseRecord(id string, paused bool) {
	w.t.Helper()
	r := &kgo.Record{Topic: "posthorn.registry", Key: []byte("pause/" + id)}
	if paused {
		r.Value, _ = json.Marshal(webhook.Pause{Since: time.Now()})
	}
	w.produce(r)
}

// minutely has what is put back come round every minute, so that a test of it
// takes few of them.
func minutely(c *config.Config) {
	c.Delivery.Tiers = []time.Duration{5 * time.Second, time.Minute}
	c.Delivery.Schedule = []time.Duration{time.Minute}
}

func TestWhatIsPausedIsMatchedAndWaitsAndFlowsWhenResumed(t *testing.T) {
	for name, switched := range map[string]func(w *world, a *webhook.Endpoint, paused bool){
		"endpoint": func(w *world, a *webhook.Endpoint, paused bool) {
			w.change(a, func(e *webhook.Endpoint) { e.Paused = paused })
		},
		"tenant":     func(w *world, _ *webhook.Endpoint, paused bool) { w.pauseRecord("tenant/acme", paused) },
		"everything": func(w *world, _ *webhook.Endpoint, paused bool) { w.pauseRecord("all", paused) },
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, minutely, func(w *world) {
				w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
					if h.endpoint == "/a" {
						pause(r, 500*time.Millisecond) // so that some are queued when the pause comes
					}
				})
				a := w.endpoint("a")
				other := w.endpoint("other")
				other.Tenant = "globex"
				w.put(other)
				w.produce(&kgo.Record{Topic: "orders", Key: []byte("k"), Value: []byte("{}"), Headers: eventHeaders("g1", "globex")})
				p := w.process()
				time.Sleep(5 * time.Second)
				for i := range 40 {
					w.event(fmt.Sprint("before", i), "order.created")
				}
				time.Sleep(time.Second)
				switched(w, a, true)
				time.Sleep(time.Second + 500*time.Millisecond) // effective, and what was in flight has ended
				before := len(w.received("/a"))
				if before == 0 || before == 40 {
					t.Fatalf("%d arrived before the pause: it says nothing", before)
				}
				for i := range 10 {
					w.event(fmt.Sprint("during", i), "order.created")
					w.produce(&kgo.Record{Topic: "orders", Key: []byte("k"), Value: []byte("{}"), Headers: eventHeaders(fmt.Sprint("g2", i), "globex")})
				}
				time.Sleep(4 * time.Minute)
				if now := len(w.received("/a")); now != before {
					t.Errorf("%d arrived during the pause", now-before)
				}
				if got := len(w.received("/other")); (got == 11) == (name == "everything") {
					t.Errorf("the other tenant's endpoint got %d", got)
				}
				switched(w, a, false)
				time.Sleep(2 * time.Minute)
				p.terminate()
				seen := map[string]int{}
				for _, h := range w.received("/a") {
					seen[h.id]++
				}
				if len(seen) != 50 || len(w.received("/a")) != 50 || len(w.received("/other")) != 11 {
					t.Errorf("%d of 50 arrived, in %d POSTs; the other endpoint got %d", len(seen), len(w.received("/a")), len(w.received("/other")))
				}
				parks := 0
				for _, s := range w.settlements() {
					if s.Reason == webhook.ReasonPaused && s.Kind == webhook.KindPark {
						parks++
					} else if s.Kind == webhook.KindAttempt && (s.Step != 0 || s.N != 0) {
						t.Errorf("a pause cost a step: %+v", s)
					}
				}
				if parks == 0 {
					t.Error("nothing was recorded as paused")
				}
				checkLedger(t, w.settlements())
			})
		})
	}
}

func eventHeaders(id, tenant string) []kgo.RecordHeader {
	return []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte("shop")},
		{Key: "ce_type", Value: []byte("order.created")}, {Key: "ce_tenant", Value: []byte(tenant)},
		{Key: "content-type", Value: []byte("application/json")}}
}

func TestAgeCountsDuringAPause(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { minutely(c); c.Delivery.MaxAge = 10 * time.Minute }, func(w *world) {
		w.receiver(8080, nil)
		a := w.endpoint("a")
		w.change(a, func(e *webhook.Endpoint) { e.Paused = true })
		p := w.process()
		time.Sleep(5 * time.Second)
		w.event("old", "order.created")
		time.Sleep(8 * time.Minute)
		w.event("young", "order.created")
		time.Sleep(5 * time.Minute)
		w.change(a, func(e *webhook.Endpoint) { e.Paused = false })
		time.Sleep(2 * time.Minute)
		p.terminate()
		if got := w.received("/a"); len(got) != 1 || got[0].body != `{"id":"young"}` {
			t.Errorf("arrived: %+v", got)
		}
		if dead := w.read("posthorn.dead"); len(dead) != 1 || headersOf(dead[0])["reason"] != string(webhook.ReasonExpired) {
			t.Errorf("%d dead letters", len(dead))
		}
	})
}

func TestWhatIsQueuedForADisabledEndpointIsDiscardedOrWaitsAsAsked(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		var failing atomic.Bool
		failing.Store(true)
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if failing.Load() {
				h.status = 503
			}
		})
		discards, parks := w.endpoint("discards"), w.endpoint("parks")
		parks.OnDisable = webhook.OnDisablePark
		w.put(parks)
		p := w.process()
		time.Sleep(5 * time.Second)
		for i := range 5 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		time.Sleep(10 * time.Second)
		for _, e := range []*webhook.Endpoint{discards, parks} {
			w.change(e, func(e *webhook.Endpoint) { e.Disabled = true })
		}
		failing.Store(false)
		time.Sleep(time.Second)
		w.event("missed", "order.created")
		time.Sleep(30 * time.Minute)
		if n := len(w.received("")); n != 10 {
			t.Errorf("%d POSTs, want those 10 from before", n)
		}
		for _, e := range []*webhook.Endpoint{discards, parks} {
			w.change(e, func(e *webhook.Endpoint) { e.Disabled = false })
		}
		time.Sleep(16 * time.Minute)
		p.terminate()
		if d, k := len(w.received("/discards")), len(w.received("/parks")); d != 5 || k != 10 {
			t.Errorf("discards got %d, want 5; parks got %d, want 10", d, k)
		}
		count := map[string]int{}
		for _, s := range w.settlements() {
			if s.Reason == webhook.ReasonEndpointDisabled {
				count[s.EndpointID+" "+string(s.Kind)]++
			}
		}
		if count["ep_discards discard"] != 5 || count["ep_parks park"] < 5 || len(count) != 2 {
			t.Errorf("recorded %v", count)
		}
		checkLedger(t, w.settlements())
	})
}

func TestAPurgeDiscardsWhatWasMatchedBeforeItWhenItSurfacesAndNothingElse(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		var failing atomic.Bool
		failing.Store(true)
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			switch {
			case h.endpoint == "/slow":
				pause(r, 5*time.Second)
			case failing.Load():
				h.status = 503
			}
		})
		a, slow := w.endpoint("a"), w.endpoint("slow")
		w.endpoint("other")
		p := w.process()
		time.Sleep(5 * time.Second)
		for i := range 20 {
			w.event(fmt.Sprint("before", i), "order.created")
		}
		time.Sleep(time.Second)
		for _, e := range []*webhook.Endpoint{a, slow} {
			w.change(e, func(e *webhook.Endpoint) { e.PurgeBefore = time.Now() })
		}
		failing.Store(false)
		time.Sleep(time.Second)
		w.event("after", "order.created")
		time.Sleep(20 * time.Minute)
		p.terminate()
		after := 0
		for _, h := range w.received("/a") {
			if h.status == 200 {
				after++
			}
		}
		if after != 1 {
			t.Errorf("%d arrived after the purge, want the one that was matched after it", after)
		}
		if n := len(w.received("/slow")); n > 5 {
			t.Errorf("the slow one got %d: its queue was not purged at once", n)
		}
		others := 0
		for _, h := range w.received("/other") {
			if h.status == 200 {
				others++
			}
		}
		if others != 21 {
			t.Errorf("the other got %d, want all 21", others)
		}
		purged := map[string]int{}
		for _, s := range w.settlements() {
			if s.Reason == webhook.ReasonPurged {
				purged[s.EndpointID+" "+string(s.Kind)]++
			}
		}
		if purged["ep_a discard"] != 20 || purged["ep_slow discard"] < 15 || len(purged) != 2 {
			t.Errorf("purged %v", purged)
		}
		checkLedger(t, w.settlements())
	})
}
