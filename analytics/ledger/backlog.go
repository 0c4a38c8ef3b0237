package ledger

import (
	"context"
	"fmt"
	"time"
)

// Backlog is what waits for one endpoint, as far as the ledger has come.
type Backlog struct {
	Queued   uint64 `ch:"queued"`   // never settled: on the deliveries topic, in a lane's queue or in flight
	Parked   uint64 `ch:"parked"`   // put back unsent: a full or hanging lane, an open breaker, a pause
	Retrying uint64 `ch:"retrying"` // failed, or was cut short; wait for their next attempt
	// Of the parked and retrying, by when their next attempt is due.
	Overdue uint64 `ch:"overdue"` // due, and not settled again yet
	Minute  uint64 `ch:"minute"`
	Five    uint64 `ch:"five"`    // minutes
	Quarter uint64 `ch:"quarter"` // of an hour
	Later   uint64 `ch:"later"`

	OldestAt  *time.Time `ch:"oldest_at"`   // the least begun_at; nil when nothing waits
	LastDueAt *time.Time `ch:"last_due_at"` // of the attempt that is due last; nil when none is

	// Rate is how many of the endpoint's deliveries ended a second (delivered or
	// dead), from the first to the last POST of the last five minutes; 0 without
	// one.
	Rate float64 `ch:"rate"`
	// AsOf is up to when all is in the ledger; 1970-01-01 while that isn't known.
	AsOf time.Time `ch:"as_of"`
}

// Backlog tells what waits for an endpoint of a tenant, of deliveries begun since
// a time. One that is missing counts as waiting: only [Ledger.Reconcile] tells
// them apart.
func (l *Ledger) Backlog(ctx context.Context, tenant, endpoint string, since time.Time) (*Backlog, error) {
	if tenant == "" || endpoint == "" {
		return nil, fmt.Errorf("asking for a backlog: tenant %q and endpoint %q are required", tenant, endpoint)
	}
	var q question
	q.equal("tenant", tenant)
	q.equal("endpoint_id", endpoint)
	rate := q.String()
	q.and("begun_at >= "+paramSince, "since", since)
	where := q.String()
	var out []Backlog
	err := l.ask(ctx, "a backlog", &out, `WITH
    now64(3, 'UTC') AS at,
    (SELECT as_of FROM ledger_as_of) AS reached,
    (
        SELECT if(count() = 0, 0, uniqExactIf((delivery_id, run), verdict > 0) / greatest(1, dateDiff('millisecond', min(started_at), max(ended_at)) / 1000))
        FROM attempts`+rate+`
            AND kind = 'attempt' AND started_at >= at - INTERVAL 5 MINUTE
    ) AS ended_per_second
SELECT
    countIf(last_kind = '') AS queued, countIf(last_kind = 'park') AS parked, countIf(last_kind = 'attempt') AS retrying,
    countIf(last_kind != '' AND due_at <= at) AS overdue,
    countIf(due_at > at AND due_at <= at + INTERVAL 1 MINUTE) AS minute,
    countIf(due_at > at + INTERVAL 1 MINUTE AND due_at <= at + INTERVAL 5 MINUTE) AS five,
    countIf(due_at > at + INTERVAL 5 MINUTE AND due_at <= at + INTERVAL 15 MINUTE) AS quarter,
    countIf(due_at > at + INTERVAL 15 MINUTE) AS later,
    if(count() = 0, NULL, min(begun)) AS oldest_at, if(countIf(due_at > 0) = 0, NULL, max(due_at)) AS last_due_at,
    ended_per_second AS rate, reached AS as_of
FROM
(
    SELECT delivery_id, run, min(begun_at) AS begun, max(verdict) AS last_verdict, argMax(kind, moment) AS last_kind, argMax(next_at, moment) AS due_at
    FROM
    (
        SELECT delivery_id, run, begun_at, toUInt8(0) AS verdict, CAST('', 'LowCardinality(String)') AS kind,
            toDateTime64(0, 3, 'UTC') AS next_at, toUInt128(0) AS moment
        FROM deliveries`+where+`
        UNION ALL
        SELECT delivery_id, run, begun_at, verdict, kind, next_at, moment
        FROM attempts`+where+`
    )
    GROUP BY delivery_id, run
)
WHERE last_verdict = 0`, q.args)
	if err != nil {
		return nil, err
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("asking for a backlog: %d rows", len(out))
	}
	return &out[0], nil
}
