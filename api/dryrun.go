package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	// defaultSamples and maxSamples bound the events that are shown.
	defaultSamples, maxSamples = 5, 20
	// dryRunWithin bounds the reading; it is below the time of a request.
	dryRunWithin = 5 * time.Second
	// dryRunsAtOnce bounds those of a process: each holds a stretch of a topic in
	// memory and keeps a core busy.
	dryRunsAtOnce = 4
)

// DryRunRequest is the body of a dry run: a subscription, and the time to try it
// on.
type DryRunRequest struct {
	Events  []string  `json:"events,omitempty" doc:"Event type patterns as an endpoint has them; none means every type" example:"[\"order.*\"]"`
	Filter  string    `json:"filter,omitempty" doc:"A CEL expression as an endpoint has it"`
	Since   time.Time `json:"since" doc:"Events with this Kafka timestamp or a later one"`
	Until   time.Time `json:"until,omitzero" doc:"Events before this time; now if absent"`
	Samples *int      `json:"samples,omitempty" minimum:"0" maximum:"20" default:"5" doc:"Most matching events to show"`
}

// DryRunQuery is what a [Line] is asked.
type DryRunQuery struct {
	Tenant       string
	Events       []string
	Filter       string
	Since, Until time.Time
	Samples      int
}

// DryRun is what a subscription would have got.
type DryRun struct {
	_         struct{}      `additionalProperties:"true"`
	Matched   int64         `json:"matched" doc:"Events that an endpoint with this subscription would have got"`
	Undecided int64         `json:"undecided" doc:"Events of a subscribed type on which the filter failed; an endpoint wouldn't get them"`
	Types     []DryRunType  `json:"types" doc:"The same by type, most first"`
	Samples   []DryRunEvent `json:"samples" doc:"The first of them"`
	Scanned   int64         `json:"scanned" doc:"Events looked at, of all tenants"`
	Bytes     int64         `json:"bytes" doc:"Their size"`
	Cut       string        `json:"cut" enum:"none,events,bytes,time" doc:"Why the scan ended before it had looked at everything; none if it had"`
	// ScannedUntil is about how far it came, in Kafka's timestamps.
	ScannedUntil *time.Time `json:"scanned_until" nullable:"true" doc:"Of a scan that was cut: about how far it came; ask again with this as since. null otherwise"`
}

// DryRunType counts the events of a type.
type DryRunType struct {
	_      struct{} `additionalProperties:"true"`
	Type   string   `json:"type"`
	Events int64    `json:"events"`
}

// DryRunEvent is an event that would have matched.
type DryRunEvent struct {
	_            struct{}       `additionalProperties:"true"`
	ID           string         `json:"id"`
	Source       string         `json:"source"`
	Type         string         `json:"type"`
	Time         time.Time      `json:"time"`
	Position     SourcePosition `json:"position" doc:"Where it lies in Kafka"`
	Data         *string        `json:"data" nullable:"true" doc:"The payload; null above 16 KiB"`
	DataEncoding string         `json:"data_encoding" enum:"utf-8,base64"`
}

func (s *server) registerDryRun() {
	register(s, huma.Operation{
		OperationID: "dryRun", Method: http.MethodPost, Path: "/v1/tenants/{tenant}/dry-run", Tags: []string{"endpoints"},
		Metadata:    map[string]any{metaReads: true},
		Summary:     "Try a subscription on the events of the last hours",
		Description: "Reads the event topics and sends nothing. The scan is bounded in events, bytes and time, and says if it was cut. A process does four at once at most; another is answered 503.",
		Responses:   s.responses(nil, http.StatusBadRequest, http.StatusServiceUnavailable),
	}, s.dryRun)
}

type dryRunInput struct {
	TenantParam
	Body DryRunRequest
}

type dryRunOutput struct{ Body DryRun }

func (s *server) dryRun(ctx context.Context, in *dryRunInput) (*dryRunOutput, error) {
	if err := s.needLine(); err != nil {
		return nil, err
	}
	q := DryRunQuery{Tenant: in.Tenant, Events: in.Body.Events, Filter: in.Body.Filter, Since: kafkaTime(in.Body.Since), Until: in.Body.Until, Samples: defaultSamples}
	if n := in.Body.Samples; n != nil {
		q.Samples = min(*n, maxSamples)
	}
	if q.Until.IsZero() {
		q.Until = time.Now()
	}
	errs := append(s.checkSubscription(q.Events, q.Filter), checkSpan("", q.Since, q.Until)...)
	if q.Since.IsZero() {
		errs = append(errs, FieldError{"since", "it is missing"})
	}
	if len(errs) > 0 {
		return nil, invalid(errs...)
	}
	select {
	case s.dryRuns <- struct{}{}:
		defer func() { <-s.dryRuns }()
	default:
		return nil, tryAgain("5", "This process does as many dry runs as it may at once.")
	}
	ctx, cancel := context.WithTimeout(ctx, dryRunWithin)
	defer cancel()
	r, err := s.cfg.Line.DryRun(ctx, q)
	if err != nil {
		s.log.WarnContext(ctx, "reading the event topics", "error", err)
		return nil, tryAgain("5", "The event topics could not be read now.")
	}
	return &dryRunOutput{Body: *r}, nil
}

// checkSubscription asks the rules of registration about patterns and a filter.
func (s *server) checkSubscription(events []string, filter string) (errs []FieldError) {
	for _, e := range s.cfg.CheckEndpoint(&webhook.Endpoint{Events: events, Filter: filter}) {
		if concerns([]FieldError{e}, map[string]bool{"events": true, "filter": true}) {
			errs = append(errs, e)
		}
	}
	return errs
}

// kafkaTime is the first of Kafka's timestamps, which have milliseconds, that a
// time stands for: what was produced in that very moment isn't before it.
func kafkaTime(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
