package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Tracing sets up the export of spans by the standard variables of the
// OpenTelemetry specification ("SDK environment variables", "OTLP exporter").
//
// Spans are exported when OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names a collector, or when
// OTEL_TRACES_EXPORTER is "otlp" (then to the specification's default on
// localhost). OTEL_TRACES_EXPORTER=none and OTEL_SDK_DISABLED=true switch it
// off. Otherwise the returned Spans are nil, which is ready to use and costs
// nothing. The protocol is OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or
// OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf by default, or grpc. Headers,
// certificates, timeouts, sampling, batching and resource attributes have
// their standard variables too.
//
// shutdown exports what is still buffered, within its context; it is never
// nil. Errors of the export itself go to the default slog logger, and never
// touch the line.
//
// The two OTLP exporters are used directly: contrib's autoexport would add
// 3.7 MB of exporters for logs, metrics and the console to the binary.
func Tracing(ctx context.Context, service, version string) (spans *Spans, shutdown func(context.Context) error, err error) {
	shutdown = func(context.Context) error { return nil }
	on, err := tracingWanted()
	if err != nil || !on {
		return nil, shutdown, err
	}
	exporter, err := newExporter(ctx)
	if err != nil {
		return nil, shutdown, fmt.Errorf("opening trace exporter: %w", err)
	}
	// The environment comes last, so that OTEL_SERVICE_NAME wins. A partial
	// resource (a malformed OTEL_RESOURCE_ATTRIBUTES) is an error: it would be
	// missed only when the traces are needed.
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version)),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, shutdown, errors.Join(fmt.Errorf("reading trace resource: %w", err), exporter.Shutdown(ctx))
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		slog.Warn("exporting traces failed", "error", err)
	}))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	shutdown = func(ctx context.Context) error {
		if err := provider.Shutdown(ctx); err != nil {
			return fmt.Errorf("flushing traces: %w", err)
		}
		return nil
	}
	return NewSpans(provider), shutdown, nil
}

// tracingWanted reads from the environment whether spans are exported.
func tracingWanted() (bool, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	switch exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter {
	case "none":
		return false, nil
	case "otlp":
		return true, nil
	case "":
		return firstEnv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != "", nil
	default:
		return false, fmt.Errorf("reading OTEL_TRACES_EXPORTER: %q is not supported; want otlp or none", exporter)
	}
}

func newExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	// An unreachable collector must not hold up the start; both connect later.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	switch protocol := firstEnv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return nil, fmt.Errorf("OTLP protocol %q is not supported; want http/protobuf or grpc", protocol)
	}
}

// firstEnv returns the first variable that isn't empty; the specification
// treats an empty one as unset.
func firstEnv(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}
