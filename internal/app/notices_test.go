package app

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"posthorn/contract"
	"posthorn/registry"
	"posthorn/registry/lifecycle"
	"posthorn/webhook"
)

// notices is what disables endpoints, in a process that does nothing else, and
// the lock that it takes.
func (w *world) notices() (*notices, *registry.Writer) {
	w.t.Helper()
	store, writer := w.registryLock()
	return &notices{writer: writer, store: store, events: "posthorn.events", audit: "posthorn.audit",
		fails: func(string, time.Time) bool { return true }, count: func(string) {}, log: w.log}, writer
}

func TestAnEndpointIsNotGoneForWhatItsReceiverOfBeforeAChangeAnswered(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		e := w.endpoint("a", "order.*")
		ns, writer := w.notices()
		time.Sleep(time.Minute)
		if err := writer.Update(context.Background(), func(tx *registry.Tx) error {
			ep, _ := tx.Get(e.ID)
			ep.URL = "http://hooks.example.com:8080/moved"
			return tx.Put(ep)
		}); err != nil {
			t.Fatal(err)
		}
		changed := w.stored(e.ID).UpdatedAt
		gone := func(at time.Time) *webhook.Endpoint {
			ns.write(context.Background(), notice{endpointID: e.ID, percent: 100, reason: webhook.DisabledGone, at: at})
			return w.stored(e.ID)
		}
		for _, at := range []time.Time{changed.Add(-30 * time.Second), changed, changed.Add(changeSeen - time.Millisecond)} {
			if got := gone(at); got.Disabled || got.Version != 2 {
				t.Errorf("gone in an attempt that began %v after its change: %+v", at.Sub(changed), got)
			}
		}
		if got := gone(changed.Add(changeSeen)); !got.Disabled || got.DisabledReason != webhook.DisabledGone {
			t.Errorf("gone since its change: %+v", got)
		}
	})
}

func TestWhatWasMissedIsStillKnownWhenTheEndpointFailsAgain(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.endpoint("a", "order.*")
		admin := w.apiProcess()
		ns, _ := w.notices()
		const path = "/v1/tenants/acme/endpoints/ep_a"
		time.Sleep(time.Minute)
		begun := time.Now().UTC()
		fails := func(percent int, since time.Time) {
			ns.write(context.Background(), notice{endpointID: "ep_a", percent: percent, reason: webhook.DisabledFailing, state: lifecycle.State{FailingSince: since}, at: time.Now()})
		}
		missed := func() time.Time {
			time.Sleep(time.Second) // the API follows the registry
			var e struct {
				Missed struct {
					FailingSince time.Time `json:"failing_since"`
				} `json:"missed"`
			}
			if err := json.Unmarshal(ask(admin, "GET", path, "").Body.Bytes(), &e); err != nil {
				t.Error(err)
			}
			return e.Missed.FailingSince
		}
		fails(100, begun)
		time.Sleep(time.Minute)
		if a := ask(admin, "PATCH", path, `{"disabled":false}`); a.Code != http.StatusOK {
			t.Fatal(a.Body)
		}
		if got := missed(); !got.Equal(begun) {
			t.Errorf("it failed since %v before it was disabled, want %v", got, begun)
		}
		for _, percent := range []int{50, 75} {
			time.Sleep(time.Minute)
			again := time.Now().UTC()
			fails(percent, again)
			if got := missed(); !got.Equal(begun) {
				t.Errorf("after a warning of %d percent it failed since %v before it was disabled, want %v", percent, got, begun)
			}
			if n := len(w.operational()); n != map[int]int{50: 2, 75: 3}[percent] {
				t.Errorf("%d operational events at %d percent", n, percent)
			}
		}
	})
}

func TestANoticeThatWaitedUntilTheEndpointWasWellAgainDisablesNobody(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		ns, _ := w.notices()
		h := &health{policy: lifecycle.Policy{Exhausted: 2}, contracts: contract.Builtin(), events: "posthorn.events", store: ns.store, log: w.log,
			leases: map[int32]lease{0: &held{}}, endpoints: map[string]*endpointHealth{}}
		ns.fails = h.fails
		for name, recovers := range map[string]bool{"well": true, "fails": false, "anew": true} {
			id := w.endpoint(name, "order.*").ID
			time.Sleep(time.Second) // the store follows
			var raised []notice
			h.raise = func(n notice) bool { raised = append(raised, n); return true }
			settle := func(o webhook.Outcome) {
				time.Sleep(time.Second)
				h.settled(&webhook.Settlement{EndpointID: id, Contract: contract.Default, Kind: webhook.KindAttempt, Outcome: o, Origin: webhook.OriginMatch, MatchedAt: time.Now()})
			}
			settle(webhook.OutcomeDead)
			settle(webhook.OutcomeDead)
			if recovers {
				settle(webhook.OutcomeDelivered)
			}
			if name == "anew" {
				settle(webhook.OutcomeRetry) // another occurrence
			}
			if len(raised) != 2 || raised[1].percent != 100 {
				t.Fatalf("%s: it was told %+v", name, raised)
			}
			for _, n := range raised {
				ns.write(context.Background(), n)
			}
			if got := w.stored(id); got.Disabled == recovers {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if got := w.operational(); len(got) != 2 || got[0].subject != "ep_fails" || got[1].subject != "ep_fails" {
			t.Errorf("operational events %+v", got)
		}
	})
}
