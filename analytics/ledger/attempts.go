package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Attempt is one settlement: what came of one handling of a delivery. Kinds other
// than "attempt" made no POST.
type Attempt struct {
	Kind        string     `ch:"kind" json:"kind"`
	AttemptID   uuid.UUID  `ch:"attempt_id" json:"attempt_id"`
	DeliveryID  string     `ch:"delivery_id" json:"delivery_id"`
	Run         int64      `ch:"run" json:"run"`
	N           uint32     `ch:"n" json:"n"` // POSTs of this run before it
	Deferrals   uint32     `ch:"deferrals" json:"deferrals"`
	Tenant      string     `ch:"tenant" json:"tenant"`
	EndpointID  string     `ch:"endpoint_id" json:"endpoint_id"`
	EventID     string     `ch:"event_id" json:"event_id"`
	EventType   string     `ch:"event_type" json:"event_type"`
	StartedAt   time.Time  `ch:"started_at" json:"started_at"`
	DurationUS  uint32     `ch:"duration_us" json:"duration_us"`
	DNSUS       uint32     `ch:"dns_us" json:"dns_us"`
	ConnectUS   uint32     `ch:"connect_us" json:"connect_us"`
	TLSUS       uint32     `ch:"tls_us" json:"tls_us"`
	FirstByteUS uint32     `ch:"first_byte_us" json:"first_byte_us"`
	Status      uint16     `ch:"status" json:"status"` // 0 without an answer
	Outcome     string     `ch:"outcome" json:"outcome"`
	Reason      string     `ch:"reason" json:"reason"`
	Detail      string     `ch:"detail" json:"detail"`
	Response    string     `ch:"response" json:"response"`
	NextAt      *time.Time `ch:"next_at" json:"next_at"` // nil when none follows
	BegunAt     time.Time  `ch:"begun_at" json:"begun_at"`
	TraceID     string     `ch:"trace_id" json:"trace_id"`
}

// AttemptFilter says which settlements; what is zero doesn't matter.
type AttemptFilter struct {
	Tenant     string
	EndpointID string
	EventType  string
	EventID    string
	DeliveryID string
	Kind       string
	Outcome    string
	Reason     string
	Since      time.Time // of started_at
	Until      time.Time
	Limit      int           // of one answer; 0 is [DefaultLimit], at most [MaxLimit]
	After      AttemptCursor // go on behind this one
}

// AttemptCursor is a place in the order of attempts, newest first.
type AttemptCursor struct {
	StartedAt time.Time
	AttemptID uuid.UUID
}

// Cursor is the attempt's place.
func (a *Attempt) Cursor() AttemptCursor { return AttemptCursor{a.StartedAt, a.AttemptID} }

// Attempts returns settlements, newest first by started_at; one whose row is there
// twice comes once.
//
// The rows are taken as they lie, backwards, and repeats are dropped here: to drop
// them in SQL every column of every candidate would be read, not just those of the
// rows that are returned.
func (l *Ledger) Attempts(ctx context.Context, f AttemptFilter) ([]Attempt, error) {
	limit, err := limitOf(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("asking for attempts: %w", err)
	}
	out := []Attempt{}
	for len(out) < int(limit) {
		page, err := l.attemptRows(ctx, f, limit)
		if err != nil {
			return nil, err
		}
		for i := range page {
			a := &page[i]
			// Repeats are neighbours, within a page: the next begins behind the last.
			if i == 0 || a.AttemptID != page[i-1].AttemptID {
				if len(out) < int(limit) {
					out = append(out, *a)
				}
			}
		}
		if len(page) < int(limit) {
			break
		}
		f.After = page[len(page)-1].Cursor()
	}
	return out, nil
}

func (l *Ledger) attemptRows(ctx context.Context, f AttemptFilter, limit uint32) ([]Attempt, error) {
	var q question
	q.equal("tenant", f.Tenant)
	q.equal("endpoint_id", f.EndpointID)
	q.equal("event_type", f.EventType)
	q.equal("event_id", f.EventID)
	q.equal("delivery_id", f.DeliveryID)
	q.equal("kind", f.Kind)
	q.equal("outcome", f.Outcome)
	q.equal("reason", f.Reason)
	if !f.Since.IsZero() || !f.Until.IsZero() {
		q.span(f.Since, f.Until)
		// Nothing starts before it is begun: later days needn't be read.
		q.where = append(q.where, "started_at >= "+paramSince, "started_at < "+paramUntil, "begun_at < "+paramUntil)
	}
	if c := f.After; !c.StartedAt.IsZero() {
		q.and("(started_at, attempt_id) < ({after_at:DateTime64(3, 'UTC')}, {after_id:UUID})", "after_at", c.StartedAt)
		q.bind("after_id", c.AttemptID.String())
		q.where = append(q.where, "started_at <= {after_at:DateTime64(3, 'UTC')}") // for the primary key
	}
	q.bind("limit", limit)
	var page []Attempt
	return page, l.ask(ctx, "attempts", &page, `SELECT kind, attempt_id, delivery_id, run, n, deferrals, tenant, endpoint_id, event_id, event_type,
    started_at, duration_us, dns_us, connect_us, tls_us, first_byte_us, status, outcome, reason, detail, response,
    nullIf(next_at, toDateTime64(0, 3, 'UTC')) AS next_at, begun_at, trace_id
FROM attempts`+q.String()+"\nORDER BY started_at DESC, attempt_id DESC\nLIMIT {limit:UInt32}", q.args)
}
