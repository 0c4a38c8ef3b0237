package ledger_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"posthorn/analytics/ledger"
	"posthorn/internal/ledgertest"
	"posthorn/webhook"
)

func TestADeliveryIsToldWithAllItsRunsToItsTenantAlone(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	id := webhook.DeliveryID("/shop", "evt-1044", "ep_globex") // dead
	again := w.now.UnixMilli()
	resent := ledgertest.Delivery{Tenant: "globex", EndpointID: "ep_globex", ID: id, Run: again, Origin: "resend", EventID: "evt-1044", EventSource: "/shop",
		Type: "order.paid", Body: `{"id":"evt-1044"}`, BegunAt: w.now, MatchedAt: w.now, Offset: 1000}
	w.Deliver(resent)
	w.Settle(ledgertest.Settlement{Of: resent, AttemptID: uuid.New(), StartedAt: w.now, Duration: time.Second, Status: 200, Outcome: "delivered", Reason: "ok", Response: "OK"})

	d, err := l.Delivery(t.Context(), "globex", id)
	if err != nil || d == nil || len(d.Runs) != 2 {
		t.Fatalf("%+v, %v", d, err)
	}
	last, first := d.Runs[0], d.Runs[1]
	if last.Run != again || last.State != ledger.StateDelivered || last.Origin != "resend" || len(last.History) != 1 || *last.StatusCode != 200 {
		t.Errorf("the resent run is %+v", last)
	}
	if first.Run != 0 || first.State != ledger.StateDead || first.Origin != "match" || len(first.History) != 1 || first.History[0].Status != 410 || first.SourceTopic != "orders" {
		t.Errorf("the first run is %+v", first)
	}
	if d.Payload == nil || *d.Payload != `{"id":"evt-1044"}` {
		t.Errorf("payload %v", d.Payload)
	}
	for _, foreign := range []string{"acme", "' OR 1=1 --"} {
		if d, err := l.Delivery(t.Context(), foreign, id); d != nil || err != nil {
			t.Errorf("tenant %q sees it: %+v, %v", foreign, d, err)
		}
	}
	if _, err := l.Delivery(t.Context(), "", id); err == nil {
		t.Error("asked without a tenant")
	}
}

func TestABacklogIsWhatHasNoEnd(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	// evt-1043 waits for an attempt in 100 minutes, evt-1048 for one that is overdue.
	parked := w.deliver("acme", "ep_acme_1", "evt-2001", "order.paid", w.ago(10*time.Minute))
	for n := range uint32(2) {
		w.Settle(ledgertest.Settlement{Kind: "park", AttemptID: uuid.New(), Of: parked, Deferrals: n, StartedAt: w.ago(9 * time.Minute), Reason: "breaker_open", NextAt: time.Now().Add(3 * time.Minute)})
	}
	w.deliver("acme", "ep_acme_1", "evt-2002", "order.paid", w.ago(time.Minute)) // just matched
	b, err := l.Backlog(t.Context(), "acme", "ep_acme_1", w.ago(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if b.Queued != 1 || b.Parked != 1 || b.Retrying != 2 || b.Overdue != 1 || b.Five != 1 || b.Later != 1 || b.Minute+b.Quarter != 0 {
		t.Errorf("%+v", b)
	}
	if b.OldestAt == nil || !b.OldestAt.Equal(w.ago(50*time.Minute)) || b.LastDueAt == nil || !b.LastDueAt.Equal(w.ago(-100*time.Minute)) || b.Rate != 0 || !b.AsOf.Equal(w.now) {
		t.Errorf("oldest %v, last due %v, rate %v, as of %v", b.OldestAt, b.LastDueAt, b.Rate, b.AsOf)
	}
	now := time.Now()
	for i := range 3 {
		d := w.deliver("acme", "ep_acme_1", string(rune('a'+i)), "order.paid", now.Add(-time.Minute))
		w.post(d, 0, now.Add(time.Duration(i-6)*time.Second), 200, "ok", "delivered", 0, time.Time{})
	}
	if b, err = l.Backlog(t.Context(), "acme", "ep_acme_1", w.ago(24*time.Hour)); err != nil || b.Rate < 1.4 || b.Rate > 1.6 {
		t.Errorf("three in two seconds are a rate of %v, %v", b, err)
	}
	for tenant, endpoint := range map[string]string{"globex": "ep_acme_1", "acme": "ep_none"} {
		if b, err := l.Backlog(t.Context(), tenant, endpoint, time.Time{}.AddDate(1999, 0, 0)); err != nil || b.Queued+b.Parked+b.Retrying != 0 || b.OldestAt != nil || b.Rate != 0 {
			t.Errorf("%s %s: %+v, %v", tenant, endpoint, b, err)
		}
	}
}
