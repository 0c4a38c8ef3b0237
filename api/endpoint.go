package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

// DefaultContract is the contract of endpoints that name none.
const DefaultContract = "standard"

// Endpoint is a receiver as clients see it: without its secrets.
type Endpoint struct {
	_             struct{}          `additionalProperties:"true"` // clients ignore what they do not know
	ID            string            `json:"id" example:"ep_aguhqyl7kjzdrgvlq5xwlkaw2i"`
	Tenant        string            `json:"tenant" example:"acme"`
	URL           string            `json:"url" example:"https://hooks.example.com/posthorn"`
	Description   string            `json:"description"`
	Events        []string          `json:"events" doc:"Subscribed event type patterns; none means every type"`
	Filter        string            `json:"filter,omitempty" doc:"A CEL expression that an event of a subscribed type has to meet as well"`
	FilterTrouble *FilterTrouble    `json:"filter_trouble,omitempty" doc:"When the filter last could not decide, which leaves an event out; absent if it could within the last day"`
	Contract      string            `json:"contract" doc:"How a delivery looks on the wire"`
	Headers       map[string]string `json:"headers" doc:"Sent with every POST besides the contract's own"`
	Disabled      bool              `json:"disabled" doc:"Nothing is matched, and nothing is POSTed"`
	OnDisable     string            `json:"on_disable" enum:"discard,park" doc:"What becomes of what is queued when it is disabled: it is discarded, or it waits"`
	Paused        bool              `json:"paused" doc:"Events are matched and wait; nothing is POSTed"`
	// DisabledReason and DisabledAt are there while it is disabled.
	DisabledReason string    `json:"disabled_reason,omitempty" enum:"requested,failing,exhausted,gone,inactive" doc:"Why it is disabled: it was asked for, it failed for too long, too many deliveries in a row ran out of attempts, it said that it is no more, or it had no event for too long"`
	DisabledAt     time.Time `json:"disabled_at,omitzero" doc:"Since when it is disabled, and misses events"`
	FailingSince   time.Time `json:"failing_since,omitzero" doc:"Since when every attempt has failed; absent while it is well"`
	Exhausted      int       `json:"exhausted,omitempty" doc:"Deliveries in a row that were given up, as of an hour ago at most"`
	LastEventOn    string    `json:"last_event_on,omitempty" format:"date" doc:"The day (UTC) of the last event that it was subscribed to"`
	Missed         *Missed   `json:"missed,omitempty" doc:"The time in which it was last disabled. Its events of then were not matched; POST …/recover replays them"`
	PurgeBefore    time.Time `json:"purge_before,omitzero" doc:"What was matched before this is discarded when it surfaces"`
	Purging        bool      `json:"purging,omitempty" doc:"What was purged may not have surfaced yet"`
	RateLimit      float64   `json:"rate_limit" doc:"Most POSTs per second; 0 means no limit"`
	MaxInFlight    int       `json:"max_in_flight" doc:"Most concurrent POSTs; 0 means the default"`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
	Version        int64     `json:"version" doc:"Counts changes from 1; the ETag is this number in quotes"`
}

// FilterTrouble says that a filter could not decide.
type FilterTrouble struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason" enum:"invalid,cost,data,not_bool,error" doc:"It doesn't compile, it cost too much, the data is no JSON, it came to something else than true or false, or any other error"`
}

// Missed is a time in which an endpoint missed its events.
type Missed struct {
	From         time.Time `json:"from"`
	Until        time.Time `json:"until"`
	FailingSince time.Time `json:"failing_since,omitzero" doc:"Since when nothing had arrived, where it was disabled for that"`
}

// endpointOf returns a tenant's endpoint; that of another doesn't exist to it.
func endpointOf(from interface {
	Get(id string) (*webhook.Endpoint, bool)
}, tenant, id string) (*webhook.Endpoint, error) {
	ep, ok := from.Get(id)
	if !ok || ep.Tenant != tenant {
		return nil, notFound(id)
	}
	return ep, nil
}

// CreatedEndpoint is the answer to a create.
type CreatedEndpoint struct {
	_ struct{} `additionalProperties:"true"`
	Endpoint
	// Secret is there once: when it was generated, in the answer to the
	// request that generated it.
	Secret string `json:"secret,omitempty" doc:"The signing secret that was generated. No other response shows it. Absent if the request brought its own or repeats an earlier one"`
}

// EndpointList is one page of endpoints.
type EndpointList struct {
	_     struct{}   `additionalProperties:"true"`
	Items []Endpoint `json:"items"`
	Next  string     `json:"next,omitempty" doc:"The cursor of the next page; absent on the last. A page may be shorter than the limit, or empty, and not be the last"`
}

func viewOf(ep *webhook.Endpoint) Endpoint {
	v := Endpoint{
		ID: ep.ID, Tenant: ep.Tenant, URL: ep.URL, Description: ep.Description, Events: ep.Events,
		Contract: ep.Contract, Headers: ep.Headers, Disabled: ep.Disabled, RateLimit: ep.RateLimit,
		MaxInFlight: ep.MaxInFlight, CreatedAt: ep.CreatedAt, UpdatedAt: ep.UpdatedAt, Version: ep.Version,
	}
	v.Filter, v.Paused, v.OnDisable, v.PurgeBefore = ep.Filter, ep.Paused, onDisableDiscard, ep.PurgeBefore
	v.Purging = !ep.PurgeBefore.IsZero() && time.Since(ep.Purged()) < purgeSurfaces
	if ep.OnDisable == webhook.OnDisablePark {
		v.OnDisable = onDisablePark
	}
	if ep.Disabled {
		v.DisabledReason, v.DisabledAt = string(ep.DisabledReason), ep.DisabledAt
	}
	if v.Events == nil {
		v.Events = []string{}
	}
	if v.Headers == nil {
		v.Headers = map[string]string{}
	}
	return v
}

// EndpointCreate is the body of a create. Everything but the URL may be left
// out.
type EndpointCreate struct {
	URL         string            `json:"url" doc:"The http or https address to POST to" example:"https://hooks.example.com/posthorn"`
	Description string            `json:"description,omitempty"`
	Events      []string          `json:"events,omitempty" doc:"Event type patterns: segments between . or /, where * stands for one segment (at the end for any rest) and {name} for one. None means every type" example:"[\"order.*\"]"`
	Filter      string            `json:"filter,omitempty" doc:"A CEL expression over type, source, subject, id, tenant, time, extension and data. Events of a subscribed type for which it isn't true are left out" example:"data.total > 100.0"`
	Contract    string            `json:"contract,omitempty" default:"standard" doc:"How a delivery looks on the wire"`
	Headers     map[string]string `json:"headers,omitempty" doc:"Sent with every POST besides the contract's own"`
	Secret      string            `json:"secret,omitempty" writeOnly:"true" doc:"An existing signing secret, in the contract's format. One is generated if absent"`
	Disabled    bool              `json:"disabled,omitempty" doc:"Register without matching anything yet"`
	OnDisable   string            `json:"on_disable,omitempty" enum:"discard,park" doc:"What becomes of what is queued when it is disabled: it is discarded (the default), or it waits"`
	Paused      bool              `json:"paused,omitempty" doc:"Match, and let it wait"`
	RateLimit   float64           `json:"rate_limit,omitempty" minimum:"0" doc:"Most POSTs per second, from 0.00001 (about one a day); 0 means no limit"`
	MaxInFlight int               `json:"max_in_flight,omitempty" minimum:"0" doc:"Most concurrent POSTs; 0 means the default"`
}

func (c *EndpointCreate) endpoint(tenant string) *webhook.Endpoint {
	ep := &webhook.Endpoint{
		Tenant: tenant, URL: c.URL, Description: c.Description, Events: c.Events, Contract: c.Contract,
		Headers: c.Headers, Disabled: c.Disabled, RateLimit: c.RateLimit, MaxInFlight: c.MaxInFlight,
		Filter: c.Filter, Paused: c.Paused, OnDisable: onDisable(c.OnDisable),
	}
	if ep.Contract == "" {
		ep.Contract = DefaultContract
	}
	return ep
}

// EndpointPatch is the body of an update, a JSON Merge Patch (RFC 7396): a
// field that is absent stays, null takes it back to its default, and so it is
// with each custom header.
type EndpointPatch struct {
	URL         Member[string]             `json:"url,omitzero" doc:"Can't be null"`
	Description Member[string]             `json:"description,omitzero"`
	Events      Member[[]string]           `json:"events,omitzero" doc:"Replaces the whole list; null or an empty list means every type"`
	Filter      Member[string]             `json:"filter,omitzero" doc:"null or an empty one: none"`
	Contract    Member[string]             `json:"contract,omitzero" doc:"Must be what it is: the secret belongs to it"`
	Headers     Member[map[string]*string] `json:"headers,omitzero" doc:"Headers named here are set, or removed by null; null instead of an object removes all"`
	Disabled    Member[bool]               `json:"disabled,omitzero" doc:"What is queued is discarded or waits, as on_disable says"`
	OnDisable   Member[string]             `json:"on_disable,omitzero" enum:"discard,park"`
	Paused      Member[bool]               `json:"paused,omitzero"`
	RateLimit   Member[float64]            `json:"rate_limit,omitzero" minimum:"0"`
	MaxInFlight Member[int]                `json:"max_in_flight,omitzero" minimum:"0"`
}

// What clients call the values of [webhook.OnDisable].
const (
	onDisableDiscard = "discard"
	onDisablePark    = "park"
)

func onDisable(text string) webhook.OnDisable {
	if text == onDisablePark {
		return webhook.OnDisablePark
	}
	return webhook.OnDisableDiscard
}

// Member is a member of a merge patch.
type Member[T any] struct {
	Set   bool // present in the patch
	Null  bool // present as null; Value is zero then
	Value T
}

// UnmarshalJSON is called for members that are present.
func (m *Member[T]) UnmarshalJSON(b []byte) error {
	*m = Member[T]{Set: true, Null: string(b) == "null"}
	return json.Unmarshal(b, &m.Value)
}

// MarshalJSON implements [json.Marshaler]. It can't leave itself out: fields of
// this type have the option omitzero.
func (m Member[T]) MarshalJSON() ([]byte, error) {
	if m.Null {
		return []byte("null"), nil
	}
	return json.Marshal(m.Value)
}

// Schema implements [huma.SchemaProvider].
func (Member[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), true, "")
	s.Nullable = s.Type != "" // what may be anything may be null already
	return &s
}

// apply makes the patch's changes to ep and returns the fields that it names.
// ep must share no memory with anything else.
func (p *EndpointPatch) apply(ep *webhook.Endpoint) (named map[string]bool, errs []FieldError) {
	named = map[string]bool{
		"url": p.URL.Set, "description": p.Description.Set, "events": p.Events.Set, "headers": p.Headers.Set,
		"filter": p.Filter.Set, "disabled": p.Disabled.Set, "on_disable": p.OnDisable.Set, "paused": p.Paused.Set, "rate_limit": p.RateLimit.Set, "max_in_flight": p.MaxInFlight.Set,
	}
	if p.URL.Null {
		errs = append(errs, FieldError{"url", "an endpoint can't be without one; delete the endpoint instead"})
	}
	if p.Contract.Set && p.Contract.Value != ep.Contract {
		errs = append(errs, FieldError{"contract", fmt.Sprintf("it can't be changed from %q, since the signing secret belongs to it; create another endpoint", ep.Contract)})
	}
	replace(&ep.URL, p.URL)
	replace(&ep.Description, p.Description)
	replace(&ep.Events, p.Events)
	replace(&ep.Filter, p.Filter)
	replace(&ep.Disabled, p.Disabled)
	replace(&ep.Paused, p.Paused)
	if p.OnDisable.Set {
		switch p.OnDisable.Value {
		case "", onDisableDiscard, onDisablePark:
			ep.OnDisable = onDisable(p.OnDisable.Value)
		default:
			errs = append(errs, FieldError{"on_disable", `want "discard" or "park"`})
		}
	}
	replace(&ep.RateLimit, p.RateLimit)
	replace(&ep.MaxInFlight, p.MaxInFlight)
	switch {
	case p.Headers.Null:
		ep.Headers = nil
	case p.Headers.Set:
		errs = append(errs, mergeHeaders(ep, p.Headers.Value)...)
	}
	return named, errs
}

func replace[T any](field *T, m Member[T]) {
	if m.Set {
		*field = m.Value
	}
}

// mergeHeaders goes by names without regard to case, as HTTP does: a header
// that was registered as "X-Team" is removed as "x-team".
func mergeHeaders(ep *webhook.Endpoint, patch map[string]*string) (errs []FieldError) {
	if ep.Headers == nil {
		ep.Headers = map[string]string{}
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(patch)) {
		canonical := http.CanonicalHeaderKey(name)
		if other, twice := seen[canonical]; twice {
			// Which of the two comes last is not for a JSON object to say.
			errs = append(errs, FieldError{fmt.Sprintf("headers[%.64s]", name), fmt.Sprintf("it is the same header as %.64q", other)})
		}
		seen[canonical] = name
		maps.DeleteFunc(ep.Headers, func(old, _ string) bool { return http.CanonicalHeaderKey(old) == canonical })
	}
	for name, value := range patch {
		if value != nil {
			ep.Headers[name] = *value
		}
	}
	return errs
}

func cloneOf(ep *webhook.Endpoint) *webhook.Endpoint {
	c := *ep
	c.Events = slices.Clone(ep.Events)
	c.Headers = maps.Clone(ep.Headers)
	c.Secrets = slices.Clone(ep.Secrets)
	return &c
}

// sameSettings compares what an update can change.
func sameSettings(a, b *webhook.Endpoint) bool {
	return a.URL == b.URL && a.Description == b.Description && slices.Equal(a.Events, b.Events) &&
		a.Contract == b.Contract && maps.Equal(a.Headers, b.Headers) && a.Disabled == b.Disabled &&
		a.Filter == b.Filter && a.OnDisable == b.OnDisable && a.Paused == b.Paused &&
		a.RateLimit == b.RateLimit && a.MaxInFlight == b.MaxInFlight
}
