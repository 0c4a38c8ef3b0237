package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a broker in virtual time.
type rig struct {
	t       *testing.T
	net     kfake.VirtualNetwork
	cluster *kfake.Cluster
	client  *kgo.Client
}

// inVirtualTime runs a test in a bubble with a broker that has the topics.
func inVirtualTime(t *testing.T, partitions int32, topics []string, f func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t}
		var err error
		r.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092),
			kfake.SeedTopics(partitions, topics...), kfake.ListenFn(r.net.Listen))
		if err != nil {
			t.Fatal(err)
		}
		defer r.cluster.Close()
		r.client, err = kgo.NewClient(append(r.opts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))...)
		if err != nil {
			t.Fatal(err)
		}
		defer r.client.Close()
		f(r)
	})
}

func (r *rig) opts() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.Dialer(r.net.DialContext)}
}

// produce writes deliveries with these numbers as their events' IDs.
func (r *rig) produce(topic string, p int32, numbers ...int) {
	r.t.Helper()
	for _, n := range numbers {
		id := fmt.Sprint(n)
		d := webhook.Delivery{ID: webhook.DeliveryID("test", id, "ep_1"), EventID: id, EndpointID: "ep_1",
			BegunAt: time.Now(), MatchedAt: time.Now()}
		rec := &kgo.Record{Topic: topic, Partition: p, Key: []byte("ep_1"), Value: []byte(id), Headers: webhook.HeadersAs[kgo.RecordHeader](d.AppendHeaders(nil))}
		if err := r.client.ProduceSync(context.Background(), rec).FirstErr(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// hand is a handler that keeps work until the test says.
type hand struct {
	mu       sync.Mutex
	got      []*Work
	finish   func(*Work) bool // at once
	released int
}

func (h *hand) Take(_ *Lease, work []*Work) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range work {
		h.got = append(h.got, w)
		if h.finish != nil && h.finish(w) {
			w.Done()
		}
	}
}
func (h *hand) Crowded(*Lease, float64) {}
func (h *hand) Release(_ context.Context, ls []*Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released += len(ls)
}
func (h *hand) Drain(context.Context)      {}
func (h *hand) Room(context.Context) error { return nil }

func (h *hand) values() (vs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.got {
		vs = append(vs, string(w.Record.Value))
	}
	return vs
}

func (h *hand) at(i int) *Work {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got[i]
}

type counts struct {
	mu      sync.Mutex
	repeats int
	lost    int
	failed  int
}

func (c *counts) Assigned(int)                 {}
func (c *counts) Committed(time.Duration, int) {}
func (c *counts) CommitFailed(error)           {}
func (c *counts) Holes(int, float64, int64)    {}
func (c *counts) Repeat(string)                { c.mu.Lock(); c.repeats++; c.mu.Unlock() }
func (c *counts) Failed(string, int32)         { c.mu.Lock(); c.failed++; c.mu.Unlock() }
func (c *counts) Lost(string, int32, int64)    { c.mu.Lock(); c.lost++; c.mu.Unlock() }

// member is a running stage.
type member struct {
	*Stage
	hand   *hand
	counts *counts
	stop   context.CancelFunc
	ended  chan error
}

func (r *rig) member(topic string, finish func(*Work) bool, change ...func(*Config)) *member {
	r.t.Helper()
	m := &member{hand: &hand{finish: finish}, counts: &counts{}, ended: make(chan error, 1)}
	cfg := Config{Name: "test", Group: "g", Topics: []string{topic}, Client: r.opts(), DedupWindow: time.Minute,
		DrainWithin: time.Second, Handler: m.hand, Observer: m.counts, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if m.Stage, err = NewStage(cfg); err != nil {
		r.t.Fatal(err)
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(context.Background())
	go func() { m.ended <- m.Run(ctx) }()
	return m
}

func (m *member) leave(t *testing.T) {
	t.Helper()
	m.stop()
	if err := <-m.ended; err != nil {
		t.Fatal(err)
	}
}

func all(*Work) bool  { return true }
func none(*Work) bool { return false }
func values(vs ...string) func(*Work) bool {
	return func(w *Work) bool {
		return slices.Contains(vs, string(w.Record.Value))
	}
}

var errTest = errors.New("test")
