package sink

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"posthorn/internal/clickhousetest"
)

// oldTables are the ledger's as ClickHouse 18.16 can hold them: it knows no
// DateTime64, no TTL and no deduplication tokens.
var oldTables = []string{
	"CREATE DATABASE ledger",
	`CREATE TABLE ledger.deliveries (tenant String, endpoint_id String, delivery_id String, run Int64, event_id String, event_source String,
		event_type String, origin String, contract String, content_type String, body_id String, body_size UInt32, begun_at DateTime, matched_at DateTime,
		source_topic String, source_partition Int32, source_offset Int64, partition Int32, offset Int64, traceparent String)
		ENGINE = ReplacingMergeTree PARTITION BY toDate(begun_at) ORDER BY (endpoint_id, delivery_id, run)`,
	`CREATE TABLE ledger.messages (body_id String, begun_at DateTime, content_type String, body String) ENGINE = ReplacingMergeTree ORDER BY body_id`,
	`CREATE TABLE ledger.attempts (kind String, attempt_id UUID, delivery_id String, run Int64, n UInt32, step UInt32, deferrals UInt32, origin String,
		tenant String, endpoint_id String, event_id String, event_source String, event_type String, contract String, body_id String,
		source_topic String, source_partition Int32, source_offset Int64, partition Int32, offset Int64, started_at DateTime, duration_us UInt32,
		dns_us UInt32, connect_us UInt32, tls_us UInt32, first_byte_us UInt32, status UInt16, outcome String, reason String, detail String,
		response String, next_at DateTime, begun_at DateTime, matched_at DateTime, traceparent String, trace_id String)
		ENGINE = ReplacingMergeTree PARTITION BY toDate(begun_at) ORDER BY (endpoint_id, started_at, attempt_id)`,
	`CREATE TABLE ledger.progress (topic String, partition Int32, reached_at DateTime, next_offset Int64, done_offset Int64, done_at DateTime, taken_at DateTime)
		ENGINE = MergeTree ORDER BY (topic, partition, taken_at)`,
}

// The native protocol, against a server that is killed while rows go in. It knows
// no tokens, so what it had taken may be there twice; nothing is lost, and the
// ledger's order drops the rest.
func TestAServerThatIsKilledDuringInsertsLosesNothing(t *testing.T) {
	srv := clickhousetest.NewServer(t)
	r := newBroker(t)
	var err error
	r.conn, err = clickhouse.Open(&clickhouse.Options{Addr: []string{srv.Addr}, DialTimeout: 5 * time.Second,
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.end()
		_ = r.conn.Close()
	})
	for _, sql := range oldTables {
		if err := r.conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	kills := 0
	sending := make(chan struct{}, 1)
	r.sink(func(c *Config) {
		c.MaxRows = 100
		c.Conn = &faults{Conn: r.conn, old: true, sending: func(table string) error {
			if table == TableAttempts {
				select {
				case sending <- struct{}{}:
				default:
				}
			}
			return nil
		}}
	})
	for range 5 {
		r.feed(300)
		<-sending
		srv.Kill() // while that batch is under way
		kills++
		srv.Start()
	}
	r.feed(300)
	r.await()
	distinct := r.number("SELECT uniqExact(attempt_id) FROM ledger.attempts")
	rows := r.number("SELECT count() FROM ledger.attempts FINAL")
	deliveries := r.number("SELECT uniqExact(delivery_id) FROM ledger.deliveries")
	t.Logf("killed %d times: %d settlements on Kafka, %d distinct in ClickHouse, %d rows under FINAL; %d deliveries, %d there",
		kills, len(r.settlements), distinct, rows, len(r.deliveries), deliveries)
	if int(distinct) != len(r.settlements) || rows != distinct || int(deliveries) != len(r.deliveries) {
		t.Error("what is there isn't what was written")
	}
}
