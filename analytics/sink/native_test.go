package sink

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
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

// server is a process of Debian's clickhouse-server.
type server struct {
	t      *testing.T
	binary string
	dir    string
	addr   string
	cmd    *exec.Cmd
}

func newServer(t *testing.T) *server {
	t.Helper()
	binary, err := exec.LookPath("clickhouse-server")
	if err != nil {
		binary, err = exec.LookPath("/usr/sbin/clickhouse-server")
	}
	if err != nil {
		if os.Getenv("POSTHORN_REQUIRE_CLICKHOUSE") == "1" {
			t.Fatal("clickhouse-server isn't installed, and POSTHORN_REQUIRE_CLICKHOUSE is set")
		}
		t.Skip("SKIPPED, as clickhouse-server (Debian's package of that name) isn't installed")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, binary: binary, dir: t.TempDir(), addr: l.Addr().String()}
	_ = l.Close()
	_, port, _ := net.SplitHostPort(s.addr)
	config := fmt.Sprintf(`<yandex><logger><level>warning</level><console>1</console></logger><tcp_port>%s</tcp_port><listen_host>127.0.0.1</listen_host>
		<path>%s/data/</path><tmp_path>%s/tmp/</tmp_path><users_config>%s/users.xml</users_config><default_profile>default</default_profile>
		<default_database>default</default_database><mark_cache_size>104857600</mark_cache_size><timezone>UTC</timezone></yandex>`, port, s.dir, s.dir, s.dir)
	const users = `<yandex><profiles><default></default></profiles><quotas><default></default></quotas><users><default><password></password>
		<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>`
	for name, text := range map[string]string{"config.xml": config, "users.xml": users} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "--config-file="+filepath.Join(s.dir, "config.xml"))
	s.cmd.Dir = s.dir
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("clickhouse-server doesn't listen: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// kill is kill -9.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// The native protocol, against a server that is killed while rows go in. It knows
// no tokens, so what it had taken may be there twice; nothing is lost, and the
// ledger's order drops the rest.
func TestAServerThatIsKilledDuringInsertsLosesNothing(t *testing.T) {
	srv := newServer(t)
	r := newBroker(t)
	var err error
	r.conn, err = clickhouse.Open(&clickhouse.Options{Addr: []string{srv.addr}, DialTimeout: 5 * time.Second,
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
		srv.kill() // while that batch is under way
		kills++
		srv.start()
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
