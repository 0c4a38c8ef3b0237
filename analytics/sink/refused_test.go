package sink

import (
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// ClickHouse refuses an insert into more than a hundred partitions by default, and
// would refuse it for ever: a log that is kept long, or read for the first time,
// has as many days in one batch.
func TestABatchOfManyDaysIsInserted(t *testing.T) {
	r := newRig(t)
	const days = 130
	for i := range days {
		at := time.Now().AddDate(0, 0, i).Truncate(time.Millisecond)
		s := &webhook.Settlement{Kind: webhook.KindAttempt, AttemptID: uuid.Must(uuid.NewV7()).String(), DeliveryID: "dlv_1", EndpointID: "ep_1",
			StartedAt: at, BegunAt: at, MatchedAt: at}
		value, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		r.put(attemptsTopic, []byte("ep_1"), value)
	}
	if err := r.producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sink()
	r.await()
	if n := r.number("SELECT uniqExact(begun_at) FROM ledger.attempts"); n != days {
		t.Errorf("%d days in the ledger, want %d", n, days)
	}
}

// A Distributed table answers before its shards have the rows unless it is told
// to wait, and what it holds back is lost with its server.
func TestAnInsertIsAnsweredOnceItsRowsAreWhereTheyBelong(t *testing.T) {
	for name, want := range map[string]any{"async_insert": 0, "distributed_foreground_insert": 1} {
		for _, token := range []string{"", "t:0:0-9"} {
			if got := settings(token)[name]; got != want {
				t.Errorf("token %q: %s is %v, want %v", token, name, got, want)
			}
		}
	}
}

// Bodies are dropped by day: a batch of several days has the body on each.
func TestABodyIsThereOnEveryDayThatItCame(t *testing.T) {
	r := newRig(t)
	body := []byte(`{"the":"same"}`)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for i, at := range []time.Time{today.Add(-time.Millisecond), today, today.Add(time.Millisecond)} {
		d := &webhook.Delivery{ID: "dlv_" + string(rune('a'+i)), Origin: webhook.OriginMatch, EventID: "e", EventSource: "s", EventType: "order.created",
			Tenant: "t", EndpointID: "ep_1", Contract: "standard", ContentType: "application/json", BegunAt: at, MatchedAt: at,
			BodyID: webhook.BodyID(body), Source: webhook.Position{Topic: "events"}, Body: body}
		r.put(deliveriesTopic, []byte("ep_1"), body, webhook.HeadersAs[kgo.RecordHeader](d.AppendHeaders(nil))...)
	}
	if err := r.producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sink(func(c *Config) { c.InsertEvery = 100 * time.Millisecond }) // all in one batch
	r.await()
	if n := r.number("SELECT count() FROM ledger.messages"); n != 2 {
		t.Errorf("the body is there %d times, want once on each of two days", n)
	}
}

func TestAPartitionThatWasGivenAwayIsNoFailure(t *testing.T) {
	s := &Sink{idle: make(chan struct{})}
	s.done(errors.Join(errLeft))
	if err := s.Failing(); err != nil {
		t.Errorf("failing: %v", err)
	}
}

// Progress is kept for days. A partition that is halted for longer must not be
// forgotten: the ledger's time would pass it.
func TestAHaltedPartitionStillHasProgressThatReachedNothing(t *testing.T) {
	id := tp{attemptsTopic, 2}
	s := &Sink{cfg: Config{Deliveries: deliveriesTopic, Attempts: attemptsTopic}, log: slog.New(slog.DiscardHandler),
		parts:  map[tp]*part{id: {tp: id, buf: newBuffer(0, nil)}},
		halted: map[tp]error{id: errors.New("lost")}}
	now := time.Now()
	rows := s.progress(now, now, func(tp) (int64, bool) { return 0, true }, nil)
	if len(rows) != 1 || !rows[0].reachedAt.Equal(epoch) || rows[0].partition != 2 {
		t.Errorf("rows of a halted partition: %+v, want one that reached %s", rows, epoch)
	}
}
