package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"posthorn/analytics/ledger"
	"posthorn/internal/clickhouse"
	"posthorn/internal/config"
)

// Query asks the ledger in ClickHouse and writes what it answers. What was named
// by its ID and isn't there is an error.
type Query struct {
	ClickHouse config.ClickHouse
	// JSON writes the answer in place of a table.
	JSON bool
	Out  io.Writer
}

func (q Query) ask(ctx context.Context, what func(*ledger.Ledger) error) error {
	conn, err := clickhouse.OpenLedger(q.ClickHouse)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	return clickhouse.Explain(ctx, q.ClickHouse, what(ledger.New(conn)))
}

// answer writes what was found: as JSON, or as the table that rows makes of it.
func answer[T any](q Query, found []T, none, header string, cells func(*T) []string) error {
	if q.JSON {
		return writeJSON(q.Out, found)
	}
	if len(found) == 0 {
		return writef(q.Out, "%s\n", none)
	}
	w := tabwriter.NewWriter(q.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for i := range found {
		row := cells(&found[i])
		for j, cell := range row {
			row[j] = cmp.Or(strings.NewReplacer("\n", " ", "\t", " ").Replace(printable(cell)), "-")
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return flush(w)
}

// none says that nothing was found: "no deliveries in the ledger since 2026-…".
func none(what string, since time.Time) string {
	if since.IsZero() {
		return "no " + printable(what) + " in the ledger"
	}
	return "no " + printable(what) + " in the ledger since " + shown(&since)
}

// missed is the error of what was named by its ID, and isn't there.
func missed(since time.Time, delivery, event string) error {
	switch {
	case delivery != "" && event != "":
		return errors.New(none("delivery "+delivery+" of event "+event, since))
	case delivery != "":
		return errors.New(none("delivery "+delivery, since))
	case event != "":
		return errors.New(none("delivery of event "+event, since))
	}
	return nil
}

// Deliveries writes where deliveries stand, newest first; with follow also what
// changes from then on, until ctx ends.
func (q Query) Deliveries(ctx context.Context, f ledger.Filter, follow bool) error {
	return q.ask(ctx, func(l *ledger.Ledger) error {
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
		if len(found) == 0 && !follow {
			if err := missed(f.Since, f.DeliveryID, f.EventID); err != nil {
				return err
			}
		}
		if err := q.deliveries(found, f); err != nil || !follow {
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
			if err := q.deliveries(changed, f); err != nil {
				return err
			}
		}
	})
}

func (q Query) deliveries(found []ledger.DeliveryStatus, f ledger.Filter) error {
	header := "BEGUN\tDELIVERY\tTENANT\tENDPOINT\tEVENT\tTYPE\tSTATE\tATTEMPTS\tSTATUS\tREASON\tNEXT"
	if f.Payload {
		header += "\tPAYLOAD"
	}
	return answer(q, found, none("deliveries", f.Since), header, func(d *ledger.DeliveryStatus) []string {
		cells := []string{shown(&d.BegunAt), d.DeliveryID, d.Tenant, d.EndpointID, d.EventID, d.EventType, d.State, strconv.FormatUint(d.Attempts, 10),
			status(d.StatusCode), d.Reason, shown(d.NextAt)}
		if f.Payload && d.Payload != nil {
			cells = append(cells, *d.Payload)
		} else if f.Payload {
			cells = append(cells, "")
		}
		return cells
	})
}

// Attempts writes settlements, newest first.
func (q Query) Attempts(ctx context.Context, f ledger.AttemptFilter) error {
	return q.ask(ctx, func(l *ledger.Ledger) error {
		found, err := l.Attempts(ctx, f)
		if err != nil {
			return err
		}
		if len(found) == 0 && (f.DeliveryID != "" || f.EventID != "") {
			return q.unattempted(ctx, l, f)
		}
		const header = "STARTED\tKIND\tDELIVERY\tENDPOINT\tTYPE\tN\tSTATUS\tOUTCOME\tREASON\tMS\tNEXT\tRESPONSE"
		return answer(q, found, none("attempts", f.Since), header, func(a *ledger.Attempt) []string {
			took, response := "", ""
			if a.Kind == "attempt" {
				took = fmt.Sprintf("%.1f", float64(a.DurationUS)/1000)
			}
			if a.Response != "" {
				response = fmt.Sprintf("%.60q", a.Response)
			}
			var code *uint16
			if a.Status != 0 {
				code = &a.Status
			}
			return []string{shown(&a.StartedAt), a.Kind, a.DeliveryID, a.EndpointID, a.EventType, strconv.FormatUint(uint64(a.N), 10), status(code),
				a.Outcome, a.Reason, took, shown(a.NextAt), response}
		})
	})
}

// unattempted tells a delivery that is there and wasn't tried yet from none.
func (q Query) unattempted(ctx context.Context, l *ledger.Ledger, f ledger.AttemptFilter) error {
	found, err := l.Deliveries(ctx, ledger.Filter{DeliveryID: f.DeliveryID, EventID: f.EventID, Limit: 1})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return missed(time.Time{}, f.DeliveryID, f.EventID)
	}
	return answer(q, []ledger.Attempt{}, none("attempts of that kind", f.Since), "", nil)
}

// Endpoints writes what the endpoints' deliveries and POSTs of a time came to.
func (q Query) Endpoints(ctx context.Context, since, until time.Time, tenant, endpoint string) error {
	return q.ask(ctx, func(l *ledger.Ledger) error {
		found, err := l.Endpoints(ctx, since, until, tenant, endpoint)
		if err != nil {
			return err
		}
		if len(found) == 0 && endpoint != "" {
			return errors.New(none("deliveries or attempts of endpoint "+endpoint, since))
		}
		const header = "TENANT\tENDPOINT\tDELIVERIES\tDELIVERED\tPENDING\tDEAD\tDISCARDED\tPOSTS\tRETRIES\tSUCCESS\tP50 MS\tP99 MS\tHEALTH"
		return answer(q, found, none("deliveries or attempts", since), header, func(e *ledger.EndpointStatus) []string {
			cells := []string{e.Tenant, e.EndpointID}
			for _, n := range []uint64{e.Deliveries, e.Delivered, e.Pending, e.Dead, e.Discarded, e.Attempts, e.Retries} {
				cells = append(cells, strconv.FormatUint(n, 10))
			}
			return append(cells, figure(e.SuccessRate, 100, "%"), figure(e.P50MS, 1, ""), figure(e.P99MS, 1, ""), e.Health)
		})
	})
}

// Reconcile writes whether the deliveries begun in a time are all accounted for. It
// waits until the ledger has all from before it was asked, for so long at most.
func (q Query) Reconcile(ctx context.Context, since time.Time, wait time.Duration) error {
	return q.ask(ctx, func(l *ledger.Ledger) error {
		asked := time.Now()
		var r *ledger.Reconciliation
		done, err := until(ctx, wait, func(ctx context.Context) (_ bool, err error) {
			if r, err = l.Reconcile(ctx, since, time.Time{}); err != nil {
				return false, err
			}
			return r.AsOf != nil && r.AsOf.After(asked), nil
		})
		if err != nil {
			return err
		}
		if err := q.reconciliation(r); err != nil || done || wait == 0 {
			return err
		}
		return fmt.Errorf("the ledger has not come to %s within %s", shown(&asked), wait)
	})
}

func (q Query) reconciliation(r *ledger.Reconciliation) error {
	if q.JSON {
		return writeJSON(q.Out, r)
	}
	for _, m := range r.Missed {
		if err := writef(q.Out, "missing %s run %d of endpoint %s, begun %s\n", printable(m.DeliveryID), m.Run, printable(m.EndpointID), shown(&m.BegunAt)); err != nil {
			return err
		}
	}
	if err := writef(q.Out, "reconcile: matched=%d delivered=%d pending=%d dead=%d discarded=%d difference=%d as_of=%s\n",
		r.Matched, r.Delivered, r.Pending, r.Dead, r.Discarded, r.Missing, shown(r.AsOf)); err != nil || r.AsOf != nil {
		return err
	}
	return writef(q.Out, "%s\n", unread)
}

// unread says what an account without as_of means.
const unread = "as_of=-: nothing has been read into the ledger yet, so nothing is counted. Reading begins seconds after a process with the role\n" +
	"analytics has started; if it goes on like this, none is running, or it can't read or insert: its /readyz and its log say why"

// status writes a status code.
func status(code *uint16) string {
	if code == nil {
		return ""
	}
	return strconv.Itoa(int(*code))
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
