package app

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"posthorn/webhook"
)

func TestATerminatedProcessFinishesWhatIsInFlightAndItsSuccessorRepeatsNothing(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		came := newArrivals()
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			came.note(h)
			if h.endpoint == "/slow" {
				pause(r, 4*time.Second)
			}
		})
		for _, name := range []string{"a", "b", "slow"} {
			w.endpoint(name)
		}
		p := w.process()
		time.Sleep(5 * time.Second)
		for i := range 40 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		time.Sleep(6 * time.Second) // slow has answered four, has four in flight and the rest queued
		begun := time.Now()
		p.terminate()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("stopping took %v, though all in flight ended within 4 s", took)
		}
		stopped := came.distinct("/slow")
		if stopped >= 40 || stopped < 4 {
			t.Fatalf("%d of 40 were POSTed to the slow endpoint before the stop: the case tests nothing", stopped)
		}
		for _, h := range w.received("/slow") {
			if h.status != 200 {
				t.Errorf("what was in flight was not finished: %+v", h)
			}
		}
		p = w.process()
		time.Sleep(time.Minute)
		p.terminate()
		if again := came.repeated("/"); len(again) != 0 {
			t.Errorf("POSTed again: %v", again)
		}
		if n := came.distinct("/"); n != 120 {
			t.Errorf("%d of 120 delivered", n)
		}
		checkLedger(t, w.settlements())
	})
}

func TestADrainThatEndsCutsWhatHangsAndItSpendsNoStep(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		came := newArrivals()
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			if came.note(h) == 0 {
				hang(r)
			}
		})
		w.cfg.Delivery.DrainTimeout = 3 * time.Second
		w.endpoint("hangs")
		p := w.process()
		time.Sleep(5 * time.Second)
		w.event("e", "order.created")
		time.Sleep(time.Second)
		begun := time.Now()
		p.terminate()
		if took := time.Since(begun); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("stopping took %v, want the drain's 3 s", took)
		}
		p = w.process()
		time.Sleep(time.Minute)
		p.terminate()
		ss := w.settlements()
		checkLedger(t, ss)
		if len(ss) != 2 || ss[0].Outcome != webhook.OutcomeCut || ss[1].N != 1 || ss[1].Step != 0 || ss[1].Outcome != webhook.OutcomeDelivered {
			t.Errorf("settled %+v", ss)
		}
		if at := came.times("/hangs", `{"id":"e"}`); len(at) != 2 || at[1].Sub(at[0]) > 20*time.Second {
			t.Errorf("POSTed at %v", at)
		}
	})
}

func TestAKilledProcessCostsASecondPostOnlyOfWhatWasInFlight(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		came := newArrivals()
		var healthy atomic.Bool
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			if came.note(h); strings.HasPrefix(h.endpoint, "/hangs") && !healthy.Load() {
				hang(r)
			}
		})
		for i := range 3 {
			w.endpoint(fmt.Sprint("fine", i))
			w.endpoint(fmt.Sprint("hangs", i))
		}
		p := w.process()
		time.Sleep(5 * time.Second)
		for i := range 100 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		time.Sleep(2 * time.Second)
		inFlight := came.distinct("/hangs")
		if n := came.distinct("/fine"); n != 300 || inFlight == 0 {
			t.Fatalf("%d delivered and %d in flight", n, inFlight)
		}
		p.kill()
		healthy.Store(true)
		p = w.process()
		time.Sleep(2 * time.Minute)
		p.terminate()
		if again := came.repeated("/fine"); len(again) != 0 {
			t.Errorf("finished long before the crash, POSTed again: %v", again)
		}
		if again := came.repeated("/hangs"); len(again) != inFlight {
			t.Errorf("%d POSTed twice, want the %d that were in flight", len(again), inFlight)
		}
		if n := came.distinct("/"); n != 600 {
			t.Errorf("%d of 600 came", n)
		}
	})
}

func TestAnEndpointIsMatchedWithinASecondOfItsCreationAndNotAfterItIsDisabled(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			if h.endpoint == "/slow" {
				pause(r, time.Second)
			}
		})
		p := w.process()
		time.Sleep(5 * time.Second)
		w.event("before", "order.created")
		time.Sleep(time.Second)
		e, slow := w.endpoint("new"), w.endpoint("slow")
		time.Sleep(time.Second)
		for i := range 30 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		time.Sleep(2500 * time.Millisecond)
		if n := len(w.received("/new")); n != 30 {
			t.Errorf("%d of 30 came to an endpoint that is a second old", n)
		}
		e.Disabled, e.Version, slow.Disabled, slow.Version = true, 2, true, 2
		w.record(e)
		w.record(slow)
		time.Sleep(time.Second)
		w.event("after", "order.created")
		disabled := time.Now()
		time.Sleep(30 * time.Second)
		if n := len(w.received("/new")); n != 30 {
			t.Errorf("%d came to a disabled endpoint", n-30)
		}
		for _, h := range w.received("/slow") {
			if h.at.After(disabled) {
				t.Errorf("a queued delivery was POSTed %v after its endpoint was disabled", h.at.Sub(disabled))
			}
		}
		p.terminate()
		ss := w.settlements()
		checkLedger(t, ss)
		if n := len(ss); n != 60 {
			t.Errorf("%d settlements, want one for each of 60 deliveries: %v", n, slices.Sorted(maps.Keys(came(ss))))
		}
	})
}

func came(ss []*webhook.Settlement) map[string]bool {
	m := make(map[string]bool)
	for _, s := range ss {
		m[s.EndpointID+" "+s.EventID] = true
	}
	return m
}
