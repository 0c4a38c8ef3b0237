package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
)

// Principal is who makes a request.
type Principal struct {
	// ID is the API key's, "config-<n>" for the nth key of the configuration, or
	// [Anonymous].
	ID string
	// Tenant that the key is bound to; empty for an administrator's.
	Tenant string
	// ReadOnly keys change nothing.
	ReadOnly bool
}

// Anonymous is the ID of whoever calls an API that asks for no key.
const Anonymous = "anonymous"

// configKeyID names the nth key of the configuration, from 0.
func configKeyID(n int) string { return "config-" + strconv.Itoa(n) }

type contextKey int

const (
	principalKey contextKey = iota
	operationKey
)

func withPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey, p)
}

// principalOf returns who makes the request of a context.
func principalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey).(Principal)
	return p
}

// operationOf returns the ID of the operation that a context belongs to.
func operationOf(ctx context.Context) string {
	op, _ := ctx.Value(operationKey).(string)
	return op
}

// credential returns the key that a request shows, "" without one: in
// Authorization: Bearer or in X-Auth-Token.
func credential(h http.Header) (key string, problem *Problem) {
	var found []string
	for _, value := range h.Values("Authorization") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", unauthorized("Authorization must be of the form: Bearer ph_…")
		}
		found = append(found, strings.TrimSpace(rest))
	}
	for _, value := range h.Values("X-Auth-Token") {
		found = append(found, strings.TrimSpace(value))
	}
	switch {
	case len(found) == 0:
		return "", nil
	case len(found) > 1:
		return "", unauthorized("The request shows several keys: give one, in Authorization or in X-Auth-Token.")
	case found[0] == "":
		return "", unauthorized("The key is empty.")
	}
	return found[0], nil
}

// authenticate finds out who makes a request. The answer to a key that isn't
// accepted never says why: it may be unknown, expired or wrong.
func (s *server) authenticate(h http.Header) (Principal, *Problem) {
	key, problem := credential(h)
	switch {
	case problem != nil:
		return Principal{}, problem
	case key == "" && s.cfg.AuthRequired:
		return Principal{}, unauthorized("This API asks for a key: send Authorization: Bearer ph_…, or X-Auth-Token.")
	case key == "":
		return Principal{ID: Anonymous}, nil
	}
	if p, ok := s.principal(key); ok {
		return p, nil
	}
	return Principal{}, unauthorized("The key is not valid: unknown, revoked or expired.")
}

func unauthorized(detail string) *Problem {
	p := newProblem(http.StatusUnauthorized, "%s", detail)
	p.header = http.Header{"WWW-Authenticate": {`Bearer realm="posthorn"`}}
	return p
}
