package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "posthorn.registry"

// cluster is a fake Kafka on a network of its own, inside the test's bubble
// of virtual time.
type cluster struct {
	*kfake.Cluster
	opts []kgo.Opt
}

func newCluster(t *testing.T, opts ...kfake.Opt) *cluster {
	t.Helper()
	network := new(kfake.VirtualNetwork)
	return newClusterOn(t, network.Listen, network.DialContext, opts...)
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func newClusterOn(t *testing.T, listen func(network, address string) (net.Listener, error), dial dialFunc, opts ...kfake.Opt) *cluster {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(listen)}, opts...)
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.CreateTopic(topic, 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	return &cluster{c, []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.Dialer(dial)}}
}

// incidents counts what a follower or writer reports.
type incidents struct {
	mu sync.Mutex
	n  map[Incident]int
}

func (i *incidents) add(what Incident) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.n == nil {
		i.n = make(map[Incident]int)
	}
	i.n[what]++
}

func (i *incidents) of(what Incident) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.n[what]
}

// quiet drops the log: tests that break things on purpose would fill it.
var quiet = slog.New(slog.DiscardHandler)

func (c *cluster) follow(t *testing.T, change ...func(*FollowerConfig)) *Follower {
	t.Helper()
	cfg := FollowerConfig{Topic: topic, Opts: c.opts, Logger: quiet}
	for _, f := range change {
		f(&cfg)
	}
	f, err := NewFollower(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); f.Wait() })
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

func (c *cluster) write(t *testing.T, f *Follower, change ...func(*WriterConfig)) *Writer {
	t.Helper()
	cfg := WriterConfig{Topic: topic, Opts: c.opts, Follower: f, Logger: quiet}
	for _, fn := range change {
		fn(&cfg)
	}
	w, err := NewWriter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func (c *cluster) learn(t *testing.T, change ...func(*LearnedConfig)) *Learned {
	t.Helper()
	cfg := LearnedConfig{Topic: topic, Opts: c.opts, Logger: quiet}
	for _, f := range change {
		f(&cfg)
	}
	l, err := NewLearned(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

func endpoint(i int) *webhook.Endpoint {
	return &webhook.Endpoint{
		ID: fmt.Sprintf("ep_%026d", i), Tenant: "acme", URL: fmt.Sprintf("https://receiver.example/%d", i),
		Contract: "standard", Events: []string{"order.*"},
	}
}

func put(ep *webhook.Endpoint) func(*Tx) error { return func(tx *Tx) error { return tx.Put(ep) } }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
