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
	// maxOnce is about how many of them a tenant may have: every process holds them
	// in memory, some 500 bytes each.
	maxOnce = 50_000
	// onceLooked is how many of the tenant's are looked at with each that comes, and
	// removed where their day is over. So no more than one in so many of those that
	// there are is an ended one, in the long run.
	onceLooked = 40
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
		if err := sweepOnce(tx, n.Tenant, id); err != nil {
			return nil, err
		}
		r.At, r.ExpiresAt = at, at.Add(onceFor)
		return &n, once.put(tx, id, r)
	})
	return at.UTC(), repeated, err
}

// sweepOnce looks at the tenant's records that follow a new one, and on from the
// first behind the last. It removes those whose day is over, and refuses the new one
// if the tenant has too many. How many there are it tells from how close together
// they lie: IDs are HMACs, so they are spread evenly, and wherever a new one falls is
// a fair sample, within a sixth or so. To count them would take the longer the more
// there are, under the lock that all tenants share.
func sweepOnce(tx Tx, tenant, id string) error {
	prefix := tenant + "/"
	var ended []string
	last, looked, live := "", 0, 0
	look := func(after, until string) {
		for at, r := range once.all(tx, prefix, after) {
			if looked == onceLooked || until != "" && at >= until {
				return
			}
			last, looked = at, looked+1
			if tx.Now().Before(r.ExpiresAt) {
				live++
			} else {
				ended = append(ended, at)
			}
		}
	}
	look(id, "")
	look("", id)
	if looked == onceLooked {
		span := placeOf(last[len(prefix):]) - placeOf(id[len(prefix):])
		if span <= 0 {
			span++
		}
		if float64(live)/span > maxOnce {
			return tooManyOnce(tenant)
		}
	}
	for _, id := range ended {
		if err := once.delete(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// placeOf returns where among all derived IDs one lies, from 0 to 1, in the order of
// their bytes: the digits of idEncoding come before its letters there.
func placeOf(derived string) (place float64) {
	scale := 1.0
	for _, c := range []byte(derived[:min(len(derived), 10)]) { // 50 bits
		scale /= 32
		if c >= 'a' {
			place += float64(c-'a'+6) * scale
		} else {
			place += float64(c-'2') * scale
		}
	}
	return place
}

func tooManyOnce(tenant string) error {
	p := newProblem(http.StatusTooManyRequests, "Tenant %q has made about %d requests of this kind with an Idempotency-Key within a day, which is the most. Make it without one, or later; many deliveries are sent again by one replay.", tenant, maxOnce)
	p.Type, p.Title = TypeLimitReached, "Limit of remembered requests reached"
	p.header = http.Header{"Retry-After": {"3600"}}
	return p
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
