package sink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/analytics/schema"
	"posthorn/internal/clickhousetest"
	"posthorn/webhook"
)

// attemptRecord is the record of one attempt, as long as they come.
func attemptRecord(tb testing.TB, i int) *kgo.Record {
	now := time.Now()
	ep := fmt.Sprintf("ep_%026d", i%1000)
	s := &webhook.Settlement{Kind: webhook.KindAttempt, AttemptID: uuid.Must(uuid.NewV7()).String(), DeliveryID: webhook.DeliveryID("shop", strconv.Itoa(i), ep),
		EndpointID: ep, Tenant: fmt.Sprintf("tenant_%d", i%50), EventID: strconv.Itoa(i), EventSource: "shop", EventType: "order.created", Contract: "standard",
		BodyID: [16]byte{byte(i), byte(i >> 8), byte(i >> 16)}, Source: webhook.Position{Topic: "events", Partition: 3, Offset: int64(i)},
		Record:    webhook.Position{Topic: "posthorn.deliveries", Partition: 6, Offset: int64(i)},
		StartedAt: now, BegunAt: now, MatchedAt: now, Duration: time.Duration(i%100_000) * time.Microsecond, Status: 200,
		Outcome: webhook.OutcomeDelivered, Reason: webhook.ReasonOK, Response: `{"ok":true}`, Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	value, err := json.Marshal(s)
	if err != nil {
		tb.Fatal(err)
	}
	return &kgo.Record{Topic: attemptsTopic, Key: []byte(ep), Value: value, Timestamp: now, Offset: int64(i)}
}

func BenchmarkReadSettlement(b *testing.B) {
	r := attemptRecord(b, 1)
	b.SetBytes(int64(len(r.Value)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readSettlement(r); err != nil {
			b.Fatal(err)
		}
	}
}

// cpu is the user and system time of this process so far; the engine is another.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// One operation is a batch of 50,000 attempts, from their records into the
// engine. cpu-s/100k is this process's alone, without fetching from Kafka.
func BenchmarkInsertAttempts(b *testing.B) {
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
	const rows = 50_000
	records := make([]*kgo.Record, rows)
	for i := range records {
		records[i] = attemptRecord(b, i)
	}
	batch := int64(0)
	before := cpu(b)
	for b.Loop() {
		items := make([]*item, rows)
		for i, r := range records {
			it, err := readSettlement(r)
			if err != nil {
				b.Fatal(err)
			}
			items[i] = it
		}
		p := plan{batch, batch + rows - 1}
		batch += rows
		if _, err := insertBatch(b.Context(), conn, name, p.token("bench", kadm.TopicID{}, 0), items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(batch)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric((cpu(b)-before).Seconds()/float64(batch)*100_000, "cpu-s/100k")
}

// brokerEnv makes this test binary a broker, so that its memory isn't the sink's.
const brokerEnv = "POSTHORN_TEST_BROKER"

func runBroker() {
	if os.Getenv(brokerEnv) == "" {
		return
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(32, deliveriesTopic, attemptsTopic, invalidTopic))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.ListenAddrs()[0])
	_, _ = io.Copy(io.Discard, os.Stdin)
	c.Close()
	os.Exit(0)
}

// A million attempts wait when the sink starts. peak-MiB is the most memory that
// this process had resident, which holds neither broker nor engine.
func BenchmarkBacklogOfAMillion(b *testing.B) {
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
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	broker := exec.CommandContext(b.Context(), self)
	broker.Env = append(os.Environ(), brokerEnv+"=1")
	in, err := broker.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := broker.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := broker.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = broker.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addr := strings.TrimSpace(line)
	const rows = 1_000_000
	producer, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.MaxBufferedRecords(20_000))
	if err != nil {
		b.Fatal(err)
	}
	for i := range rows {
		producer.Produce(context.Background(), attemptRecord(b, i), func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := producer.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	producer.Close()

	for b.Loop() {
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil { // the peak begins anew
			b.Skipf("the peak of memory can't be told here: %v", err)
		}
		before := cpu(b)
		begun := time.Now()
		seen := &counts{rows: make(map[string]int)}
		s, err := New(Config{Client: []kgo.Opt{kgo.SeedBrokers(addr)}, Group: uuid.NewString(), Deliveries: deliveriesTopic, Attempts: attemptsTopic,
			Partitions: map[string]int{deliveriesTopic: 32, attemptsTopic: 32}, Conn: conn, Database: name,
			Invalid:    func(_ *kgo.Record, why error, done func(error)) { b.Error(why); done(nil) },
			Watermarks: func(context.Context) (map[int32]int64, error) { return nil, nil },
			Observer:   seen, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		for {
			seen.mu.Lock()
			n := seen.rows[TableAttempts]
			seen.mu.Unlock()
			if n >= rows {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(begun)
		stop()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(peak(b), "peak-MiB")
		b.ReportMetric(rows/took.Seconds(), "rows/s")
		b.ReportMetric((cpu(b)-before).Seconds()/rows*100_000, "cpu-s/100k")
	}
}

// peak is the most memory in MiB that was resident since the peak was cleared.
func peak(tb testing.TB) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		var kib float64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	tb.Fatal("/proc/self/status has no VmHWM")
	return 0
}

// An hour's inserts of 32 partitions, two a second, as fast as the engine takes
// them, which leaves its merges less time than an hour would.
func BenchmarkPartsOfAnHour(b *testing.B) {
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
	const inserts, rows = 7200, 50
	for b.Loop() {
		most := map[string]uint64{}
		for i := range inserts {
			items := make([]*item, rows)
			for k := range items {
				it, err := readSettlement(attemptRecord(b, i*rows+k))
				if err != nil {
					b.Fatal(err)
				}
				items[k] = it
			}
			p := plan{int64(i * rows), int64(i*rows + rows - 1)}
			if _, err := insertBatch(b.Context(), conn, name, p.token("bench", kadm.TopicID{}, int32(i%32)), items); err != nil {
				b.Fatal(err)
			}
			if i%50 != 0 {
				continue
			}
			found, err := conn.Query(b.Context(), "SELECT table, count() FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table")
			if err != nil {
				b.Fatal(err)
			}
			for found.Next() {
				var table string
				var n uint64
				if err := found.Scan(&table, &n); err != nil {
					b.Fatal(err)
				}
				most[table] = max(most[table], n)
			}
			_ = found.Close()
		}
		for table, n := range most {
			b.ReportMetric(float64(n), table+"-parts")
		}
	}
}
