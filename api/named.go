package api

import (
	"context"
	"net/http"
)

// resource is how a kind of records that clients name themselves (tenants,
// event types) is created, changed and deleted.
type resource[T any, P recordOf[T]] struct {
	table table[T, P]
	noun  string
	// tenant returns whose the record is, for the audit log.
	tenant func(P) string
}

func (r resource[T, P]) missing(id string) *Problem {
	return newProblem(http.StatusNotFound, "There is no %s %.80q.", r.noun, id)
}

func (r resource[T, P]) note(id string, before, after P) *note {
	n := &note{Kind: string(r.table), ID: id}
	switch {
	case after == nil:
		n.Tenant = r.tenant(before)
	case before == nil:
		n.Tenant, n.Fields = r.tenant(after), changedFields(nil, after)
	default:
		n.Tenant, n.Fields = r.tenant(after), changedFields(before, after)
	}
	return n
}

// create writes a new record. A repeat of the request that made it, by its
// Idempotency-Key, is answered with the record as it is now.
func (r resource[T, P]) create(ctx context.Context, s *server, id, key string, v P, body any) (made P, repeated bool, err error) {
	if key != "" {
		if p := idempotencyKeyProblem(key); p != "" {
			return nil, false, invalid(FieldError{"header.Idempotency-Key", p})
		}
		if err := s.onceOf(v.Meta(), string(r.table), key, body); err != nil {
			return nil, false, err
		}
	}
	err = s.update(ctx, func(tx Tx) (*note, error) {
		made, repeated = v, false
		old, ok := r.table.get(tx, id)
		switch {
		case ok && key != "" && old.Meta().Once == v.Meta().Once && old.Meta().Request == v.Meta().Request:
			made, repeated = old, true
			return nil, nil
		case ok && key != "" && old.Meta().Once == v.Meta().Once:
			return nil, keyReused()
		case ok:
			return nil, newProblem(http.StatusConflict, "There is a %s %.80q already.", r.noun, id)
		case key != "":
			for _, other := range r.table.all(tx, "", "") {
				if other.Meta().Once == v.Meta().Once { // another name is another body
					return nil, keyReused()
				}
			}
		}
		return r.note(id, nil, v), r.table.put(tx, id, v)
	})
	return made, repeated, err
}

// patch changes a record; change returns what is wrong with what it was asked
// for. A patch that changes nothing leaves the version as it is.
func (r resource[T, P]) patch(ctx context.Context, s *server, id, ifMatch string, change func(P) []FieldError) (P, error) {
	expected, problem := parseIfMatch(ifMatch)
	if problem != nil {
		return nil, problem
	}
	var now P
	err := s.update(ctx, func(tx Tx) (*note, error) {
		old, ok := r.table.get(tx, id)
		if !ok {
			return nil, r.missing(id)
		}
		if err := expected.check(old.Meta().Version); err != nil {
			return nil, err
		}
		now, _ = r.table.get(tx, id) // a copy of its own
		if errs := change(now); len(errs) > 0 {
			return nil, invalid(errs...)
		}
		n := r.note(id, old, now)
		if len(n.Fields) == 0 {
			return nil, nil
		}
		return n, r.table.put(tx, id, now)
	})
	return now, err
}

// delete removes a record, unless allowed refuses it. What has to go with it
// is deleted there.
func (r resource[T, P]) delete(ctx context.Context, s *server, id, ifMatch string, allowed func(Tx) error) error {
	expected, problem := parseIfMatch(ifMatch)
	if problem != nil {
		return problem
	}
	return s.update(ctx, func(tx Tx) (*note, error) {
		old, ok := r.table.get(tx, id)
		if !ok {
			return nil, r.missing(id)
		}
		if err := expected.check(old.Meta().Version); err != nil {
			return nil, err
		}
		if allowed != nil {
			if err := allowed(tx); err != nil {
				return nil, err
			}
		}
		return r.note(id, old, nil), r.table.delete(tx, id)
	})
}
