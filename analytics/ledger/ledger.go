// Package ledger asks the ledger in ClickHouse what people want to know of it:
// where deliveries stand, which attempts were made, how endpoints are, and whether
// anything is missing. The tables and views are those of analytics/schema;
// docs/analytics.md describes them.
//
// What a caller gives is always bound as a parameter, never written into SQL. Times
// are UTC with milliseconds; a range is [since, until), and a zero end is open.
package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Limits of one answer.
const (
	DefaultLimit = 50
	MaxLimit     = 10_000
)

// Ledger asks. It is safe for concurrent use.
type Ledger struct{ conn driver.Conn }

// New asks over a connection whose database is the ledger's.
func New(conn driver.Conn) *Ledger { return &Ledger{conn} }

// Times that stand for open ends; ClickHouse can still add and take away an hour.
var (
	earliest = time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// question is a WHERE clause and its parameters.
type question struct {
	where []string
	args  []any
}

// bind adds a parameter.
func (q *question) bind(name string, value any) {
	if t, ok := value.(time.Time); ok {
		value = t.UTC().Format("2006-01-02 15:04:05.000")
	}
	q.args = append(q.args, clickhouse.Named(name, value))
}

// and adds a condition on a parameter of its own.
func (q *question) and(condition, name string, value any) {
	q.where = append(q.where, condition)
	q.bind(name, value)
}

// equal adds column = value where there is a value.
func (q *question) equal(column, value string) {
	if value != "" {
		q.and(column+" = {"+column+":String}", column, value)
	}
}

func (q *question) String() string {
	if len(q.where) == 0 {
		return ""
	}
	return "\nWHERE " + strings.Join(q.where, "\n    AND ")
}

// span binds since and until, with an open end far away.
func (q *question) span(since, until time.Time) {
	if since.Before(earliest) {
		since = earliest
	}
	if until.IsZero() || until.After(latest) {
		until = latest
	}
	q.bind("since", since)
	q.bind("until", until)
}

const (
	paramSince = "{since:DateTime64(3, 'UTC')}"
	paramUntil = "{until:DateTime64(3, 'UTC')}"
	// spanned are the arguments of a view NAME_between.
	spanned = "(since = " + paramSince + ", until = " + paramUntil + ")"
)

func limitOf(n int) (uint32, error) {
	switch {
	case n == 0:
		return DefaultLimit, nil
	case n < 0 || n > MaxLimit:
		return 0, fmt.Errorf("limit %d: want 1 to %d", n, MaxLimit)
	}
	return uint32(n), nil
}

func (l *Ledger) ask(ctx context.Context, what string, into any, sql string, args []any) error {
	if err := l.conn.Select(ctx, into, sql, args...); err != nil {
		return fmt.Errorf("asking for %s: %w", what, err)
	}
	return nil
}
