package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/lanes"
	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a dispatcher with everything around it in memory, in virtual time:
// a registry of endpoints, receivers that answer as the test says, and a Kafka
// that acknowledges at once unless told to fail.
type bench struct {
	t *testing.T
	*Dispatcher
	offset atomic.Int64

	mu        sync.Mutex
	endpoints map[string]Endpoint // by ID
	version   int64               // the registry's position
	asking    int                 // calls of WaitReached under way
	asked     int                 // and at most
	reached   chan struct{}       // closed and made anew when version changes
	contracts map[string]*Contract
	answer    func(ctx context.Context, endpoint string, n int) send.Result
	posts     []post
	changes   []breaker.State

	settled []*webhook.Settlement
	waited  []time.Duration // what the observer was told
	puts    []put
	dead    []grave
	fail    func(what string) error // "record", "put", "dead"
	inOrder bool                    // acknowledge within Produce, not later
}

type post struct {
	at       time.Time
	endpoint string
	body     string
}

type put struct {
	*webhook.Delivery
	at time.Time // of the produce
}

type grave struct {
	*webhook.Delivery
	reason webhook.Reason
	status int
}

var errKafka = errors.New("refused for good")

// dispatching runs a test with a dispatcher in a bubble.
func dispatching(t *testing.T, change func(*Config), f func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, endpoints: make(map[string]Endpoint), reached: make(chan struct{}),
			answer: func(context.Context, string, int) send.Result { return status(200) }}
		b.contracts = map[string]*Contract{
			"standard": {Timeout: 15 * time.Second, Retryable: func(s int) bool { return s != 410 }},
			"bunjang": {Timeout: 10 * time.Second, Retryable: func(s int) bool { return s == 0 || s == 429 || s >= 500 },
				Schedule:  []time.Duration{},
				Immediate: &Immediate{Tries: 3, Initial: time.Second, Multiplier: 2, Jitter: 0.5, Within: time.Minute}},
		}
		cfg := Config{
			Directory: (*benchDirectory)(b), Sender: (*benchSender)(b), Retries: (*benchKafka)(b), Recorder: (*benchKafka)(b),
			Spans: noSpans{}, Observer: (*benchObserver)(b), Log: slog.New(slog.DiscardHandler),
			Schedule: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute},
			Parks:    []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute},
			MaxAge:   24 * time.Hour, SmallestTier: 5 * time.Second, LongestTimeout: 15 * time.Second, ByteBudget: 64 << 20,
		}
		if change != nil {
			change(&cfg)
		}
		var err error
		if b.Dispatcher, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { b.Run(ctx) })
		defer func() {
			over, cancel := context.WithCancel(context.Background())
			cancel()
			b.Drain(over) // whatever the test left in flight
			stop()
			running.Wait()
		}()
		f(b)
	})
}

func status(code int) send.Result {
	return send.Result{Status: code, StartedAt: time.Now(), Stage: send.StageAnswer}
}

// after answers when that time has passed, or is cut with ctx.
func after(ctx context.Context, d time.Duration, r send.Result) send.Result {
	select {
	case <-time.After(d):
		r.Duration = d
		return r
	case <-ctx.Done():
		return send.Result{Err: ctx.Err(), Cut: true, Stage: send.StageWait}
	}
}

func timeout(ctx context.Context) send.Result {
	return after(ctx, 15*time.Second, send.Result{Err: send.ErrTimeout, Stage: send.StageWait})
}

// hold is a lease that the test ends.
type hold struct {
	live, crowded, ended atomic.Bool
	failures             atomic.Int32
}

func newLease() *hold {
	h := new(hold)
	h.live.Store(true)
	return h
}

func (h *hold) Live(time.Time) bool    { return h.live.Load() && !h.ended.Load() }
func (h *hold) Crowded(time.Time) bool { return h.crowded.Load() }
func (h *hold) Ended() bool            { return h.ended.Load() }
func (h *hold) Fail(error)             { h.failures.Add(1) }

// done is a ticket.
type done struct{ times atomic.Int32 }

func (d *done) Done() { d.times.Add(1) }

func (b *bench) endpoint(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endpoints[id] = Endpoint{URL: &url.URL{Scheme: "http", Host: "hooks.example.com", Path: "/" + id}}
}

// delivery makes the delivery of an event of that name.
func (b *bench) delivery(event, endpoint string) *webhook.Delivery {
	now := time.Now()
	return &webhook.Delivery{ID: webhook.DeliveryID("test", event, endpoint), EventID: event, EndpointID: endpoint, Contract: "standard",
		BegunAt: now, MatchedAt: now, Body: []byte(event)}
}

// take hands deliveries in and returns their tickets.
func (b *bench) take(l Lease, ds ...*webhook.Delivery) []*done {
	jobs := make([]Job, 0, len(ds))
	tickets := make([]*done, 0, len(ds))
	for _, d := range ds {
		ticket := new(done)
		tickets = append(tickets, ticket)
		jobs = append(jobs, Job{Delivery: d, Ticket: ticket, Record: webhook.Position{Topic: "deliveries", Offset: b.offset.Add(1)}})
	}
	b.Take(l, jobs)
	return tickets
}

// many makes numbered deliveries to one endpoint.
func (b *bench) many(n int, endpoint string) (ds []*webhook.Delivery) {
	for i := range n {
		ds = append(ds, b.delivery(fmt.Sprint(endpoint, "/", i), endpoint))
	}
	return ds
}

func finished(tickets []*done) (n int) {
	for _, t := range tickets {
		n += int(t.times.Load())
	}
	return n
}

func (b *bench) setAnswer(f func(ctx context.Context, endpoint string, n int) send.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

func (b *bench) postsTo(endpoint string) (ps []post) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.posts {
		if endpoint == "" || p.endpoint == endpoint {
			ps = append(ps, p)
		}
	}
	return ps
}

func (b *bench) settlements(kind webhook.Kind) (ss []*webhook.Settlement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.settled {
		if kind == "" || s.Kind == kind {
			ss = append(ss, s)
		}
	}
	return ss
}

func (b *bench) putBack() []put {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]put{}, b.puts...)
}

func (b *bench) graves() []grave {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]grave{}, b.dead...)
}

// release ends leases as a handover does, and returns how long that took.
func (b *bench) release(within time.Duration, ls ...Lease) time.Duration {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	b.Release(ctx, ls)
	return time.Since(begun)
}

type benchDirectory bench

func (d *benchDirectory) Reached(v webhook.RegistryVersion) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version >= v.Offset
}

func (d *benchDirectory) WaitReached(ctx context.Context, v webhook.RegistryVersion) error {
	ask := func(n int) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asking += n
		d.asked = max(d.asked, d.asking)
	}
	ask(1)
	defer ask(-1)
	for {
		d.mu.Lock()
		ok, changed := d.version >= v.Offset, d.reached
		d.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waiting returns how many calls wait for the registry, and how many did at most.
func (b *bench) waiting() (now, most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asking, b.asked
}

func (b *bench) advance(version int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version = version
	close(b.reached)
	b.reached = make(chan struct{})
}

func (d *benchDirectory) Endpoint(id string) (Endpoint, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.endpoints[id]
	return e, ok
}

func (d *benchDirectory) Contract(name string) (*Contract, bool) {
	c, ok := d.contracts[name]
	return c, ok
}

func (d *benchDirectory) Sign(*webhook.Delivery, Endpoint, time.Time) (http.Header, error) {
	return http.Header{}, nil
}

type benchSender bench

func (s *benchSender) Do(ctx context.Context, r *send.Request) send.Result {
	endpoint := strings.TrimPrefix(r.URL.Path, "/")
	s.mu.Lock()
	n := 0
	for _, p := range s.posts {
		if p.endpoint == endpoint {
			n++
		}
	}
	s.posts = append(s.posts, post{time.Now(), endpoint, string(r.Body)})
	answer := s.answer
	s.mu.Unlock()
	return answer(ctx, endpoint, n)
}

type benchKafka bench

func (k *benchKafka) ack(what string, done func(error), keep func()) {
	k.mu.Lock()
	var err error
	if k.fail != nil {
		err = k.fail(what)
	}
	if err == nil {
		keep()
	}
	inOrder := k.inOrder
	k.mu.Unlock()
	if inOrder {
		done(err)
		return
	}
	go done(err)
}

func (k *benchKafka) Put(d *webhook.Delivery, now time.Time, done func(error)) {
	k.ack("put", done, func() { k.puts = append(k.puts, put{d, now}) })
}

func (k *benchKafka) Dead(d *webhook.Delivery, reason webhook.Reason, status int, done func(error)) {
	k.ack("dead", done, func() { k.dead = append(k.dead, grave{d, reason, status}) })
}

func (k *benchKafka) Record(s *webhook.Settlement, done func(error)) {
	k.ack("record", done, func() { k.settled = append(k.settled, s) })
}

type noSpans struct{}

func (noSpans) Attempt(ctx context.Context, _ *webhook.Delivery, _ *url.URL) (context.Context, string, func(*webhook.Settlement)) {
	return ctx, "", func(*webhook.Settlement) {}
}

type benchObserver bench

func (o *benchObserver) Settled(*webhook.Settlement) {}
func (o *benchObserver) Started(_ *webhook.Delivery, waited time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waited = append(o.waited, waited)
}
func (o *benchObserver) BreakerChanged(_ string, to breaker.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, to)
}

func laneOf(b *bench, key string) lanes.LaneStats {
	b.Dispatcher.mu.Lock()
	defer b.Dispatcher.mu.Unlock()
	s, _ := b.lanes.Lane(key)
	return s
}

func heldBytes(b *bench) int64 {
	b.Dispatcher.mu.Lock()
	defer b.Dispatcher.mu.Unlock()
	return b.bytes
}
