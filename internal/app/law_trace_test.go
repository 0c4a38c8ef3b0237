package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"posthorn/internal/telemetry"
)

func TestEveryAttemptIsATraceOfItsOwnLinkedToTheProducersContext(t *testing.T) {
	const traceparent, tracestate = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=opaque"
	inVirtualTime(t, nil, func(w *world) {
		exporter := tracetest.NewInMemoryExporter()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
		w.options = func(o *Options) { o.Spans = telemetry.NewSpans(provider) }
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if len(w.received("/e")) == 0 {
				h.status = 503
			}
		})
		w.endpoint("e")
		p := w.process()
		time.Sleep(5 * time.Second)
		r := orderOf("e1", "order.created")
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "traceparent", Value: []byte(traceparent)},
			kgo.RecordHeader{Key: "tracestate", Value: []byte(tracestate)})
		w.produce(r)
		time.Sleep(2 * time.Minute)
		p.terminate()

		hops := 0
		for _, topic := range []string{"posthorn.deliveries", "posthorn.retry.1m"} {
			for _, r := range w.read(topic) {
				h := headersOf(r)
				if h["traceparent"] != traceparent || h["tracestate"] != tracestate {
					t.Errorf("%s: traceparent %q, tracestate %q", topic, h["traceparent"], h["tracestate"])
				}
				hops++
			}
		}
		if hops != 3 {
			t.Errorf("%d hops, want the match, the retry's tier and the second attempt", hops)
		}
		ss := w.settlements()
		if len(ss) != 2 || ss[0].Traceparent != traceparent || ss[1].Traceparent != traceparent {
			t.Errorf("settled %+v", ss)
		}

		names := make(map[string]int)
		traces := make(map[string]bool)
		for _, s := range exporter.GetSpans() {
			names[s.Name]++
			id := s.SpanContext.TraceID().String()
			if s.Parent.IsValid() || traces[id] || id == "0af7651916cd43dd8448eb211c80319c" {
				t.Errorf("%s isn't the root of a trace of its own", s.Name)
			}
			traces[id] = true
			if len(s.Links) != 1 || s.Links[0].SpanContext.SpanID().String() != "b7ad6b7169203331" ||
				s.Links[0].SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
				t.Errorf("%s is linked to %v", s.Name, s.Links)
			}
		}
		if names["process orders"] != 1 || names["POST"] != 2 || len(names) != 2 {
			t.Errorf("spans %v", names)
		}
		for _, s := range ss {
			if !traces[s.TraceID] {
				t.Errorf("the ledger names the trace %q, which wasn't exported", s.TraceID)
			}
		}
	})
}
