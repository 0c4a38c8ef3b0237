// Package ledgertest gives tests of the ledger a database with its tables and
// views, and rows to put into it.
package ledgertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"posthorn/analytics/schema"
	"posthorn/internal/clickhousetest"
)

// Delivery is a row of deliveries. What a test leaves out is made up from the rest.
type Delivery struct {
	Tenant, EndpointID, ID     string
	Run                        int64
	EventID, EventSource, Type string
	Origin, Body               string
	BegunAt, MatchedAt         time.Time
	Partition                  int32
	Offset                     int64
}

// Settlement is a row of attempts.
type Settlement struct {
	Kind      string // default attempt
	AttemptID uuid.UUID
	Of        Delivery
	N         uint32
	Deferrals uint32
	StartedAt time.Time
	Duration  time.Duration
	Status    uint16
	Outcome   string
	Reason    string
	Response  string
	NextAt    time.Time
}

// Progress is a row of progress.
type Progress struct {
	Topic                      string
	Partition                  int32
	ReachedAt, DoneAt, TakenAt time.Time
	DoneOffset                 int64
}

// Ledger is an empty ledger.
type Ledger struct {
	tb       testing.TB
	Conn     driver.Conn // to its database
	Database string
	Options  schema.Options
}

// New makes a ledger that is dropped with the test. Nothing in it is merged until
// [Ledger.Merge].
func New(tb testing.TB, o schema.Options) *Ledger {
	tb.Helper()
	o.Database = clickhousetest.Database(tb)
	l := &Ledger{tb: tb, Database: o.Database, Options: o, Conn: clickhousetest.Dial(tb, clickhousetest.Shared(tb), o.Database)}
	if _, err := schema.Migrate(tb.Context(), l.Conn, o); err != nil {
		tb.Fatal(err)
	}
	for _, table := range tables {
		l.Exec("SYSTEM STOP MERGES " + o.Database + "." + table)
	}
	return l
}

var tables = []string{"deliveries", "messages", "attempts", "progress"}

// Merge merges all there is.
func (l *Ledger) Merge() {
	l.tb.Helper()
	for _, table := range tables {
		l.Exec("SYSTEM START MERGES " + l.Database + "." + table)
		l.Exec("OPTIMIZE TABLE " + table + " FINAL")
	}
}

// Exec runs a statement.
func (l *Ledger) Exec(sql string, args ...any) {
	l.tb.Helper()
	if err := l.Conn.Exec(l.tb.Context(), sql, args...); err != nil {
		l.tb.Fatalf("%s: %v", sql, err)
	}
}

// insert sends rows as one batch that no memory of earlier ones drops.
func (l *Ledger) insert(into string, n int, row func(i int) []any) {
	l.tb.Helper()
	if n == 0 {
		return
	}
	ctx := clickhouse.Context(context.WithoutCancel(l.tb.Context()), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplicate": 0, "async_insert": 0}))
	batch, err := l.Conn.PrepareBatch(ctx, "INSERT INTO "+into)
	if err != nil {
		l.tb.Fatalf("inserting into %s: %v", into, err)
	}
	defer func() { _ = batch.Close() }() // nothing after Send
	for i := range n {
		if err := batch.Append(row(i)...); err != nil {
			l.tb.Fatalf("inserting into %s: %v", into, err)
		}
	}
	if err := batch.Send(); err != nil {
		l.tb.Fatalf("inserting into %s: %v", into, err)
	}
}

// BodyID is the body_id of a body.
func BodyID(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:16])
}

// none is how the zero time is stored.
func none(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// Deliver inserts deliveries in one batch, with their bodies.
func (l *Ledger) Deliver(ds ...Delivery) {
	l.tb.Helper()
	l.insert(`deliveries (tenant, endpoint_id, delivery_id, run, event_id, event_source, event_type, origin, body_id, body_size, begun_at, matched_at, source_topic, source_offset, "partition", "offset")`,
		len(ds), func(i int) []any {
			d := ds[i]
			origin := d.Origin
			if origin == "" {
				origin = "match"
			}
			return []any{d.Tenant, d.EndpointID, d.ID, d.Run, d.EventID, d.EventSource, d.Type, origin, BodyID(d.Body), uint32(len(d.Body)),
				d.BegunAt, d.MatchedAt, "orders", d.Offset, d.Partition, d.Offset}
		})
	l.insert("messages (body_id, begun_at, content_type, body)", len(ds), func(i int) []any {
		return []any{BodyID(ds[i].Body), ds[i].BegunAt, "application/json", ds[i].Body}
	})
}

// Settle inserts settlements in one batch.
func (l *Ledger) Settle(ss ...Settlement) {
	l.tb.Helper()
	l.insert(`attempts (kind, attempt_id, delivery_id, run, n, step, deferrals, tenant, endpoint_id, event_id, event_source, event_type, body_id, "partition", "offset",
		started_at, duration_us, status, outcome, reason, response, next_at, begun_at, matched_at)`,
		len(ss), func(i int) []any {
			s := ss[i]
			if s.Kind == "" {
				s.Kind = "attempt"
			}
			return []any{s.Kind, s.AttemptID, s.Of.ID, s.Of.Run, s.N, s.N, s.Deferrals, s.Of.Tenant, s.Of.EndpointID, s.Of.EventID, s.Of.EventSource, s.Of.Type, BodyID(s.Of.Body),
				s.Of.Partition, s.Of.Offset + int64(s.N+s.Deferrals), s.StartedAt, uint32(s.Duration.Microseconds()), s.Status, s.Outcome, s.Reason, s.Response,
				none(s.NextAt), s.Of.BegunAt, s.Of.MatchedAt}
		})
}

// Note inserts progress.
func (l *Ledger) Note(ps ...Progress) {
	l.tb.Helper()
	l.insert(`progress (topic, "partition", reached_at, next_offset, done_offset, done_at, taken_at)`, len(ps), func(i int) []any {
		p := ps[i]
		return []any{p.Topic, p.Partition, p.ReachedAt, p.DoneOffset, p.DoneOffset, none(p.DoneAt), p.TakenAt}
	})
}

// InBatches calls insert with all rows in an order and in batches of their own.
func InBatches[T any](r *rand.Rand, rows []T, insert func(...T)) {
	mixed := make([]T, len(rows))
	for i, j := range r.Perm(len(rows)) {
		mixed[i] = rows[j]
	}
	for len(mixed) > 0 {
		n := min(1+r.IntN(1+len(rows)/3), len(mixed))
		insert(mixed[:n]...)
		mixed = mixed[n:]
	}
}

// UUID is a made-up attempt ID.
func UUID(r *rand.Rand) uuid.UUID {
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return uuid.UUID(b)
}
