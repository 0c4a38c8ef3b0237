//go:build synctests

// While a group rebalances, kgo keeps commits waiting on a lock, on which
// virtual time can't pass unless kgo is built with its tag "synctests".

package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/internal/config"
	"posthorn/registry/lifecycle"
	"posthorn/webhook"
)

func TestAHandoverWaitsTwoSecondsForWhatHangsAndNobodyElseIsRepeated(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		came := newArrivals()
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			came.note(h)
			if strings.HasPrefix(h.endpoint, "/hangs") && h.body == `{"id":"first"}` {
				hang(r)
			}
		})
		for i := range 8 { // enough for each of four partitions
			w.endpoint(fmt.Sprint("hangs", i), "first")
			w.endpoint(fmt.Sprint("fine", i), "tick")
		}
		p := w.process()
		time.Sleep(5 * time.Second)
		w.event("first", "first")
		time.Sleep(time.Second)
		joining := time.Now()
		var second *process
		produced := make(map[string]time.Time)
		for i := range 120 { // a tick every 100 ms
			id := fmt.Sprint("tick", i)
			produced[id] = time.Now()
			w.event(id, "tick")
			if i == 10 {
				joining = time.Now()
				second = w.process()
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(30 * time.Second)
		worst := time.Duration(0)
		for id, at := range produced {
			for i := range 8 {
				got := came.times(fmt.Sprint("/fine", i), `{"id":"`+id+`"}`)
				if len(got) != 1 {
					t.Errorf("%s to fine%d came %d times", id, i, len(got))
					continue
				}
				worst = max(worst, got[0].Sub(at))
			}
		}
		// Two seconds for what hangs, and the rebalance itself: heartbeats of a
		// second on either side, twice, since cooperative members join twice.
		if worst > 6*time.Second {
			t.Errorf("a delivery waited %v for a handover", worst)
		}
		p.terminate()
		second.terminate()
		ss := w.settlements()
		checkLedger(t, ss)
		cut := 0
		for _, s := range ss {
			if s.Outcome != webhook.OutcomeCut {
				continue
			}
			cut++
			if s.StartedAt.Add(s.Duration).Sub(joining) > 5*time.Second {
				t.Errorf("cut %v after the second member came", s.StartedAt.Add(s.Duration).Sub(joining))
			}
		}
		if cut == 0 || cut == 8 {
			t.Errorf("%d of 8 hanging requests were cut, want those of the partitions that moved", cut)
		}
	})
}

func TestAFormerOwnerDoesNotRecordThatAnEndpointFailsWhichIsWellWithItsNextOwner(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { c.Delivery.Schedule = []time.Duration{5 * time.Minute} }, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if h.body == `{"id":"first"}` {
				h.status = 500
			}
		})
		for i := range 8 { // enough for each of four partitions
			w.endpoint(fmt.Sprint("e", i), "tick")
		}
		p := w.process()
		time.Sleep(5 * time.Second)
		w.event("first", "tick")
		time.Sleep(2 * time.Second)
		second := w.process()
		time.Sleep(20 * time.Second)
		w.event("second", "tick") // they are well, with whoever owns them
		time.Sleep(2 * time.Minute)
		failing, last := map[string]bool{}, map[string]lifecycle.State{}
		for _, r := range w.read("posthorn.registry") {
			id, ok := strings.CutPrefix(string(r.Key), "health/")
			if !ok {
				continue
			}
			var s lifecycle.State
			if err := json.Unmarshal(r.Value, &s); err != nil {
				t.Error(err)
			}
			if !s.FailingSince.IsZero() {
				failing[id] = true
			}
			last[id] = s
		}
		for id, s := range last {
			if !s.FailingSince.IsZero() {
				t.Errorf("%s is well, and its record is %+v", id, s)
			}
		}
		if n := len(failing); n == 0 || n == 8 { // those that nobody handed over failed for too short a time
			t.Errorf("%d of 8 were recorded as failing, want those of the partitions that moved", n)
		}
		p.terminate()
		second.terminate()
	})
}
