package schema_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"posthorn/analytics/schema"
	"posthorn/internal/ledgertest"
	"posthorn/webhook"
)

const grace = 2 * time.Minute

// book is a ledger and its clock.
type book struct {
	*ledgertest.Ledger
	t    *testing.T
	zero time.Time
	n    int
}

func newBook(t *testing.T) *book {
	t.Helper()
	return &book{Ledger: ledgertest.New(t, schema.Options{Grace: grace}), t: t, zero: time.Now().UTC().Truncate(time.Hour).Add(-24 * time.Hour)}
}

func (b *book) at(d time.Duration) time.Time { return b.zero.Add(d) }

// delivery is matched at the zero time and lies at the next offset of partition 0.
func (b *book) delivery() ledgertest.Delivery {
	b.n++
	d := ledgertest.Delivery{Tenant: "acme", EndpointID: "ep_1", EventID: fmt.Sprintf("evt-%d", b.n), EventSource: "/shop", Type: "order.paid", Body: "{}",
		BegunAt: b.at(0), MatchedAt: b.at(0), Offset: int64(b.n)}
	d.ID = webhook.DeliveryID(d.EventSource, d.EventID, d.EndpointID)
	b.Deliver(d)
	return d
}

func settlement(d ledgertest.Delivery, outcome string, at time.Time) ledgertest.Settlement {
	return ledgertest.Settlement{AttemptID: uuid.New(), Of: d, Outcome: outcome, Reason: outcome, StartedAt: at, Duration: 10 * time.Millisecond}
}

func retry(d ledgertest.Delivery, at, next time.Time) ledgertest.Settlement {
	s := settlement(d, "retry", at)
	s.NextAt = next
	return s
}

// reached says that everything up to a time is in, and that dispatch has done all
// below an offset and all that was due before doneAt.
func (b *book) reached(at time.Duration, doneOffset int64, doneAt time.Duration) {
	b.t.Helper()
	b.Note(
		ledgertest.Progress{Topic: "deliveries", ReachedAt: b.at(at), TakenAt: b.at(at), DoneOffset: doneOffset, DoneAt: b.at(doneAt)},
		ledgertest.Progress{Topic: "attempts", ReachedAt: b.at(at), TakenAt: b.at(at), DoneOffset: -1, DoneAt: b.at(at)},
	)
}

// counts asserts matched, delivered, pending, dead, discarded, missing.
func (b *book) counts(when string, want ...uint64) {
	b.t.Helper()
	for _, from := range []string{
		"reconciliation",
		fmt.Sprintf("reconciliation_between(since = '%s', until = '%s')", stamp(b.at(-time.Hour)), stamp(b.at(time.Hour))),
	} {
		got := make([]uint64, 6)
		err := b.Conn.QueryRow(b.t.Context(), "SELECT sum(matched), sum(delivered), sum(pending), sum(dead), sum(discarded), sum(missing) FROM "+from).
			Scan(&got[0], &got[1], &got[2], &got[3], &got[4], &got[5])
		if err != nil {
			b.t.Fatalf("%s: %v", from, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			b.t.Errorf("%s: %s: matched, delivered, pending, dead, discarded, missing are %d, want %d", when, from, got, want)
		}
	}
}

func TestARetryThatVanishedIsMissingOnceItsGraceIsOver(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	b.Settle(retry(d, b.at(time.Second), b.at(time.Minute)))
	due := time.Minute + grace

	b.reached(30*time.Second, 2, 30*time.Second)
	b.counts("before it is due", 1, 0, 1, 0, 0, 0)
	b.reached(due-time.Millisecond, 2, due-time.Millisecond)
	b.counts("within the grace", 1, 0, 1, 0, 0, 0)
	b.reached(due+time.Hour, 2, due-time.Millisecond)
	b.counts("an hour later, while dispatch lags as long", 1, 0, 1, 0, 0, 0)
	b.reached(due+2*time.Hour, 2, due)
	b.counts("after it", 1, 0, 0, 0, 0, 1)

	late := settlement(d, "delivered", b.at(due+3*time.Hour))
	late.N = 1
	b.Settle(late)
	b.counts("found after all", 1, 1, 0, 0, 0, 0)
}

func TestADeliveryThatWasNeverSettledIsMissingOnceItsOffsetIsDone(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	b.reached(time.Second, d.Offset, time.Second)
	b.counts("the next to be done", 1, 0, 1, 0, 0, 0)
	b.reached(time.Hour, d.Offset, time.Second)
	b.counts("an hour later", 1, 0, 1, 0, 0, 0)
	b.reached(2*time.Hour, d.Offset+1, 2*time.Hour)
	b.counts("below what is done", 1, 0, 0, 0, 0, 1)
}

func TestARowOfProgressTakenAfterAsOfJudgesNothing(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	b.reached(time.Second, d.Offset, time.Second)
	// The offset is done, but its settlement may lie where the attempts haven't come.
	b.Note(ledgertest.Progress{Topic: "deliveries", ReachedAt: b.at(time.Minute), TakenAt: b.at(time.Minute), DoneOffset: d.Offset + 1, DoneAt: b.at(time.Minute)})
	b.counts("attempts are behind", 1, 0, 1, 0, 0, 0)
	b.Note(ledgertest.Progress{Topic: "attempts", ReachedAt: b.at(time.Minute), TakenAt: b.at(time.Minute), DoneOffset: -1, DoneAt: b.at(time.Minute)})
	b.counts("attempts have come", 1, 0, 0, 0, 0, 1)
}

func TestAPartitionWithoutProgressIsPending(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	d.Partition, d.ID, d.Offset = 7, "dlv_elsewhere", 3
	b.Deliver(d)
	settled := d
	settled.ID = "dlv_settled"
	b.Deliver(settled)
	b.Settle(retry(settled, b.at(time.Second), b.at(2*time.Second)))
	b.reached(time.Hour, 100, time.Hour)
	b.counts("only partition 0 is known", 3, 0, 2, 0, 0, 1)
}

func TestAsOfIsTheLeastOfAllInputs(t *testing.T) {
	b := newBook(t)
	b.delivery()
	asOf := func() string { return text(t, b, "SELECT toString(max(as_of)) FROM reconciliation") }
	note := func(topic string, partition int32, reached, taken time.Duration) {
		b.Note(ledgertest.Progress{Topic: topic, Partition: partition, ReachedAt: b.at(reached), TakenAt: b.at(taken), DoneAt: b.at(reached)})
	}
	note("deliveries", 0, 9*time.Minute, 9*time.Minute)
	b.counts("attempts are unknown", 0, 0, 0, 0, 0, 0)
	note("attempts", 0, 8*time.Minute, 10*time.Minute)
	if got := asOf(); got != stamp(b.at(8*time.Minute)) {
		t.Errorf("as_of %s, want that of attempts", got)
	}
	note("deliveries", 1, 5*time.Minute, 10*time.Minute)
	if got := asOf(); got != stamp(b.at(5*time.Minute)) {
		t.Errorf("as_of %s, want that of partition 1", got)
	}
	note("deliveries", 1, 7*time.Minute, 11*time.Minute)
	if got := asOf(); got != stamp(b.at(7*time.Minute)) {
		t.Errorf("as_of %s, want that of partition 1's latest row", got)
	}
	// What was matched later isn't counted yet.
	d := b.delivery()
	d.ID, d.MatchedAt = "dlv_later", b.at(7*time.Minute+time.Millisecond)
	b.Deliver(d)
	b.counts("matched after as_of", 2, 0, 2, 0, 0, 0)
}

func TestDeliveredComesBeforeDeadBeforeDiscardedBeforePending(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	b.reached(time.Hour, 0, time.Hour)
	// Against their order in time and number.
	add := func(s ledgertest.Settlement, n uint32) {
		s.N, s.StartedAt = n, b.at(time.Duration(n)*time.Second)
		b.Settle(s)
	}
	state := func() string {
		return text(t, b, "SELECT concat(state, ' ', reason, ' ', toString(attempts), ' ', toString(isNull(delivered_at)), ' ', toString(isNull(next_at))) FROM delivery_status")
	}
	is := func(want string) {
		t.Helper()
		if got := state(); got != want {
			t.Errorf("delivery is %q, want %q", got, want)
		}
	}
	add(retry(d, b.at(0), b.at(3*time.Hour)), 9)
	is("pending retry 1 1 0")
	discard := settlement(d, "", b.at(0))
	discard.Kind, discard.Reason = "discard", "endpoint_deleted"
	add(discard, 8)
	is("discarded endpoint_deleted 1 1 1")
	b.counts("discarded", 1, 0, 0, 0, 1, 0)
	add(settlement(d, "dead", b.at(0)), 7)
	is("dead dead 2 1 1")
	b.counts("dead", 1, 0, 0, 1, 0, 0)
	add(settlement(d, "delivered", b.at(0)), 6)
	is("delivered delivered 3 0 1")
	b.counts("delivered", 1, 1, 0, 0, 0, 0)
	if n := text(t, b, "SELECT toString(count()) FROM exhausted_by_reason"); n != "0" {
		t.Error("a delivered one is among the exhausted")
	}
}

func TestALaterRunIsAUnitOfItsOwn(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	b.Settle(settlement(d, "dead", b.at(time.Second)))
	again := d
	again.Run, again.Origin, again.Offset = b.at(time.Minute).UnixMilli(), "resend", 50
	again.BegunAt, again.MatchedAt = b.at(time.Minute), b.at(time.Minute)
	b.Deliver(again)
	b.reached(time.Hour, 60, time.Hour)
	b.counts("resent, lost", 2, 0, 0, 1, 0, 1)
	b.Settle(settlement(again, "delivered", b.at(2*time.Minute)))
	b.counts("resent, delivered", 2, 1, 0, 1, 0, 0)
	if n := text(t, b, "SELECT toString(sum(deliveries)) FROM exhausted_by_reason"); n != "1" {
		t.Errorf("%s exhausted, want the first run", n)
	}
}

func TestDuplicatesOnTheLogCountOnce(t *testing.T) {
	b := newBook(t)
	d := b.delivery()
	b.Settle(settlement(d, "delivered", b.at(time.Second)))
	for i := range 3 { // matched again, and the event sent again half an hour later
		again := d
		again.Offset += int64(10 * i)
		again.MatchedAt = b.at(time.Duration(i) * time.Second)
		b.Deliver(again)
		again.BegunAt = b.at(30 * time.Minute)
		b.Deliver(again)
	}
	b.reached(time.Hour, 100, time.Hour)
	b.counts("unmerged", 1, 1, 0, 0, 0, 0)
	b.Merge()
	b.counts("merged", 1, 1, 0, 0, 0, 0)
}

func TestMatchedIsAlwaysTheSum(t *testing.T) {
	b := newBook(t)
	for i := range 12 {
		d := b.delivery()
		if outcome := []string{"", "retry", "cut", "dead", "delivered"}[i%5]; outcome != "" {
			b.Settle(settlement(d, outcome, b.at(time.Second)))
		}
	}
	for doneOffset := range int64(14) {
		b.reached(time.Duration(1+doneOffset)*time.Minute, doneOffset, time.Duration(1+doneOffset)*time.Minute)
		got := text(t, b, "SELECT concat(toString(sum(matched)), ' ', toString(sum(delivered + pending + dead + discarded + missing))) FROM reconciliation")
		if got != "12 12" {
			t.Errorf("at %d: matched and the sum of the five are %s", doneOffset, got)
		}
	}
}

// Parts are dropped one by one once their last row is past its TTL, those of
// attempts and of deliveries each in its own time.
func TestWhatIsPastItsTTLIsInNoAccount(t *testing.T) {
	b := newBook(t)
	b.Ledger = ledgertest.New(t, schema.Options{DeliveriesTTL: 24 * time.Hour, AttemptsTTL: 48 * time.Hour, Grace: grace})
	b.zero = time.Now().UTC().Add(-24*time.Hour + time.Minute).Truncate(time.Millisecond)
	b.delivery()
	b.zero = b.zero.Add(-2 * time.Minute)
	d := b.delivery() // its attempts are gone already
	d.ID = "dlv_half"
	b.Deliver(d)
	b.Settle(retry(d, b.at(time.Second), b.at(time.Minute))) // and of these the last one is
	b.reached(24*time.Hour, 10, 24*time.Hour)
	b.counts("one is not past it", 1, 0, 0, 0, 0, 1)
	if n := text(t, b, "SELECT toString(count()) FROM delivery_status"); n != "1" {
		t.Errorf("%s deliveries have a status, want the one that isn't past its TTL", n)
	}
}

func text(t *testing.T, b *book, sql string) string {
	t.Helper()
	out := lines(t, b.Ledger, sql)
	if len(out) != 1 {
		t.Fatalf("%s: %d rows, want 1", sql, len(out))
	}
	return out[0]
}
