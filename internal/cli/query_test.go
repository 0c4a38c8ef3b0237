package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
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
			[]string{"OUTCOME", "order.paid", "503", "retry", `"\x1b[31mred"`}, `"next_at": null`},
		{"endpoint", func(q Query) error { return q.Endpoints(t.Context(), since, time.Time{}, "acme", "") },
			[]string{"HEALTH", "ep_1", "33.3%"}, `"endpoint_id": "ep_1"`},
		{"reconcile", func(q Query) error { return q.Reconcile(t.Context(), since, 0) },
			[]string{"missing dlv_", "reconcile: matched=2 delivered=1 pending=0 dead=0 discarded=0 difference=1 as_of="}, `"difference": 1`},
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

func TestEmptyCellsAreDashes(t *testing.T) {
	q, out, _ := asked(t)
	for name, ask := range map[string]func() error{
		"deliveries": func() error { return q.Deliveries(t.Context(), ledger.Filter{Payload: true}, false) },
		"attempts":   func() error { return q.Attempts(t.Context(), ledger.AttemptFilter{}) },
	} {
		out.Reset()
		if err := ask(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		columns := regexp.MustCompile(` {2,}`).Split(lines[0], -1)
		for _, line := range lines[1:] {
			if cells := regexp.MustCompile(` {2,}`).Split(line, -1); len(cells) != len(columns) {
				t.Errorf("%s: %d cells under %d columns:\n%s", name, len(cells), len(columns), out)
			}
		}
	}
	if strings.Contains(out.String(), `""`) {
		t.Errorf("an empty answer is shown as one:\n%s", out)
	}
}

func TestThePayloadIsShownToPeopleToo(t *testing.T) {
	q, out, id := asked(t)
	if err := q.Deliveries(t.Context(), ledger.Filter{DeliveryID: id, Payload: true}, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "PAYLOAD") || !strings.Contains(out.String(), `{"n":1}`) {
		t.Error(out.String())
	}
}

func TestWhatIsNamedAndNotThereIsAnError(t *testing.T) {
	q, out, id := asked(t)
	recently := time.Now().Add(-time.Minute)
	for _, c := range []struct {
		ask  func(Query) error
		want string // "" where nothing is an answer
	}{
		{func(q Query) error { return q.Deliveries(t.Context(), ledger.Filter{DeliveryID: "dlv_none"}, false) }, "no delivery dlv_none in the ledger"},
		{func(q Query) error {
			return q.Deliveries(t.Context(), ledger.Filter{DeliveryID: id, Since: recently}, false)
		}, "no delivery " + id + " in the ledger since "},
		{func(q Query) error { return q.Attempts(t.Context(), ledger.AttemptFilter{EventID: "evt-none"}) }, "no delivery of event evt-none in the ledger"},
		{func(q Query) error { return q.Endpoints(t.Context(), recently, time.Time{}, "", "ep_none") }, "of endpoint ep_none in the ledger since "},
		{func(q Query) error {
			return q.Attempts(t.Context(), ledger.AttemptFilter{DeliveryID: id, Kind: "park"})
		}, ""},
		{func(q Query) error { return q.Deliveries(t.Context(), ledger.Filter{Tenant: "none"}, false) }, ""},
	} {
		for _, asJSON := range []bool{false, true} {
			out.Reset()
			q.JSON = asJSON
			switch err := c.ask(q); {
			case c.want == "" && (err != nil || asJSON && out.String() != "[]\n" || !asJSON && !strings.HasPrefix(out.String(), "no ")):
				t.Errorf("%v, %q", err, out)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || out.Len() > 0):
				t.Errorf("%v, want %q; %q", err, c.want, out)
			}
		}
	}
}

func TestALedgerThatHasReadNothingSaysSo(t *testing.T) {
	l := ledgertest.New(t, schema.Options{})
	var out bytes.Buffer
	c := config.Default().ClickHouse
	c.Addr, c.Protocol, c.Database = []string{clickhousetest.Shared(t).Addr()}, config.ProtocolHTTP, l.Database
	q := Query{ClickHouse: c, Out: &out}
	if err := q.Reconcile(t.Context(), time.Time{}, 0); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "as_of=-\n") || !strings.Contains(out.String(), "nothing has been read into the ledger yet") {
		t.Error(out.String())
	}
	out.Reset()
	q.JSON = true
	if err := q.Reconcile(t.Context(), time.Time{}, 0); err != nil || !strings.Contains(out.String(), `"as_of": null`) {
		t.Errorf("%v %s", err, &out)
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
