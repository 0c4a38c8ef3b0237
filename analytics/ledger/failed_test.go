package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"posthorn/analytics/ledger"
	"posthorn/internal/ledgertest"
	"posthorn/webhook"
)

func TestFailedDeliveriesAreThoseThatNoRunSaved(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	f := ledger.FailedFilter{Tenant: "globex", EndpointID: "ep_globex", Since: w.ago(time.Hour)}
	limit, bytes := 1, int64(1<<20)
	failed := func() string {
		t.Helper()
		n, err := l.CountFailed(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for after := ""; ; {
			page, err := l.Failed(t.Context(), f, after, limit, bytes)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			if len(page) > 1 && (limit == 1 || bytes == 1) {
				t.Errorf("%d at once", len(page))
			}
			after = page[0].DeliveryID
			ids = append(ids, page[0].EventID)
			if d := page[0]; d.Payload == nil || *d.Payload != `{"id":"`+d.EventID+`"}` || d.SourceTopic != "orders" || d.EventType != "order.paid" {
				t.Errorf("%+v", d)
			}
		}
		if int(n) != len(ids) {
			t.Errorf("%d are counted, %d there", n, len(ids))
		}
		return strings.Join(ids, " ")
	}
	both := failed()
	if both != "evt-1044 evt-1045" && both != "evt-1045 evt-1044" {
		t.Fatalf("failed: %s", both)
	}
	limit, bytes = 100, 1
	if got := failed(); got != both {
		t.Errorf("a byte at a time: %s", got)
	}
	if page, err := l.Failed(t.Context(), f, "", 100, 1<<20); err != nil || len(page) != 2 {
		t.Errorf("%d in one page: %v", len(page), err)
	}
	again := func(event string, run int64) ledgertest.Delivery {
		d := ledgertest.Delivery{Tenant: "globex", EndpointID: "ep_globex", ID: webhook.DeliveryID("/shop", event, "ep_globex"), Run: run, Origin: "resend",
			EventID: event, EventSource: "/shop", Type: "order.paid", Body: `{"id":"` + event + `"}`, BegunAt: time.UnixMilli(run), MatchedAt: time.UnixMilli(run), Offset: run}
		w.Deliver(d)
		return d
	}
	// One was sent again, and is under way.
	resent := again("evt-1044", w.now.UnixMilli())
	if got := failed(); got != "evt-1045" {
		t.Errorf("with one pending: %s", got)
	}
	dead := ledgertest.Settlement{Of: resent, AttemptID: uuid.New(), StartedAt: w.now, Status: 410, Outcome: "dead", Reason: "status_410"}
	w.Settle(dead)
	if got := failed(); got != both {
		t.Errorf("with both dead again: %s", got)
	}
	w.Settle(ledgertest.Settlement{Of: again("evt-1044", w.now.UnixMilli()+1), AttemptID: uuid.New(), StartedAt: w.now, Status: 200, Outcome: "delivered", Reason: "ok"})
	if got := failed(); got != "evt-1045" {
		t.Errorf("with one delivered at last: %s", got)
	}
	f.Since = w.ago(10 * time.Minute)
	if got := failed(); got != "" {
		t.Errorf("begun later: %s", got)
	}
	f = ledger.FailedFilter{Tenant: "acme", EndpointID: "ep_acme_2", States: []string{ledger.StateDiscarded}}
	if got := failed(); got != "evt-1047" {
		t.Errorf("discarded: %s", got)
	}
	f.Tenant = "globex"
	if got := failed(); got != "" {
		t.Errorf("of another tenant: %s", got)
	}
	if _, err := l.Failed(t.Context(), ledger.FailedFilter{Tenant: "acme"}, "", 1, 1); err == nil {
		t.Error("asked without an endpoint")
	}
}
