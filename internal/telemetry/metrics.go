package telemetry

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"posthorn/webhook"
)

// Metrics are the line's Prometheus metrics, "posthorn_*", besides those of
// the Go runtime and the process. Counters and gauges without labels are
// fields; those with labels are reached through methods, which resolve a
// series once and find it again without locks or allocations. All labels have
// small closed sets of values: the caller must never pass one that comes from
// an event, an endpoint or a tenant.
//
// Everything is safe for concurrent use.
type Metrics struct {
	// Registry holds the metrics; components may register more.
	Registry *prometheus.Registry

	// DeliveriesMatched counts deliveries that matching produced.
	DeliveriesMatched prometheus.Counter
	// FanoutTasks counts task records of events that match very many endpoints.
	FanoutTasks prometheus.Counter
	// RepeatsDropped counts records that were recognized as repeats.
	RepeatsDropped prometheus.Counter
	// Loss counts partitions whose commit had fallen outside the log.
	Loss prometheus.Counter
	// ProduceErrors counts produces that failed for good.
	ProduceErrors prometheus.Counter

	// InFlight is the number of POSTs under way.
	InFlight prometheus.Gauge
	// QueuedRecords and QueuedBytes are what waits in lanes.
	QueuedRecords, QueuedBytes prometheus.Gauge
	// Held is the number of deliveries that wait on timers for not_before.
	Held prometheus.Gauge
	// RegistryPosition is the registry topic's offset that was applied last;
	// RegistryCurrent is 1 while the registry is known to be up to date.
	RegistryPosition, RegistryCurrent prometheus.Gauge

	// clockSkew and clockSkewBound have no series before the first measurement:
	// 0 would be a claim.
	clockSkew, clockSkewBound *prometheus.GaugeVec

	// Ledger are those of the role analytics.
	Ledger *LedgerMetrics

	attemptDuration prometheus.Histogram
	deliveryLatency prometheus.Histogram

	events      children[[2]string, prometheus.Counter]
	settlements children[settlementLabels, prometheus.Counter]
	breakers    children[string, prometheus.Counter]
	invalid     children[string, prometheus.Counter]
	incidents   children[string, prometheus.Counter]
	filters     children[string, prometheus.Counter]
	notices     children[string, prometheus.Counter]
	lanes       children[string, prometheus.Gauge]
	stages      children[string, *StageMetrics]
	tiers       children[string, *TierMetrics]

	mu       sync.Mutex
	samplers []func()
}

type settlementLabels struct {
	kind    webhook.Kind
	outcome webhook.Outcome
	reason  webhook.Reason
}

// StageMetrics are those of one stage that consumes topics, such as "match",
// "dispatch" or "retry.5s".
type StageMetrics struct {
	// AssignedPartitions is the number of partitions this process owns.
	AssignedPartitions prometheus.Gauge
	// CommitHoles is the number of runs that the last commits carried.
	CommitHoles prometheus.Gauge
	// CommitLeftOut counts finished offsets that commit metadata had no room for.
	CommitLeftOut prometheus.Counter
	// UncommittedAge is the age in seconds of the oldest commit that is due.
	UncommittedAge prometheus.Gauge

	commitDuration prometheus.Observer
}

// Committed observes how long a commit took.
func (s *StageMetrics) Committed(took time.Duration) { s.commitDuration.Observe(took.Seconds()) }

// TierMetrics are those of one tier's due reader.
type TierMetrics struct {
	late  prometheus.Observer
	moved children[string, prometheus.Counter]
}

// Late observes how long after its due time a record was moved.
func (t *TierMetrics) Late(late time.Duration) { t.late.Observe(max(0, late.Seconds())) }

// Moved counts a record that was moved to a tier, or to "deliveries".
func (t *TierMetrics) Moved(to string) { t.moved.get(to).Inc() }

// Buckets in seconds. Classic buckets are for every Prometheus; a server that
// scrapes native histograms gets those.
var (
	attemptBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}
	latencyBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
	lateBuckets    = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60, 300, 3600}
	commitBuckets  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// NewMetrics returns metrics on a registry of their own.
func NewMetrics() *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry()}
	r := m.Registry
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string) prometheus.Counter {
		return register(r, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	gauge := func(name, help string) prometheus.Gauge {
		return register(r, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return register(r, prometheus.NewHistogramVec(histogram(name, help, buckets), labels))
	}

	m.DeliveriesMatched = counter("posthorn_deliveries_matched_total", "Deliveries that matching produced.")
	m.FanoutTasks = counter("posthorn_fanout_tasks_total", "Task records written for events that match very many endpoints.")
	m.RepeatsDropped = counter("posthorn_repeats_dropped_total", "Delivery records dropped as repeats of one already read.")
	m.Loss = counter("posthorn_loss_total", "Partitions whose committed offset had fallen outside the log.")
	m.ProduceErrors = counter("posthorn_produce_errors_total", "Produces that failed for good.")
	m.InFlight = gauge("posthorn_in_flight", "POSTs under way.")
	m.QueuedRecords = gauge("posthorn_queued_records", "Deliveries queued in lanes.")
	m.QueuedBytes = gauge("posthorn_queued_bytes", "Bytes of deliveries queued in lanes.")
	m.Held = gauge("posthorn_held", "Deliveries held on timers until their not_before.")
	m.RegistryPosition = gauge("posthorn_registry_position", "Offset of the registry topic that was applied last.")
	m.RegistryCurrent = gauge("posthorn_registry_current", "1 while the registry is known to be up to date, else 0.")
	m.clockSkew = gauges("posthorn_clock_skew_seconds", "How far this host's clock is ahead of that of the broker that leads the registry; absent until it is known.")
	m.clockSkewBound = gauges("posthorn_clock_skew_bound_seconds", "How far posthorn_clock_skew_seconds may be from the truth, either way.")
	m.attemptDuration = register(r, prometheus.NewHistogram(histogram("posthorn_attempt_duration_seconds",
		"Duration of POSTs, from the dial to the status line or the failure.", attemptBuckets)))
	m.deliveryLatency = register(r, prometheus.NewHistogram(histogram("posthorn_delivery_latency_seconds",
		"From the beginning of a run (its source record's timestamp, or the request) to its first POST.", latencyBuckets)))

	m.Ledger = newLedgerMetrics(r)
	events := counters("posthorn_events_total", "Events read from sources, by what came of them.", "source", "result")
	m.events.make = func(k [2]string) prometheus.Counter { return events.WithLabelValues(k[0], k[1]) }
	settlements := counters("posthorn_settlements_total", "Settlements of delivery records.", "kind", "outcome", "reason")
	m.settlements.make = func(k settlementLabels) prometheus.Counter {
		return settlements.WithLabelValues(string(k.kind), string(k.outcome), string(k.reason))
	}
	breakers := counters("posthorn_breaker_transitions_total", "Circuit breakers that changed to a state.", "to")
	m.breakers.make = func(to string) prometheus.Counter { return breakers.WithLabelValues(to) }
	invalid := counters("posthorn_invalid_total", "Records that could not be read, by reason.", "reason")
	incidents := counters("posthorn_registry_incidents_total", "What went wrong with the registry and was got over, by kind.", "kind")
	m.incidents.make = func(kind string) prometheus.Counter { return incidents.WithLabelValues(kind) }
	notices := counters("posthorn_notices_total", "Operational events of endpoints, by type.", "event")
	m.notices.make = func(event string) prometheus.Counter { return notices.WithLabelValues(event) }
	filters := counters("posthorn_filter_troubles_total", "Filters of subscriptions that could not decide, so that an event was left out, by reason.", "reason")
	m.filters.make = func(reason string) prometheus.Counter { return filters.WithLabelValues(reason) }
	m.invalid.make = func(reason string) prometheus.Counter { return invalid.WithLabelValues(reason) }
	lanes := gauges("posthorn_lanes", "Endpoint lanes, by state.", "state")
	m.lanes.make = func(state string) prometheus.Gauge { return lanes.WithLabelValues(state) }

	assigned := gauges("posthorn_assigned_partitions", "Partitions this process owns.", "stage")
	duration := histograms("posthorn_commit_duration_seconds", "Duration of offset commits.", commitBuckets, "stage")
	holes := gauges("posthorn_commit_holes", "Runs of finished offsets above the watermark in commit metadata.", "stage")
	leftOut := counters("posthorn_commit_left_out_total", "Finished offsets that commit metadata had no room for.", "stage")
	age := gauges("posthorn_uncommitted_age_seconds", "Age of the oldest commit that is due.", "stage")
	m.stages.make = func(stage string) *StageMetrics {
		return &StageMetrics{
			AssignedPartitions: assigned.WithLabelValues(stage),
			CommitHoles:        holes.WithLabelValues(stage),
			CommitLeftOut:      leftOut.WithLabelValues(stage),
			UncommittedAge:     age.WithLabelValues(stage),
			commitDuration:     duration.WithLabelValues(stage),
		}
	}

	moved := counters("posthorn_retry_moved_total", "Records that due readers moved on.", "tier", "to")
	late := histograms("posthorn_retry_late_seconds", "How long after their due time records were moved on.", lateBuckets, "tier")
	m.tiers.make = func(tier string) *TierMetrics {
		t := &TierMetrics{late: late.WithLabelValues(tier)}
		t.moved.make = func(to string) prometheus.Counter { return moved.WithLabelValues(tier, to) }
		return t
	}
	return m
}

func register[C prometheus.Collector](r *prometheus.Registry, c C) C {
	r.MustRegister(c)
	return c
}

// Event counts an event of a configured source and what came of it.
func (m *Metrics) Event(source, result string) { m.events.get([2]string{source, result}).Inc() }

// Settled counts a settlement and observes its attempt, if it is one.
func (m *Metrics) Settled(s *webhook.Settlement) {
	m.settlements.get(settlementLabels{s.Kind, s.Outcome, s.Reason}).Inc()
	if s.Kind != webhook.KindAttempt {
		return
	}
	m.attemptDuration.Observe(s.Duration.Seconds())
	if s.N == 0 {
		m.deliveryLatency.Observe(max(0, s.StartedAt.Sub(s.BegunAt).Seconds()))
	}
}

// BreakerChanged counts a circuit breaker that went to a state.
func (m *Metrics) BreakerChanged(to string) { m.breakers.get(to).Inc() }

// Invalid counts a record that could not be read.
func (m *Metrics) Invalid(reason string) { m.invalid.get(reason).Inc() }

// Notice counts an operational event of an endpoint.
func (m *Metrics) Notice(event string) { m.notices.get(event).Inc() }

// FilterTrouble counts a filter that could not decide.
func (m *Metrics) FilterTrouble(reason string) { m.filters.get(reason).Inc() }

// Incident counts something that went wrong with the registry.
func (m *Metrics) Incident(kind string) { m.incidents.get(kind).Inc() }

// ClockSkew sets how far the host's clock is ahead of the broker's, and how far
// that may be from the truth.
func (m *Metrics) ClockSkew(ahead, within time.Duration) {
	m.clockSkew.WithLabelValues().Set(ahead.Seconds())
	m.clockSkewBound.WithLabelValues().Set(within.Seconds())
}

// Lanes is the gauge of lanes in a state.
func (m *Metrics) Lanes(state string) prometheus.Gauge { return m.lanes.get(state) }

// Stage returns the metrics of a stage.
func (m *Metrics) Stage(name string) *StageMetrics { return m.stages.get(name) }

// Tier returns the metrics of a tier's due reader, such as "15m".
func (m *Metrics) Tier(name string) *TierMetrics { return m.tiers.get(name) }

// OnGather registers a function that sets gauges just before each gathering,
// for what is cheaper to ask for than to keep up to date. It must not block.
func (m *Metrics) OnGather(sample func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.samplers = append(m.samplers, sample)
}

// Gather implements [prometheus.Gatherer].
func (m *Metrics) Gather() ([]*dto.MetricFamily, error) {
	m.mu.Lock()
	samplers := slices.Clone(m.samplers)
	m.mu.Unlock()
	for _, sample := range samplers {
		sample()
	}
	return m.Registry.Gather()
}

// children finds resolved series again: a vector's WithLabelValues hashes and
// locks each time. The map is replaced as a whole when a series is new, which
// closed label sets keep rare.
type children[K comparable, V any] struct {
	make func(K) V
	mu   sync.Mutex
	m    atomic.Pointer[map[K]V]
}

func (c *children[K, V]) get(k K) V {
	if m := c.m.Load(); m != nil {
		if v, ok := (*m)[k]; ok {
			return v
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[K]V)
	if m := c.m.Load(); m != nil {
		if v, ok := (*m)[k]; ok {
			return v
		}
		maps.Copy(next, *m)
	}
	v := c.make(k)
	next[k] = v
	c.m.Store(&next)
	return v
}
