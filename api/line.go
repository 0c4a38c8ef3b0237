package api

import (
	"context"
	"errors"
	"net/http"

	"posthorn/webhook"
)

// Errors of a [Line].
var (
	// ErrEventGone means that an event can't be read again: it is no longer on
	// its topic, or what lies there is another.
	ErrEventGone = errors.New("the event is gone")
	// ErrTooLarge means that a body is larger than the line takes.
	ErrTooLarge = errors.New("the body is too large")
)

// Line puts deliveries on the line. Safe for concurrent use.
type Line interface {
	// Body builds what is POSTed of an event under a contract. Its error says
	// what the event lacks, and may be shown.
	Body(contract string, e *webhook.Event) (body []byte, contentType string, err error)
	// Event reads the event that a tenant's delivery was made of, from where it lies.
	// It is never another tenant's.
	Event(ctx context.Context, tenant string, d *DeliveryDetail) (*webhook.Event, error)
	// Put puts a run of a delivery on the line, and returns when Kafka has it.
	// The registry's version and the body's ID are filled in. When its context
	// ends earlier, the delivery may be on the line all the same.
	Put(ctx context.Context, d *webhook.Delivery) error
	// DryRun counts the events that would match.
	DryRun(ctx context.Context, r DryRunQuery) (*DryRun, error)
}

// liveEndpoint returns an endpoint that something can be delivered to now.
func (s *server) liveEndpoint(tenant, id string) (*webhook.Endpoint, error) {
	ep, err := endpointOf(s.cfg.Endpoints, tenant, id)
	if err != nil {
		return nil, err
	}
	if ep.Disabled {
		return nil, newProblem(http.StatusConflict, "The endpoint %s is disabled: what is sent to it would be discarded. Enable it first.", id)
	}
	if t, ok := tenants.table.get(s.cfg.Records, tenant); ok && t.Suspended {
		return nil, newProblem(http.StatusConflict, "The tenant is suspended: what is sent to its endpoints would be discarded.")
	}
	return ep, nil
}

// paused reports whether what is sent to an endpoint now waits.
func (s *server) paused(ep *webhook.Endpoint) bool {
	for _, id := range [...]string{webhook.PauseAll, webhook.PauseTenant + ep.Tenant} {
		if _, ok := s.cfg.Records.Raw(webhook.KindPause, id); ok {
			return true
		}
	}
	return ep.Paused
}

// put puts a delivery on the line; its errors are Problems.
func (s *server) put(ctx context.Context, d *webhook.Delivery) error {
	err := s.cfg.Line.Put(ctx, d)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrTooLarge):
		return newProblem(http.StatusConflict, "The body has %d bytes, which is more than the line takes.", len(d.Body))
	}
	s.log.WarnContext(ctx, "putting a delivery on the line", "delivery", d.ID, "error", err)
	return tryAgain("1", "Kafka did not take the delivery in time. It may be on its way all the same: repeat the request with an Idempotency-Key.")
}
