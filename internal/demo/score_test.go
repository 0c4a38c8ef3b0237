package demo

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/contract"
	"posthorn/registry/match"
	"posthorn/webhook"
)

// planned returns the score of a plan of 20 events, whose endpoints have the
// IDs ep_<name>.
func planned() *score {
	endpoints := sampleEndpoints()
	for _, e := range endpoints {
		e.id = webhook.EndpointPrefix + e.name
	}
	return newScore(plan(len(traffic), endpoints))
}

// deliver has a pair received and settled.
func deliver(s *score, p *pair) {
	s.arrived(time.Now(), &sample{endpoint: p.endpoint, id: p.id})
	s.settled(&webhook.Settlement{Kind: webhook.KindAttempt, AttemptID: "a_" + p.id, DeliveryID: p.id, Outcome: webhook.OutcomeDelivered})
}

func TestEachPairMissingFailsTheDemo(t *testing.T) {
	all := planned()
	for missing := range all.pairs {
		s := planned()
		for i, p := range s.pairs {
			if i != missing {
				deliver(s, p)
			}
		}
		r := s.result()
		var loss *LossError
		if r.Lost != 1 || !errors.As(r.Err(), &loss) || !strings.Contains(loss.Error(), "1 of 30 deliveries were lost") {
			t.Fatalf("without %s: %v, %v", s.pairs[missing].id, r, r.Err())
		}
		if open := s.open(); len(open) != 1 || !strings.Contains(open[0], s.pairs[missing].id) {
			t.Fatalf("named %q", open)
		}
		deliver(s, s.pairs[missing])
		if r := s.result(); r.Err() != nil || r.Lost != 0 || r.Verified != 30 || r.Deliveries != 30 {
			t.Fatalf("with all: %v, %v", r, r.Err())
		}
	}
}

func TestWhatTheLedgerDoesNotSettleIsLostThoughItWasReceived(t *testing.T) {
	s := planned()
	for _, p := range s.pairs[1:] {
		deliver(s, p)
	}
	s.arrived(time.Now(), &sample{endpoint: s.pairs[0].endpoint, id: s.pairs[0].id})
	if r := s.result(); r.Verified != 30 || r.Lost != 1 || r.Err() == nil {
		t.Errorf("got %v, %v", r, r.Err())
	}
}

func TestOnlyWhatTheReceiverVerifiedCountsAsVerified(t *testing.T) {
	s := planned()
	for i, p := range s.pairs {
		if i > 0 {
			deliver(s, p)
			deliver(s, p) // once more: receivers may get it twice
		}
	}
	p := s.pairs[0]
	s.settled(&webhook.Settlement{Kind: webhook.KindAttempt, DeliveryID: p.id, Outcome: webhook.OutcomeDelivered})
	if r := s.result(); r.Verified != 29 || r.Lost != 0 || r.Err() == nil {
		t.Errorf("delivered and not verified: %v, %v", r, r.Err())
	}
}

func TestTheDeadAreNotLostAndTheDiscardedAre(t *testing.T) {
	s := planned()
	for i, p := range s.pairs {
		switch i {
		case 0:
			s.settled(&webhook.Settlement{Kind: webhook.KindAttempt, DeliveryID: p.id, Outcome: webhook.OutcomeDead})
		case 1:
			s.settled(&webhook.Settlement{Kind: webhook.KindDead, DeliveryID: p.id})
		default:
			deliver(s, p)
		}
	}
	if r := s.result(); r.Dead != 2 || r.Lost != 0 || r.Err() != nil {
		t.Errorf("got %v, %v", r, r.Err())
	}
	s = planned()
	for _, p := range s.pairs[1:] {
		deliver(s, p)
	}
	s.settled(&webhook.Settlement{Kind: webhook.KindDiscard, DeliveryID: s.pairs[0].id})
	if r := s.result(); r.Lost != 1 || r.Err() == nil {
		t.Errorf("got %v, %v", r, r.Err())
	}
}

func TestRetriesAreCountedByAttempt(t *testing.T) {
	s := planned()
	p := s.pairs[0]
	for _, id := range []string{"1", "2", "2"} {
		s.settled(&webhook.Settlement{Kind: webhook.KindAttempt, AttemptID: id, DeliveryID: p.id, Outcome: webhook.OutcomeRetry})
	}
	s.settled(&webhook.Settlement{Kind: webhook.KindPark, DeliveryID: p.id})
	s.settled(&webhook.Settlement{Kind: webhook.KindAttempt, AttemptID: "3", DeliveryID: p.id, Outcome: webhook.OutcomeCut})
	if r := s.result(); r.Retried != 2 || r.Lost != 30 {
		t.Errorf("got %v", r)
	}
}

func TestADeliveryThatNobodyHadToGetFailsTheDemo(t *testing.T) {
	s := planned()
	for _, p := range s.pairs {
		deliver(s, p)
	}
	if _, ok := s.arrived(time.Now(), &sample{endpoint: s.pairs[0].endpoint, id: webhook.DeliveryID(eventSource, "evt_000014", "ep_members")}); ok {
		t.Error("it was accepted")
	}
	if r := s.result(); r.Err() == nil {
		t.Errorf("got %v", r)
	}
}

// The plan is written by hand; the product's own index has to agree with it.
func TestThePlanAgreesWithTheSubscriptions(t *testing.T) {
	index := match.New()
	byName := map[string]*endpoint{}
	for _, e := range sampleEndpoints() {
		byName[e.name] = e
		if _, ok := contract.Builtin().Get(e.contract); !ok {
			t.Errorf("%s: contract %s is not known", e.name, e.contract)
		}
		index.Put(e.tenant, &match.Endpoint{ID: e.name}, e.events, false)
	}
	for _, k := range traffic {
		var got []string
		for _, e := range index.Lookup(nil, k.tenant, k.name) {
			got = append(got, e.ID)
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(k.to))
		if !slices.Equal(got, want) {
			t.Errorf("%s: matched by %v, the plan says %v", k.name, got, want)
		}
	}
}

func TestTheDeliveryOfAContractWithoutAnIDIsFoundByItsEvent(t *testing.T) {
	e := &endpoint{name: "partner", id: "ep_1"}
	got, err := deliveryOf(e, http.Header{}, []byte(`{"eventId":"evt_1"}`))
	if want := webhook.DeliveryID(eventSource, "evt_1", "ep_1"); err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if _, err := deliveryOf(e, http.Header{}, []byte(`[]`)); !errors.Is(err, errNoID) {
		t.Errorf("got %v", err)
	}
}

func TestAQuantileIsTheLeastThatCoversItsPart(t *testing.T) {
	var ds []time.Duration
	for i := range 200 {
		ds = append(ds, time.Duration(i+1))
	}
	for percent, want := range map[int]time.Duration{0: 1, 50: 100, 99: 198, 100: 200} {
		if got := quantile(ds, percent); got != want {
			t.Errorf("p%d is %d, want %d", percent, got, want)
		}
	}
	if got := quantile(ds[:1], 99); got != 1 {
		t.Errorf("of one: %d", got)
	}
}
