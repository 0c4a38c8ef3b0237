package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

func (s *server) registerResend() {
	register(s, huma.Operation{
		OperationID: "resendDelivery", Method: http.MethodPost, Path: deliveryPath + "/resend", Tags: []string{"deliveries"},
		Summary:       "Send a delivery again",
		Description:   "A new run of the delivery, whatever became of the earlier ones, with the same body and delivery ID and a schedule of its own. Where the ledger no longer keeps the body, it is built again from the event.",
		DefaultStatus: http.StatusAccepted,
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone,
			http.StatusUnprocessableEntity, http.StatusServiceUnavailable),
	}, s.resendDelivery)
}

type resendInput struct {
	DeliveryParam
	IdempotencyParam
}

func (s *server) resendDelivery(ctx context.Context, in *resendInput) (*sentOutput, error) {
	if err := s.needLine(); err != nil {
		return nil, err
	}
	old, err := s.findDelivery(ctx, in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	ep, err := s.liveEndpoint(in.Tenant, old.EndpointID)
	if err != nil {
		return nil, err
	}
	d := &webhook.Delivery{
		ID: old.ID, Origin: webhook.OriginResend, Tenant: in.Tenant, EndpointID: ep.ID,
		EventID: old.EventID, EventSource: old.EventSource, EventType: old.EventType,
		Contract: old.Contract, ContentType: old.ContentType, Traceparent: old.Traceparent,
	}
	if old.Source != nil {
		d.Source = webhook.Position{Topic: old.Source.Topic, Partition: old.Source.Partition, Offset: old.Source.Offset}
	}
	if d.Body, err = s.bodyAgain(ctx, ep, old, d); err != nil {
		return nil, err
	}
	at, repeated, err := s.request(ctx, note{Tenant: in.Tenant, Kind: "delivery", ID: old.ID}, in.IdempotencyKey, nil)
	if err != nil {
		return nil, err
	}
	d.Run, d.BegunAt, d.MatchedAt = at.UnixMilli(), at, at
	for i := range old.Runs {
		if repeated && old.Runs[i].Run == d.Run {
			return s.sentOf(ep, d), nil
		}
	}
	if err := s.put(ctx, d); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "delivery sent again", "tenant", in.Tenant, "endpoint", ep.ID, "delivery", d.ID, "run", d.Run)
	return s.sentOf(ep, d), nil
}

// bodyAgain returns the body that the ledger has, or builds it from the event,
// and then sets in d what follows from that.
func (s *server) bodyAgain(ctx context.Context, ep *webhook.Endpoint, old *DeliveryDetail, d *webhook.Delivery) ([]byte, error) {
	if old.Payload != nil && old.Contract != "" {
		if old.PayloadEncoding == encodingBase64 {
			return base64.StdEncoding.DecodeString(*old.Payload)
		}
		return []byte(*old.Payload), nil
	}
	e, err := s.cfg.Line.Event(ctx, d.Tenant, old)
	if errors.Is(err, ErrEventGone) {
		return nil, newProblem(http.StatusGone, "The ledger no longer keeps this delivery's body, and its event is no longer on its topic.")
	}
	if err != nil {
		s.log.WarnContext(ctx, "reading an event again", "delivery", old.ID, "error", err)
		return nil, tryAgain("5", "The event could not be read again now.")
	}
	body, contentType, err := s.cfg.Line.Body(ep.Contract, e)
	if err != nil {
		return nil, newProblem(http.StatusConflict, "Contract %s makes no body of this event: %s", ep.Contract, err)
	}
	d.Contract, d.ContentType, d.Traceparent, d.Tracestate = ep.Contract, contentType, e.Traceparent, e.Tracestate
	return body, nil
}
