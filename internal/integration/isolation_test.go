//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/app"
	"posthorn/registry"
	"posthorn/webhook"
)

const (
	// assertEnv makes timings decide: only for a machine that does nothing else.
	assertEnv = "POSTHORN_ISOLATION_ASSERT"

	isolationEndpoints = 100
	isolationRate      = 1000.0 // events per second, one delivery each
	settling           = 2 * time.Second
	measuring          = 7 * time.Second

	// The flooded endpoint answers 4 POSTs at a time, 20 ms each.
	floodedSlots    = 4
	floodedTakes    = 20 * time.Millisecond
	floodedCapacity = floodedSlots / 0.020 // POSTs per second
	floodFor        = 3 * time.Second
	floodFactor     = 10
)

// The neighbours of endpoints that hang, and of one that is flooded, are served
// as if these weren't there.
func TestSickAndFloodedEndpointsDelayNobody(t *testing.T) {
	w, l := newLatencies(t)
	strict := os.Getenv(assertEnv) == "1"
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	all := make([]int, 0, isolationEndpoints)
	for i := range isolationEndpoints {
		all = append(all, i)
	}
	isSick := func(i int) bool { return i%10 == 3 }
	well := slices.DeleteFunc(slices.Clone(all), isSick)

	// Without the sick ones at all, then with all of them hanging.
	base := l.measure(ctx, w, "without hanging endpoints", well, isolationRate*0.9)
	l.hang.Store(true)
	beside := l.measure(ctx, w, "with 10 of 100 hanging", all, isolationRate)
	l.hang.Store(false)
	close(l.release)
	t.Logf("p99 produced → received: %v without, %v with: %+v, %.2f×", base, beside, beside-base, float64(beside)/float64(base))
	if limit := base*12/10 + 5*time.Millisecond; strict && beside > limit {
		t.Errorf("p99 beside hanging endpoints %v, want %v or less", beside, limit)
	}

	const flooded = 0
	others := slices.DeleteFunc(slices.Clone(well), func(i int) bool { return i == flooded })
	base = l.measure(ctx, w, "without a flood", others, isolationRate*0.5)
	flood := make(chan error, 1)
	begun := time.Now()
	total := int(floodedCapacity * floodFactor * floodFor.Seconds())
	go func() {
		flood <- w.produce(ctx, total, floodedCapacity*floodFactor, func(i int) *kgo.Record { return l.event(w, flooded) })
	}()
	beside = l.measure(ctx, w, fmt.Sprintf("with a flood of %d/s to an endpoint that takes %.0f/s", int(floodedCapacity*floodFactor), floodedCapacity), others, isolationRate*0.5)
	if err := <-flood; err != nil {
		t.Fatal(err)
	}
	t.Logf("p99 produced → received: %v without, %v with: %+v, %.2f×", base, beside, beside-base, float64(beside)/float64(base))
	if limit := base*12/10 + 5*time.Millisecond; strict && beside > limit {
		t.Errorf("p99 beside a flood %v, want %v or less", beside, limit)
	}

	least, want := floodedCapacity/2, floodedCapacity*0.95
	took := l.drained(ctx, flooded, begun)
	rate := float64(total) / took.Seconds()
	t.Logf("the flood of %d drained in %v: %.0f/s of %.0f/s; slowest second %.0f/s", total, took.Round(10*time.Millisecond), rate, floodedCapacity, l.slowestSecond(begun))
	if strict {
		least = want
	}
	if rate < least {
		t.Errorf("the flooded endpoint got %.0f/s, want %.0f/s or more of the %.0f/s that it takes", rate, least, floodedCapacity)
	}
	l.allArrived(ctx)
	l.whereItWent(w, begun, flooded)
}

// whereItWent splits the time of the flooded endpoint's neighbours during the
// flood: from the event's production to its match, and from there to the POST.
func (l *latencies) whereItWent(w *world, begun time.Time, flooded int) {
	l.t.Helper()
	var match, post []time.Duration
	ledger := w.follow()
	for _, e := range ledger.upTo(w.ends(w.prefix + ".attempts")) {
		if e.n == 0 && e.kind == webhook.KindAttempt && e.endpoint != endpointID(flooded) && e.begun.After(begun) && e.begun.Before(begun.Add(floodFor)) {
			match = append(match, e.matched.Sub(e.begun))
			post = append(post, e.started.Sub(e.matched))
		}
	}
	if len(match) == 0 {
		return
	}
	slices.Sort(match)
	slices.Sort(post)
	at := func(ds []time.Duration, q float64) time.Duration { return ds[int(q*float64(len(ds)-1))] }
	l.t.Logf("beside the flood, by the ledger (ms): produced → matched p50 %v, p99 %v; matched → POST p50 %v, p99 %v; %d deliveries",
		at(match, 0.5), at(match, 0.99), at(post, 0.5), at(post, 0.99), len(match))
}

// latencies sends events that carry the time of their production, and notes
// how long each took to its receiver.
type latencies struct {
	t        *testing.T
	hang     atomic.Bool
	release  chan struct{}
	receiver *receiver

	mu      sync.Mutex
	sent    map[int]int // by endpoint
	arrived map[int]int
	took    []time.Duration
	floodAt []time.Time // when POSTs of the flooded endpoint ended
}

type stamped struct {
	Produced int64 `json:"produced"` // Unix nanoseconds
	Phase    int   `json:"phase"`
}

func newLatencies(t *testing.T) (*world, *latencies) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "posthorn.yaml")
	w := &world{t: t, prefix: "posthorn", topic: app.DevTopic, config: config}
	w.write(config, "partitions: {deliveries: 8, fanout: 2, attempts: 2, dead: 2, events: 1, invalid: 1}\n")
	data := filepath.Join(dir, "data")
	launch(t, nil, "dev", "--config", config, "--data-dir", data, "--kafka-port", "0", "--admin-port", "0", "--allow-cidr", "127.0.0.0/8").started()
	var at app.Addresses
	poll(t, startWithin, "addresses.json", func() bool { // it is written a moment later
		text, err := os.ReadFile(filepath.Join(data, "addresses.json"))
		return err == nil && json.Unmarshal(text, &at) == nil
	})
	var err error
	if w.keyset, err = registry.OpenKeyset(filepath.Join(data, "keyset.json")); err != nil {
		t.Fatal(err)
	}
	w.connect([]string{at.Kafka})

	l := &latencies{t: t, release: make(chan struct{}), receiver: newReceiver(t), sent: make(map[int]int), arrived: make(map[int]int)}
	slots := make(chan struct{}, floodedSlots)
	l.receiver.took = func(p post) {
		if p.endpoint%10 == 3 && l.hang.Load() {
			<-l.release
			return
		}
		if p.endpoint == 0 {
			slots <- struct{}{}
			time.Sleep(floodedTakes) // its work
			<-slots
		}
		l.note(p.endpoint, p.body, p.at)
	}
	t.Cleanup(func() {
		if l.hang.Load() {
			close(l.release)
		}
	})
	w.register(l.receiver, isolationEndpoints, func(i int) string { return "kind." + strconv.Itoa(i) },
		func(_ int, e *webhook.Endpoint) { e.Contract = "standard" })
	return w, l
}

var phase atomic.Int64

func (l *latencies) event(w *world, endpoint int) *kgo.Record {
	l.mu.Lock()
	l.sent[endpoint]++
	id := fmt.Sprintf("%d-%d", endpoint, l.sent[endpoint])
	l.mu.Unlock()
	data, err := json.Marshal(stamped{time.Now().UnixNano(), int(phase.Load())})
	if err != nil {
		panic(err)
	}
	return w.event(id, "kind."+strconv.Itoa(endpoint), data)
}

func (l *latencies) note(endpoint int, body []byte, at time.Time) {
	var s stamped
	if err := json.Unmarshal(body, &s); err != nil {
		l.t.Errorf("body %.80q: %v", body, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived[endpoint]++
	if endpoint == 0 {
		l.floodAt = append(l.floodAt, time.Now())
	} else if endpoint%10 != 3 && s.Phase == int(phase.Load()) {
		l.took = append(l.took, at.Sub(time.Unix(0, s.Produced)))
	}
}

// measure sends events to endpoints, one after the other, and returns the p99
// of the healthy ones. The first seconds don't count.
func (l *latencies) measure(ctx context.Context, w *world, name string, endpoints []int, perSecond float64) (p99 time.Duration) {
	l.t.Helper()
	send := func(d time.Duration) {
		err := w.produce(ctx, int(perSecond*d.Seconds()), perSecond, func(i int) *kgo.Record { return l.event(w, endpoints[i%len(endpoints)]) })
		if err != nil {
			l.t.Fatal(err)
		}
	}
	send(settling)
	l.mu.Lock()
	l.took = nil
	l.mu.Unlock()
	phase.Add(1)
	send(measuring)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.took) == 0 {
		l.t.Fatalf("%s: nothing arrived", name)
	}
	slices.Sort(l.took)
	at := func(q float64) time.Duration {
		return l.took[min(int(q*float64(len(l.took))), len(l.took)-1)].Round(10 * time.Microsecond)
	}
	l.t.Logf("%s: %d received, p50 %v, p95 %v, p99 %v, most %v", name, len(l.took), at(0.5), at(0.95), at(0.99), at(1))
	return at(0.99)
}

// drained waits until all that was sent to an endpoint has arrived, and
// returns how long after begun that was.
func (l *latencies) drained(ctx context.Context, endpoint int, begun time.Time) time.Duration {
	l.t.Helper()
	l.await(ctx, func() bool { return l.arrived[endpoint] >= l.sent[endpoint] })
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.floodAt[len(l.floodAt)-1].Sub(begun)
}

func (l *latencies) slowestSecond(begun time.Time) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	per := make(map[int]int)
	last := 0
	for _, at := range l.floodAt {
		if s := int(at.Sub(begun).Seconds()); at.After(begun) {
			per[s]++
			last = max(last, s)
		}
	}
	least := floodedCapacity * 10
	for s := 1; s < last; s++ { // the first and the last are not whole
		least = min(least, float64(per[s]))
	}
	return least
}

// allArrived waits until every event has arrived, those for the endpoints that
// had hung too.
func (l *latencies) allArrived(ctx context.Context) {
	l.t.Helper()
	l.await(ctx, func() bool {
		for e, n := range l.sent {
			if l.arrived[e] < n && e%10 != 3 {
				return false
			}
		}
		return true
	})
}

func (l *latencies) await(ctx context.Context, holds func() bool) {
	l.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		ok := holds()
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Fatalf("not all arrived in time: sent %v\narrived %v", l.sent, l.arrived)
		}
	}
}
