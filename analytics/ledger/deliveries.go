package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// States of a delivery; of several settlements the one that comes first here
// decides.
const (
	StateDelivered = "delivered"
	StateDead      = "dead"
	StateDiscarded = "discarded"
	StatePending   = "pending"
)

// DeliveryStatus is where one delivery stands in one run.
type DeliveryStatus struct {
	Tenant      string     `ch:"tenant" json:"tenant"`
	EndpointID  string     `ch:"endpoint_id" json:"endpoint_id"`
	DeliveryID  string     `ch:"delivery_id" json:"delivery_id"`
	Run         int64      `ch:"run" json:"run"` // 0, or the Unix milliseconds at which a later run was asked for
	EventID     string     `ch:"event_id" json:"event_id"`
	EventSource string     `ch:"event_source" json:"event_source"`
	EventType   string     `ch:"event_type" json:"event_type"`
	State       string     `ch:"state" json:"state"`
	StatusCode  *uint16    `ch:"status_code" json:"status_code"` // of the POST that decided, or else the last; nil without an answer
	Response    string     `ch:"response" json:"response"`       // the first 500 characters of that answer
	Attempts    uint64     `ch:"attempts" json:"attempts"`       // POSTs
	BegunAt     time.Time  `ch:"begun_at" json:"begun_at"`
	MatchedAt   time.Time  `ch:"matched_at" json:"matched_at"`
	DeliveredAt *time.Time `ch:"delivered_at" json:"delivered_at"` // when the first 2xx had come
	NextAt      *time.Time `ch:"next_at" json:"next_at"`           // of pending ones: when the next POST is due
	Reason      string     `ch:"reason" json:"reason"`             // of the settlement that decided, or else the last
	BodyID      string     `ch:"body_id" json:"body_id"`
	Payload     *string    `ch:"payload" json:"payload,omitempty"` // nil unless asked for, or past its TTL
}

const statusColumns = `tenant, endpoint_id, delivery_id, run, event_id, event_source, event_type, state, status_code, response,
    attempts, begun_at, matched_at, delivered_at, next_at, reason, body_id`

// Filter says which deliveries; what is zero doesn't matter.
type Filter struct {
	Tenant     string
	EndpointID string
	EventType  string
	EventID    string
	DeliveryID string
	State      string
	Since      time.Time // of begun_at
	Until      time.Time
	Limit      int    // of one answer; 0 is [DefaultLimit], at most [MaxLimit]
	After      Cursor // go on behind this one
	Payload    bool   // with the payload, which costs a look-up for each
}

// Cursor is a place in the order of deliveries, newest first. The zero cursor is
// the beginning.
type Cursor struct {
	BegunAt    time.Time
	DeliveryID string
	Run        int64
}

// Cursor is the delivery's place.
func (d *DeliveryStatus) Cursor() Cursor { return Cursor{d.BegunAt, d.DeliveryID, d.Run} }

// String is "milliseconds.run.delivery ID", or empty.
func (c Cursor) String() string {
	if c.BegunAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%d.%s", c.BegunAt.UnixMilli(), c.Run, c.DeliveryID)
}

// ParseCursor is the inverse of [Cursor.String].
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	ms, rest, _ := strings.Cut(s, ".")
	run, id, ok := strings.Cut(rest, ".")
	begun, err := strconv.ParseInt(ms, 10, 64)
	r, err2 := strconv.ParseInt(run, 10, 64)
	if err != nil || err2 != nil || !ok || id == "" {
		return Cursor{}, fmt.Errorf("cursor %.80q: want milliseconds.run.delivery", s)
	}
	return Cursor{time.UnixMilli(begun).UTC(), id, r}, nil
}

// question is what the filter asks of which view. A delivery or event that is
// named is found by index at any time; a range without one reads its days alone.
func (f *Filter) question() (q question, view string) {
	q.equal("tenant", f.Tenant)
	q.equal("endpoint_id", f.EndpointID)
	q.equal("event_type", f.EventType)
	q.equal("event_id", f.EventID)
	q.equal("delivery_id", f.DeliveryID)
	q.equal("state", f.State)
	until := f.Until
	if c := f.After; !c.BegunAt.IsZero() {
		q.and("(begun_at, delivery_id, run) < ({after_begun:DateTime64(3, 'UTC')}, {after_id:String}, {after_run:Int64})", "after_begun", c.BegunAt)
		q.bind("after_id", c.DeliveryID)
		q.bind("after_run", c.Run)
		if end := c.BegunAt.Add(time.Millisecond); until.IsZero() || end.Before(until) {
			until = end
		}
	}
	if f.Since.IsZero() && until.IsZero() {
		return q, "delivery_status"
	}
	q.span(f.Since, until)
	if f.DeliveryID == "" && f.EventID == "" {
		return q, "delivery_status_between" + spanned
	}
	q.where = append(q.where, "begun_at >= "+paramSince, "begun_at < "+paramUntil)
	return q, "delivery_status"
}

// Deliveries returns deliveries, newest first by begun_at.
func (l *Ledger) Deliveries(ctx context.Context, f Filter) ([]DeliveryStatus, error) {
	limit, err := limitOf(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("asking for deliveries: %w", err)
	}
	q, view := f.question()
	q.bind("limit", limit)
	columns := statusColumns
	if f.Payload {
		columns += ", payload"
	}
	out := []DeliveryStatus{}
	sql := "SELECT " + columns + "\nFROM " + view + q.String() + "\nORDER BY begun_at DESC, delivery_id DESC, run DESC\nLIMIT {limit:UInt32}"
	return out, l.ask(ctx, "deliveries", &out, sql, q.args)
}
