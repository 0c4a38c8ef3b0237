package telemetry

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"posthorn/webhook"
)

func TestEveryMetricIsNamedAndLabelledAsPromised(t *testing.T) {
	m := NewMetrics()
	m.Event("orders", "matched")
	m.Settled(&webhook.Settlement{Kind: webhook.KindAttempt, Outcome: webhook.OutcomeDelivered, Reason: webhook.ReasonOK})
	m.BreakerChanged("open")
	m.Invalid("json")
	m.FilterTrouble("error")
	m.Notice("endpoint_disabled")
	m.Lanes("busy").Set(1)
	m.ClockSkew(time.Second, time.Millisecond)
	m.Ledger.Inserted(map[string]int{"attempts": 1}, time.Millisecond)
	m.Stage("match").Committed(time.Millisecond)
	m.Tier("1m").Moved("deliveries")
	m.Tier("1m").Late(time.Millisecond)
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if strings.HasPrefix(f.GetName(), "posthorn_") {
			got[f.GetName()[len("posthorn_"):]] = strings.Join(labels, ",")
		} else if !strings.HasPrefix(f.GetName(), "go_") && !strings.HasPrefix(f.GetName(), "process_") {
			t.Errorf("metric %s is neither ours nor the runtime's", f.GetName())
		}
	}
	want := map[string]string{
		"events_total": "result,source", "deliveries_matched_total": "", "fanout_tasks_total": "", "repeats_dropped_total": "",
		"settlements_total": "kind,outcome,reason", "attempt_duration_seconds": "", "delivery_latency_seconds": "",
		"in_flight": "", "lanes": "state", "queued_records": "", "queued_bytes": "", "held": "", "breaker_transitions_total": "to",
		"retry_moved_total": "tier,to", "retry_late_seconds": "tier", "commit_duration_seconds": "stage", "commit_holes": "stage",
		"commit_left_out_total": "stage", "uncommitted_age_seconds": "stage", "registry_position": "", "registry_current": "",
		"invalid_total": "reason", "filter_troubles_total": "reason", "notices_total": "event", "loss_total": "", "produce_errors_total": "", "assigned_partitions": "stage",
		"clock_skew_seconds": "", "clock_skew_bound_seconds": "",
		"ledger_rows_total": "table", "ledger_insert_duration_seconds": "", "ledger_insert_failures_total": "",
		"ledger_buffered_rows": "", "ledger_buffered_bytes": "", "ledger_behind_seconds": "",
	}
	for name, labels := range want {
		if l, ok := got[name]; !ok || l != labels {
			t.Errorf("posthorn_%s{%s} is there: %v, with {%s}", name, labels, ok, l)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("posthorn_%s is not promised", name)
		}
	}
	if problems, err := testutil.GatherAndLint(prometheus.Gatherer(m)); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestASettlementIsCountedOnceAndOnlyAFirstAttemptIsLatency(t *testing.T) {
	m := NewMetrics()
	begun := time.Now()
	for _, s := range []*webhook.Settlement{
		{Kind: webhook.KindAttempt, Outcome: webhook.OutcomeRetry, Reason: webhook.ReasonTimeout, StartedAt: begun.Add(time.Second), BegunAt: begun, Duration: 3 * time.Second},
		{Kind: webhook.KindAttempt, Outcome: webhook.OutcomeDelivered, Reason: webhook.ReasonOK, N: 1, StartedAt: begun.Add(time.Minute), BegunAt: begun, Duration: time.Second},
		{Kind: webhook.KindPark, Reason: webhook.ReasonBreakerOpen},
		{Kind: webhook.KindPark, Reason: webhook.ReasonBreakerOpen},
	} {
		m.Settled(s)
	}
	want := `
# HELP posthorn_settlements_total Settlements of delivery records.
# TYPE posthorn_settlements_total counter
posthorn_settlements_total{kind="attempt",outcome="delivered",reason="ok"} 1
posthorn_settlements_total{kind="attempt",outcome="retry",reason="timeout"} 1
posthorn_settlements_total{kind="park",outcome="",reason="breaker_open"} 2
`
	if err := testutil.GatherAndCompare(m, strings.NewReader(want), "posthorn_settlements_total"); err != nil {
		t.Error(err)
	}
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		h := f.GetMetric()[0].GetHistogram()
		switch f.GetName() {
		case "posthorn_attempt_duration_seconds":
			if h.GetSampleCount() != 2 || h.GetSampleSum() != 4 {
				t.Errorf("attempt duration: %d samples, sum %v", h.GetSampleCount(), h.GetSampleSum())
			}
		case "posthorn_delivery_latency_seconds":
			if h.GetSampleCount() != 1 || h.GetSampleSum() != 1 {
				t.Errorf("delivery latency: %d samples, sum %v", h.GetSampleCount(), h.GetSampleSum())
			}
		}
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	m := NewMetrics()
	s := &webhook.Settlement{Kind: webhook.KindAttempt, Outcome: webhook.OutcomeDelivered, Reason: webhook.ReasonOK}
	stage, tier := m.Stage("match"), m.Tier("1m")
	observe := func() {
		m.Event("orders", "matched")
		m.Settled(s)
		m.BreakerChanged("open")
		m.Invalid("json")
		m.Lanes("busy").Set(1)
		stage.Committed(time.Millisecond)
		tier.Moved("deliveries")
	}
	observe()
	if allocs := testing.AllocsPerRun(1000, observe); allocs != 0 {
		t.Errorf("observing allocates %v times", allocs)
	}
}

func TestSeriesThatAppearAtOnceLoseNoCount(t *testing.T) {
	m := NewMetrics()
	var wg sync.WaitGroup
	labels := []string{"a", "b", "c", "d", "e", "f"}
	for range 8 {
		wg.Go(func() {
			for _, l := range slices.Backward(labels) {
				m.Event(l, "matched")
				m.Tier(l).Moved("deliveries")
			}
		})
	}
	wg.Wait()
	for _, l := range labels {
		if got := testutil.ToFloat64(m.events.get([2]string{l, "matched"})); got != 8 {
			t.Errorf("source %s is counted %v times", l, got)
		}
		if got := testutil.ToFloat64(m.Tier(l).moved.get("deliveries")); got != 8 {
			t.Errorf("tier %s is counted %v times", l, got)
		}
	}
}

func TestSamplersRunBeforeEachGathering(t *testing.T) {
	m := NewMetrics()
	queued := 0.0
	m.OnGather(func() { queued++; m.QueuedRecords.Set(queued) })
	for _, want := range []string{"1", "2"} {
		text := "# HELP posthorn_queued_records Deliveries queued in lanes.\n# TYPE posthorn_queued_records gauge\nposthorn_queued_records " + want + "\n"
		if err := testutil.GatherAndCompare(m, strings.NewReader(text), "posthorn_queued_records"); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkSettled(b *testing.B) {
	m := NewMetrics()
	s := &webhook.Settlement{Kind: webhook.KindAttempt, Outcome: webhook.OutcomeDelivered, Reason: webhook.ReasonOK}
	for b.Loop() {
		m.Settled(s)
	}
}
