package cli

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"posthorn/analytics/ledger"
	"posthorn/internal/clickhouse"
	"posthorn/internal/config"
)

// Query asks the ledger in ClickHouse and writes what it answers.
type Query struct {
	ClickHouse config.ClickHouse
	// JSON writes the answer in place of a table.
	JSON bool
	Out  io.Writer
}

func (q Query) ask(what func(*ledger.Ledger) error) error {
	conn, err := clickhouse.OpenLedger(q.ClickHouse)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	return what(ledger.New(conn))
}

func (q Query) table(header string, rows func(w io.Writer)) error {
	w := tabwriter.NewWriter(q.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	rows(w)
	return flush(w)
}

// Deliveries writes where deliveries stand, newest first; with follow also what
// changes from then on, until ctx ends.
func (q Query) Deliveries(ctx context.Context, f ledger.Filter, follow bool) error {
	return q.ask(func(l *ledger.Ledger) error {
		var news *ledger.Follower
		var err error
		if follow { // before the first answer, so that nothing falls between
			if news, err = l.Follow(ctx, f); err != nil {
				return err
			}
		}
		found, err := l.Deliveries(ctx, f)
		if err != nil {
			return err
		}
		if err := q.deliveries(found); err != nil || !follow {
			return err
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			changed, err := news.Next(ctx)
			if ctx.Err() != nil {
				return nil // the end of ctx is an orderly stop
			}
			if err != nil {
				return err
			}
			if len(changed) == 0 {
				continue
			}
			if err := q.deliveries(changed); err != nil {
				return err
			}
		}
	})
}

func (q Query) deliveries(found []ledger.DeliveryStatus) error {
	if q.JSON {
		return writeJSON(q.Out, found)
	}
	return q.table("BEGUN\tDELIVERY\tTENANT\tENDPOINT\tTYPE\tSTATE\tATTEMPTS\tSTATUS\tREASON\tNEXT", func(w io.Writer) {
		for i := range found {
			d := &found[i]
			status := "-"
			if d.StatusCode != nil {
				status = fmt.Sprint(*d.StatusCode)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", shown(&d.BegunAt), printable(d.DeliveryID), printable(d.Tenant),
				printable(d.EndpointID), printable(d.EventType), d.State, d.Attempts, status, printable(d.Reason), shown(d.NextAt))
		}
	})
}

// Attempts writes settlements, newest first.
func (q Query) Attempts(ctx context.Context, f ledger.AttemptFilter) error {
	return q.ask(func(l *ledger.Ledger) error {
		found, err := l.Attempts(ctx, f)
		if err != nil {
			return err
		}
		if q.JSON {
			return writeJSON(q.Out, found)
		}
		return q.table("STARTED\tKIND\tDELIVERY\tENDPOINT\tN\tSTATUS\tOUTCOME\tREASON\tMS\tNEXT\tRESPONSE", func(w io.Writer) {
			for i := range found {
				a := &found[i]
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%.1f\t%s\t%.60q\n", shown(&a.StartedAt), printable(a.Kind), printable(a.DeliveryID),
					printable(a.EndpointID), a.N, a.Status, printable(a.Outcome), printable(a.Reason), float64(a.DurationUS)/1000, shown(&a.NextAt), a.Response)
			}
		})
	})
}

// Endpoints writes what the endpoints' deliveries and POSTs of a time came to.
func (q Query) Endpoints(ctx context.Context, since, until time.Time, tenant, endpoint string) error {
	return q.ask(func(l *ledger.Ledger) error {
		found, err := l.Endpoints(ctx, since, until, tenant, endpoint)
		if err != nil {
			return err
		}
		if q.JSON {
			return writeJSON(q.Out, found)
		}
		return q.table("TENANT\tENDPOINT\tDELIVERIES\tDELIVERED\tPENDING\tDEAD\tDISCARDED\tPOSTS\tRETRIES\tSUCCESS\tP50 MS\tP99 MS\tHEALTH", func(w io.Writer) {
			for i := range found {
				e := &found[i]
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", printable(e.Tenant), printable(e.EndpointID), e.Deliveries, e.Delivered,
					e.Pending, e.Dead, e.Discarded, e.Attempts, e.Retries, figure(e.SuccessRate, 100, "%"), figure(e.P50MS, 1, ""), figure(e.P99MS, 1, ""), e.Health)
			}
		})
	})
}

// Reconcile writes whether the deliveries begun in a time are all accounted for.
func (q Query) Reconcile(ctx context.Context, since, until time.Time) error {
	return q.ask(func(l *ledger.Ledger) error {
		r, err := l.Reconcile(ctx, since, until)
		if err != nil {
			return err
		}
		if q.JSON {
			return writeJSON(q.Out, r)
		}
		for _, m := range r.Missed {
			if err := writef(q.Out, "missing %s run %d of endpoint %s, begun %s\n", printable(m.DeliveryID), m.Run, printable(m.EndpointID), shown(&m.BegunAt)); err != nil {
				return err
			}
		}
		return writef(q.Out, "reconcile: matched=%d delivered=%d pending=%d dead=%d discarded=%d difference=%d as_of=%s\n",
			r.Matched, r.Delivered, r.Pending, r.Dead, r.Discarded, r.Missing, shown(&r.AsOf))
	})
}

// shown writes a time, or a dash for none.
func shown(t *time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func figure(v *float64, times float64, unit string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%s", *v*times, unit)
}
