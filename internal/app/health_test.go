package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/contract"
	"posthorn/registry"
	"posthorn/registry/lifecycle"
	"posthorn/webhook"
)

// held is a lease as far as health knows it.
type held struct{ ended, cutOff bool }

func (l *held) Ended() bool         { return l.ended }
func (l *held) Live(time.Time) bool { return !l.ended && !l.cutOff }

// known is a registry with endpoints that were created at a time.
func known(t *testing.T, created time.Time, ids ...string) *registry.Store {
	t.Helper()
	store := registry.NewStore()
	for _, id := range ids {
		value, err := json.Marshal(webhook.Endpoint{ID: id, Tenant: "acme", URL: "https://example.com", Contract: contract.Default, CreatedAt: created, UpdatedAt: created, Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Apply([]byte("endpoint/"+id), value); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func TestWhatAProcessSawOfAnEndpointIsRecordedWhenItGivesItUpAndNotAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := known(t, time.Now().UTC(), "ep_0", "ep_1", "ep_2", "ep_3")
		records := map[string]int{}
		h := &health{contracts: contract.Builtin(), events: "posthorn.events", store: store, log: slog.New(slog.DiscardHandler), raise: func(notice) bool { return true },
			send: func(key string, value []byte) {
				records[key]++
				if err := store.Apply([]byte(key), value); err != nil {
					t.Error(err)
				}
			}, leases: map[int32]lease{}, endpoints: map[string]*endpointHealth{}}
		settle := func(partition int32, o webhook.Outcome) {
			h.settled(&webhook.Settlement{EndpointID: fmt.Sprint("ep_", partition), Contract: contract.Default, Kind: webhook.KindAttempt, Outcome: o,
				Origin: webhook.OriginResend, Record: webhook.Position{Partition: partition}})
		}
		pass := func() {
			for range 2 * 60 {
				time.Sleep(time.Second)
				h.look(time.Now())
			}
		}
		settle(0, webhook.OutcomeRetry)
		if len(h.endpoints) != 0 {
			t.Error("an endpoint of a partition that was never ours is remembered")
		}
		begun := time.Now()
		handed, cutOff, lost, kept := &held{}, &held{cutOff: true}, &held{}, &held{}
		for p, l := range map[int32]lease{0: handed, 1: cutOff, 2: lost, 3: kept} {
			h.took(p, l)
			settle(p, webhook.OutcomeRetry)
		}
		time.Sleep(time.Second)
		h.released(time.Now(), map[int32]lease{0: handed, 1: cutOff})
		lost.ended = true
		for p := range int32(3) {
			settle(p, webhook.OutcomeRetry) // a POST that ended late
			if h.fails(fmt.Sprint("ep_", p), begun.UTC()) {
				t.Errorf("ep_%d is taken for ours", p)
			}
		}
		if records["health/ep_0"] != 1 || len(records) != 1 {
			t.Errorf("recorded when partitions were given up: %v", records)
		}
		pass()
		if records["health/ep_0"] != 1 || records["health/ep_3"] != 1 || len(records) != 2 || len(h.endpoints) != 1 {
			t.Errorf("recorded two minutes later: %v; remembered: %d", records, len(h.endpoints))
		}
		h.took(0, &held{})
		settle(0, webhook.OutcomeRetry)
		if !h.fails("ep_0", begun.UTC()) {
			t.Errorf("the next owner takes it that it fails since %v, want %v", h.endpoints["ep_0"].state.FailingSince, begun)
		}
		settle(0, webhook.OutcomeDelivered)
		pass()
		if s := healthOf(store.Raw(registry.KindHealth, "ep_0")); !s.FailingSince.IsZero() || records["health/ep_0"] != 2 {
			t.Errorf("the next owner had a success, and the record is %+v", s)
		}
	})
}

func TestAnEndpointCreatedByAClockThatIsAheadFailsFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Now().Add(3*time.Second + 456*time.Microsecond).UTC()
		var got []notice
		h := &health{policy: lifecycle.Policy{Exhausted: 2}, contracts: contract.Builtin(), events: "posthorn.events", store: known(t, ahead, "ep_a"),
			log: slog.New(slog.DiscardHandler), raise: func(n notice) bool { got = append(got, n); return true },
			leases: map[int32]lease{0: &held{}}, endpoints: map[string]*endpointHealth{}}
		for range 2 {
			h.settled(&webhook.Settlement{EndpointID: "ep_a", Contract: contract.Default, Kind: webhook.KindAttempt, Outcome: webhook.OutcomeDead, Origin: webhook.OriginResend})
			time.Sleep(time.Second)
		}
		if len(got) != 2 || got[1].percent != 100 || !got[1].state.FailingSince.Equal(ahead) {
			t.Errorf("it was told %+v, want 50 and 100 percent since %v", got, ahead)
		}
	})
}

func TestAnEndpointThatWaversIsRecordedHourlyAndOneThatFailsOnceAMinuteIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := map[string][]lifecycle.State{}
		h := &health{contracts: contract.Builtin(), events: "posthorn.events", log: slog.New(slog.DiscardHandler), raise: func(notice) bool { return true },
			send: func(key string, value []byte) {
				var s lifecycle.State
				if err := json.Unmarshal(value, &s); err != nil {
					t.Error(err)
				}
				id := strings.TrimPrefix(key, "health/")
				records[id] = append(records[id], s)
			}, endpoints: map[string]*endpointHealth{}}
		begun, ours := time.Now(), &held{}
		h.leases = map[int32]lease{0: ours}
		for _, id := range []string{"wavers", "fails", "quiet"} {
			h.endpoints[id] = &endpointHealth{lease: ours, saved: begun}
		}
		settle := func(id, contract string, o webhook.Outcome, origin webhook.Origin) {
			h.settled(&webhook.Settlement{EndpointID: id, Contract: contract, Kind: webhook.KindAttempt, Outcome: o, Origin: origin, MatchedAt: time.Now()})
		}
		settle("quiet", "bigcommerce", webhook.OutcomeDelivered, webhook.OriginMatch)
		for range 50 * 60 {
			settle("wavers", "standard", webhook.OutcomeRetry, webhook.OriginResend)
			settle("wavers", "standard", webhook.OutcomeRetry, webhook.OriginResend)
			settle("fails", "standard", webhook.OutcomeRetry, webhook.OriginResend)
			time.Sleep(time.Second)
			h.look(time.Now())
			settle("wavers", "standard", webhook.OutcomeDelivered, webhook.OriginResend)
		}
		if n := len(records["wavers"]); n != 0 {
			t.Errorf("one that wavers was recorded %d times in 50 minutes", n)
		}
		if got := records["fails"]; len(got) != 1 || !got[0].FailingSince.Equal(begun) {
			t.Errorf("one that fails was recorded as %+v", got)
		}
		if got := records["quiet"]; len(got) != 1 || got[0].LastEvent.IsZero() {
			t.Errorf("the first event of one that inactivity counts for was recorded as %+v", got)
		}
		settle("fails", "standard", webhook.OutcomeDelivered, webhook.OriginResend)
		h.look(time.Now())
		if got := records["fails"]; len(got) != 2 || !got[1].FailingSince.IsZero() {
			t.Errorf("one that is well again was recorded as %+v", got)
		}
	})
}
