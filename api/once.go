package api

import (
	"context"
	"net/http"
	"time"

	"posthorn/webhook"
)

// A request that leaves no record of its own (a test event, a resend) and has an
// Idempotency-Key is remembered for a day, by the time of its first try: what is
// derived from that is the same however often it is repeated, and a repeat on the
// line is dropped.

// KindOnce is the kind of those records; their IDs are "tenant/…".
const KindOnce = "once"

const (
	onceFor = 24 * time.Hour
	// onceSwept is how many ended ones of the tenant go with each that comes.
	onceSwept = 20
)

type onceRecord struct {
	At        time.Time `json:"at"`
	ExpiresAt time.Time `json:"expires_at"`
	Operation string    `json:"operation"`
	webhook.RecordMeta
}

const once = table[onceRecord, *onceRecord](KindOnce)

// request notes a request in the audit log, and returns the time of its first
// try, to the millisecond. body is what two requests with one key must have in
// common.
func (s *server) request(ctx context.Context, n note, key string, body any) (at time.Time, repeated bool, err error) {
	if p := idempotencyKeyProblem(key); p != "" {
		return at, false, invalid(FieldError{"header.Idempotency-Key", p})
	}
	r := &onceRecord{Operation: operationOf(ctx)}
	if err := s.onceOf(&r.RecordMeta, KindOnce+" "+n.Tenant, key, []any{r.Operation, n.ID, body}); err != nil {
		return at, false, err
	}
	id := n.Tenant + "/" + r.Once
	err = s.update(ctx, func(tx Tx) (*note, error) {
		at, repeated = tx.Now().Truncate(time.Millisecond), false
		if key == "" {
			return &n, nil
		}
		if old, ok := once.get(tx, id); ok && tx.Now().Before(old.ExpiresAt) {
			if old.Request != r.Request {
				return nil, keyReused()
			}
			at, repeated = old.At, true
			return nil, nil
		}
		if err := sweepOnce(tx, n.Tenant); err != nil {
			return nil, err
		}
		r.At, r.ExpiresAt = at, at.Add(onceFor)
		return &n, once.put(tx, id, r)
	})
	return at.UTC(), repeated, err
}

// sweepOnce removes some of a tenant's records whose day is over.
func sweepOnce(tx Tx, tenant string) error {
	var ended []string
	for id, r := range once.all(tx, tenant+"/", "") {
		if !tx.Now().Before(r.ExpiresAt) {
			ended = append(ended, id)
		}
		if len(ended) == onceSwept {
			break
		}
	}
	for _, id := range ended {
		if err := once.delete(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// onTheLine reports whether a run of a delivery is in the ledger already: then a
// request that is repeated has nothing left to do. Without a ledger nobody knows,
// and what is put on the line again is dropped there within its window.
func (s *server) onTheLine(ctx context.Context, tenant, id string, run int64) bool {
	if s.cfg.Ledger == nil {
		return false
	}
	d, err := s.cfg.Ledger.Delivery(ctx, tenant, id)
	if err != nil {
		return false
	}
	for i := range d.Runs {
		if d.Runs[i].Run == run {
			return true
		}
	}
	return false
}

// needLine says that this process puts nothing on the line, if that is so.
func (s *server) needLine() error {
	if s.cfg.Line == nil {
		return newProblem(http.StatusServiceUnavailable, "This process puts no deliveries on the line.")
	}
	return nil
}
