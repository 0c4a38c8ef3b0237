package retrytopics

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	prefix     = "posthorn"
	partitions = 4
)

// broker is a cluster with the topics of the default ladder. Inside a synctest
// bubble its network is virtual.
type broker struct {
	t       testing.TB
	cluster *kfake.Cluster
	network *kfake.VirtualNetwork
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, network: new(kfake.VirtualNetwork)}
	topics := []string{DeliveriesTopic(prefix), DeadTopic(prefix)}
	for _, d := range DefaultLadder().Tiers() {
		topics = append(topics, RetryTopic(prefix, d))
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(19092),
		kfake.SeedTopics(partitions, topics...), kfake.ListenFn(b.network.Listen))
	if err != nil {
		t.Fatal(err)
	}
	b.cluster = cluster
	t.Cleanup(cluster.Close)
	return b
}

func (b *broker) client(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.cluster.ListenAddrs()...), kgo.Dialer(b.network.DialContext),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.ProducerLinger(0),
	}, opts...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(cl.Close)
	return cl
}

// produced is a Producer that notes what passes through it.
type produced struct {
	*kgo.Client
	mu      sync.Mutex
	records []*kgo.Record
	before  func(*kgo.Record) // if set, called before each
}

func (p *produced) Produce(ctx context.Context, r *kgo.Record, promise func(*kgo.Record, error)) {
	if p.before != nil {
		p.before(r)
	}
	p.mu.Lock()
	p.records = append(p.records, r)
	p.mu.Unlock()
	p.Client.Produce(ctx, r, promise)
}

// topics returns the topics that a delivery was produced to, in order.
func (p *produced) topics(id string) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.records {
		if d := decode(r); d.ID == id {
			names = append(names, r.Topic[len(prefix)+1:])
		}
	}
	return names
}

func (p *produced) all() []*kgo.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.records)
}

func decode(r *kgo.Record) *webhook.Delivery {
	d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
	if err != nil {
		panic(err)
	}
	return d
}

// lease is the test's side of one partition's assignment.
type lease struct {
	down    atomic.Bool // not live
	onPause func(paused bool)

	mu     sync.Mutex
	failed []error
	pauses []bool // true for Pause, false for Resume
}

func (l *lease) Live(time.Time) bool { return !l.down.Load() }
func (l *lease) Pause()              { l.flow(true) }
func (l *lease) Resume()             { l.flow(false) }

func (l *lease) flow(paused bool) {
	if l.onPause != nil {
		l.onPause(paused)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pauses = append(l.pauses, paused)
}

func (l *lease) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

func (l *lease) failures() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

func (l *lease) flows() []bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pauses)
}

type ticket struct{ done atomic.Int32 }

func (t *ticket) Done() { t.done.Add(1) }

// delivery returns the i-th delivery of a test, due at notBefore.
func delivery(i int, notBefore time.Time) *webhook.Delivery {
	body := fmt.Appendf(nil, `{"n":%d}`, i)
	return &webhook.Delivery{
		ID: webhook.DeliveryID("test", fmt.Sprint(i), "ep_1"), EndpointID: fmt.Sprintf("ep_%d", i), N: 1, Step: 1,
		Origin: webhook.OriginMatch, EventID: fmt.Sprint(i), EventSource: "test", EventType: "order.created",
		Tenant: "acme", Contract: "standard", ContentType: "application/json",
		NotBefore: notBefore, BegunAt: time.Now(), MatchedAt: time.Now(),
		Body: body, BodyID: webhook.BodyID(body), Source: webhook.Position{Topic: "orders", Partition: 1, Offset: int64(i)},
	}
}

// parked returns a record of a tier with its ticket.
func parked(d *webhook.Delivery, timestamp time.Time) (Parked, *ticket) {
	t := new(ticket)
	return Parked{Delivery: d, Timestamp: timestamp, Size: 500, Ticket: t}, t
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// running starts a reader that ends with the test.
func running(t testing.TB, cfg Config) *Reader {
	t.Helper()
	r := must(NewReader(cfg))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}
