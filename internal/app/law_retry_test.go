package app

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"posthorn/internal/config"
	"posthorn/webhook"
)

func TestRetryAfterIsHonouredToTheSecondAndDelaysNobodyElse(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		came := newArrivals()
		asked := map[string]int{"/s61": 61, "/s90": 90, "/s120": 120, "/d61": 61, "/d90": 90, "/d120": 120}
		w.receiver(8080, func(h *hit, rw http.ResponseWriter, _ *http.Request) {
			if came.note(h) > 0 {
				return
			}
			h.status = 503
			if n := asked[h.endpoint]; h.endpoint[1] == 's' {
				rw.Header().Set("Retry-After", strconv.Itoa(n))
			} else if h.endpoint[1] == 'd' {
				rw.Header().Set("Retry-After", time.Now().Add(time.Duration(n)*time.Second).UTC().Format(http.TimeFormat))
			}
		})
		for path := range asked {
			w.endpoint(path[1:])
		}
		for i := range 10 {
			w.endpoint(fmt.Sprint("plain", i))
		}
		p := w.process()
		time.Sleep(5 * time.Second)
		for i := range 3 {
			w.event(fmt.Sprint("e", i), "order.created")
			time.Sleep(10*time.Second + 137*time.Millisecond)
		}
		time.Sleep(4 * time.Minute)
		if n := came.distinct("/"); n != 3*16 {
			t.Fatalf("%d deliveries came, want %d", n, 3*16)
		}
		for key, at := range came.at {
			if len(at) != 2 {
				t.Errorf("%s: %d POSTs, want 2", key, len(at))
				continue
			}
			var path string
			if _, err := fmt.Sscan(key, &path); err != nil {
				t.Fatal(err)
			}
			want := time.Minute
			if n, ok := asked[path]; ok {
				want = time.Duration(n) * time.Second
			}
			from := at[0]
			if path[1] == 'd' { // a date has whole seconds, rounded down
				from = from.Add(want).Truncate(time.Second).Add(-want)
			}
			if got := at[1].Sub(from); got < want || got >= want+time.Second {
				t.Errorf("%s: again after %v, want %v to the second", key, got, want)
			}
		}
		p.terminate()
		checkLedger(t, w.settlements())
	})
}

func TestParksSpendNoAttemptAndGoUpTheTiers(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, func(_ *hit, _ http.ResponseWriter, r *http.Request) { hang(r) })
		w.endpoint("hangs")
		for i := range 60 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		p := w.process()
		time.Sleep(24 * time.Minute)
		p.terminate()
		ss := w.settlements()
		checkLedger(t, ss)
		waits := make(map[int]int)
		for _, s := range ss {
			if s.Kind != webhook.KindPark {
				continue
			}
			if s.Reason != webhook.ReasonLaneStalled && s.Reason != webhook.ReasonBreakerOpen {
				t.Errorf("parked for %q", s.Reason)
			}
			want := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}[min(s.Deferrals, 2)]
			if got := s.NextAt.Sub(s.StartedAt); got < want-time.Millisecond || got > want+time.Millisecond {
				t.Errorf("park %d waits %v, want %v", s.Deferrals+1, got, want)
			}
			waits[s.Deferrals]++
		}
		if waits[0] < 50 || waits[1] == 0 || waits[2] == 0 || waits[3] == 0 {
			t.Errorf("parks by deferrals: %v; want all that were queued to climb to the last tier and stay", waits)
		}
	})
}

func TestABreakerOpensProbesAndRamps(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		var mu sync.Mutex
		healthy, now := false, 0
		type start struct {
			at   time.Time
			busy int // requests at once, itself included
		}
		var starts []start
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			now++
			starts = append(starts, start{h.at, now})
			ok := healthy
			mu.Unlock()
			pause(r, 500*time.Millisecond)
			if !ok {
				h.status = 503
			}
			mu.Lock()
			now--
			mu.Unlock()
		})
		w.endpoint("e")
		p := w.process()
		time.Sleep(5 * time.Second)
		begun := time.Now()
		for i := range 200 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		time.Sleep(20 * time.Second)
		mu.Lock()
		sick := len(starts)
		healthy = true
		mu.Unlock()
		if sick < 10 || sick > 15 {
			t.Errorf("%d POSTs to a sick endpoint, want the ten that judge it and what was in flight", sick)
		}
		time.Sleep(35 * time.Second)
		mu.Lock()
		if n := len(starts); n != sick {
			t.Errorf("%d POSTs through an open breaker", n-sick)
		}
		mu.Unlock()
		time.Sleep(6 * time.Minute)
		mu.Lock()
		back := slices.Clone(starts[sick:])
		mu.Unlock()
		if len(back) == 0 {
			t.Fatal("nothing came back")
		}
		if wait := back[0].at.Sub(begun); wait < time.Minute || wait > 70*time.Second {
			t.Errorf("the first probe came after %v, want a minute", wait)
		}
		most, first := 0, back[0].at
		for _, s := range back {
			if s.at.Sub(first) < 900*time.Millisecond && s.busy > 2 {
				t.Errorf("%d at once while the breaker probes", s.busy)
			}
			most = max(most, s.busy)
		}
		if most < 4 {
			t.Errorf("at most %d at once after the recovery: the lane didn't widen", most)
		}
		p.terminate()
		ss := w.settlements()
		checkLedger(t, ss)
		if n := count(ss, func(s *webhook.Settlement) bool { return s.Outcome == webhook.OutcomeDelivered }); n != 200 {
			t.Errorf("%d of 200 delivered", n)
		}
		if got := w.logOfBreakers("ep_e"); !slices.Equal(got, []string{"open", "half_open", "closed"}) {
			t.Errorf("the registry was told %v", got)
		}
	})
}

func TestADeliveryOlderThanMaxAgeIsDeadAsExpired(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { c.Delivery.MaxAge = 3 * time.Minute }, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 500 })
		w.endpoint("e")
		w.event("e1", "order.created")
		p := w.process()
		time.Sleep(7 * time.Minute)
		p.terminate()
		ss := w.settlements()
		checkLedger(t, ss)
		if n := len(w.received("")); n != 2 {
			t.Errorf("%d POSTs, want those at 0 and 1 minutes", n)
		}
		last := ss[len(ss)-1]
		if len(ss) != 3 || last.Kind != webhook.KindDead || last.Reason != webhook.ReasonExpired || last.N != 2 {
			t.Errorf("settled %+v", ss)
		}
		dead := w.read("posthorn.dead")
		if len(dead) != 1 || headersOf(dead[0])["reason"] != "expired" || headersOf(dead[0])["n"] != "2" || string(dead[0].Value) != `{"id":"e1"}` {
			t.Errorf("dead: %v", dead)
		}
	})
}

func TestEveryEndOfASettlementIsRecordedAndTheDeadSayWhy(t *testing.T) {
	contracts := t.TempDir() // bunjang's as it ships, but for receivers without TLS
	bunjang, err := os.ReadFile("../../contract/contracts/bunjang.yaml")
	if err != nil {
		t.Fatal(err)
	}
	bunjang = bytes.Replace(bunjang, []byte("https_only: true"), []byte("https_only: false"), 1)
	if err := os.WriteFile(filepath.Join(contracts, "bunjang.yaml"), bunjang, 0o600); err != nil {
		t.Fatal(err)
	}
	short := func(c *config.Config) {
		c.Delivery.Schedule = []time.Duration{2 * time.Second}
		c.Delivery.Tiers = []time.Duration{time.Second, 2 * time.Second, 10 * time.Second}
		c.ContractsDir = contracts
	}
	inVirtualTime(t, short, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			switch h.endpoint {
			case "/ok":
			case "/gone":
				h.status = 410
			case "/exhausted":
				h.status = 503
			case "/hangs":
				hang(r)
			case "/refuses", "/tired":
				h.status = map[string]int{"/refuses": 404, "/tired": 503}[h.endpoint]
			}
		})
		for _, name := range []string{"ok", "gone", "exhausted"} {
			w.endpoint(name, "order.*")
		}
		w.endpoint("hangs", "slow.*")
		w.subscriber("refuses", "bunjang", "order.*")
		w.subscriber("tired", "bunjang", "order.*")
		removed := w.endpoint("removed", "order.*")
		off := w.endpoint("off", "order.*")
		p := w.process(RoleMatch)
		time.Sleep(5 * time.Second)
		w.event("o", "order.created")
		w.event("o2", "order.created") // matched for all, and then one is removed and one disabled
		time.Sleep(2 * time.Second)
		off.Disabled, off.Version = true, 2
		w.record(off)
		w.produce(tombstone("endpoint/" + removed.ID))
		for i := range 10 {
			w.event(fmt.Sprint("s", i), "slow.one")
		}
		time.Sleep(2 * time.Second)
		p.terminate()
		begun := time.Now()
		p = w.process(RoleDispatch, RoleRetry)
		time.Sleep(2 * time.Minute)
		p.terminate()

		ss := w.settlements()
		checkLedger(t, ss)
		for endpoint, why := range map[string]webhook.Reason{"ep_removed": webhook.ReasonEndpointDeleted, "ep_off": webhook.ReasonEndpointDisabled} {
			if n := count(ss, func(s *webhook.Settlement) bool {
				return s.Kind == webhook.KindDiscard && s.Reason == why && s.EndpointID == endpoint
			}); n != 2 {
				t.Errorf("%d discards as %s, want both deliveries", n, why)
			}
		}
		if n := count(ss, func(s *webhook.Settlement) bool { return s.Kind == webhook.KindPark }); n == 0 {
			t.Error("no park, though an endpoint hangs")
		}
		want := map[string]string{"ep_gone": "status_410 410", "ep_exhausted": "exhausted 503", "ep_refuses": "status_4xx 404", "ep_tired": "exhausted 503", "ep_hangs": "exhausted "}
		got := make(map[string]int)
		for _, r := range w.read("posthorn.dead") {
			h := headersOf(r)
			key := string(r.Key)
			got[key]++
			if why := h["reason"] + " " + h["status"]; why != want[key] {
				t.Errorf("%s is dead for %q, want %q", key, why, want[key])
			}
		}
		for key := range want {
			if n := got[key]; n != 2 && key != "ep_hangs" {
				t.Errorf("%d dead of %s, want 2", n, key)
			}
		}
		if tries := len(w.received("/tired")); tries != 8 {
			t.Errorf("%d POSTs by bunjang to an endpoint that fails, want one and three retries, twice", tries)
		}
		for _, h := range w.received("/tired") {
			if h.at.Sub(begun) > 25*time.Second {
				t.Errorf("a retry in process came after %v", h.at.Sub(begun))
			}
		}
		if tries := len(w.received("/refuses")); tries != 2 {
			t.Errorf("%d POSTs by bunjang that were answered 404, want 1 each", tries)
		}
	})
}
