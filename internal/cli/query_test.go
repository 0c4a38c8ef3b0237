package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"posthorn/analytics/ledger"
	"posthorn/analytics/schema"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/config"
	"posthorn/internal/ledgertest"
	"posthorn/webhook"
)

// asked is a ledger with one delivery that was delivered at the second POST, and
// one whose retry vanished.
func asked(t *testing.T) (Query, *bytes.Buffer, string) {
	t.Helper()
	l := ledgertest.New(t, schema.Options{})
	now := time.Now().UTC().Truncate(time.Second)
	one := ledgertest.Delivery{Tenant: "acme", EndpointID: "ep_1", EventID: "evt-1", EventSource: "shop", Type: "order.paid", Body: `{"n":1}`,
		BegunAt: now.Add(-time.Hour), MatchedAt: now.Add(-time.Hour), Offset: 1}
	one.ID = webhook.DeliveryID(one.EventSource, one.EventID, one.EndpointID)
	two := one
	two.EventID, two.Offset = "evt-2", 2
	two.ID = webhook.DeliveryID(two.EventSource, two.EventID, two.EndpointID)
	l.Deliver(one, two)
	l.Settle(
		ledgertest.Settlement{AttemptID: uuid.New(), Of: one, StartedAt: one.BegunAt, Status: 503, Outcome: "retry", Reason: "status_5xx", NextAt: one.BegunAt.Add(time.Minute)},
		ledgertest.Settlement{AttemptID: uuid.New(), Of: one, N: 1, StartedAt: one.BegunAt.Add(time.Minute), Status: 200, Outcome: "delivered", Reason: "ok", Response: "\x1b[31mred"},
		ledgertest.Settlement{AttemptID: uuid.New(), Of: two, StartedAt: two.BegunAt, Status: 500, Outcome: "retry", Reason: "status_5xx", NextAt: two.BegunAt.Add(time.Minute)},
	)
	for topic, done := range map[string]int64{"deliveries": 3, "attempts": -1} {
		l.Note(ledgertest.Progress{Topic: topic, ReachedAt: now, TakenAt: now, DoneOffset: done, DoneAt: now})
	}
	var out bytes.Buffer
	c := config.Default().ClickHouse
	c.Addr, c.Protocol, c.Database = []string{clickhousetest.Shared(t).Addr()}, config.ProtocolHTTP, l.Database
	return Query{ClickHouse: c, Out: &out}, &out, one.ID
}

func TestQueriesAnswerPeopleAndPrograms(t *testing.T) {
	q, out, id := asked(t)
	since := time.Now().Add(-2 * time.Hour)
	for _, c := range []struct {
		name  string
		ask   func(Query) error
		wants []string // in the text
		json  string   // in the JSON
	}{
		{"deliveries", func(q Query) error {
			return q.Deliveries(t.Context(), ledger.Filter{EventID: "evt-1", Since: since}, false)
		},
			[]string{"DELIVERY", id, "delivered", "200"}, `"state": "delivered"`},
		{"attempts", func(q Query) error {
			return q.Attempts(t.Context(), ledger.AttemptFilter{DeliveryID: id, Since: since})
		},
			[]string{"OUTCOME", "503", "retry", `"\x1b[31mred"`}, `"outcome": "retry"`},
		{"endpoint", func(q Query) error { return q.Endpoints(t.Context(), since, time.Time{}, "acme", "") },
			[]string{"HEALTH", "ep_1", "33.3%"}, `"endpoint_id": "ep_1"`},
		{"reconcile", func(q Query) error { return q.Reconcile(t.Context(), since, time.Time{}) },
			[]string{"missing dlv_", "reconcile: matched=2 delivered=1 pending=0 dead=0 discarded=0 difference=1 as_of="}, `"missing": 1`},
	} {
		out.Reset()
		if err := c.ask(q); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for _, want := range c.wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q isn't in\n%s", c.name, want, out)
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: what a receiver answered reaches the terminal", c.name)
		}
		out.Reset()
		asJSON := q
		asJSON.JSON = true
		if err := c.ask(asJSON); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !json.Valid(out.Bytes()) || !strings.Contains(out.String(), c.json) {
			t.Errorf("%s: %q isn't in the JSON\n%s", c.name, c.json, out)
		}
	}
}

func TestFollowingEndsInOrderWithItsContext(t *testing.T) {
	q, out, id := asked(t)
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, stop)
	if err := q.Deliveries(ctx, ledger.Filter{}, true); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	if ctx.Err() == nil || out.Len() > 0 && !strings.Contains(out.String(), id) {
		t.Errorf("it wrote %q", out)
	}
}
