package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"posthorn/analytics/ledger"
	"posthorn/internal/clickhouse"
	"posthorn/internal/config"
)

const (
	// grace of the demo's reconciliation: its retries come after seconds.
	grace = 2 * time.Second
	// accountWithin is how long the ledger may take to have everything.
	accountWithin = 30 * time.Second
)

// account is what ClickHouse says of the demo.
type account struct {
	endpoints []ledger.EndpointStatus
	sum       *ledger.Reconciliation
}

// Err is nil if every delivery is accounted for.
func (a *account) Err() error {
	if a != nil && a.sum.Missing > 0 {
		return fmt.Errorf("the ledger in ClickHouse misses %d of %d deliveries", a.sum.Missing, a.sum.Matched)
	}
	return nil
}

// account waits until ClickHouse has all that has happened so far, and asks it.
// It is nil without a ClickHouse.
func (s *show) account(ctx context.Context) (*account, error) {
	url, ok := strings.CutPrefix(s.addresses.ClickHouse, "http://")
	if !ok {
		return nil, nil //nolint:nilnil // there is no account, and nothing wrong
	}
	c := config.Default().ClickHouse
	c.Addr, c.Protocol = []string{url}, config.ProtocolHTTP
	conn, err := clickhouse.OpenLedger(c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	s.report.awaiting()
	l := ledger.New(conn)
	now := time.Now()
	since := now.Add(-time.Hour)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(accountWithin); ; {
		sum, err := l.Reconcile(ctx, since, time.Time{})
		if err != nil {
			return nil, err
		}
		if sum.AsOf != nil && !sum.AsOf.Before(now) {
			endpoints, err := l.Endpoints(ctx, since, time.Time{}, "", "")
			return &account{endpoints, sum}, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-late:
			upTo := "nothing yet"
			if sum.AsOf != nil {
				upTo = "all up to " + sum.AsOf.Format(time.TimeOnly)
			}
			return nil, fmt.Errorf("the ledger in ClickHouse is not complete after %s: it has %s", accountWithin, upTo)
		}
	}
}

// account shows the ledger.
func (r *report) account(a *account, endpoints []*endpoint) {
	if a == nil {
		r.heading("The ledger in ClickHouse is off: make chdb fetches the embedded engine (with npm)")
		return
	}
	names := make(map[string]string, len(endpoints))
	for _, e := range endpoints {
		names[e.id] = e.name
	}
	r.heading("The ledger in ClickHouse, by SQL")
	r.printf("%-10s %-7s %10s %8s %8s %8s %8s %5s\n", "endpoint", "tenant", "deliveries", "success", "p50 ms", "p99 ms", "retries", "dead")
	for i := range a.endpoints {
		e := &a.endpoints[i]
		r.printf("%-10s %-7s %10d %8s %8s %8s %8d %5d\n", names[e.EndpointID], e.Tenant, e.Deliveries,
			figure(e.SuccessRate, 100, "%"), figure(e.P50MS, 1, ""), figure(e.P99MS, 1, ""), e.Retries, e.Dead)
	}
	c := a.sum
	r.printf("\nreconcile: matched=%d delivered=%d pending=%d dead=%d discarded=%d difference=%d\n",
		c.Matched, c.Delivered, c.Pending, c.Dead, c.Discarded, c.Missing)
}

func figure(v *float64, times float64, unit string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%s", *v*times, unit)
}
