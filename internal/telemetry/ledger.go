package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// LedgerMetrics are those of the sink that fills ClickHouse. They are safe for
// concurrent use.
type LedgerMetrics struct {
	// BufferedRows and BufferedBytes are what is read and not inserted.
	BufferedRows, BufferedBytes prometheus.Gauge
	// Failures counts batches that did not come through and are tried again.
	Failures prometheus.Counter

	insertDuration prometheus.Histogram
	rows           children[string, prometheus.Counter]
	reached        atomic.Int64 // Unix milliseconds, 0: not known
}

func newLedgerMetrics(r *prometheus.Registry) *LedgerMetrics {
	m := &LedgerMetrics{
		BufferedRows: register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "posthorn_ledger_buffered_rows", Help: "Rows read from Kafka that are not in ClickHouse yet."})),
		BufferedBytes: register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "posthorn_ledger_buffered_bytes", Help: "Estimated bytes of the buffered rows."})),
		Failures: register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "posthorn_ledger_insert_failures_total", Help: "Batches whose insert failed, or whose answer was lost, and that are tried again."})),
		insertDuration: register(r, prometheus.NewHistogram(histogram("posthorn_ledger_insert_duration_seconds",
			"Duration of a batch's inserts into ClickHouse.", commitBuckets))),
	}
	rows := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "posthorn_ledger_rows_total", Help: "Rows inserted into ClickHouse, by table."}, []string{"table"}))
	m.rows.make = func(table string) prometheus.Counter { return rows.WithLabelValues(table) }
	register(r, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "posthorn_ledger_behind_seconds",
		Help: "How far this process's partitions of the ledger are behind; 0 before that is known."}, func() float64 {
		at := m.reached.Load()
		if at == 0 {
			return 0
		}
		return max(0, time.Since(time.UnixMilli(at)).Seconds())
	}))
	return m
}

// Inserted counts the rows of a batch, by table.
func (m *LedgerMetrics) Inserted(rows map[string]int, took time.Duration) {
	for table, n := range rows {
		m.rows.get(table).Add(float64(n))
	}
	m.insertDuration.Observe(took.Seconds())
}

// Reached notes up to when everything is in ClickHouse.
func (m *LedgerMetrics) Reached(at time.Time) { m.reached.Store(at.UnixMilli()) }
