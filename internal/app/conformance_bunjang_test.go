package app

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/webhook"
)

func TestBunjang_01_OnlyHTTPSIsRegisteredAndAnOldHandshakeFailsTheAttempt(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		if wrong := p.refused("acme", fields{"url": "http://hooks.example.com/a"}); !slices.Equal(wrong, []string{"url"}) {
			t.Errorf("an http URL: the problem is with %q", wrong)
		}
		p.hooksWith(&tls.Config{Certificates: []tls.Certificate{p.cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, nil)
		p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "order.status.changed"})
		time.Sleep(time.Minute)
		line.terminate()
		if n := len(p.received("")); n != 0 {
			t.Errorf("%d POSTs over TLS 1.1", n)
		}
		ss := p.settlements()
		for _, s := range ss {
			if s.Kind != webhook.KindAttempt || s.Reason != webhook.ReasonTLS {
				t.Errorf("settled as %s, %s", s.Kind, s.Reason)
			}
		}
		if len(ss) != 4 {
			t.Errorf("%d attempts, want one and three retries, each failed by the handshake", len(ss))
		}
	})
	onPlatformFrom(t, time.Time{}, "bunjang", nil, func(p *platform) {
		p.hooksWith(&tls.Config{Certificates: []tls.Certificate{p.cert}, MaxVersion: tls.VersionTLS12}, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.TLS == nil || r.TLS.Version != tls.VersionTLS12 {
				t.Errorf("came as %s over %+v", r.Method, r.TLS)
			}
		})
		p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "order.status.changed"})
		time.Sleep(settle)
		p.one("/a")
		line.terminate()
	})
}

func TestBunjang_02_TheBodyIsAVersionedEnvelope(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		p.hooks(nil)
		p.register("acme", "a", fields{"events": []string{"order.status.changed"}})
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "evt-1", kind: "order.status.changed", data: `{"orderId": 7, "status":"PAID"}`},
			happening{tenant: "acme", id: "evt-2", kind: "order.status.changed", data: `{"orderId":"7"}`, extensions: map[string]string{"payloadversion": "v2"}},
			happening{tenant: "acme", id: "evt-3", kind: "order.created"})
		time.Sleep(settle)
		got := map[string]bool{}
		for _, h := range p.received("/a") {
			got[h.body] = true
		}
		for _, want := range []string{
			`{"eventId":"evt-1","eventType":"order.status.changed","payloadVersion":"v1","data":{"orderId": 7, "status":"PAID"}}`,
			`{"eventId":"evt-2","eventType":"order.status.changed","payloadVersion":"v2","data":{"orderId":"7"}}`,
		} {
			if !got[want] {
				t.Errorf("no body %s", want)
			}
		}
		if len(got) != 2 {
			t.Errorf("got %v", got)
		}
		line.terminate()
	})
}

func TestBunjang_03_TheSignatureProvesOriginIntegrityAndFreshness(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		seen := newArrivals()
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if seen.note(h) < 3 {
				h.status = 503
			}
		})
		made := p.register("acme", "a", nil)
		other := p.register("acme", "b", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "order.status.changed"})
		time.Sleep(time.Minute)
		hits := p.received("/a")
		if len(hits) != 4 {
			t.Fatalf("%d POSTs, want 4", len(hits))
		}
		for i := range hits {
			h := hits[i]
			if ct := h.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type is %q", ct)
			}
			if err := p.verifies(&h, made.Secret); err != nil {
				t.Errorf("attempt %d: %v", i+1, err)
			}
			if p.verifies(&h, other.Secret) == nil {
				t.Error("another endpoint's secret verifies it")
			}
			forged, late := h, h
			forged.body = strings.Replace(h.body, `"e"`, `"f"`, 1)
			late.at = h.at.Add(5*time.Minute + 2*time.Second)
			if p.verifies(&forged, made.Secret) == nil || p.verifies(&late, made.Secret) == nil {
				t.Error("another body, or an old delivery, verifies")
			}
		}
		line.terminate()
	})
}

func TestBunjang_04_TheEventsIDIsTheSameOverRetriesAndDuplicates(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		seen := newArrivals()
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if seen.note(h) < 2 {
				h.status = 503
			}
		})
		p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "evt-1", kind: "order.status.changed"})
		time.Sleep(30 * time.Second)
		// The producer sends it again, and another one has it too.
		p.happen(happening{tenant: "acme", id: "evt-1", kind: "order.status.changed"},
			happening{tenant: "acme", id: "evt-1", kind: "order.status.changed", source: "import"})
		time.Sleep(10 * time.Second)
		hits := p.received("/a")
		if len(hits) != 4 {
			t.Errorf("%d POSTs, want three attempts and a duplicate", len(hits))
		}
		for _, h := range hits {
			var body struct{ EventID string }
			if err := json.Unmarshal([]byte(h.body), &body); err != nil || body.EventID != "evt-1" {
				t.Errorf("eventId %q, %v", body.EventID, err)
			}
		}
		line.terminate()
	})
}

func TestBunjang_05_OnlyServerErrors429AndNoAnswerAreRetried(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		came := newArrivals()
		p.hooks(func(h *hit, _ http.ResponseWriter, r *http.Request) {
			came.note(h)
			if h.endpoint == "/none" {
				hang(r)
				return
			}
			if h.endpoint == "/slow" {
				pause(r, 9*time.Second)
				return
			}
			if h.endpoint == "/cut" {
				panic(http.ErrAbortHandler)
			}
			h.status, _ = strconv.Atoi(h.endpoint[1:])
		})
		retried := []string{"500", "502", "503", "504", "599", "429", "none", "cut"}
		final := []string{"200", "201", "204", "299", "slow", "400", "401", "403", "404", "408", "410", "422"}
		for _, path := range slices.Concat(retried, final) {
			p.register("acme", path, nil)
		}
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "order.status.changed"})
		time.Sleep(2 * time.Minute)
		line.terminate()
		const body = `{"eventId":"e","eventType":"order.status.changed","payloadVersion":"v1","data":{"id":"e"}}`
		for _, path := range retried {
			if n := len(came.times("/"+path, body)); n != 4 {
				t.Errorf("%s: %d POSTs, want one and three retries", path, n)
			}
		}
		for _, path := range final {
			if n := len(came.times("/"+path, body)); n != 1 {
				t.Errorf("%s: %d POSTs, want one", path, n)
			}
		}
		delivered := 0
		for _, s := range p.settlements() {
			if s.Outcome == webhook.OutcomeDelivered {
				delivered++
			}
			if s.Reason == webhook.ReasonTimeout && (s.Duration < 10*time.Second || s.Duration > 11*time.Second) {
				t.Errorf("no answer is waited for for %v, want 10 s", s.Duration)
			}
		}
		if delivered != 5 {
			t.Errorf("%d were taken as delivered, want the five with a 2xx", delivered)
		}
		if dead := len(p.read("posthorn.dead")); dead != len(retried)+len(final)-5 {
			t.Errorf("%d have failed", dead)
		}
	})
}

func TestBunjang_06_RetriesComeAfterAboutOneTwoAndFourSecondsWithinAMinute(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 503 })
		const endpoints = 12
		for i := range endpoints {
			p.register("acme", fmt.Sprint(i), nil)
		}
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "order.status.changed"})
		time.Sleep(2 * time.Minute)
		distinct := map[time.Duration]bool{}
		for i := range endpoints {
			gaps := p.gaps(fmt.Sprint("/", i))
			if len(gaps) != 3 {
				t.Errorf("%d retries, want 3", len(gaps))
				continue
			}
			var whole time.Duration
			for k, gap := range gaps {
				about := time.Second << k
				if gap < about/2 || gap > about*3/2+100*time.Millisecond {
					t.Errorf("retry %d came after %v, want %v ± 50 %%", k+1, gap, about)
				}
				whole += gap
			}
			if whole > time.Minute {
				t.Errorf("the whole took %v", whole)
			}
			distinct[gaps[0].Round(time.Millisecond)] = true
		}
		if len(distinct) < endpoints/2 {
			t.Errorf("the first retries of %d endpoints came after %d different times: no jitter", endpoints, len(distinct))
		}
		for _, r := range p.read("posthorn.retry.1m") {
			t.Errorf("%s went to a retry topic: it is retried in process", r.Key)
		}
		line.terminate()
	})
}

func TestBunjang_07_ACircuitBreakerSuspendsProbesAndResumesByItself(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		var mu sync.Mutex
		healthy := false
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if !healthy {
				h.status = 503
			}
		})
		made := p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		for i := range 200 {
			p.happen(happening{tenant: "acme", id: fmt.Sprint("e", i), kind: "order.status.changed"})
		}
		time.Sleep(20 * time.Second)
		suspended := len(p.received("/a"))
		time.Sleep(8 * time.Minute)
		probes := len(p.received("/a")) - suspended
		if suspended > 30 || probes < 2 || probes > 100 {
			t.Errorf("%d POSTs before it was suspended, and %d probes in 8 minutes", suspended, probes)
		}
		mu.Lock()
		healthy = true
		mu.Unlock()
		time.Sleep(16 * time.Minute)
		line.terminate()
		states := p.logOfBreakers(made.ID)
		if len(states) < 3 || states[0] != "open" || states[len(states)-1] != "closed" {
			t.Errorf("the breaker was %v", states)
		}
		delivered := count(p.settlements(), func(s *webhook.Settlement) bool { return s.Outcome == webhook.OutcomeDelivered })
		if dead := len(p.read("posthorn.dead")); delivered+dead != 200 || delivered < 150 {
			t.Errorf("%d were delivered after it had recovered, %d have failed", delivered, dead)
		}
	})
}

func TestBunjang_08_ANewSecretInvalidatesTheOldAtOnce(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		p.hooks(nil)
		made := p.register("acme", "a", nil)
		path := "/v1/tenants/acme/endpoints/" + made.ID
		if made.Secret == "" || strings.Contains(p.call("GET", path, nil, nil, http.StatusOK), made.Secret) {
			t.Error("the secret is not shown once")
		}
		line := p.process()
		time.Sleep(settle)
		p.call("POST", path+"/secrets", fields{"overlap_seconds": 60}, nil, http.StatusBadRequest)
		var rotated struct{ Secret string }
		p.call("POST", path+"/secrets", nil, &rotated, http.StatusCreated)
		time.Sleep(time.Second)
		p.happen(happening{tenant: "acme", id: "e", kind: "order.status.changed"})
		time.Sleep(settle)
		h := p.one("/a")
		if err := p.verifies(h, rotated.Secret); err != nil {
			t.Errorf("with the new one: %v", err)
		}
		if p.verifies(h, made.Secret) == nil || strings.Count(h.header.Get("X-Bun-Webhook-Signature"), "v1=") != 1 {
			t.Error("the old one still signs")
		}
		line.terminate()
	})
}

func TestBunjang_09_ADeliveryWaitsForNoEarlierOne(t *testing.T) {
	onPlatform(t, "bunjang", nil, func(p *platform) {
		seen := newArrivals()
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if seen.note(h) == 0 && strings.Contains(h.body, "first") {
				h.status = 503
			}
		})
		p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "first", kind: "order.status.changed"}, happening{tenant: "acme", id: "second", kind: "order.status.changed"})
		time.Sleep(time.Minute)
		hits := p.received("/a")
		if len(hits) != 3 || !strings.Contains(hits[2].body, "first") || hits[2].status != 200 {
			t.Errorf("came as %+v, want the second before the first one's retry", hits)
		}
		line.terminate()
	})
}
