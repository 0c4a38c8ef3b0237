package app

import (
	"context"
	"net/url"
	"time"

	"posthorn/consumer/replay"
	"posthorn/dispatcher/breaker"
	"posthorn/internal/telemetry"
	"posthorn/webhook"
)

// stageObserver is the metrics of one stage as consumer.Observer.
type stageObserver struct {
	all   *telemetry.Metrics
	stage *telemetry.StageMetrics
}

// Assigned implements consumer.Observer.
func (o *stageObserver) Assigned(n int) { o.stage.AssignedPartitions.Set(float64(n)) }

// Repeat implements consumer.Observer.
func (o *stageObserver) Repeat(string) { o.all.RepeatsDropped.Inc() }

// Committed implements consumer.Observer.
func (o *stageObserver) Committed(took time.Duration, _ int) {
	o.stage.Committed(took)
}

// CommitFailed implements consumer.Observer.
func (o *stageObserver) CommitFailed(error) {}

// Holes implements consumer.Observer.
func (o *stageObserver) Holes(runs int, _ float64, leftOut int64) {
	o.stage.CommitHoles.Set(float64(runs))
	o.stage.CommitLeftOut.Add(float64(leftOut))
}

// Failed implements consumer.Observer.
func (o *stageObserver) Failed(string, int32) { o.all.ProduceErrors.Inc() }

// Lost implements consumer.Observer.
func (o *stageObserver) Lost(string, int32, int64) { o.all.Loss.Inc() }

// matchObserver is metrics and traces as consumer.MatchObserver.
type matchObserver struct {
	metrics *telemetry.Metrics
	spans   *telemetry.Spans
	source  func(topic string) string
}

// Matching implements consumer.MatchObserver.
func (o *matchObserver) Matching(e *webhook.Event) func(matched, tasks int) {
	end := o.spans.Match(e)
	return func(matched, tasks int) {
		end(matched, nil)
		result := "matched"
		if matched == 0 {
			result = "unmatched"
		}
		o.metrics.Event(o.source(e.Position.Topic), result)
		if tasks > 0 {
			o.metrics.FanoutTasks.Add(float64(tasks))
		} else {
			o.metrics.DeliveriesMatched.Add(float64(matched))
		}
	}
}

// Invalid implements consumer.MatchObserver.
func (o *matchObserver) Invalid(reason string) { o.metrics.Invalid(reason) }

// attemptSpans is the tracer as dispatcher.Spans.
type attemptSpans struct{ spans *telemetry.Spans }

// Attempt implements dispatcher.Spans.
func (a attemptSpans) Attempt(ctx context.Context, d *webhook.Delivery, u *url.URL) (context.Context, string, func(*webhook.Settlement)) {
	if !a.spans.Enabled() {
		return ctx, "", func(*webhook.Settlement) {}
	}
	ctx, id, end := a.spans.Attempt(ctx, d, u.Host, time.Now())
	return ctx, id, func(s *webhook.Settlement) { end(s.Status, string(s.Outcome), string(s.Reason)) }
}

// dispatchObserver is metrics, what replays go by and the registry as
// dispatcher.Observer.
type dispatchObserver struct {
	metrics *telemetry.Metrics
	// health learns how endpoints fare.
	health func(s *webhook.Settlement)
	waits  *replay.Waits
	// remember writes a breaker's state to the registry, later.
	remember func(endpointID string, to breaker.State)
}

// Started implements dispatcher.Observer.
func (o *dispatchObserver) Started(d *webhook.Delivery, waited time.Duration) {
	if d.Origin == webhook.OriginMatch && d.Deferrals == 0 {
		o.waits.Note(waited)
	}
}

// Settled implements dispatcher.Observer.
func (o *dispatchObserver) Settled(s *webhook.Settlement) {
	o.metrics.Settled(s)
	o.health(s)
}

// BreakerChanged implements dispatcher.Observer.
func (o *dispatchObserver) BreakerChanged(endpointID string, to breaker.State) {
	o.metrics.BreakerChanged(to.String())
	o.remember(endpointID, to)
}
