package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	deliveriesPath = "/v1/tenants/{tenant}/deliveries"
	deliveryPath   = deliveriesPath + "/{id}"
)

// DeliveryParam is the path of a delivery.
type DeliveryParam struct {
	TenantParam
	ID string `path:"id" maxLength:"64" doc:"The delivery's ID" example:"dlv_mod5qzbbwmhddwd55ps7pcm7ka"`
}

// ledgerCursor is the ledger's own cursor in a page's.
func ledgerCursor(p PageParams) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return "", ErrBadCursor
	}
	return string(text), nil
}

func pageCursor(next string) string { return base64.RawURLEncoding.EncodeToString([]byte(next)) }

func (s *server) registerDeliveries() {
	const tag = "deliveries"
	s.huma.OpenAPI().Tags = append(s.huma.OpenAPI().Tags, &huma.Tag{Name: tag, Description: "What became of a tenant's events, from the ledger in ClickHouse. It is some seconds behind the line; without ClickHouse these answer 503"})
	register(s, huma.Operation{
		OperationID: "listDeliveries", Method: http.MethodGet, Path: deliveriesPath, Tags: []string{tag},
		Summary:     "List or search deliveries",
		Description: "Newest first by begun_at, one entry for each run. Pages don't shift when deliveries are added. Without since or event all days that the ledger keeps are read: name a time where you can.",
		Responses:   s.responses(nil, http.StatusBadRequest, http.StatusServiceUnavailable),
	}, s.listDeliveries)
	register(s, huma.Operation{
		OperationID: "getDelivery", Method: http.MethodGet, Path: deliveryPath, Tags: []string{tag},
		Summary:   "Read a delivery with its payload and the attempts of every run",
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	}, s.getDelivery)
	register(s, huma.Operation{
		OperationID: "listAttempts", Method: http.MethodGet, Path: deliveryPath + "/attempts", Tags: []string{tag},
		Summary:     "List what came of every handling of a delivery",
		Description: "Newest first, over all runs.",
		Responses:   s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	}, s.listAttempts)
}

type listDeliveriesInput struct {
	TenantParam
	PageParams
	Endpoint string    `query:"endpoint" maxLength:"64" doc:"Only those to this endpoint"`
	Type     string    `query:"type" maxLength:"255" doc:"Only those of this event type"`
	Event    string    `query:"event" maxLength:"1024" doc:"Only those of the event with this ID"`
	State    string    `query:"state" enum:"delivered,dead,discarded,pending" doc:"Only those in this state"`
	Since    time.Time `query:"since" doc:"Begun at this time or later" example:"2026-03-02T14:00:00Z"`
	Until    time.Time `query:"until" doc:"Begun before this time"`
}

func (s *server) listDeliveries(ctx context.Context, in *listDeliveriesInput) (*pageOutput[Delivery], error) {
	if err := s.needLedger(); err != nil {
		return nil, err
	}
	if errs := checkSpan("query.", in.Since, in.Until); errs != nil {
		return nil, invalid(errs...)
	}
	after, err := ledgerCursor(in.PageParams)
	if err != nil {
		return nil, s.ledgerProblem(ctx, err)
	}
	page, next, err := s.cfg.Ledger.Deliveries(ctx, in.Tenant, DeliveryFilter{
		EndpointID: in.Endpoint, EventType: in.Type, EventID: in.Event, State: in.State,
		Since: in.Since, Until: in.Until, Limit: in.Limit, After: after,
	})
	if err != nil {
		return nil, s.ledgerProblem(ctx, err)
	}
	return &pageOutput[Delivery]{Body: Page[Delivery]{Items: page, Next: pageCursor(next)}}, nil
}

// checkSpan reports a time that ends before it begins, and times that neither
// Kafka's timestamps nor RFC 3339 can tell. where is in front of the fields' names.
func checkSpan(where string, since, until time.Time) (errs []FieldError) {
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		errs = append(errs, FieldError{where + "until", "it must be later than since"})
	}
	for field, at := range map[string]time.Time{"since": since, "until": until} {
		if !at.IsZero() && (at.Unix() < 0 || at.UTC().Year() > maxYear) {
			errs = append(errs, FieldError{where + field, fmt.Sprintf("it must lie in the years from 1970 to %d", maxYear)})
		}
	}
	return errs
}

// maxYear is the last one that RFC 3339 has room for.
const maxYear = 9999

type deliveryOutput struct{ Body DeliveryDetail }

func (s *server) getDelivery(ctx context.Context, in *DeliveryParam) (*deliveryOutput, error) {
	d, err := s.findDelivery(ctx, in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	return &deliveryOutput{Body: *d}, nil
}

// findDelivery looks a delivery up; its errors are Problems.
func (s *server) findDelivery(ctx context.Context, tenant, id string) (*DeliveryDetail, error) {
	if err := s.needLedger(); err != nil {
		return nil, err
	}
	d, err := s.cfg.Ledger.Delivery(ctx, tenant, id)
	if err != nil {
		return nil, s.ledgerProblem(ctx, err)
	}
	return d, nil
}

type listAttemptsInput struct {
	DeliveryParam
	PageParams
}

func (s *server) listAttempts(ctx context.Context, in *listAttemptsInput) (*pageOutput[Attempt], error) {
	if err := s.needLedger(); err != nil {
		return nil, err
	}
	after, err := ledgerCursor(in.PageParams)
	if err != nil {
		return nil, s.ledgerProblem(ctx, err)
	}
	page, next, err := s.cfg.Ledger.Attempts(ctx, in.Tenant, in.ID, after, in.Limit)
	if err != nil {
		return nil, s.ledgerProblem(ctx, err)
	}
	return &pageOutput[Attempt]{Body: Page[Attempt]{Items: page, Next: pageCursor(next)}}, nil
}
