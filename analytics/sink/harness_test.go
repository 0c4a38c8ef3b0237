package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/analytics/schema"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/embedded"
	"posthorn/webhook"
)

func TestMain(m *testing.M) {
	runBroker()
	os.Exit(clickhousetest.Main(m))
}

const (
	deliveriesTopic = "t.deliveries"
	attemptsTopic   = "t.attempts"
	invalidTopic    = "t.invalid"
	partitions      = 4
	database        = "ledger"
)

// rig is a broker and an engine, and what was written to the broker.
type rig struct {
	t        *testing.T
	brokers  []string
	producer *kgo.Client
	engine   *embedded.ClickHouse
	dir      string
	conn     driver.Conn
	random   *rand.Rand

	settlements map[uuid.UUID]bool
	deliveries  map[string]bool
	bodies      map[string]bool
	sinks       []*running
}

func newRig(t *testing.T) *rig {
	t.Helper()
	clickhousetest.Library(t)
	r := newBroker(t)
	r.start()
	t.Cleanup(func() {
		r.end()
		r.stop()
	})
	if _, err := schema.Migrate(t.Context(), r.conn, schema.Options{Database: database}); err != nil {
		t.Fatal(err)
	}
	return r
}

// newBroker makes a rig without an engine.
func newBroker(t *testing.T) *rig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, deliveriesTopic, attemptsTopic, invalidTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := &rig{
		t: t, brokers: cluster.ListenAddrs(), dir: filepath.Join(t.TempDir(), "clickhouse"), random: rand.New(rand.NewPCG(1, 1)),
		settlements: make(map[uuid.UUID]bool), deliveries: make(map[string]bool), bodies: make(map[string]bool),
	}
	if r.producer, err = kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.producer.Close)
	return r
}

// end ends what sinks still run.
func (r *rig) end() {
	for _, s := range r.sinks {
		s.kill()
	}
}

// start runs the engine on the rig's directory.
func (r *rig) start() {
	r.t.Helper()
	port := 0
	if r.engine != nil { // where the sinks look for it
		_, p, _ := net.SplitHostPort(r.engine.Addr())
		fmt.Sscan(p, &port)
	}
	var err error
	if r.engine, err = embedded.StartClickHouse(r.t.Context(), embedded.ClickHouseOptions{Library: clickhousetest.Library(r.t), DataDir: r.dir, Port: port}); err != nil {
		r.t.Fatal(err)
	}
	if r.conn == nil {
		if r.conn, err = clickhouse.Open(&clickhouse.Options{Protocol: clickhouse.HTTP, Addr: []string{r.engine.Addr()}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) stop() {
	r.engine.Kill()
	_ = r.conn.Close()
}

// feed writes deliveries to the broker, each with settlements.
func (r *rig) feed(n int) {
	r.t.Helper()
	now := time.Now().Truncate(time.Millisecond)
	for i := range n {
		tenant := fmt.Sprintf("tenant_%d", r.random.IntN(5))
		ep := fmt.Sprintf("ep_%d", r.random.IntN(30))
		event := uuid.Must(uuid.NewV7()).String()
		body := fmt.Appendf(nil, `{"n":%d}`, r.random.IntN(n))
		d := &webhook.Delivery{
			ID: webhook.DeliveryID("test", event, ep), Origin: webhook.OriginMatch, EventID: event, EventSource: "test", EventType: "order.created",
			Tenant: tenant, EndpointID: ep, Contract: "standard", ContentType: "application/json", BegunAt: now, MatchedAt: now,
			BodyID: webhook.BodyID(body), Source: webhook.Position{Topic: "events", Partition: 1, Offset: int64(i)}, Body: body,
		}
		r.deliveries[d.ID] = true
		r.bodies[string(body)] = true
		r.put(deliveriesTopic, []byte(ep), body, webhook.HeadersAs[kgo.RecordHeader](d.AppendHeaders(nil))...)
		if r.random.IntN(3) == 0 { // what came back for a retry is no row
			again := d.Retried(now.Add(time.Minute))
			r.put(deliveriesTopic, []byte(ep), body, webhook.HeadersAs[kgo.RecordHeader](again.AppendHeaders(nil))...)
		}
		for k := range 1 + r.random.IntN(3) {
			s := webhook.SettlementOf(d, webhook.Position{Topic: deliveriesTopic, Partition: 1, Offset: int64(i)}, webhook.KindAttempt, webhook.ReasonOK)
			s.N, s.StartedAt = k, now.Add(time.Duration(r.random.IntN(300_000))*time.Millisecond)
			s.Duration = time.Duration(r.random.IntN(5_000_000)) * time.Microsecond
			switch r.random.IntN(4) {
			case 0:
				s.Kind, s.Reason, s.NextAt = webhook.KindPark, webhook.ReasonLaneFull, now.Add(time.Hour)
			case 1:
				s.Outcome, s.Reason, s.Status = webhook.OutcomeRetry, webhook.ReasonStatus5xx, 503
			default:
				s.Outcome, s.Status, s.Response = webhook.OutcomeDelivered, 200, "ok"
			}
			if s.Kind == webhook.KindAttempt {
				s.AttemptID = uuid.Must(uuid.NewV7()).String()
			}
			value, err := json.Marshal(s)
			if err != nil {
				r.t.Fatal(err)
			}
			id, err := settlementID(s.AttemptID, value)
			if err != nil {
				r.t.Fatal(err)
			}
			r.settlements[id] = true
			r.put(attemptsTopic, []byte(ep), value)
		}
	}
	if err := r.producer.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// put writes a record.
func (r *rig) put(topic string, key, value []byte, headers ...kgo.RecordHeader) {
	r.producer.Produce(context.Background(), &kgo.Record{Topic: topic, Key: key, Value: value, Headers: headers}, func(_ *kgo.Record, err error) {
		if err != nil {
			r.t.Error(err)
		}
	})
}

// counts is an observer that counts.
type counts struct {
	mu     sync.Mutex
	rows   map[string]int
	failed int
	losses int
	most   int64 // bytes that were buffered
}

func (c *counts) Inserted(rows map[string]int, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, n := range rows {
		c.rows[t] += n
	}
}
func (c *counts) Failed() { c.mu.Lock(); defer c.mu.Unlock(); c.failed++ }
func (c *counts) Buffered(_ int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = max(c.most, bytes)
}
func (c *counts) Reached(time.Time)         {}
func (c *counts) Lost(string, int32, int64) { c.mu.Lock(); defer c.mu.Unlock(); c.losses++ }

// running is a sink with a network of its own.
type running struct {
	*Sink
	*counts
	rig   *rig
	stop  context.CancelFunc
	ended chan error

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	once  sync.Once
}

func (r *rig) sink(change ...func(*Config)) *running {
	r.t.Helper()
	x := &running{counts: &counts{rows: make(map[string]int)}, rig: r, ended: make(chan error, 1)}
	cfg := Config{
		Client:     []kgo.Opt{kgo.SeedBrokers(r.brokers...), kgo.Dialer(x.dial)},
		Group:      "g",
		Deliveries: deliveriesTopic, Attempts: attemptsTopic,
		Partitions: map[string]int{deliveriesTopic: partitions, attemptsTopic: partitions},
		Conn:       r.conn, Database: database,
		Invalid: func(rec *kgo.Record, why error, done func(error)) {
			r.producer.Produce(context.Background(), &kgo.Record{Topic: invalidTopic, Key: rec.Key, Value: rec.Value,
				Headers: []kgo.RecordHeader{{Key: "why", Value: []byte(why.Error())}}}, func(_ *kgo.Record, err error) { done(err) })
		},
		Watermarks: func(context.Context) (map[int32]int64, error) { return nil, nil },
		MaxRows:    200, InsertEvery: 10 * time.Millisecond, ProgressEvery: 50 * time.Millisecond,
		Observer: x.counts, Log: slog.New(slog.DiscardHandler),
	}
	if testing.Verbose() && os.Getenv("POSTHORN_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if x.Sink, err = New(cfg); err != nil {
		r.t.Fatal(err)
	}
	var ctx context.Context
	ctx, x.stop = context.WithCancel(context.Background())
	go func() { x.ended <- x.Run(ctx) }()
	r.sinks = append(r.sinks, x)
	return x
}

func (x *running) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cut {
		c.Close()
		return nil, errors.New("cut off")
	}
	x.conns = append(x.conns, c)
	return c, nil
}

// leave stops the sink in order.
func (x *running) leave() {
	x.once.Do(func() {
		x.stop()
		if err := <-x.ended; err != nil {
			x.rig.t.Error(err)
		}
	})
}

// kill ends the sink as a crash does: nothing it does from now on reaches the
// broker. Its membership is ended for it, as the session's timeout would.
func (x *running) kill() {
	x.once.Do(func() {
		x.mu.Lock()
		x.cut = true
		for _, c := range x.conns {
			c.Close()
		}
		x.mu.Unlock()
		<-x.started
		member, _ := x.client.GroupMetadata()
		x.stop()
		if member != "" {
			req := kmsg.NewPtrLeaveGroupRequest()
			req.Group = "g"
			m := kmsg.NewLeaveGroupRequestMember()
			m.MemberID = member
			req.Members = append(req.Members, m)
			req.MemberID = member
			if _, err := req.RequestWith(context.Background(), x.rig.producer); err != nil {
				x.rig.t.Error(err)
			}
		}
		<-x.ended
	})
}

// faults are what goes wrong between a sink and the engine.
type faults struct {
	driver.Conn
	// sending is asked before a batch is sent, sent after it came through; an
	// error takes the place of the answer.
	sending, sent func(table string) error
	// old servers take no settings that are strings.
	old bool
}

func (f *faults) PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error) {
	if f.old {
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{}))
	}
	b, err := f.Conn.PrepareBatch(ctx, query, opts...)
	if err != nil {
		return nil, err
	}
	var table string
	fmt.Sscanf(query, "INSERT INTO %s", &table)
	return &faultyBatch{b, f, strings.Trim(table[strings.LastIndexByte(table, '.')+1:], "`")}, nil
}

type faultyBatch struct {
	driver.Batch
	f     *faults
	table string
}

func (b *faultyBatch) Send() error {
	if b.f.sending != nil {
		if err := b.f.sending(b.table); err != nil {
			return err
		}
	}
	if err := b.Batch.Send(); err != nil {
		return err
	}
	if b.f.sent != nil {
		return b.f.sent(b.table)
	}
	return nil
}

func (r *rig) number(query string, args ...any) (n uint64) {
	r.t.Helper()
	if err := r.conn.QueryRow(r.t.Context(), query, args...).Scan(&n); err != nil {
		r.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// await waits until the ledger's group has nothing left to read.
func (r *rig) await() {
	r.t.Helper()
	adm := kadm.NewClient(r.producer)
	deadline := time.After(2 * time.Minute)
	for {
		ends, err := adm.ListEndOffsets(r.t.Context(), deliveriesTopic, attemptsTopic)
		if err != nil {
			r.t.Fatal(err)
		}
		at, err := adm.FetchOffsets(r.t.Context(), "g")
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			r.t.Fatal(err)
		}
		left := int64(0)
		ends.Each(func(o kadm.ListedOffset) {
			c, _ := at.Lookup(o.Topic, o.Partition)
			left += o.Offset - max(c.At, 0)
		})
		if left == 0 {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			r.t.Fatalf("%d records are not in the ledger after two minutes", left)
		}
	}
}

// check compares the ledger with what was written to the broker, and every
// aggregate with the same question asked of the raw table.
func (r *rig) check() {
	r.t.Helper()
	distinct := r.number("SELECT uniqExact(attempt_id) FROM ledger.attempts")
	rows := r.number("SELECT count() FROM ledger.attempts")
	deliveries := r.number("SELECT uniqExact(delivery_id, run) FROM ledger.deliveries")
	bodies := r.number("SELECT uniqExact(body_id) FROM ledger.messages")
	r.t.Logf("settlements: %d on Kafka, %d distinct in ClickHouse, %d rows; deliveries: %d, %d; bodies: %d, %d",
		len(r.settlements), distinct, rows, len(r.deliveries), deliveries, len(r.bodies), bodies)
	if int(distinct) != len(r.settlements) {
		r.t.Errorf("%d distinct settlements in ClickHouse, %d on Kafka", distinct, len(r.settlements))
	}
	if rows != distinct {
		r.t.Errorf("%d rows of %d settlements: a token was not known again", rows, distinct)
	}
	if int(deliveries) != len(r.deliveries) || int(bodies) != len(r.bodies) {
		r.t.Errorf("%d deliveries and %d bodies, want %d and %d", deliveries, bodies, len(r.deliveries), len(r.bodies))
	}
	r.checkIDs()
	r.checkMinutes()
}

// checkIDs looks for every settlement that was written to the broker.
func (r *rig) checkIDs() {
	r.t.Helper()
	found, err := r.conn.Query(r.t.Context(), "SELECT DISTINCT attempt_id FROM ledger.attempts")
	if err != nil {
		r.t.Fatal(err)
	}
	defer found.Close()
	for found.Next() {
		var id uuid.UUID
		if err := found.Scan(&id); err != nil {
			r.t.Fatal(err)
		}
		if !r.settlements[id] {
			r.t.Errorf("settlement %s is not on Kafka", id)
		}
	}
	if err := found.Err(); err != nil {
		r.t.Fatal(err)
	}
}

// checkMinutes compares endpoint_minutes with the raw attempts under FINAL.
func (r *rig) checkMinutes() {
	r.t.Helper()
	const raw = `SELECT tenant, endpoint_id, toStartOfMinute(started_at) AS minute, count() AS attempts, countIf(outcome = 'delivered') AS delivered,
		quantileExact(0.5)(duration_us) AS p50, quantileExact(0.95)(duration_us) AS p95, quantileExact(0.99)(duration_us) AS p99
		FROM ledger.attempts FINAL WHERE kind = 'attempt' GROUP BY tenant, endpoint_id, minute`
	const view = `SELECT tenant, endpoint_id, minute, attempts, delivered, round(p50_ms * 1000) AS p50, round(p95_ms * 1000) AS p95, round(p99_ms * 1000) AS p99
		FROM ledger.endpoint_minutes`
	minutes := r.number("SELECT count() FROM (" + view + ")")
	same := r.number(`SELECT count() FROM (` + raw + `) AS r INNER JOIN (` + view + `) AS v
		ON r.tenant = v.tenant AND r.endpoint_id = v.endpoint_id AND r.minute = v.minute
		WHERE r.attempts = v.attempts AND r.delivered = v.delivered AND r.p50 = v.p50 AND r.p95 = v.p95 AND r.p99 = v.p99`)
	want := r.number("SELECT count() FROM (" + raw + ")")
	r.t.Logf("endpoint_minutes: %d, as many as of the raw table with the same counts and percentiles: %d of %d", minutes, same, want)
	if minutes != want || same != want || want == 0 {
		r.t.Errorf("%d minutes, %d equal to the raw table's, which has %d", minutes, same, want)
	}
}
