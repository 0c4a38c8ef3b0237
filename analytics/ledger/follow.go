package ledger

import (
	"context"
	"fmt"
	"time"
)

// overlap is how long a row may take from getting its time to being seen: rows of
// one moment become visible one insert after the other.
const overlap = time.Minute

// Follower returns deliveries as they change. It isn't safe for concurrent use.
type Follower struct {
	ledger *Ledger
	filter Filter
	from   time.Time           // by the server's clock
	told   map[followed]string // what was last told of those that may come again
}

type followed struct {
	id  string
	run int64
}

// Follow follows the deliveries that a filter names, from now on. Limit and After
// are not heeded.
func (l *Ledger) Follow(ctx context.Context, f Filter) (*Follower, error) {
	now, err := l.now(ctx)
	if err != nil {
		return nil, err
	}
	follower := &Follower{ledger: l, filter: f, from: now}
	// What is there already is no news.
	if _, err := follower.Next(ctx); err != nil {
		return nil, err
	}
	return follower, nil
}

func (l *Ledger) now(ctx context.Context) (now time.Time, err error) {
	if err := l.conn.QueryRow(ctx, "SELECT now64(3, 'UTC')").Scan(&now); err != nil {
		return now, fmt.Errorf("asking for the time: %w", err)
	}
	return now, nil
}

// Next returns the deliveries that changed since the last call, oldest first; it
// doesn't wait for one. A row that came twice is no change.
func (f *Follower) Next(ctx context.Context) ([]DeliveryStatus, error) {
	now, err := f.ledger.now(ctx)
	if err != nil {
		return nil, err
	}
	filter := f.filter
	filter.After = Cursor{}
	// The days don't matter to what was inserted just now, and its state may have
	// come from any: the whole view, by the deliveries' IDs.
	since, until := filter.Since, filter.Until
	filter.Since, filter.Until = time.Time{}, time.Time{}
	q, view := filter.question()
	if !since.IsZero() || !until.IsZero() {
		q.span(since, until)
		q.where = append(q.where, "begun_at >= "+paramSince, "begun_at < "+paramUntil)
	}
	q.and(`delivery_id IN
    (
        SELECT delivery_id FROM deliveries WHERE inserted_at >= {changed:DateTime64(3, 'UTC')}
        UNION DISTINCT
        SELECT delivery_id FROM attempts WHERE inserted_at >= {changed:DateTime64(3, 'UTC')}
    )`, "changed", f.from.Add(-overlap))
	columns := statusColumns
	if filter.Payload {
		columns += ", payload"
	}
	var all []DeliveryStatus
	sql := "SELECT " + columns + "\nFROM " + view + q.String() + "\nORDER BY begun_at, delivery_id, run"
	if err := f.ledger.ask(ctx, "changed deliveries", &all, sql, q.args); err != nil {
		return nil, err
	}
	news := []DeliveryStatus{}
	told := make(map[followed]string, len(all))
	for i := range all {
		d := &all[i]
		key := followed{d.DeliveryID, d.Run}
		next := ""
		if d.NextAt != nil {
			next = d.NextAt.String()
		}
		told[key] = fmt.Sprint(d.State, d.Attempts, d.Reason, next)
		if f.told[key] != told[key] {
			news = append(news, *d)
		}
	}
	f.from, f.told = now, told
	return news, nil
}
