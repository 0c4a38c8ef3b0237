package replay

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/webhook"
)

// office is what jobs work with, in memory: a registry, a line whose deliveries
// are done at once, and sources of numbered items.
type office struct {
	mu       sync.Mutex
	replays  map[string]*webhook.Replay
	progress map[string]webhook.ReplayProgress
	trickle  map[string]bool // endpoints whose breaker is open
	put      map[string]int  // deliveries by endpoint
}

func (o *office) WaitCurrent(ctx context.Context) error { return ctx.Err() }
func (o *office) Version() (v webhook.RegistryVersion)  { return v }
func (o *office) Matches(*webhook.Event) bool           { return true }
func (o *office) with(f func())                         { o.mu.Lock(); defer o.mu.Unlock(); f() }
func (o *office) change(key string, f func(*webhook.Replay)) {
	o.with(func() {
		r := *o.replays[key]
		f(&r)
		o.replays[key] = &r
	})
}

func (o *office) Replay(key string) (r *webhook.Replay, ok bool) {
	o.with(func() { r, ok = o.replays[key] })
	return r, ok
}

func (o *office) Progress(key string) (*webhook.ReplayProgress, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p, ok := o.progress[key]
	return &p, ok
}

func (o *office) Save(_ context.Context, key string, p *webhook.ReplayProgress) error {
	o.with(func() { o.progress[key] = *p })
	return nil
}

func (o *office) Target(id string) (to Target, ok bool) {
	o.with(func() { to = Target{Trickle: o.trickle[id], Matches: o.Matches} })
	return to, true
}

func (o *office) Put(_ context.Context, ds []*webhook.Delivery) ([]int64, error) {
	o.with(func() { o.put[ds[0].EndpointID] += len(ds) })
	return make([]int64, len(ds)), nil
}

func (o *office) Finished(context.Context, string) (func(int64) bool, error) {
	return func(int64) bool { return true }, nil
}

func (o *office) state(key string) (state string) {
	o.with(func() { state = o.progress[key].State })
	return state
}

func (o *office) delivered(endpoint string) (n int) {
	o.with(func() { n = o.put[endpoint] })
	return n
}

// numbers is a source of so many items.
type numbers struct{ of, read, passed int }

func (n *numbers) Next(context.Context, Target) (Batch, error) {
	var b Batch
	for ; n.read < n.of && len(b.Items) < 10; n.read++ {
		b.Items = append(b.Items, Item{next: int64(n.read) + 1})
	}
	b.Scanned, b.Finished = len(b.Items), n.read == n.of
	return b, nil
}
func (n *numbers) Passed(i Item)                      { n.passed = int(i.next) }
func (n *numbers) PassedAll()                         { n.passed = n.read }
func (n *numbers) Rewind()                            { n.read = n.passed }
func (n *numbers) Tell(*webhook.ReplayProgress) error { return nil }

// held is a lease that is live until it is said otherwise.
type held struct{ dead atomic.Bool }

func (h *held) Live(time.Time) bool { return !h.dead.Load() }
func (h *held) Ended() bool         { return false }
func (h *held) Fail(error)          {}

// replay registers a replay to an endpoint of its own, of the same name.
func (o *office) replay(name string, rate float64) {
	o.with(func() {
		o.replays[name] = &webhook.Replay{ID: name, Tenant: "acme", EndpointID: name, Kind: webhook.ReplayEvents, Rate: rate, Run: 1}
	})
}

// inOffice starts jobs with so many items each, whose process has so many slots.
func inOffice(t *testing.T, items, slots int, f func(o *office, lease *held, begin func(key string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := &office{replays: map[string]*webhook.Replay{}, progress: map[string]webhook.ReplayProgress{}, trickle: map[string]bool{}, put: map[string]int{}}
		cfg := &Config{Registry: o, Line: o, Waits: NewWaits(), Log: slog.New(slog.DiscardHandler),
			Source: func(context.Context, *webhook.Replay, *webhook.ReplayProgress) (Source, error) {
				return &numbers{of: items}, nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		lease, yield, free := new(held), NewYield(cfg.Waits), make(chan struct{}, slots)
		f(o, lease, func(key string) {
			wait.Go(func() { (&job{cfg: cfg, key: key, lease: lease, slots: free, yield: yield}).run(ctx) })
		})
		cancel()
		wait.Wait()
	})
}

func TestAReplayThatWaitsForItsTurnCanBeCancelled(t *testing.T) {
	inOffice(t, 10_000, 1, func(o *office, _ *held, begin func(string)) {
		for _, name := range []string{"first", "second"} {
			o.replay(name, 1)
			begin(name)
			time.Sleep(time.Second)
		}
		o.change("second", func(r *webhook.Replay) { r.Cancelled = true })
		time.Sleep(time.Second)
		if state := o.state("second"); state != webhook.ReplayCancelled || o.delivered("second") > 0 {
			t.Errorf("it is %q", state)
		}
	})
}

func TestASlowReplayPaysNoRestForEachDelivery(t *testing.T) {
	inOffice(t, 10_000, 1, func(o *office, _ *held, begin func(string)) {
		o.replay("r", 0.8)
		begin("r")
		time.Sleep(100 * time.Second)
		if n := o.delivered("r"); n < 70 {
			t.Errorf("%d in 100 s at 0.8 a second", n)
		}
	})
}

func TestReplaysToEndpointsWithOpenBreakersKeepNobodyWaiting(t *testing.T) {
	inOffice(t, 100, 2, func(o *office, _ *held, begin func(string)) {
		for i := range 5 {
			name := fmt.Sprint("sick", i)
			o.replay(name, 100)
			o.with(func() { o.trickle[name] = true })
			begin(name)
		}
		time.Sleep(time.Minute)
		o.replay("well", 100)
		begin("well")
		time.Sleep(time.Minute)
		if state := o.state("well"); state != webhook.ReplayCompleted || o.delivered("well") != 100 {
			t.Errorf("%q after a minute, with %d of 100", state, o.delivered("well"))
		}
		for i := range 5 {
			if n := o.delivered(fmt.Sprint("sick", i)); n < 10 || n > 13 {
				t.Errorf("%d in two minutes, want one in ten seconds", n)
			}
		}
	})
}

func TestAnOwnerThatWasSuspendedDoesNotOverwriteWhatItsSuccessorSaved(t *testing.T) {
	inOffice(t, 100, 1, func(o *office, lease *held, begin func(string)) {
		o.replay("r", 1)
		begin("r")
		time.Sleep(10 * time.Second)
		lease.dead.Store(true)
		o.with(func() { o.progress["r"] = webhook.ReplayProgress{State: webhook.ReplayCompleted} })
		// It looks at the wishes first of all.
		o.change("r", func(r *webhook.Replay) { r.Paused = true })
		time.Sleep(10 * time.Second)
		o.change("r", func(r *webhook.Replay) { r.Paused, r.Cancelled = false, true })
		time.Sleep(10 * time.Second)
		if state := o.state("r"); state != webhook.ReplayCompleted {
			t.Errorf("it is %q", state)
		}
		lease.dead.Store(false)
	})
}
