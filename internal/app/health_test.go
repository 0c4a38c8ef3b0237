package app

import (
	"encoding/json"
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

func TestAnEndpointCreatedByAClockThatIsAheadFailsFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := registry.NewStore()
		ahead := time.Now().Add(3*time.Second + 456*time.Microsecond).UTC()
		value, err := json.Marshal(webhook.Endpoint{ID: "ep_a", Tenant: "acme", URL: "https://example.com", Contract: contract.Default, CreatedAt: ahead, UpdatedAt: ahead, Version: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Apply([]byte("endpoint/ep_a"), value); err != nil {
			t.Fatal(err)
		}
		var got []notice
		h := &health{policy: lifecycle.Policy{Exhausted: 2}, contracts: contract.Builtin(), events: "posthorn.events", store: store,
			log: slog.New(slog.DiscardHandler), raise: func(n notice) bool { got = append(got, n); return true }, endpoints: map[string]*endpointHealth{}}
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
		begun := time.Now()
		for _, id := range []string{"wavers", "fails", "quiet"} {
			h.endpoints[id] = &endpointHealth{saved: begun}
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
			h.look(time.Now(), healthLooked, healthSaved, healthEvery)
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
		h.look(time.Now(), healthLooked, healthSaved, healthEvery)
		if got := records["fails"]; len(got) != 2 || !got[1].FailingSince.IsZero() {
			t.Errorf("one that is well again was recorded as %+v", got)
		}
	})
}
