package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/registry/lifecycle"
	"posthorn/webhook"
)

// operational is one of our own events, as it lies on its topic.
type operational struct {
	kind, id, subject, tenant string
	at                        time.Time
	data                      noticeData
}

func (w *world) operational() (out []operational) {
	w.t.Helper()
	for _, r := range w.read("posthorn.events") {
		h := headersOf(r)
		o := operational{kind: h["ce_type"], id: h["ce_id"], subject: h["ce_subject"], tenant: h["ce_tenant"]}
		var err error
		if o.at, err = time.Parse(time.RFC3339Nano, h["ce_time"]); err != nil {
			w.t.Error(err)
		}
		if err := json.Unmarshal(r.Value, &o.data); err != nil {
			w.t.Error(err)
		}
		out = append(out, o)
	}
	return out
}

// stored returns an endpoint as the registry has it by now.
func (w *world) stored(id string) *webhook.Endpoint {
	w.t.Helper()
	var e *webhook.Endpoint
	for _, r := range w.read("posthorn.registry") {
		if string(r.Key) != "endpoint/"+id {
			continue
		}
		if e = nil; r.Value != nil {
			e = new(webhook.Endpoint)
			if err := json.Unmarshal(r.Value, e); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return e
}

// trickle produces events, each a while after the one before.
func (w *world) trickle(name string, events int, apart time.Duration) {
	for i := range events {
		w.event(fmt.Sprint(name, i), "order.created")
		time.Sleep(apart)
	}
}

// quickly is a policy whose days are minutes: virtual time isn't for nothing. The
// breaker would let fewer attempts be seen.
func quickly(c *config.Config) {
	c.Lifecycle.FailingFor = 4 * time.Minute
	c.Delivery.Schedule = []time.Duration{time.Minute}
	c.Breaker.MinRequests = 1000
}

func TestAnEndpointThatFailsForDaysIsWarnedOfTwiceAndDisabledOnceWhoeverOwnsIt(t *testing.T) {
	inVirtualTime(t, quickly, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if h.endpoint == "/bad" {
				h.status = 500
			}
		})
		w.endpoint("bad", "order.*")
		w.endpoint("good", "order.*")
		w.endpoint("listens", "endpoint.*")
		first := w.process()
		time.Sleep(5 * time.Second)
		begun := time.Now()
		w.trickle("a", 8, 20*time.Second)
		first.kill() // its successor knows since when, and what was warned of
		second := w.process()
		w.trickle("b", 2, 20*time.Second)
		third := w.process()
		w.trickle("c", 7, 20*time.Second)
		second.terminate()
		third.terminate()

		var kinds []string
		for i, o := range w.operational() {
			kinds = append(kinds, fmt.Sprint(o.kind, " ", o.data.Percent))
			if o.subject != "ep_bad" || o.tenant != "acme" || o.data.EndpointID != "ep_bad" || o.data.Reason != webhook.DisabledFailing || o.data.FailingSince.Sub(begun) > time.Minute {
				t.Errorf("%+v", o)
			}
			want := []time.Duration{2 * time.Minute, 3 * time.Minute, 4 * time.Minute}[min(i, 2)]
			if age := o.at.Sub(begun); age < want || age > want+time.Minute {
				t.Errorf("%s came after %v, want %v", o.kind, age, want)
			}
		}
		if want := []string{"endpoint.failing 50", "endpoint.failing 75", "endpoint.disabled 0"}; !slices.Equal(kinds, want) {
			t.Errorf("operational events %q, want %q", kinds, want)
		}
		if e := w.stored("ep_bad"); !e.Disabled || e.DisabledReason != webhook.DisabledFailing || e.DisabledAt.IsZero() {
			t.Errorf("it is %+v", e)
		}
		if e := w.stored("ep_good"); e.Disabled || len(w.received("/good")) < 15 {
			t.Errorf("the other is %+v, and got %d", e, len(w.received("/good")))
		}
		if got := w.received("/listens"); len(got) != 3 || !strings.Contains(got[2].body, `"disabled_at"`) {
			t.Errorf("who subscribed got %d of them: %+v", len(got), got)
		}
		if last := w.received("/bad"); last[len(last)-1].at.Sub(begun) > 5*time.Minute {
			t.Error("it was POSTed to long after it was disabled")
		}
		audited := 0
		for _, r := range w.read("posthorn.audit") {
			if strings.Contains(string(r.Value), `"actor":"system"`) {
				audited++
			}
		}
		if audited != 1 {
			t.Errorf("%d entries in the audit log, want 1", audited)
		}
	})
}

func TestOneSuccessBeginsTheCountAnewAndSoDoesEnabling(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { quickly(c); c.Lifecycle.FailingFor = 2 * time.Minute }, func(w *world) {
		var failing atomic.Bool
		failing.Store(true)
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if failing.Load() {
				h.status = 500
			}
		})
		e := w.endpoint("a", "order.*")
		p := w.process()
		time.Sleep(5 * time.Second)
		w.trickle("a", 10, 10*time.Second)
		failing.Store(false)
		w.trickle("b", 4, 10*time.Second)
		failing.Store(true)
		w.trickle("c", 10, 10*time.Second)
		if got := w.stored("ep_a"); got.Disabled {
			t.Fatalf("100 seconds after a success: %+v", got)
		}
		w.trickle("d", 4, 10*time.Second)
		off := w.stored("ep_a")
		if !off.Disabled {
			t.Fatal("it is not disabled")
		}
		w.change(e, func(e *webhook.Endpoint) {
			e.Version = off.Version
			e.Disabled, e.EnabledAt, e.DisabledAt = false, time.Now().UTC(), off.DisabledAt
		})
		w.trickle("e", 10, 10*time.Second)
		if got := w.stored("ep_a"); got.Disabled {
			t.Errorf("100 seconds after it was enabled: %+v", got)
		}
		w.trickle("f", 4, 10*time.Second)
		p.terminate()
		if got := w.stored("ep_a"); !got.Disabled {
			t.Error("it is not disabled again")
		}
		count := map[string]int{}
		ids := map[string]bool{}
		for _, o := range w.operational() {
			count[o.kind]++
			ids[o.id] = true
		}
		// Three occurrences, of which the first ended before its two minutes.
		if count[typeFailing] != 6 || count[typeDisabled] != 2 || len(ids) != 8 {
			t.Errorf("events %v with %d IDs", count, len(ids))
		}
	})
}

func TestDeliveriesInARowThatAreGivenUpDisable(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { quickly(c); c.Lifecycle.FailingFor, c.Lifecycle.Exhausted = 0, 4 }, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 500 })
		w.endpoint("a", "order.*")
		p := w.process()
		time.Sleep(5 * time.Second)
		w.trickle("a", 10, 20*time.Second)
		p.terminate()
		var got []string
		for _, o := range w.operational() {
			got = append(got, fmt.Sprint(o.kind, " ", o.data.Percent, " ", o.data.Exhausted, " ", o.data.Reason))
		}
		want := []string{"endpoint.failing 50 2 exhausted", "endpoint.failing 75 3 exhausted", "endpoint.disabled 0 4 exhausted"}
		if e := w.stored("ep_a"); !slices.Equal(got, want) || e.DisabledReason != webhook.DisabledExhausted {
			t.Errorf("events %q, want %q; %+v", got, want, e)
		}
	})
}

func TestAReceiverThatIsGoneIsDisabledAtOnce(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 410 })
		w.endpoint("a", "order.*")
		w.subscriber("ship", "bunship", "order.*") // its contract retries a 410 like any other
		p := w.process()
		time.Sleep(5 * time.Second)
		for i := range 30 {
			w.event(fmt.Sprint("e", i), "order.created")
		}
		time.Sleep(time.Minute)
		p.terminate()
		events := w.operational()
		if e := w.stored("ep_a"); !e.Disabled || e.DisabledReason != webhook.DisabledGone || len(events) != 1 || events[0].kind != typeDisabled || events[0].data.Reason != webhook.DisabledGone {
			t.Errorf("%+v; events %+v", e, events)
		}
		if e := w.stored("ep_ship"); e.Disabled {
			t.Error("bunship promises nothing of a 410, and its endpoint is disabled")
		}
	})
}

func TestAnEndpointWithoutEventsIsDisabledWhereItsContractSaysSo(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		const day = 24 * time.Hour
		now := time.Now().UTC()
		for name, last := range map[string]time.Duration{"quiet": 92 * day, "never": 0, "recent": 89 * day} {
			e := w.subscriber(name, "bigcommerce", "store/*")
			w.change(e, func(e *webhook.Endpoint) { e.CreatedAt = now.Add(-100 * day) })
			if last > 0 {
				value, _ := json.Marshal(lifecycle.State{}.Seen(now.Add(-last)))
				w.produce(&kgo.Record{Topic: "posthorn.registry", Key: []byte("health/" + e.ID), Value: value})
			}
		}
		w.change(w.subscriber("young", "bigcommerce"), func(e *webhook.Endpoint) { e.CreatedAt = now.Add(-80 * day) })
		w.change(w.subscriber("enabled", "bigcommerce"), func(e *webhook.Endpoint) { e.CreatedAt, e.EnabledAt = now.Add(-100*day), now.Add(-day) })
		w.change(w.subscriber("standard", "standard"), func(e *webhook.Endpoint) { e.CreatedAt = now.Add(-500 * day) })
		first, second := w.process(), w.process() // both look, one of them finds
		time.Sleep(inactiveFirst)
		first.terminate()
		second.terminate()
		var subjects []string
		for _, o := range w.operational() {
			if subjects = append(subjects, o.subject); o.kind != typeDisabled || o.data.Reason != webhook.DisabledInactive {
				t.Errorf("%+v", o)
			}
		}
		if slices.Sort(subjects); !slices.Equal(subjects, []string{"ep_never", "ep_quiet"}) {
			t.Errorf("disabled were %q", subjects)
		}
		for name, want := range map[string]bool{"quiet": true, "never": true, "recent": false, "young": false, "enabled": false, "standard": false} {
			if e := w.stored("ep_" + name); e.Disabled != want {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestOperationalEventsAreNotMatchedWhereThatIsOff(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { c.Lifecycle.Events = false }, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if h.endpoint == "/a" {
				h.status = 410
			}
		})
		w.endpoint("a", "order.*")
		w.endpoint("listens", "endpoint.*")
		p := w.process()
		time.Sleep(5 * time.Second)
		w.event("e", "order.created")
		time.Sleep(time.Minute)
		p.terminate()
		if n := len(w.operational()); n != 1 || len(w.received("/listens")) != 0 {
			t.Errorf("%d events, %d delivered", n, len(w.received("/listens")))
		}
	})
}

func TestDeliveriesOfOperationalEventsMakeNone(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { quickly(c); c.Lifecycle.FailingFor, c.Lifecycle.Exhausted = 0, 2 }, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 500 })
		w.endpoint("bad", "order.*")
		w.endpoint("listens", "endpoint.*")
		p := w.process()
		time.Sleep(5 * time.Second)
		w.trickle("a", 4, 20*time.Second)
		time.Sleep(2 * time.Minute)
		p.terminate()
		if len(w.received("/listens")) < 4 {
			t.Fatalf("the listener got %d POSTs: it says nothing", len(w.received("/listens")))
		}
		for _, o := range w.operational() {
			if o.subject != "ep_bad" {
				t.Errorf("%+v", o)
			}
		}
	})
}

func TestWhatAnEndpointMissedWhileItFailedAndWasDisabledIsRecovered(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { quickly(c); c.Lifecycle.FailingFor, c.HTTP.RateLimit = 2*time.Minute, 0 }, func(w *world) {
		var failing atomic.Bool
		failing.Store(true)
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if failing.Load() {
				h.status = 500
			}
		})
		w.endpoint("a", "order.*")
		admin := w.apiProcess()
		p := w.process()
		time.Sleep(5 * time.Second)
		w.trickle("failed", 14, 10*time.Second)
		const path = "/v1/tenants/acme/endpoints/ep_a"
		if e := w.stored("ep_a"); e.DisabledReason != webhook.DisabledFailing {
			t.Fatalf("it is %+v", e)
		}
		w.trickle("missed", 5, 10*time.Second)
		failing.Store(false)
		w.event("last", "order.created")
		time.Sleep(2 * time.Second)
		if a := ask(admin, "PATCH", path, `{"disabled":false}`); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), `"failing_since"`) {
			t.Fatal(a.Body)
		}
		w.event("beside", "order.created") // matchers may not know of it yet
		a := ask(admin, "POST", path+"/recover", "")
		if a.Code != http.StatusAccepted {
			t.Fatal(a.Body)
		}
		time.Sleep(time.Minute)
		w.event("live", "order.created")
		time.Sleep(time.Minute)
		if again := ask(admin, "POST", path+"/recover", ""); again.Code != http.StatusOK || !strings.Contains(again.Body.String(), `"completed"`) {
			t.Errorf("repeated: %d %s", again.Code, again.Body)
		}
		time.Sleep(time.Minute)
		p.terminate()
		arrived := map[string]int{}
		for _, h := range w.received("/a") {
			if h.status < 300 {
				arrived[h.body]++
			}
		}
		want := []string{"last", "beside", "live"}
		for i := range 14 {
			want = append(want, fmt.Sprint("failed", i))
		}
		for i := range 5 {
			want = append(want, fmt.Sprint("missed", i))
		}
		for _, id := range want {
			// What is matched live beside the recovery may come by both.
			if n := arrived[`{"id":"`+id+`"}`]; n == 0 || n > 1 && id != "beside" {
				t.Errorf("%s arrived %d times", id, n)
			}
		}
	})
}
