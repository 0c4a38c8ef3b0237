package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	eventTypesPath = "/v1/event-types"
	eventTypePath  = eventTypesPath + "/{name}"

	// kindEventType is the registry's kind of event types.
	kindEventType = "event_type"
	maxExamples   = 10
)

var eventTypes = resource[webhook.EventType, *webhook.EventType]{kindEventType, "event type", func(*webhook.EventType) string { return "" }}

// EventType is an entry of the catalogue.
type EventType struct {
	_           struct{}          `additionalProperties:"true"`
	Name        string            `json:"name" example:"order.created"`
	Description string            `json:"description"`
	Schema      json.RawMessage   `json:"schema,omitempty" doc:"A JSON Schema of the event's data"`
	Examples    []json.RawMessage `json:"examples" doc:"Samples of the event's data"`
	Deprecated  bool              `json:"deprecated" doc:"It still happens, and will not for ever"`
	Archived    bool              `json:"archived" doc:"It doesn't happen any more"`
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
	Version     int64             `json:"version" doc:"Counts changes from 1; the ETag is this number in quotes"`
}

// EventTypeCreate is the body of a create.
type EventTypeCreate struct {
	Name        string            `json:"name" maxLength:"255" example:"order.created"`
	Description string            `json:"description,omitempty" maxLength:"1000"`
	Schema      json.RawMessage   `json:"schema,omitempty" doc:"A JSON Schema (2020-12 unless its $schema names another draft) of the event's data, whole in itself"`
	Examples    []json.RawMessage `json:"examples,omitempty" maxItems:"10" doc:"Samples of the event's data, each of which meets the schema"`
	Deprecated  bool              `json:"deprecated,omitempty"`
	Archived    bool              `json:"archived,omitempty"`
}

// EventTypePatch is the body of an update, a JSON Merge Patch (RFC 7396) but
// for the schema and the examples, which are replaced as a whole.
type EventTypePatch struct {
	Description Member[string]            `json:"description,omitzero" maxLength:"1000"`
	Schema      Member[json.RawMessage]   `json:"schema,omitzero" doc:"Replaces the whole schema; null removes it"`
	Examples    Member[[]json.RawMessage] `json:"examples,omitzero" doc:"Replaces the whole list"`
	Deprecated  Member[bool]              `json:"deprecated,omitzero"`
	Archived    Member[bool]              `json:"archived,omitzero"`
}

// EventTypeParam is the path of an event type.
type EventTypeParam struct {
	Name string `path:"name" maxLength:"255" doc:"The type's name, percent-encoded" example:"order.created"`
}

type eventTypeOutput struct {
	ETag string `header:"ETag" doc:"The version in quotes"`
	Body EventType
}

func viewOfEventType(t *webhook.EventType) EventType {
	v := EventType{Name: t.Name, Description: t.Description, Schema: t.Schema, Examples: t.Examples, Deprecated: t.Deprecated,
		Archived: t.Archived, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Version: t.Version}
	if v.Examples == nil {
		v.Examples = []json.RawMessage{}
	}
	return v
}

func (s *server) registerEventTypes() {
	const tag = "event types"
	admin, all := map[string]any{metaAccess: accessAdmin}, map[string]any{metaAccess: accessAll}
	register(s, huma.Operation{
		OperationID: "createEventType", Method: http.MethodPost, Path: eventTypesPath, Tags: []string{tag}, Metadata: admin,
		Summary:       "Add an event type to the catalogue",
		Description:   "The catalogue says what there is to subscribe to. Matching doesn't ask it: endpoints may subscribe to what isn't in it.",
		DefaultStatus: http.StatusCreated,
		Responses:     s.responses(map[int]any{http.StatusOK: EventType{}}, http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity),
	}, s.createEventType)
	register(s, huma.Operation{
		OperationID: "listEventTypes", Method: http.MethodGet, Path: eventTypesPath, Tags: []string{tag}, Metadata: all,
		Summary: "List the catalogue", Description: "In the order of the names.",
		Responses: s.responses(nil, http.StatusBadRequest),
	}, s.listEventTypes)
	register(s, huma.Operation{
		OperationID: "getEventType", Method: http.MethodGet, Path: eventTypePath, Tags: []string{tag}, Metadata: all,
		Summary: "Read an event type", Responses: s.responses(nil, http.StatusNotFound),
	}, s.getEventType)
	register(s, huma.Operation{
		OperationID: "updateEventType", Method: http.MethodPatch, Path: eventTypePath, Tags: []string{tag}, Metadata: admin,
		Summary:     "Change an event type",
		Description: "The body is a JSON Merge Patch (RFC 7396); schema and examples are replaced as a whole.",
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{
			"application/merge-patch+json": {Schema: s.schemaOf(EventTypePatch{})},
		}},
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed),
	}, s.updateEventType)
	register(s, huma.Operation{
		OperationID: "deleteEventType", Method: http.MethodDelete, Path: eventTypePath, Tags: []string{tag}, Metadata: admin,
		Summary: "Remove an event type from the catalogue", Description: "Subscriptions stay as they are.",
		Responses: s.responses(nil, http.StatusNotFound, http.StatusPreconditionFailed),
	}, s.deleteEventType)
}

type createEventTypeInput struct {
	IdempotencyParam
	Body EventTypeCreate
}

type createEventTypeOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the event type is read"`
	ETag     string `header:"ETag" doc:"The version in quotes"`
	Body     EventType
}

func (s *server) createEventType(ctx context.Context, in *createEventTypeInput) (*createEventTypeOutput, error) {
	b := &in.Body
	t := &webhook.EventType{Name: b.Name, Description: b.Description, Schema: given(b.Schema), Examples: b.Examples,
		Deprecated: b.Deprecated, Archived: b.Archived}
	if errs := append(s.checkEventTypeName(t.Name), checkEventType(t)...); len(errs) > 0 {
		return nil, invalid(errs...)
	}
	made, repeated, err := eventTypes.create(ctx, s, t.Name, in.IdempotencyKey, t, b)
	if err != nil {
		return nil, err
	}
	out := &createEventTypeOutput{Status: http.StatusCreated, ETag: etag(made.Version), Body: viewOfEventType(made),
		Location: strings.ReplaceAll(eventTypePath, "{name}", url.PathEscape(made.Name))}
	if repeated {
		out.Status = http.StatusOK
	} else {
		s.log.InfoContext(ctx, "event type created", "event_type", made.Name)
	}
	return out, nil
}

// given takes null for nothing.
func given(v json.RawMessage) json.RawMessage {
	if string(v) == "null" {
		return nil
	}
	return v
}

// checkEventTypeName asks the rules of patterns: a name is one that matches
// nothing but itself.
func (s *server) checkEventTypeName(name string) (errs []FieldError) {
	if strings.ContainsAny(name, "*{}") {
		return []FieldError{{"name", "it is a pattern; a type has neither * nor {}"}}
	}
	for _, e := range s.cfg.CheckEndpoint(&webhook.Endpoint{Events: []string{name}}) {
		if strings.HasPrefix(e.Field, "events") {
			errs = append(errs, FieldError{"name", e.Problem})
		}
	}
	return errs
}

func checkEventType(t *webhook.EventType) []FieldError {
	errs := checkText("description", t.Description)
	if len(t.Examples) > maxExamples {
		return append(errs, FieldError{"examples", fmt.Sprintf("there are %d, at most %d are kept", len(t.Examples), maxExamples)})
	}
	return append(errs, checkSchema(t.Schema, t.Examples)...)
}

type listEventTypesInput struct {
	PageParams
	Archived string `query:"archived" enum:"true,false" doc:"Only those that are archived, or that are not"`
}

func (s *server) listEventTypes(ctx context.Context, in *listEventTypesInput) (*pageOutput[EventType], error) {
	return paginate(ctx, in.PageParams, func(after string) iter.Seq2[string, *webhook.EventType] {
		return eventTypes.table.all(s.cfg.Records, "", after)
	}, func(t *webhook.EventType) bool {
		return in.Archived == "" || t.Archived == (in.Archived == "true")
	}, viewOfEventType)
}

func (s *server) getEventType(_ context.Context, in *EventTypeParam) (*eventTypeOutput, error) {
	t, ok := eventTypes.table.get(s.cfg.Records, in.Name)
	if !ok {
		return nil, eventTypes.missing(in.Name)
	}
	return &eventTypeOutput{ETag: etag(t.Version), Body: viewOfEventType(t)}, nil
}

type updateEventTypeInput struct {
	EventTypeParam
	IfMatchParam
	Body EventTypePatch
}

func (s *server) updateEventType(ctx context.Context, in *updateEventTypeInput) (*eventTypeOutput, error) {
	p := &in.Body
	t, err := eventTypes.patch(ctx, s, in.Name, in.IfMatch, func(t *webhook.EventType) []FieldError {
		replace(&t.Description, p.Description)
		replace(&t.Schema, p.Schema)
		t.Schema = given(t.Schema)
		replace(&t.Examples, p.Examples)
		replace(&t.Deprecated, p.Deprecated)
		replace(&t.Archived, p.Archived)
		return checkEventType(t)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "event type updated", "event_type", t.Name, "version", t.Version)
	return &eventTypeOutput{ETag: etag(t.Version), Body: viewOfEventType(t)}, nil
}

type deleteEventTypeInput struct {
	EventTypeParam
	IfMatchParam
}

func (s *server) deleteEventType(ctx context.Context, in *deleteEventTypeInput) (*struct{}, error) {
	if err := eventTypes.delete(ctx, s, in.Name, in.IfMatch, nil); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "event type deleted", "event_type", in.Name)
	return nil, nil
}
