package api

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Errors of a [Ledger].
var (
	// ErrBadCursor means that a cursor was not given out by the ledger.
	ErrBadCursor = errors.New("bad cursor")
	// ErrNotFound means that the ledger has no such delivery of the tenant. It
	// may not have it yet: it is some seconds behind.
	ErrNotFound = errors.New("not found")
)

// Ledger answers what became of deliveries. Every question is about one tenant.
// Safe for concurrent use. Its errors but those above are told as 503: the
// ledger is a database that may be away, and nothing else depends on it.
type Ledger interface {
	// Deliveries returns a page, newest first by begun_at, and the cursor of
	// the next, "" at the end.
	Deliveries(ctx context.Context, tenant string, f DeliveryFilter) (page []Delivery, next string, err error)
	// Delivery returns one with everything there is to say of it.
	Delivery(ctx context.Context, tenant, id string) (*DeliveryDetail, error)
	// Attempts returns a page of what came of every handling of a delivery,
	// newest first.
	Attempts(ctx context.Context, tenant, id, after string, limit int) (page []Attempt, next string, err error)
	// Run counts the deliveries to an endpoint of one run by how they stand.
	Run(ctx context.Context, tenant, endpoint string, run int64) (*ReplayDeliveries, error)
	// Backlog returns what waits for an endpoint.
	Backlog(ctx context.Context, tenant, endpoint string) (*Backlog, error)
}

// DeliveryFilter says which deliveries; what is zero doesn't matter.
type DeliveryFilter struct {
	EndpointID, EventType, EventID, State string
	Since, Until                          time.Time // of begun_at
	Limit                                 int
	After                                 string // a cursor
}

const noLedger = "Deliveries are looked up in ClickHouse, and this process has none: clickhouse.addr isn't set."

// needLedger says that there is no ledger, if that is so.
func (s *server) needLedger() error {
	if s.cfg.Ledger == nil {
		return newProblem(http.StatusServiceUnavailable, noLedger)
	}
	return nil
}

// ledgerProblem turns an error of the ledger into a Problem.
func (s *server) ledgerProblem(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, ErrBadCursor):
		return invalid(FieldError{"query.cursor", "it is none: pass on the next of an earlier page as it is"})
	case errors.Is(err, ErrNotFound):
		return newProblem(http.StatusNotFound, "The tenant has no such delivery, or the ledger hasn't got it yet: it is some seconds behind.")
	}
	s.log.WarnContext(ctx, "asking the ledger", "error", err)
	return tryAgain("5", "The ledger (ClickHouse) did not answer. Deliveries go on without it.")
}

// tryAgain is what can't be had for the moment; seconds are those of Retry-After.
func tryAgain(seconds, detail string) *Problem {
	p := newProblem(http.StatusServiceUnavailable, "%s", detail)
	p.header = http.Header{"Retry-After": {seconds}}
	return p
}
