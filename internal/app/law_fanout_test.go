package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer"
	"posthorn/internal/config"
	"posthorn/internal/embedded"
	"posthorn/webhook"
)

// One event of a tenant with very many endpoints is matched, while another
// tenant's events trickle in on the same partition.
func TestAFanOutOfTwentyFiveThousandReachesEachEndpointOnceBesideATrickle(t *testing.T) {
	const n = 25_000
	small := func(c *config.Config) { c.Fanout.TaskSize = 1000 }
	inVirtualTime(t, small, func(w *world) {
		var rs []*kgo.Record
		for i := range n {
			id := fmt.Sprintf("ep_%06d", i)
			rs = append(rs, &kgo.Record{Topic: "posthorn.registry", Key: []byte("endpoint/" + id), Value: fmt.Appendf(nil,
				`{"id":%q,"tenant":"huge","url":"http://hooks.example.com:8080/","contract":"standard","created_at":"2000-01-01T00:00:00Z","updated_at":"2000-01-01T00:00:00Z","version":1}`, id)})
		}
		w.produceAll(rs)
		w.endpoint("trickle")
		p := w.process(RoleMatch)
		time.Sleep(5 * time.Second)
		of := func(id, tenant string) *kgo.Record {
			r := orderOf(id, "order.created")
			for i := range r.Headers {
				if r.Headers[i].Key == "ce_tenant" {
					r.Headers[i].Value = []byte(tenant)
				}
			}
			return r
		}
		for i := range 50 {
			if i == 5 {
				w.produce(of("huge", "huge"))
			}
			w.produce(of(fmt.Sprint("trickle", i), "acme"))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		p.terminate()
		seen := make(map[string]int, n)
		trickle := 0
		for _, r := range w.read("posthorn.deliveries") {
			d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(d.EventID, "trickle") {
				trickle++
				if late := d.MatchedAt.Sub(d.BegunAt); late > time.Second {
					t.Errorf("%s was matched %v late", d.EventID, late)
				}
				continue
			}
			seen[d.EndpointID]++
		}
		if trickle != 50 || len(seen) != n {
			t.Errorf("%d of 50 of the trickle, %d of %d of the fan-out", trickle, len(seen), n)
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("%s got it %d times", id, times)
			}
		}
		if tasks := len(w.read("posthorn.fanout")); tasks != n/1000 {
			t.Errorf("%d tasks, want %d", tasks, n/1000)
		}
	})
}

// crowd is a registry in which every event has the same subscribers.
type crowd []consumer.Subscriber

func (crowd) WaitCurrent(context.Context) error { return nil }
func (c crowd) Match(dst []consumer.Subscriber, _, _, _, _ string) ([]consumer.Subscriber, webhook.RegistryVersion) {
	return append(dst, c...), webhook.RegistryVersion{}
}

func (crowd) Wanted(subs []consumer.Subscriber, _ *webhook.Event) []consumer.Subscriber { return subs }

// oneBody is a body that is as large for each event.
type oneBody []byte

func (b oneBody) Body(string, *webhook.Event) ([]byte, string, error) {
	return slices.Clone(b), "application/json", nil
}

// plainEvents takes every record for an event.
type plainEvents struct{}

func (plainEvents) Read(r *kgo.Record) (*webhook.Task, *consumer.Rejection) {
	return &webhook.Task{Event: &webhook.Event{ID: fmt.Sprint(r.Offset), Type: "t", Tenant: "acme", Timestamp: r.Timestamp}}, nil
}
func (plainEvents) Invalid(*kgo.Record, *consumer.Rejection) *kgo.Record { return nil }

type unobserved struct{}

func (unobserved) Matching(*webhook.Event) func(int, int) { return func(int, int) {} }
func (unobserved) Invalid(string)                         {}

// metered counts what is produced and not acknowledged.
type metered struct {
	*kgo.Client
	overhead int64

	produced    atomic.Int64
	mu          sync.Mutex
	bytes, most int64
	heap        uint64
}

func (m *metered) Produce(ctx context.Context, r *kgo.Record, promise func(*kgo.Record, error)) {
	size := int64(len(r.Value)) + m.overhead
	m.mu.Lock()
	m.bytes += size
	m.most = max(m.most, m.bytes)
	m.mu.Unlock()
	if m.produced.Add(1)%20_000 == 0 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		m.mu.Lock()
		m.heap = max(m.heap, s.HeapAlloc)
		m.mu.Unlock()
	}
	m.Client.Produce(ctx, r, func(r *kgo.Record, err error) {
		m.mu.Lock()
		m.bytes -= size
		m.mu.Unlock()
		promise(r, err)
	})
}

func TestAPollThatFansOutToAMillionStaysWithinItsBytes(t *testing.T) {
	// The whole of it, ten million, belongs to the long suites.
	events, endpoints := 500, 2000
	switch {
	case os.Getenv("POSTHORN_FANOUT_FULL") != "":
		events = 5000
	case testing.Short() || underRace:
		events = 50
	}
	const inFlight = 4 << 20
	synctest.Test(t, func(t *testing.T) {
		var sinkNet kfake.VirtualNetwork
		source := embedded.StartVirtual(t, kfake.SeedTopics(1, "orders"))
		sink, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9093), kfake.BlackholeProduce(), kfake.SeedTopics(8, "deliveries"), kfake.ListenFn(sinkNet.Listen))
		if err != nil {
			t.Fatal(err)
		}
		defer sink.Close()
		cl, err := kgo.NewClient(append(source.ClientOpts(), kgo.DefaultProduceTopic("orders"))...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for range events {
			cl.Produce(context.Background(), &kgo.Record{Value: []byte("{}")}, nil)
		}
		if err := cl.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		producer, err := kgo.NewClient(kgo.SeedBrokers(sink.ListenAddrs()...), kgo.Dialer(sinkNet.DialContext), kgo.ProducerLinger(0),
			kgo.MaxBufferedRecords(bufferedRecords))
		if err != nil {
			t.Fatal(err)
		}
		defer producer.Close()
		runtime.GC()
		var before runtime.MemStats
		runtime.ReadMemStats(&before)
		m := &metered{Client: producer, overhead: 1 << 10}
		var subs crowd
		for i := range endpoints {
			subs = append(subs, consumer.Subscriber{EndpointID: fmt.Sprintf("ep_%04d", i), Contract: "standard"})
		}
		matcher := consumer.NewMatcher(consumer.MatcherConfig{Events: plainEvents{}, Subscriptions: subs, Bodies: oneBody(make([]byte, 2000)),
			Producer: m, Observer: unobserved{}, Deliveries: "deliveries", Fanout: "fanout",
			TaskSize: 10_000, MaxRecord: 1 << 20, QueueBytes: 32 << 20, InFlightBytes: inFlight})
		stage, err := consumer.NewStage(consumer.Config{Name: "match", Group: "g", Topics: []string{"orders"}, Client: source.ClientOpts(),
			PollRecords: events, DrainWithin: time.Second, Handler: matcher, Observer: noObserver{}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- stage.Run(ctx) }()
		for range 600 {
			if m.produced.Load() == int64(events*endpoints) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := m.produced.Load(); n != int64(events*endpoints) {
			t.Errorf("%d of %d produced", n, events*endpoints)
		}
		// How far the bound is reached is a matter of speed; the whole of it
		// reaches it on any machine.
		if m.most > inFlight || m.bytes != 0 || events == 5000 && m.most < inFlight/2 {
			t.Errorf("at most %d bytes in flight and %d left, want up to %d", m.most, m.bytes, inFlight)
		}
		if grown := int64(m.heap) - int64(before.HeapAlloc); grown > 128<<20 {
			t.Errorf("the heap grew by %d MiB", grown>>20)
		}
	})
}

type noObserver struct{}

func (noObserver) Assigned(int)                 {}
func (noObserver) Repeat(string)                {}
func (noObserver) Committed(time.Duration, int) {}
func (noObserver) CommitFailed(error)           {}
func (noObserver) Holes(int, float64, int64)    {}
func (noObserver) Failed(string, int32)         {}
func (noObserver) Lost(string, int32, int64)    {}
