package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	producerTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	producerSpan  = "00f067aa0ba902b7"
	traceparent   = "00-" + producerTrace + "-" + producerSpan + "-01"
)

func newDelivery() *webhook.Delivery {
	return &webhook.Delivery{
		ID: "dlv_1", EndpointID: "ep_1", EventID: "evt-1", EventSource: "shop", EventType: "order.created",
		Tenant: "acme", Contract: "standard", Body: []byte(`{"card":"4242"}`),
		Source:      webhook.Position{Topic: "orders", Partition: 3, Offset: 42},
		Traceparent: traceparent, Tracestate: "vendor=value",
	}
}

func recorder(t *testing.T, opts ...sdktrace.TracerProviderOption) (*Spans, *tracetest.InMemoryExporter) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(append(opts, sdktrace.WithSyncer(exporter))...)
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return NewSpans(provider), exporter
}

func attributes(s tracetest.SpanStub) map[attribute.Key]string {
	m := make(map[attribute.Key]string)
	for _, kv := range s.Attributes {
		m[kv.Key] = kv.Value.String()
	}
	return m
}

// linkedRoot fails the test unless the span is a root with one link, to the
// producer.
func linkedRoot(t *testing.T, s tracetest.SpanStub) {
	t.Helper()
	if s.Parent.IsValid() {
		t.Errorf("%s has a parent", s.Name)
	}
	if len(s.Links) != 1 {
		t.Fatalf("%s has %d links, want one", s.Name, len(s.Links))
	}
	link := s.Links[0].SpanContext
	if link.TraceID().String() != producerTrace || link.SpanID().String() != producerSpan || link.TraceState().String() != "vendor=value" {
		t.Errorf("%s is linked to %v, not to the producer", s.Name, link)
	}
	if s.SpanContext.TraceID().String() == producerTrace {
		t.Errorf("%s is in the producer's trace", s.Name)
	}
}

// Two attempts with a retry topic between them: the delivery goes through its
// headers, as in Kafka.
func TestTwoAttemptsAcrossARetryAreTwoRootsLinkedToTheProducer(t *testing.T) {
	spans, exporter := recorder(t)
	parent, outer := sdktrace.NewTracerProvider().Tracer("caller").Start(context.Background(), "outer")
	defer outer.End()

	first := newDelivery()
	at := time.Now().Add(-time.Second).Round(0)
	ctx, id1, end := spans.Attempt(parent, first, "hooks.example.com:8443", at)
	if sc := trace.SpanContextFromContext(ctx); sc.TraceID().String() != id1 {
		t.Errorf("the context carries trace %v, not %s", sc.TraceID(), id1)
	}
	end(503, string(webhook.OutcomeRetry), string(webhook.ReasonStatus5xx))

	again := first.Retried(time.Now().Add(time.Minute))
	again.BegunAt, again.MatchedAt = time.Now(), time.Now()
	second, err := webhook.DecodeDelivery([]byte(again.EndpointID), again.Body, again.AppendHeaders(nil))
	if err != nil {
		t.Fatal(err)
	}
	_, id2, end := spans.Attempt(parent, second, "hooks.example.com", time.Now())
	end(200, string(webhook.OutcomeDelivered), string(webhook.ReasonOK))

	got := exporter.GetSpans()
	if len(got) != 2 || id1 == id2 || id1 == "" || id2 == "" {
		t.Fatalf("%d spans in traces %q and %q, want two in two", len(got), id1, id2)
	}
	for i, want := range []map[attribute.Key]string{
		{"http.request.method": "POST", "server.address": "hooks.example.com", "server.port": "8443",
			"http.response.status_code": "503", "error.type": "503", "http.request.resend_count": "",
			"posthorn.delivery.id": "dlv_1", "posthorn.n": "0", "posthorn.outcome": "retry", "posthorn.reason": "status_5xx"},
		{"http.request.method": "POST", "server.address": "hooks.example.com", "server.port": "",
			"http.response.status_code": "200", "error.type": "", "http.request.resend_count": "1",
			"posthorn.delivery.id": "dlv_1", "posthorn.n": "1", "posthorn.outcome": "delivered", "posthorn.reason": "ok"},
	} {
		linkedRoot(t, got[i])
		attrs := attributes(got[i])
		for k, v := range want {
			if attrs[k] != v {
				t.Errorf("attempt %d: %s = %q, want %q", i, k, attrs[k], v)
			}
		}
		if got[i].SpanKind != trace.SpanKindClient || got[i].Name != "POST" {
			t.Errorf("attempt %d is %v %q", i, got[i].SpanKind, got[i].Name)
		}
		for k, v := range attrs {
			if strings.Contains(v, "4242") {
				t.Errorf("attempt %d: %s holds the body", i, k)
			}
		}
	}
	if got[0].Status.Code != codes.Error || got[1].Status.Code != codes.Unset || !got[0].StartTime.Equal(at) {
		t.Errorf("statuses %v and %v, start %v off", got[0].Status, got[1].Status, got[0].StartTime.Sub(at))
	}
}

func TestAnAttemptWithoutAnAnswerHasItsReasonAsErrorType(t *testing.T) {
	spans, exporter := recorder(t)
	_, _, end := spans.Attempt(context.Background(), newDelivery(), "[2001:db8::1]:443", time.Now())
	end(0, string(webhook.OutcomeRetry), string(webhook.ReasonTimeout))
	attrs := attributes(exporter.GetSpans()[0])
	if attrs["error.type"] != "timeout" || attrs["server.address"] != "2001:db8::1" || attrs["http.response.status_code"] != "" {
		t.Errorf("attributes %v", attrs)
	}
}

func TestTheMatchSpanIsARootLinkedToTheProducer(t *testing.T) {
	spans, exporter := recorder(t)
	e := &webhook.Event{ID: "evt-1", Source: "shop", Type: "order.created", Tenant: "acme", Data: []byte("4242"),
		Traceparent: traceparent, Tracestate: "vendor=value", Position: webhook.Position{Topic: "orders", Partition: 3, Offset: 42}}
	spans.Match(e)(7, nil)
	spans.Match(e)(0, errors.New("reading data: 4242"))
	got := exporter.GetSpans()
	if len(got) != 2 {
		t.Fatalf("%d spans", len(got))
	}
	linkedRoot(t, got[0])
	attrs := attributes(got[0])
	for k, v := range map[attribute.Key]string{
		"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.destination.name": "orders",
		"messaging.destination.partition.id": "3", "messaging.kafka.offset": "42", "cloudevents.event_id": "evt-1", "posthorn.matched": "7",
	} {
		if attrs[k] != v {
			t.Errorf("%s = %q, want %q", k, attrs[k], v)
		}
	}
	if got[0].Name != "process orders" || got[0].SpanKind != trace.SpanKindConsumer || got[0].Status.Code != codes.Unset {
		t.Errorf("span %q, %v, %v", got[0].Name, got[0].SpanKind, got[0].Status)
	}
	if got[1].Status.Code != codes.Error || strings.Contains(got[1].Status.Description, "4242") {
		t.Errorf("the failed match has status %v", got[1].Status)
	}
}

func TestAMalformedTraceparentIsNoLinkAndNoError(t *testing.T) {
	spans, exporter := recorder(t)
	for _, tp := range []string{"", "00-xyz", "00-" + strings.Repeat("0", 32) + "-" + producerSpan + "-01", strings.Repeat("a", 4096)} {
		exporter.Reset()
		spans.Match(&webhook.Event{Traceparent: tp})(0, nil)
		if got := exporter.GetSpans(); len(got) != 1 || len(got[0].Links) != 0 {
			t.Errorf("traceparent %.60q: %d spans with links", tp, len(got))
		}
	}
}

func TestAnAttemptThatIsNotSampledHasNoTraceID(t *testing.T) {
	spans, exporter := recorder(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	_, id, end := spans.Attempt(context.Background(), newDelivery(), "hooks.example.com", time.Now())
	end(200, "delivered", "ok")
	if id != "" || len(exporter.GetSpans()) != 0 {
		t.Errorf("trace ID %q, %d spans", id, len(exporter.GetSpans()))
	}
}

func TestDisabledSpansAllocateNothing(t *testing.T) {
	var spans *Spans
	ctx, d, e, now := t.Context(), newDelivery(), new(webhook.Event), time.Now()
	if allocs := testing.AllocsPerRun(1000, func() {
		spans.Match(e)(1, nil)
		_, _, end := spans.Attempt(ctx, d, "hooks.example.com", now)
		end(200, "delivered", "ok")
	}); allocs != 0 || spans.Enabled() {
		t.Errorf("disabled spans allocate %v times", allocs)
	}
	if got, id, _ := spans.Attempt(ctx, d, "", now); got != ctx || id != "" {
		t.Error("disabled spans change the context")
	}
}

// clearEnv unsets what the process that runs the tests may have set.
func clearEnv(t *testing.T) {
	for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
}

func TestTracingFollowsTheStandardVariables(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		on   bool
		err  string
	}{
		{"nothing set", nil, false, ""},
		{"endpoint", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, true, ""},
		{"traces endpoint", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, true, ""},
		{"grpc", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, true, ""},
		{"exporter", map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, ""},
		{"none", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		{"disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, false, ""},
		{"unknown exporter", map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, false, `"zipkin" is not supported; want otlp or none`},
		{"unknown protocol", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, false, `"http/json" is not supported`},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearEnv(t)
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			spans, shutdown, err := Tracing(t.Context(), "posthorn", "1.2.3")
			defer shutdown(t.Context())
			if spans.Enabled() != c.on || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("enabled %v, error %v; want %v, %q", spans.Enabled(), err, c.on, c.err)
			}
		})
	}
}

func TestShutdownExportsWhatIsBuffered(t *testing.T) {
	var mu sync.Mutex
	var bodies [][]byte
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, append([]byte(r.URL.Path+"\n"), body...))
	}))
	defer collector.Close()
	clearEnv(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	spans, shutdown, err := Tracing(t.Context(), "posthorn", "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	_, _, end := spans.Attempt(t.Context(), newDelivery(), "hooks.example.com", time.Now())
	end(200, "delivered", "ok")
	if err := shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	all := slices.Concat(bodies...)
	for _, want := range []string{"/v1/traces\n", "posthorn", "1.2.3", "POST", "hooks.example.com", "dlv_1"} {
		if !bytes.Contains(all, []byte(want)) {
			t.Errorf("what was exported lacks %q", want)
		}
	}
	if bytes.Contains(all, []byte("4242")) {
		t.Error("the body was exported")
	}
}
