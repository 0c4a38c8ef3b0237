package ledger

import (
	"context"
	"time"
)

// EndpointStatus is what an endpoint's deliveries and POSTs of a time came to, and
// how it is now.
type EndpointStatus struct {
	Tenant     string `ch:"tenant" json:"tenant"`
	EndpointID string `ch:"endpoint_id" json:"endpoint_id"`

	// Of deliveries begun in the time.
	Deliveries uint64 `ch:"deliveries" json:"deliveries"`
	Delivered  uint64 `ch:"delivered" json:"delivered"`
	Dead       uint64 `ch:"dead" json:"dead"`
	Discarded  uint64 `ch:"discarded" json:"discarded"`
	Pending    uint64 `ch:"pending" json:"pending"`

	// Of POSTs started in the time; those that were cut short by ourselves count in
	// Attempts alone.
	Attempts    uint64   `ch:"attempts" json:"attempts"`
	Retries     uint64   `ch:"retries" json:"retries"` // beyond the first of a run
	SuccessRate *float64 `ch:"success_rate" json:"success_rate"`
	P50MS       *float64 `ch:"p50_ms" json:"p50_ms"`
	P99MS       *float64 `ch:"p99_ms" json:"p99_ms"`

	// Of the last seven days, whatever the time asked for.
	LastSuccessAt       *time.Time `ch:"last_success_at" json:"last_success_at"`
	LastFailureAt       *time.Time `ch:"last_failure_at" json:"last_failure_at"`
	ConsecutiveFailures uint64     `ch:"consecutive_failures" json:"consecutive_failures"`
	Health              string     `ch:"health" json:"health"` // ok, failing, or idle: no POST in seven days
}

// Endpoints returns the endpoints that had deliveries or POSTs in a time, those
// with most deliveries first. Tenant and endpoint may be empty.
func (l *Ledger) Endpoints(ctx context.Context, since, until time.Time, tenant, endpoint string) ([]EndpointStatus, error) {
	var q question
	q.equal("tenant", tenant)
	q.equal("endpoint_id", endpoint)
	where := q.String()
	q.span(since, until)
	started := question{where: append(q.where, "kind = 'attempt'", "started_at >= "+paramSince, "started_at < "+paramUntil, "begun_at < "+paramUntil)}
	out := []EndpointStatus{}
	return out, l.ask(ctx, "endpoints", &out, `SELECT
    tenant, endpoint_id, deliveries, delivered, dead, discarded, pending, attempts, retries, success_rate, p50_ms, p99_ms,
    last_success_at, last_failure_at, consecutive_failures,
    multiIf(consecutive_failures > 0, 'failing', isNull(last_success_at), 'idle', 'ok') AS health
FROM
(
    SELECT
        tenant, endpoint_id,
        sum(deliveries) AS deliveries, sum(delivered) AS delivered, sum(dead) AS dead, sum(discarded) AS discarded, sum(pending) AS pending,
        sum(attempts) AS attempts, sum(retries) AS retries, max(success_rate) AS success_rate, max(p50_ms) AS p50_ms, max(p99_ms) AS p99_ms
    FROM
    (
        SELECT
            tenant, endpoint_id,
            count() AS deliveries, countIf(state = 'delivered') AS delivered, countIf(state = 'dead') AS dead,
            countIf(state = 'discarded') AS discarded, countIf(state = 'pending') AS pending,
            toUInt64(0) AS attempts, toUInt64(0) AS retries,
            CAST(NULL, 'Nullable(Float64)') AS success_rate, CAST(NULL, 'Nullable(Float64)') AS p50_ms, CAST(NULL, 'Nullable(Float64)') AS p99_ms
        FROM delivery_status_between`+spanned+where+`
        GROUP BY tenant, endpoint_id
        UNION ALL
        SELECT
            tenant, endpoint_id, 0, 0, 0, 0, 0,
            count(), countIf(n > 0),
            countIf(outcome = 'delivered') / nullIf(countIf(outcome != 'cut'), 0),
            if(countIf(outcome != 'cut') > 0, quantileExactIf(0.5)(duration_us, outcome != 'cut') / 1000, NULL),
            if(countIf(outcome != 'cut') > 0, quantileExactIf(0.99)(duration_us, outcome != 'cut') / 1000, NULL)
        FROM attempts FINAL`+started.String()+`
        GROUP BY tenant, endpoint_id
    )
    GROUP BY tenant, endpoint_id
) AS e
LEFT JOIN
(
    SELECT tenant, endpoint_id, last_success_at, last_failure_at, consecutive_failures FROM endpoint_health`+where+`
) AS h USING (tenant, endpoint_id)
ORDER BY deliveries DESC, endpoint_id`, q.args)
}
