package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

// TestType is the type of a test event that names no other.
const TestType = "test"

// testSource is the CloudEvents source of test events: no producer's, so that
// none of their deliveries is another event's.
const testSource = "/posthorn/test"

// sample is the payload of a test event.
var sample = json.RawMessage(`{"message":"This is a test event."}`)

// TestRequest is the body of a test. It may be left out.
type TestRequest struct {
	EventType string `json:"event_type,omitempty" maxLength:"255" doc:"The type of the event; its payload is that type's example in the catalogue, if there is one" default:"test"`
}

// Sent is a delivery that was put on the line.
type Sent struct {
	_          struct{} `additionalProperties:"true"`
	DeliveryID string   `json:"delivery_id" example:"dlv_mod5qzbbwmhddwd55ps7pcm7ka"`
	Run        int64    `json:"run"`
	EndpointID string   `json:"endpoint_id"`
	EventID    string   `json:"event_id"`
	EventType  string   `json:"event_type"`
	Paused     bool     `json:"paused" doc:"It waits: the endpoint, its tenant or everything is paused"`
}

type sentOutput struct {
	Location string `header:"Location" doc:"Where its result is read, once the ledger has it"`
	Body     Sent
}

func (s *server) registerTest() {
	register(s, huma.Operation{
		OperationID: "testEndpoint", Method: http.MethodPost, Path: endpointPath + "/test", Tags: []string{"endpoints"},
		Summary:       "Send a test event to an endpoint",
		Description:   "It goes to this endpoint whatever that is subscribed to, and through everything that another event goes through: contract, signature, retries. Its result is read by polling the delivery; until the ledger has it, some seconds, that is a 404.",
		DefaultStatus: http.StatusAccepted,
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict,
			http.StatusUnprocessableEntity, http.StatusServiceUnavailable),
	}, s.testEndpoint)
}

type testInput struct {
	EndpointParam
	IdempotencyParam
	Body *TestRequest
}

func (s *server) testEndpoint(ctx context.Context, in *testInput) (*sentOutput, error) {
	if err := s.needLine(); err != nil {
		return nil, err
	}
	ep, err := s.liveEndpoint(in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	e := &webhook.Event{Source: testSource, Type: TestType, Tenant: in.Tenant, ContentType: "application/json", Data: sample}
	if in.Body != nil && in.Body.EventType != "" {
		e.Type = in.Body.EventType
		if errs := checkText("event_type", e.Type); errs != nil {
			return nil, invalid(errs...)
		}
		if data, ok := s.example(e.Type); ok {
			e.Data = data
		}
	}
	// Before the request is noted: what can't be built isn't sent. Contracts ask
	// for an ID and a time too; which ones, the request says below.
	e.ID, e.Time = "test_", time.Now()
	if _, _, err := s.cfg.Line.Body(ep.Contract, e); err != nil {
		return nil, newProblem(http.StatusConflict, "Contract %s makes no body of this event: %s", ep.Contract, err)
	}
	at, repeated, err := s.request(ctx, note{Tenant: in.Tenant, Kind: "endpoint", ID: ep.ID}, in.IdempotencyKey, e.Type)
	if err != nil {
		return nil, err
	}
	e.ID = "test_" + rand.Text()
	if in.IdempotencyKey != "" {
		e.ID = "test_" + s.derive("test", in.Tenant, ep.ID, in.IdempotencyKey, at.Format(time.RFC3339Nano))
	}
	e.Time, e.Timestamp = at, at
	body, contentType, err := s.cfg.Line.Body(ep.Contract, e)
	if err != nil {
		return nil, err
	}
	d := &webhook.Delivery{
		ID: webhook.DeliveryID(e.Source, e.ID, ep.ID), Origin: webhook.OriginTest, Tenant: in.Tenant, EndpointID: ep.ID,
		EventID: e.ID, EventSource: e.Source, EventType: e.Type, Contract: ep.Contract, ContentType: contentType,
		BegunAt: at, MatchedAt: at, Body: body,
	}
	if !repeated || !s.onTheLine(ctx, in.Tenant, d.ID, d.Run) {
		if err := s.put(ctx, d); err != nil {
			return nil, err
		}
		s.log.InfoContext(ctx, "test event sent", "tenant", in.Tenant, "endpoint", ep.ID, "delivery", d.ID)
	}
	return s.sentOf(ep, d), nil
}

// example returns the payload that the catalogue has for an event type.
func (s *server) example(eventType string) (json.RawMessage, bool) {
	t, ok := eventTypes.table.get(s.cfg.Records, eventType)
	if !ok || len(t.Examples) == 0 {
		return nil, false
	}
	return t.Examples[0], true
}

func (s *server) sentOf(ep *webhook.Endpoint, d *webhook.Delivery) *sentOutput {
	return &sentOutput{
		Location: "/v1/tenants/" + url.PathEscape(d.Tenant) + "/deliveries/" + d.ID,
		Body:     Sent{DeliveryID: d.ID, Run: d.Run, EndpointID: d.EndpointID, EventID: d.EventID, EventType: d.EventType, Paused: s.paused(ep)},
	}
}
