package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"posthorn/analytics/ledger"
	"posthorn/internal/ledgertest"
	"posthorn/webhook"
)

func eventIDs(ds []ledger.DeliveryStatus) string {
	var out []string
	for i := range ds {
		out = append(out, ds[i].EventID)
	}
	return strings.Join(out, " ")
}

func TestDeliveriesAreFoundByEveryPartOfTheFilter(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	id := webhook.DeliveryID("/shop", "evt-1042", "ep_acme_2")
	hour := w.ago(time.Hour)
	for name, c := range map[string]struct {
		f    ledger.Filter
		want string
	}{
		"delivery":         {ledger.Filter{DeliveryID: id}, "evt-1042"},
		"event":            {ledger.Filter{EventID: "evt-1042"}, "evt-1042 evt-1042"},
		"event, since":     {ledger.Filter{EventID: "evt-1042", Since: w.ago(10 * time.Minute)}, ""},
		"endpoint":         {ledger.Filter{EndpointID: "ep_acme_2"}, "evt-1047 evt-1042"},
		"tenant, since":    {ledger.Filter{Tenant: "globex", Since: hour}, "evt-1045 evt-1044 evt-1046"},
		"tenant, until":    {ledger.Filter{Tenant: "globex", Until: w.ago(30 * time.Hour).Add(time.Minute)}, "evt-0"},
		"type":             {ledger.Filter{EventType: "order.created"}, "evt-1043"},
		"state":            {ledger.Filter{State: ledger.StateDead}, "evt-1045 evt-1044"},
		"limit":            {ledger.Filter{Tenant: "acme", Limit: 2}, "evt-1047 evt-1043"},
		"injected":         {ledger.Filter{Tenant: "' OR 1=1 --"}, ""},
		"escaped":          {ledger.Filter{Tenant: "a\tb\\n'{x:String}"}, ""},
		"an exact instant": {ledger.Filter{Since: w.ago(20 * time.Minute), Until: w.ago(20 * time.Minute).Add(time.Millisecond)}, "evt-1043"},
	} {
		got, err := l.Deliveries(t.Context(), c.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if eventIDs(got) != c.want {
			t.Errorf("%s: %q, want %q", name, eventIDs(got), c.want)
		}
	}
	if _, err := l.Deliveries(t.Context(), ledger.Filter{Limit: -1}); err == nil {
		t.Error("a negative limit is taken")
	}

	got, err := l.Deliveries(t.Context(), ledger.Filter{DeliveryID: id, Payload: true})
	if err != nil || len(got) != 1 {
		t.Fatalf("%d deliveries, %v", len(got), err)
	}
	d := got[0]
	if d.Payload == nil || *d.Payload != `{"id":"evt-1042"}` || d.State != ledger.StateDelivered || d.StatusCode == nil || *d.StatusCode != 200 || d.Attempts != 1 ||
		!d.BegunAt.Equal(w.ago(30*time.Minute)) || d.DeliveredAt == nil || d.NextAt != nil || d.Response != "OK" || d.Tenant != "acme" {
		t.Errorf("delivery is %+v", d)
	}
	w.Exec("TRUNCATE TABLE messages")
	if got, err := l.Deliveries(t.Context(), ledger.Filter{DeliveryID: id, Payload: true}); err != nil || len(got) != 1 || got[0].Payload != nil {
		t.Errorf("past its TTL the payload is %+v, %v", got, err)
	}
}

func TestPagesOfDeliveriesLeaveNothingOutAndRepeatNothing(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	for _, f := range []ledger.Filter{{}, {Since: w.ago(48 * time.Hour)}, {Tenant: "globex"}} {
		f.Limit = 100
		all, err := l.Deliveries(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		f.Limit = 3
		var paged []ledger.DeliveryStatus
		for {
			page, err := l.Deliveries(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			// As a REST client hands it back.
			if f.After, err = ledger.ParseCursor(page[len(page)-1].Cursor().String()); err != nil {
				t.Fatal(err)
			}
		}
		if len(all) == 0 || eventIDs(all) != eventIDs(paged) {
			t.Errorf("pages have %q, want %q", eventIDs(paged), eventIDs(all))
		}
	}
	for _, bad := range []string{"x", "1.2", "1.2.", "a.b.c"} {
		if _, err := ledger.ParseCursor(bad); err == nil {
			t.Errorf("cursor %q is taken", bad)
		}
	}
}

func TestAFollowerTellsEachChangeOnce(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	f, err := l.Follow(t.Context(), ledger.Filter{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	tells := func(when, want string) {
		t.Helper()
		got, err := f.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for i := range got {
			parts = append(parts, got[i].EventID+" "+got[i].State)
		}
		if s := strings.Join(parts, ", "); s != want {
			t.Errorf("%s: told %q, want %q", when, s, want)
		}
	}
	tells("nothing happened", "")
	d := w.deliver("acme", "ep_acme_2", "evt-2000", "order.paid", w.ago(time.Second))
	w.deliver("globex", "ep_globex", "evt-2001", "order.paid", w.ago(time.Second))
	tells("matched", "evt-2000 pending")
	w.Deliver(d)
	tells("matched again", "")
	s := w.post(d, 0, w.now, 503, "status_5xx", "retry", time.Millisecond, w.ago(-time.Minute))
	tells("failed", "evt-2000 pending")
	w.Settle(s)
	tells("inserted again", "")
	w.post(d, 1, w.now, 200, "ok", "delivered", time.Millisecond, time.Time{})
	// One of days ago, too.
	w.post(ledgertest.Delivery{Tenant: "acme", EndpointID: "ep_acme_1", EventID: "evt-3", EventSource: "/shop", Body: `{"id":"evt-3"}`, ID: webhook.DeliveryID("/shop", "evt-3", "ep_acme_1"),
		BegunAt: w.ago(30*time.Hour - 3*time.Minute), MatchedAt: w.ago(30*time.Hour - 3*time.Minute), Offset: 1000}, 5, w.now, 200, "ok", "delivered", time.Millisecond, time.Time{})
	tells("delivered", "evt-3 delivered, evt-2000 delivered")
	tells("nothing happened", "")
}

func TestAttemptsComeNewestFirstAndOnce(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	var all []ledgertest.Settlement
	d := w.deliver("acme", "ep_many", "evt-3000", "order.paid", w.ago(10*time.Minute))
	for i := range 30 {
		all = append(all, w.post(d, uint32(i), w.ago(10*time.Minute).Add(time.Duration(i/3)*time.Second), 500, "status_5xx", "retry", time.Millisecond, w.now))
	}
	for range 2 {
		w.Settle(all...)
	}
	for _, f := range []ledger.AttemptFilter{
		{EndpointID: "ep_many"}, {DeliveryID: d.ID}, {EventID: "evt-3000"}, {Tenant: "acme", Outcome: "retry", Reason: "status_5xx", Since: w.ago(10 * time.Minute), Until: w.now},
	} {
		f.Limit = 30
		got, err := l.Attempts(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.Limit = 7; len(got) != 30 {
			t.Errorf("%+v: %d attempts, want 30", f, len(got))
		}
		if !slices.IsSortedFunc(got, func(a, b ledger.Attempt) int { return b.StartedAt.Compare(a.StartedAt) }) {
			t.Errorf("%+v: not newest first", f)
		}
		seen := make(map[string]bool)
		for {
			page, err := l.Attempts(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page {
				if key := page[i].AttemptID.String(); seen[key] {
					t.Errorf("%s comes twice", key)
				} else {
					seen[key] = true
				}
			}
			if len(page) < f.Limit {
				break
			}
			f.After = page[len(page)-1].Cursor()
		}
		if len(seen) != 30 {
			t.Errorf("%+v: pages have %d attempts, want 30", f, len(seen))
		}
	}
}

func TestEndpointsTellOfATime(t *testing.T) {
	w := newTown(t)
	got, err := ledger.New(w.Conn).Endpoints(t.Context(), w.ago(time.Hour), time.Time{}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range got {
		lines = append(lines, fmt.Sprint(e.Tenant, " ", e.EndpointID, " ", e.Deliveries, e.Delivered, e.Dead, e.Discarded, e.Pending, " ", e.Attempts, e.Retries, " ",
			*e.SuccessRate, " ", *e.P50MS, " ", *e.P99MS, " ", e.ConsecutiveFailures, " ", e.Health))
	}
	want := []string{
		"acme ep_acme_1 3 1 0 0 2 4 1 0.25 80 90 1 failing",
		"globex ep_globex 3 1 2 0 0 4 1 0.25 30 9000 1 failing",
		"acme ep_acme_2 2 1 0 1 0 1 0 1 20 20 0 ok",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("endpoints are\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	one, err := ledger.New(w.Conn).Endpoints(t.Context(), time.Time{}, time.Time{}, "globex", "ep_globex")
	if err != nil || len(one) != 1 || one[0].Deliveries != 13 || one[0].Attempts != 14 {
		t.Errorf("one endpoint of all times: %+v, %v", one, err)
	}
}

func TestReconcileNamesWhatIsMissing(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	got, err := l.Reconcile(t.Context(), w.ago(time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (ledger.Counts{Matched: 8, Delivered: 3, Pending: 1, Dead: 2, Discarded: 1, Missing: 1}); got.Counts != want {
		t.Errorf("counts %+v, want %+v", got.Counts, want)
	}
	if got.AsOf == nil || !got.AsOf.Equal(w.now) {
		t.Errorf("as of %s, want %s", got.AsOf, w.now)
	}
	id := webhook.DeliveryID("/shop", "evt-1048", "ep_acme_1")
	if len(got.Missed) != 1 || got.Missed[0].DeliveryID != id || len(got.Minutes) != 1 || !got.Minutes[0].Minute.Equal(w.ago(50*time.Minute)) || got.Minutes[0].Missing != 1 {
		t.Errorf("missing are %+v in %+v", got.Missed, got.Minutes)
	}
}

// The half of a delivery that the time doesn't hold: its event was sent again five
// hours later and dropped as a repeat, so that nothing there settles it.
func TestReconcileLooksAgainAtWhatTheTimeAloneCallsMissing(t *testing.T) {
	w := newTown(t)
	l := ledger.New(w.Conn)
	first := w.deliver("acme", "ep_acme_2", "evt-4000", "order.paid", w.ago(6*time.Hour))
	w.post(first, 0, w.ago(6*time.Hour), 200, "ok", "delivered", time.Millisecond, time.Time{})
	again := first
	again.BegunAt, again.MatchedAt, again.Offset = w.ago(55*time.Minute), w.ago(55*time.Minute), first.Offset+1
	w.Deliver(again)
	for topic, done := range map[string]int64{"deliveries": again.Offset + 1, "attempts": -1} {
		w.Note(ledgertest.Progress{Topic: topic, ReachedAt: w.now.Add(2 * time.Second), TakenAt: w.now.Add(time.Second), DoneOffset: done, DoneAt: w.now.Add(time.Second)})
	}

	var missing uint64
	if err := w.Conn.QueryRow(t.Context(), fmt.Sprintf("SELECT sum(missing) FROM reconciliation_between(since = '%s', until = '%s')",
		w.ago(time.Hour).Format(time.DateTime), w.now.Format(time.DateTime))).Scan(&missing); err != nil || missing != 2 {
		t.Fatalf("the view calls %d missing, %v; this test needs 2", missing, err)
	}
	got, err := l.Reconcile(t.Context(), w.ago(time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (ledger.Counts{Matched: 8, Delivered: 3, Pending: 1, Dead: 2, Discarded: 1, Missing: 1}); got.Counts != want {
		t.Errorf("counts %+v, want %+v", got.Counts, want)
	}
}

// between does something between one question and the next.
type between struct {
	driver.Conn
	then []func()
}

func (b *between) Select(ctx context.Context, into any, query string, args ...any) error {
	err := b.Conn.Select(ctx, into, query, args...)
	if len(b.then) > 0 {
		b.then[0]()
		b.then = b.then[1:]
	}
	return err
}

func TestReconcileAddsUpWhileTheLedgerGrows(t *testing.T) {
	w := newTown(t)
	var late []ledgertest.Delivery
	got, err := ledger.New(&between{w.Conn, []func(){
		func() { // counted; now two more are missing
			for i := range 2 {
				late = append(late, w.deliver("acme", "ep_acme_2", fmt.Sprintf("evt-500%d", i), "order.paid", w.ago(50*time.Minute)))
			}
			for topic, done := range map[string]int64{"deliveries": late[1].Offset + 1, "attempts": -1} {
				w.Note(ledgertest.Progress{Topic: topic, ReachedAt: w.now.Add(2 * time.Second), TakenAt: w.now.Add(time.Second), DoneOffset: done, DoneAt: w.now.Add(time.Second)})
			}
		},
		func() { // suspected; now they are delivered
			for _, d := range late {
				w.post(d, 0, w.ago(49*time.Minute), 200, "ok", "delivered", time.Millisecond, time.Time{})
			}
		},
	}}).Reconcile(t.Context(), w.ago(time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if sum := got.Delivered + got.Pending + got.Dead + got.Discarded + got.Missing; got.Missing != 1 || got.Matched != sum {
		t.Errorf("counts %+v: want 1 missing, and matched the sum, %d", got.Counts, sum)
	}
}

func TestReconcileSaysNoLaterTimeThanItCounted(t *testing.T) {
	w := newTown(t)
	got, err := ledger.New(&between{w.Conn, []func(){
		func() { // counted; now the ledger has come further
			for topic, done := range map[string]int64{"deliveries": 1000, "attempts": -1} {
				w.Note(ledgertest.Progress{Topic: topic, ReachedAt: w.now.Add(2 * time.Second), TakenAt: w.now.Add(time.Second), DoneOffset: done, DoneAt: w.now.Add(time.Second)})
			}
		},
	}}).Reconcile(t.Context(), w.ago(time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if got.AsOf == nil || got.AsOf.After(w.now) {
		t.Errorf("as of %s, and what was counted is as of %s", got.AsOf, w.now)
	}
}
