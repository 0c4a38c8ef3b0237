package ledger

import (
	"context"
	"fmt"
	"time"
)

// Run counts the deliveries to an endpoint of one run, above 0, by how they stand;
// Missing is none here.
func (l *Ledger) Run(ctx context.Context, tenant, endpoint string, run int64) (*Counts, error) {
	if tenant == "" || endpoint == "" || run <= 0 {
		return nil, fmt.Errorf("asking for a run: tenant %q, endpoint %q and run %d are required", tenant, endpoint, run)
	}
	var q question
	q.equal("tenant", tenant)
	q.equal("endpoint_id", endpoint)
	q.and("run = {run:Int64}", "run", run)
	// A run begins when it is asked for, or in the ledger a week before it is on
	// the line at most; never earlier than it is asked for.
	q.and("begun_at >= "+paramSince, "since", time.UnixMilli(run))
	where := q.String()
	var out []Counts
	err := l.ask(ctx, "a run", &out, `SELECT
    count() AS matched, countIf(its_verdict = 3) AS delivered, countIf(its_verdict = 0) AS pending, countIf(its_verdict = 2) AS dead,
    countIf(its_verdict = 1) AS discarded, toUInt64(0) AS missing
FROM
(
    SELECT delivery_id, max(verdict) AS its_verdict
    FROM
    (
        SELECT delivery_id, toUInt8(0) AS verdict FROM deliveries`+where+`
        UNION ALL
        SELECT delivery_id, verdict FROM attempts`+where+`
    )
    GROUP BY delivery_id
)`, q.args)
	if err != nil {
		return nil, err
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("asking for a run: %d rows", len(out))
	}
	return &out[0], nil
}
