package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// MaxHistory is how many settlements of one delivery [Ledger.Delivery] returns,
// the newest: a delivery that is parked every quarter of an hour has a hundred
// in a day.
const MaxHistory = 1000

// Delivery is all there is to say of one delivery.
type Delivery struct {
	Runs []Run // the latest first; never empty
	// Payload is the body of the latest run; nil past its TTL.
	Payload *string
}

// Run is one run of a delivery.
type Run struct {
	DeliveryStatus
	Record
	History []Attempt // every settlement, newest first
}

// Record is what a run's records say besides its [DeliveryStatus].
type Record struct {
	Origin      string `ch:"origin"`
	Contract    string `ch:"contract"`
	ContentType string `ch:"content_type"`
	Traceparent string `ch:"traceparent"`
	// Where the event lies; SourceTopic is empty for a test event.
	SourceTopic     string `ch:"source_topic"`
	SourcePartition int32  `ch:"source_partition"`
	SourceOffset    int64  `ch:"source_offset"`
}

// Delivery returns a delivery of a tenant with all its runs; nil if the ledger
// has none of that ID.
func (l *Ledger) Delivery(ctx context.Context, tenant, id string) (*Delivery, error) {
	if tenant == "" || id == "" {
		return nil, fmt.Errorf("asking for a delivery: tenant %q and ID %q are required", tenant, id)
	}
	var runs []DeliveryStatus
	var records map[int64]Record
	var history []Attempt
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		runs, err = l.Deliveries(ctx, Filter{Tenant: tenant, DeliveryID: id, Limit: MaxLimit, Payload: true})
		return err
	})
	g.Go(func() (err error) {
		records, err = l.records(ctx, tenant, id)
		return err
	})
	g.Go(func() (err error) {
		history, err = l.Attempts(ctx, AttemptFilter{Tenant: tenant, DeliveryID: id, Limit: MaxHistory})
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, nil //nolint:nilnil // there is none, and nothing went wrong
	}
	slices.SortFunc(runs, func(a, b DeliveryStatus) int { return cmp.Compare(b.Run, a.Run) })
	d := &Delivery{Payload: runs[0].Payload}
	for i := range runs {
		r := Run{DeliveryStatus: runs[i], Record: records[runs[i].Run], History: []Attempt{}}
		for j := range history {
			if history[j].Run == r.Run {
				r.History = append(r.History, history[j])
			}
		}
		d.Runs = append(d.Runs, r)
	}
	return d, nil
}

// records returns what the records of each run of a delivery say.
func (l *Ledger) records(ctx context.Context, tenant, id string) (map[int64]Record, error) {
	var q question
	q.equal("tenant", tenant)
	q.equal("delivery_id", id)
	var rows []struct {
		Run int64 `ch:"run"`
		Record
	}
	where := q.String()
	// All that is asked for is the same in every row of a run, or absent.
	err := l.ask(ctx, "records of a delivery", &rows, `SELECT run, max(origin) AS origin, max(contract) AS contract, max(content_type) AS content_type,
    max(traceparent) AS traceparent, max(source_topic) AS source_topic, max(source_partition) AS source_partition, max(source_offset) AS source_offset
FROM
(
    SELECT run, origin, contract, content_type, traceparent, source_topic, source_partition, source_offset
    FROM deliveries`+where+`
    UNION ALL
    SELECT run, origin, contract, CAST('', 'LowCardinality(String)') AS content_type, traceparent, source_topic, source_partition, source_offset
    FROM attempts`+where+`
)
GROUP BY run`, q.args)
	out := make(map[int64]Record, len(rows))
	for i := range rows {
		out[rows[i].Run] = rows[i].Record
	}
	return out, err
}
