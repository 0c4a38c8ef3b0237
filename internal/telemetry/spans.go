package telemetry

import (
	"context"
	"net"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"posthorn/webhook"
)

// Spans starts the line's own spans: one for matching an event, one for each
// attempt at a delivery. Each is the root of a trace of its own and *linked* to
// the event's creation context, which travels unchanged in the headers: a
// trace that stayed open over 20 minutes of retries would break the stores and
// tail samplers that traces go to.
//
// Attributes follow the OpenTelemetry semantic conventions 1.43 (messaging
// spans, HTTP client spans, CloudEvents) and, beyond them, "posthorn.*". The
// conventions' url.full is left out: a webhook's path and query may be secret.
//
// A nil *Spans is valid, does nothing and allocates nothing. Spans are safe
// for concurrent use.
type Spans struct{ tracer trace.Tracer }

// Attributes of our own.
const (
	attrDelivery = attribute.Key("posthorn.delivery.id")
	attrEndpoint = attribute.Key("posthorn.endpoint.id")
	attrTenant   = attribute.Key("posthorn.tenant")
	attrContract = attribute.Key("posthorn.contract")
	attrRun      = attribute.Key("posthorn.run")
	attrN        = attribute.Key("posthorn.n")
	attrStep     = attribute.Key("posthorn.step")
	attrOutcome  = attribute.Key("posthorn.outcome")
	attrReason   = attribute.Key("posthorn.reason")
	attrMatched  = attribute.Key("posthorn.matched")
)

// NewSpans returns spans of the provider's tracer "posthorn".
func NewSpans(provider trace.TracerProvider) *Spans {
	return &Spans{provider.Tracer("posthorn", trace.WithSchemaURL(semconv.SchemaURL))}
}

// Enabled reports whether spans go anywhere.
func (s *Spans) Enabled() bool { return s != nil }

func endNoMatch(int, error)            {}
func endNoAttempt(int, string, string) {}

// Match starts the span of matching one event: "process <topic>", kind
// consumer. end, which must be called once, tells how many endpoints matched.
func (s *Spans) Match(e *webhook.Event) (end func(matched int, err error)) {
	if !s.Enabled() {
		return endNoMatch
	}
	_, span := s.tracer.Start(context.Background(), "process "+e.Position.Topic,
		trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(creation(e.Traceparent, e.Tracestate)...),
	)
	if !span.IsRecording() {
		span.End()
		return endNoMatch
	}
	span.SetAttributes(
		semconv.MessagingSystemKafka,
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(e.Position.Topic),
		semconv.MessagingDestinationPartitionID(strconv.Itoa(int(e.Position.Partition))),
		semconv.MessagingKafkaOffset(int(e.Position.Offset)),
		semconv.CloudEventsEventID(e.ID),
		semconv.CloudEventsEventSource(e.Source),
		semconv.CloudEventsEventType(e.Type),
		attrTenant.String(e.Tenant),
	)
	return func(matched int, err error) {
		span.SetAttributes(attrMatched.Int(matched))
		if err != nil {
			// The type alone: the text of an error about an event may quote it.
			span.SetAttributes(semconv.ErrorType(err))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Attempt starts the span of one POST that begins at the time at: "POST", kind
// client. host is the endpoint URL's host, with the port if it names one, and
// nothing else of the URL. The returned context is ctx with the span. traceID
// is empty when the span isn't sampled. end, which must be called once, takes
// the HTTP status (0 when there was no answer), the outcome and the reason of
// the settlement.
func (s *Spans) Attempt(ctx context.Context, d *webhook.Delivery, host string, at time.Time) (
	_ context.Context, traceID string, end func(status int, outcome, reason string),
) {
	if !s.Enabled() {
		return ctx, "", endNoAttempt
	}
	ctx, span := s.tracer.Start(ctx, "POST",
		trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(at),
		trace.WithLinks(creation(d.Traceparent, d.Tracestate)...),
	)
	if !span.IsRecording() {
		span.End()
		return ctx, "", endNoAttempt
	}
	span.SetAttributes(
		semconv.HTTPRequestMethodPost,
		semconv.CloudEventsEventID(d.EventID),
		semconv.CloudEventsEventSource(d.EventSource),
		semconv.CloudEventsEventType(d.EventType),
		attrDelivery.String(d.ID),
		attrEndpoint.String(d.EndpointID),
		attrTenant.String(d.Tenant),
		attrContract.String(d.Contract),
		attrRun.Int64(d.Run),
		attrN.Int(d.N),
		attrStep.Int(d.Step),
	)
	span.SetAttributes(server(host)...)
	if d.N > 0 {
		span.SetAttributes(semconv.HTTPRequestResendCount(d.N))
	}
	if sc := span.SpanContext(); sc.IsSampled() {
		traceID = sc.TraceID().String()
	}
	return ctx, traceID, func(status int, outcome, reason string) {
		span.SetAttributes(attrOutcome.String(outcome), attrReason.String(reason))
		if status != 0 {
			span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		}
		if outcome != string(webhook.OutcomeDelivered) {
			// error.type of HTTP spans is the status code where there is one.
			errorType := reason
			if status >= 300 {
				errorType = strconv.Itoa(status)
			}
			span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
			span.SetStatus(codes.Error, reason)
		}
		span.End()
	}
}

// server returns server.address and server.port of a host.
func server(host string) []attribute.KeyValue {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(host)}
	}
	attrs := []attribute.KeyValue{semconv.ServerAddress(name)}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		attrs = append(attrs, semconv.ServerPort(int(n)))
	}
	return attrs
}

// creation returns the link to the context that the event was created in; none
// when its traceparent is missing or malformed (W3C Trace Context, level 1).
func creation(traceparent, tracestate string) []trace.Link {
	if traceparent == "" {
		return nil
	}
	carrier := propagation.MapCarrier{"traceparent": traceparent, "tracestate": tracestate}
	sc := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	if !sc.IsValid() {
		return nil
	}
	return []trace.Link{{SpanContext: sc}}
}
