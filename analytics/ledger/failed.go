package ledger

import (
	"context"
	"errors"
	"time"
)

// FailedFilter says which deliveries to one endpoint are to be made again.
type FailedFilter struct {
	Tenant, EndpointID string   // required
	States             []string // of [StateDead] and [StateDiscarded]; none means dead
	Since, Until       time.Time
}

// FailedDelivery is a delivery all of whose runs ended without success.
type FailedDelivery struct {
	DeliveryID      string  `ch:"delivery_id"`
	EventID         string  `ch:"event_id"`
	EventSource     string  `ch:"event_source"`
	EventType       string  `ch:"event_type"`
	Contract        string  `ch:"contract"`
	ContentType     string  `ch:"content_type"`
	Traceparent     string  `ch:"traceparent"`
	SourceTopic     string  `ch:"source_topic"`
	SourcePartition int32   `ch:"source_partition"`
	SourceOffset    int64   `ch:"source_offset"`
	Payload         *string `ch:"payload"` // nil past its TTL
}

// failed is a query of the deliveries of a filter, one row each, whatever their
// runs: at least one was begun in the time and is in one of the states, and none,
// begun at any time, is delivered or pending. An endpoint's rows are a stretch of
// both tables.
func (f *FailedFilter) failed() (sql string, q question, err error) {
	if f.Tenant == "" || f.EndpointID == "" {
		return "", q, errors.New("asking for failed deliveries: tenant and endpoint are required")
	}
	q.equal("tenant", f.Tenant)
	q.equal("endpoint_id", f.EndpointID)
	where := q.String()
	q.span(f.Since, f.Until)
	states := f.States
	if len(states) == 0 {
		states = []string{StateDead}
	}
	q.bind("states", states)
	return `(
    SELECT delivery_id
    FROM
    (
        SELECT delivery_id, run, min(begun_at) AS begun,
            transform(max(verdict), [3, 2, 1], ['delivered', 'dead', 'discarded'], 'pending') AS its_state
        FROM
        (
            SELECT delivery_id, run, begun_at, toUInt8(0) AS verdict FROM deliveries` + where + `
            UNION ALL
            SELECT delivery_id, run, begun_at, verdict FROM attempts` + where + `
        )
        GROUP BY delivery_id, run
    )
    GROUP BY delivery_id
    HAVING countIf(its_state IN ('delivered', 'pending')) = 0
        AND countIf(has({states:Array(String)}, its_state) AND begun >= ` + paramSince + ` AND begun < ` + paramUntil + `) > 0
)`, q, nil
}

// CountFailed counts the deliveries of a filter.
func (l *Ledger) CountFailed(ctx context.Context, f FailedFilter) (int64, error) {
	ids, q, err := f.failed()
	if err != nil {
		return 0, err
	}
	var rows []struct {
		N uint64 `ch:"n"`
	}
	if err := l.ask(ctx, "failed deliveries", &rows, "SELECT count() AS n FROM "+ids, q.args); err != nil {
		return 0, err
	}
	return int64(rows[0].N), nil
}

// Failed returns up to limit of them with IDs above after, in the order of their
// IDs, each with its payload. It ends with the payload with which they have this
// many bytes, so that none are returned means that there are none.
func (l *Ledger) Failed(ctx context.Context, f FailedFilter, after string, limit int, bytes int64) ([]FailedDelivery, error) {
	ids, q, err := f.failed()
	if err != nil {
		return nil, err
	}
	most, err := limitOf(limit)
	if err != nil {
		return nil, err
	}
	q.bind("after_id", after)
	q.bind("limit", most)
	q.bind("bytes", max(bytes, 1))
	out := []FailedDelivery{}
	return out, l.ask(ctx, "failed deliveries", &out, `SELECT * EXCEPT (before)
FROM
(
    SELECT * EXCEPT (body), dictGet(concat(currentDatabase(), '.message_bodies'), 'body', tuple(body)) AS payload,
        sum(toInt64(length(ifNull(payload, '')))) OVER (ORDER BY delivery_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - length(ifNull(payload, '')) AS before
    FROM
    (
        SELECT delivery_id, any(event_id) AS event_id, any(event_source) AS event_source, argMin(event_type, (run, `+"`offset`"+`)) AS event_type,
            argMin(contract, (run, `+"`offset`"+`)) AS contract, argMin(content_type, (run, `+"`offset`"+`)) AS content_type, argMin(traceparent, (run, `+"`offset`"+`)) AS traceparent,
            argMin(source_topic, (run, `+"`offset`"+`)) AS source_topic, argMin(source_partition, (run, `+"`offset`"+`)) AS source_partition,
            argMin(source_offset, (run, `+"`offset`"+`)) AS source_offset, argMin(body_id, (run, `+"`offset`"+`)) AS body
        FROM deliveries
        WHERE tenant = {tenant:String} AND endpoint_id = {endpoint_id:String} AND delivery_id > {after_id:String} AND delivery_id GLOBAL IN `+ids+`
        GROUP BY delivery_id
        ORDER BY delivery_id
        LIMIT {limit:UInt32}
    )
)
WHERE before < {bytes:Int64}
ORDER BY delivery_id`, q.args)
}
