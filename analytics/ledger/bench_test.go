package ledger_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"posthorn/analytics/ledger"
	"posthorn/analytics/schema"
	"posthorn/internal/clickhousetest"
)

// The ledger of 5 million deliveries with two attempts each, to 1,000 endpoints of
// 50 tenants over ten days.
var tenMillion = []string{
	`INSERT INTO deliveries (tenant, endpoint_id, delivery_id, run, event_id, event_source, event_type, origin, contract, content_type, body_id, body_size,
	begun_at, matched_at, source_topic, source_partition, source_offset, partition, offset, traceparent)
	SELECT 'tenant_' || toString(number % 50), 'ep_' || leftPad(toString(number % 1000), 26, '0'), 'dlv_' || lower(hex(cityHash64(number))) || leftPad(toString(number), 10, '0'), 0,
	'evt_' || toString(number), 'shop', 'order.created', 'match', 'standard', 'application/json', lower(hex(MD5(toString(number)))), 200,
	now64(3) - toIntervalMillisecond(number * 170) AS at, at, 'events', number % 8, number, number % 32, number, ''
	FROM numbers(5000000) SETTINGS max_insert_threads = 1, max_partitions_per_insert_block = 0`,
	`INSERT INTO attempts (kind, attempt_id, delivery_id, run, n, step, deferrals, origin, tenant, endpoint_id, event_id, event_source, event_type, contract, body_id,
	source_topic, source_partition, source_offset, partition, offset, started_at, duration_us, dns_us, connect_us, tls_us, first_byte_us, status, outcome, reason, detail,
	response, next_at, begun_at, matched_at, traceparent, trace_id)
	SELECT 'attempt', generateUUIDv4(), 'dlv_' || lower(hex(cityHash64(d))) || leftPad(toString(d), 10, '0'), 0, number % 2, number % 2, 0, 'match',
	'tenant_' || toString(d % 50), 'ep_' || leftPad(toString(d % 1000), 26, '0'), 'evt_' || toString(d), 'shop', 'order.created', 'standard', lower(hex(MD5(toString(d)))),
	'events', d % 8, d, d % 32, d, at + toIntervalSecond(60 * (number % 2)), rand() % 900000, 0, 0, 0, 1000, if(number % 2 = 0, 503, 200),
	if(number % 2 = 0, 'retry', 'delivered'), if(number % 2 = 0, 'status_5xx', 'ok'), '', '{"ok":true}', if(number % 2 = 0, at + toIntervalSecond(60), toDateTime64(0, 3)),
	now64(3) - toIntervalMillisecond(d * 170) AS at, at, '', ''
	FROM (SELECT number, intDiv(number, 2) AS d FROM numbers(10000000)) SETTINGS max_insert_threads = 1, max_partitions_per_insert_block = 0`,
}

// summary adds up what the answers say that was read for them.
type summary struct {
	next        http.RoundTripper
	rows, bytes int64
}

// RoundTrip implements [http.RoundTripper].
func (s *summary) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var read struct {
		Rows  int64 `json:"read_rows,string"`
		Bytes int64 `json:"read_bytes,string"`
	}
	if err := json.Unmarshal([]byte(resp.Header.Get("X-ClickHouse-Summary")), &read); err == nil {
		s.rows, s.bytes = s.rows+read.Rows, s.bytes+read.Bytes
	}
	return resp, nil
}

// What support waits for, with ten million attempts there. rows and KiB are read.
func BenchmarkQuestionsOfTenMillionAttempts(b *testing.B) {
	if os.Getenv("POSTHORN_BENCH_LEDGER") == "" {
		b.Skip("make bench-ledger runs it")
	}
	conn := clickhousetest.Conn(b)
	var name string
	if err := conn.QueryRow(b.Context(), "SELECT currentDatabase()").Scan(&name); err != nil {
		b.Fatal(err)
	}
	if _, err := schema.Migrate(b.Context(), conn, schema.Options{Database: name}); err != nil {
		b.Fatal(err)
	}
	for _, sql := range tenMillion {
		if err := conn.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	var id string
	if err := conn.QueryRow(b.Context(), "SELECT delivery_id FROM deliveries WHERE event_id = 'evt_1234567'").Scan(&id); err != nil {
		b.Fatal(err)
	}
	read := new(summary)
	counted := clickhousetest.Dial(b, clickhousetest.Shared(b), name, func(o *clickhouse.Options) {
		o.TransportFunc = func(t *http.Transport) (http.RoundTripper, error) { read.next = t; return read, nil }
	})
	l := ledger.New(counted)
	const endpoint = "ep_00000000000000000000000567"
	for _, q := range []struct {
		name string
		ask  func(ctx context.Context) error
	}{
		{"status_of_a_delivery", func(ctx context.Context) error {
			found, err := l.Deliveries(ctx, ledger.Filter{DeliveryID: id, Payload: true})
			if err == nil && (len(found) != 1 || found[0].Attempts != 2) {
				b.Errorf("found %+v", found)
			}
			return err
		}},
		{"status_by_event", func(ctx context.Context) error {
			found, err := l.Deliveries(ctx, ledger.Filter{EventID: "evt_1234567"})
			if err == nil && len(found) != 1 {
				b.Errorf("found %+v", found)
			}
			return err
		}},
		{"last_50_attempts_of_an_endpoint", func(ctx context.Context) error {
			found, err := l.Attempts(ctx, ledger.AttemptFilter{EndpointID: endpoint})
			if err == nil && len(found) != 50 {
				b.Errorf("found %d", len(found))
			}
			return err
		}},
		{"a_day_of_endpoint_minutes", func(ctx context.Context) error {
			var minutes []struct {
				Minute   time.Time `ch:"minute"`
				Attempts uint64    `ch:"attempts"`
				P99      *float64  `ch:"p99_ms"`
			}
			err := counted.Select(ctx, &minutes, `SELECT minute, attempts, p99_ms FROM endpoint_minutes
				WHERE endpoint_id = '`+endpoint+`' AND minute >= now() - INTERVAL 2 DAY AND minute < now() - INTERVAL 1 DAY ORDER BY minute`)
			if err == nil && len(minutes) == 0 {
				b.Error("no minutes")
			}
			return err
		}},
	} {
		b.Run(q.name, func(b *testing.B) {
			for b.Loop() {
				read.rows, read.bytes = 0, 0
				if err := q.ask(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms")
			b.ReportMetric(float64(read.rows), "rows")
			b.ReportMetric(float64(read.bytes)/1024, "KiB")
		})
	}
}
