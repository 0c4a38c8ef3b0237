package ledger

import (
	"context"
	"fmt"
	"time"
)

// Counts are deliveries by how they stand: Matched is the sum of the other five. In
// JSON the number of the missing is "difference", as in what posthorn query says.
// A delivery is one run of it.
type Counts struct {
	Matched   uint64 `ch:"matched" json:"matched"`
	Delivered uint64 `ch:"delivered" json:"delivered"`
	Pending   uint64 `ch:"pending" json:"pending"`
	Dead      uint64 `ch:"dead" json:"dead"`
	Discarded uint64 `ch:"discarded" json:"discarded"`
	Missing   uint64 `ch:"missing" json:"difference"`
}

func (c *Counts) state(name string) *uint64 {
	switch name {
	case StateDelivered:
		return &c.Delivered
	case StateDead:
		return &c.Dead
	case StateDiscarded:
		return &c.Discarded
	case StatePending:
		return &c.Pending
	}
	return &c.Missing
}

// MissingDelivery is a delivery that nothing accounts for.
type MissingDelivery struct {
	Tenant     string    `ch:"tenant" json:"tenant"`
	EndpointID string    `ch:"endpoint_id" json:"endpoint_id"`
	DeliveryID string    `ch:"delivery_id" json:"delivery_id"`
	Run        int64     `ch:"run" json:"run"`
	State      string    `ch:"state" json:"-"`
	BegunAt    time.Time `ch:"begun_at" json:"begun_at"`
	Partition  int32     `ch:"partition" json:"partition"` // where its record lies on the deliveries topic
	Offset     int64     `ch:"offset" json:"offset"`
}

// MissingMinute is a minute of begun_at with missing deliveries.
type MissingMinute struct {
	Minute  time.Time `json:"minute"`
	Missing uint64    `json:"difference"`
}

// maxMissed is how many of the missing are looked at one by one: their IDs travel
// in a URL.
const maxMissed = 1000

// Reconciliation is the account of a time.
type Reconciliation struct {
	Counts
	// AsOf is up to when all is in the ledger; nil while that isn't known, and then
	// nothing is counted. What was matched later isn't counted.
	AsOf    *time.Time        `json:"as_of"`
	Minutes []MissingMinute   `json:"minutes"` // with missing deliveries, in order
	Missed  []MissingDelivery `json:"missing"` // the first of them, 1,000 at most
}

// Reconcile accounts for the deliveries begun in a time.
//
// The view that reads a time alone doesn't see the other half of a delivery whose
// event was sent twice, more than an hour apart: those it calls missing are looked
// up at any time before they are called so here.
func (l *Ledger) Reconcile(ctx context.Context, since, until time.Time) (*Reconciliation, error) {
	var q question
	q.span(since, until)
	// The time is asked for before the counts: the ledger grows, and they must not
	// be older than what is said of them.
	var asOf *time.Time
	if err := l.conn.QueryRow(ctx, "SELECT nullIf(as_of, toDateTime64(0, 3, 'UTC')) FROM ledger_as_of").Scan(&asOf); err != nil {
		return nil, fmt.Errorf("asking how far the ledger has come: %w", err)
	}
	var total []Counts
	err := l.ask(ctx, "the reconciliation", &total, `SELECT
    sum(matched) AS matched, sum(delivered) AS delivered, sum(pending) AS pending, sum(dead) AS dead, sum(discarded) AS discarded, sum(missing) AS missing
FROM reconciliation_between`+spanned, q.args)
	if err != nil {
		return nil, err
	}
	out := &Reconciliation{Counts: total[0], AsOf: asOf, Minutes: []MissingMinute{}, Missed: []MissingDelivery{}}
	if out.Missing == 0 {
		return out, nil
	}
	return out, l.missing(ctx, q, out)
}

const reckoned = "SELECT tenant, endpoint_id, delivery_id, run, state, begun_at, `partition`, `offset` FROM "

// missing looks again at what is called missing.
func (l *Ledger) missing(ctx context.Context, q question, out *Reconciliation) error {
	q.bind("limit", uint32(maxMissed))
	var suspects []MissingDelivery
	if err := l.ask(ctx, "missing deliveries", &suspects, reckoned+"reckoning_between"+spanned+`
WHERE state = 'missing' ORDER BY begun_at, delivery_id, run LIMIT {limit:UInt32}`, q.args); err != nil {
		return err
	}
	type unit struct {
		id  string
		run int64
	}
	suspected := make(map[unit]bool, len(suspects))
	ids := make([]string, len(suspects))
	for i := range suspects {
		suspected[unit{suspects[i].DeliveryID, suspects[i].Run}] = true
		ids[i] = suspects[i].DeliveryID
	}
	var again question
	again.and("delivery_id IN {ids:Array(String)}", "ids", ids)
	again.args = append(again.args, q.args[:2]...) // since and until
	var found []struct {
		MissingDelivery
		Within bool `ch:"within"`
	}
	sql := "SELECT *, begun_at >= " + paramSince + " AND begun_at < " + paramUntil + " AS within FROM (" + reckoned + "reckoning" + again.String() + ")\nORDER BY begun_at, delivery_id, run"
	if err := l.ask(ctx, "missing deliveries", &found, sql, again.args); err != nil {
		return err
	}
	// Both questions see a ledger that grows: nothing is taken away that wasn't
	// counted, and the sum is made anew.
	out.Missing -= min(out.Missing, uint64(len(suspects)))
	for i := range found {
		d := &found[i]
		if !suspected[unit{d.DeliveryID, d.Run}] || !d.Within { // begun at another time
			continue
		}
		*out.state(d.State)++
		if d.State != "missing" {
			continue
		}
		out.Missed = append(out.Missed, d.MissingDelivery)
		minute := d.BegunAt.Truncate(time.Minute)
		if n := len(out.Minutes); n == 0 || !out.Minutes[n-1].Minute.Equal(minute) {
			out.Minutes = append(out.Minutes, MissingMinute{Minute: minute})
		}
		out.Minutes[len(out.Minutes)-1].Missing++
	}
	out.Matched = out.Delivered + out.Pending + out.Dead + out.Discarded + out.Missing
	return nil
}
