// Package dispatcher takes deliveries to their endpoints: it holds what is not
// due, queues it in the endpoint's lane, asks the breaker, signs, POSTs,
// classifies what came back, and settles: a record for the ledger, and a retry
// or a dead letter where one follows. A delivery is done when all of that is
// acknowledged.
//
// Locks: [Dispatcher.mu] covers bookkeeping alone. What it decides is collected
// as actions and carried out after it is released; nothing is produced or sent
// under it.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/lanes"
	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

// Lease is the assignment that a delivery was read under.
type Lease interface {
	// Live reports whether the delivery may still be acted on.
	Live(now time.Time) bool
	// Crowded reports whether new POSTs have to wait for a commit.
	Crowded(now time.Time) bool
	// Ended reports whether the assignment is over: nothing is produced for it
	// any more but the record of a POST that did happen.
	Ended() bool
	// Fail has the partition read again from its commit.
	Fail(err error)
}

// Ticket is the duty to finish a record.
type Ticket interface{ Done() }

// Job is a delivery record to be worked on.
type Job struct {
	Delivery *webhook.Delivery
	Record   webhook.Position
	Ticket   Ticket
}

// Endpoint is an endpoint as sending sees it.
type Endpoint struct {
	URL         *url.URL
	Disabled    bool
	Suspended   bool    // its tenant is
	RateLimit   float64 // POSTs per second; 0: none
	MaxInFlight int     // 0: the line's own
	// Parked is why nothing is POSTed for now, though it shall be later; "" if
	// nothing speaks against it.
	Parked webhook.Reason
	// PurgeBefore is up to when the endpoint's backlog was last purged: what was
	// matched before is discarded; and Purged is when that was asked for. Zero: never.
	PurgeBefore, Purged time.Time
	// BreakerOpen says that an earlier owner left the breaker open.
	BreakerOpen bool
	// Ref is the directory's own; it comes back in [Directory.Sign].
	Ref any
}

// Directory knows endpoints and contracts.
type Directory interface {
	// Reached reports whether the registry has passed that version.
	Reached(v webhook.RegistryVersion) bool
	// WaitReached blocks until it has.
	WaitReached(ctx context.Context, v webhook.RegistryVersion) error
	Endpoint(id string) (Endpoint, bool)
	Contract(name string) (*Contract, bool)
	// Sign builds the headers of an attempt that begins at that time.
	Sign(d *webhook.Delivery, e Endpoint, at time.Time) (http.Header, error)
}

// Sender makes POSTs.
type Sender interface {
	Do(ctx context.Context, r *send.Request) send.Result
}

// Retries is where deliveries go that come again, or never.
type Retries interface {
	Put(d *webhook.Delivery, now time.Time, done func(error))
	Dead(d *webhook.Delivery, reason webhook.Reason, status int, done func(error))
}

// Recorder writes settlements.
type Recorder interface {
	Record(s *webhook.Settlement, done func(error))
}

// Spans traces attempts.
type Spans interface {
	// Attempt begins the span of one attempt; end is called once.
	Attempt(ctx context.Context, d *webhook.Delivery, u *url.URL) (_ context.Context, traceID string, end func(s *webhook.Settlement))
}

// Observer is told what happens, for metrics and the registry. Methods must
// not block.
type Observer interface {
	// Started is told of the first POST of a run, and how long the delivery had
	// waited since it was matched: without the time in its endpoint's lane, for its
	// turn or its rate.
	Started(d *webhook.Delivery, waited time.Duration)
	Settled(s *webhook.Settlement)
	BreakerChanged(endpointID string, to breaker.State)
}

// Config of a [Dispatcher].
type Config struct {
	Directory Directory
	Sender    Sender
	Retries   Retries
	Recorder  Recorder
	Spans     Spans
	Observer  Observer
	Log       *slog.Logger

	Lanes   lanes.Config
	Breaker breaker.Config
	// Schedule is the delays between attempts where a contract has none.
	Schedule []time.Duration
	// Parks is how long a delivery is put back when its lane makes no
	// progress: the first time, the second, …, the last over and over.
	Parks []time.Duration
	// MaxAge is how old a run may get, from its match to an attempt.
	MaxAge time.Duration
	// SmallestTier is the shortest wait that takes a delivery off the topic of
	// deliveries. Whatever is put back unsent waits that long, and 5 s, at
	// least: it would come straight back to the owner that has no room for it.
	SmallestTier time.Duration
	// LongestTimeout is that of any contract: breakers have to look back
	// further.
	LongestTimeout time.Duration
	// ByteBudget bounds what the process holds of deliveries, in bytes.
	ByteBudget int64
}

// Validate reports what is missing or out of range.
func (c *Config) Validate() error {
	var errs []error
	for _, need := range []struct {
		ok   bool
		what string
	}{
		{c.Directory != nil, "Directory"}, {c.Sender != nil, "Sender"}, {c.Retries != nil, "Retries"},
		{c.Recorder != nil, "Recorder"}, {c.Spans != nil, "Spans"}, {c.Observer != nil, "Observer"}, {c.Log != nil, "Log"},
		{len(c.Parks) > 0, "Parks"}, {c.MaxAge > 0, "MaxAge"}, {c.SmallestTier > 0, "SmallestTier"}, {c.ByteBudget > 0, "ByteBudget"},
	} {
		if !need.ok {
			errs = append(errs, fmt.Errorf("dispatcher: %s is required", need.what))
		}
	}
	return errors.Join(errs...)
}

const (
	// holdsPerLease bounds the deliveries that wait on timers; what is beyond
	// goes back to the smallest tier, late and counted.
	holdsPerLease = 10_000
	// heldShare is the part of the byte budget that may wait on timers, and
	// heldShareEach that of one endpoint: timers are the receivers' to set
	// (Retry-After), and what is held must not keep others from being read.
	heldShare, heldShareEach = 8, 64
	// suspectShare is the part of the byte budget that an endpoint's queue may
	// take before its first success, or when it does nothing but fail.
	suspectShare = 64
	// waitersPerEndpoint bounds the immediate retries of one endpoint.
	waitersPerEndpoint = 64
	// blockedFor is how often a lease is asked again that may not be acted on,
	// or whose commit is late.
	blockedFor = 50 * time.Millisecond
	// stalledEvery is how often hanging lanes are looked for, and those that keep
	// what they queue for too long.
	stalledEvery = 250 * time.Millisecond
	// sweepPart is the part of the breakers that is looked at each time: all
	// within half a minute.
	sweepPart = 120
	// jobOverhead is what a delivery costs besides its body.
	jobOverhead = 1 << 10
	// slowQueue is how long a lane may need for its queue while half of the
	// byte budget is used up; a slower one puts back what it can't start, and so
	// does one of unknown pace. So a budget that is used up is given back soon.
	slowQueue = time.Second
	// aheadOfTime is how far beyond max_age a delivery may be due; later it is
	// not ours to wait for (a receiver's Retry-After is granted a day).
	aheadOfTime = 48 * time.Hour
	// longWait is what an immediate retry may wait in the process: the
	// receiver may have asked for more.
	longWait = 15 * time.Second
	// leastAway is the least wait of what is put back, where tiers are shorter:
	// each turn of a delivery costs three records.
	leastAway = 5 * time.Second
)

// Dispatcher delivers the records of any number of leases. It is safe for
// concurrent use.
type Dispatcher struct {
	cfg      Config
	away     time.Duration // the least wait of what leaves its owner
	breakers *breaker.Set

	mu       sync.Mutex
	room     *sync.Cond
	lanes    *lanes.Set[*job]
	held     holds
	heldSize int64            // bytes of what is held
	heldBy   map[string]int64 // the same by endpoint
	waiters  map[string]int   // immediate retries by endpoint
	leases   map[Lease]*leaseState
	blocked  map[*leaseState]struct{} // those with jobs that wait for their lease
	bytes    int64
	draining bool
	wake     chan struct{} // an earlier timer is needed
	posts    chan *job     // to goroutines that have made a POST and wait for another
	ended    chan struct{} // closed when Run has
	wakeAt   time.Time     // what Run waits for

	startsMu    sync.Mutex // innermost
	starts      *starts
	startsTimer *time.Timer // runs grownOld
	startsAt    time.Time   // when; zero: not set
}

// leaseState is what the dispatcher knows of a lease.
type leaseState struct {
	lease  Lease
	ctx    context.Context // of its POSTs; cancelled to cut them short
	cancel context.CancelFunc
	// closing means that nothing starts any more. It is set under the lock, and a POST
	// that is about to begin looks at it without.
	closing atomic.Bool
	held    int
	blocked []*job // wait until the lease may be acted on again
	// behind are the jobs that were matched by a registry newer than ours, by
	// its topic's ID; each entry has one goroutine waiting for it.
	behind map[[16]byte][]*job
	open   int           // jobs that are being sent, settled or put back
	idle   chan struct{} // closed when closing and open is 0
}

// job is one delivery in the dispatcher's hands.
type job struct {
	d      *webhook.Delivery
	record webhook.Position
	ticket Ticket
	state  *leaseState
	size   int64

	offered    time.Time // to its lane, the first time
	started    time.Time // when the lane gave its slot
	youngSince time.Time // of starts
	due        time.Time
	heldAt     int       // 1 + place in the heap; 0: not held
	immediate  bool      // held as an immediate retry
	firstStart time.Time // of the first of a chain of immediate attempts

	allowed func(breaker.Verdict) // the breaker's leave, to be given back once
	target  Endpoint
}

// New makes a dispatcher. [Dispatcher.Run] must run beside it.
func New(cfg Config) (*Dispatcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	away := max(leastAway, cfg.SmallestTier)
	cfg.Lanes.MinTurn = max(cfg.Lanes.MinTurn, away)
	if cfg.Lanes.QueueBytes == 0 {
		cfg.Lanes.QueueBytes = lanes.DefaultQueueBytes
	}
	if cfg.Lanes.SuspectBytes == 0 {
		cfg.Lanes.SuspectBytes = int(max(1, min(int64(cfg.Lanes.QueueBytes), cfg.ByteBudget/suspectShare)))
	}
	set, err := lanes.New[*job](cfg.Lanes)
	if err != nil {
		return nil, fmt.Errorf("making lanes: %w", err)
	}
	breakers, err := breaker.NewSet(cfg.Breaker, cfg.LongestTimeout)
	if err != nil {
		return nil, fmt.Errorf("making breakers: %w", err)
	}
	d := &Dispatcher{cfg: cfg, away: away, breakers: breakers, lanes: set,
		waiters: make(map[string]int), heldBy: make(map[string]int64), leases: make(map[Lease]*leaseState),
		blocked: make(map[*leaseState]struct{}), wake: make(chan struct{}, 1), posts: make(chan *job), ended: make(chan struct{}),
		wakeAt: time.Now().AddDate(1, 0, 0)} // until Run has looked, everything is worth a nudge
	d.room = sync.NewCond(&d.mu)
	d.starts = newStarts(youngEach * runtime.GOMAXPROCS(0))
	d.startsTimer = time.AfterFunc(time.Hour, d.grownOld)
	d.startsTimer.Stop()
	return d, nil
}

// Room blocks while the byte budget is used up.
func (d *Dispatcher) Room(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.room.Broadcast()
	})
	defer stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.bytes >= d.cfg.ByteBudget && ctx.Err() == nil {
		d.room.Wait()
	}
	return ctx.Err()
}

// Run moves what becomes due, parks what hangs and puts back what is queued for
// too long, until ctx ends. It is called once.
func (d *Dispatcher) Run(ctx context.Context) {
	defer close(d.ended)
	timer := time.NewTimer(stalledEvery)
	defer timer.Stop()
	looked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-d.breakers.Changed():
		case <-timer.C:
		}
		now := time.Now()
		var acts []action
		d.mu.Lock()
		for _, j := range d.held.takeDue(now, nil) {
			d.unheld(j)
			d.admit(now, j, &acts)
		}
		d.unblock(now, &acts)
		d.start(now, d.lanes.Due(now, nil), &acts)
		if now.Sub(looked) >= stalledEvery {
			looked = now
			d.breakers.Sweep(d.breakers.Len()/sweepPart + 1)
			for _, key := range d.lanes.Stalled(now, nil) {
				d.parkAll(d.lanes.Shed(key, nil), now, webhook.ReasonLaneStalled, &acts)
			}
			for _, key := range d.lanes.Overlong(now, nil) {
				d.putBack(d.lanes.Trim(now, key, nil), now, webhook.ReasonLaneFull, func(j *job) time.Duration { return d.wayBack(now, j) }, &acts)
			}
		}
		next := looked.Add(stalledEvery)
		if at, ok := d.held.next(); ok && at.Before(next) {
			next = at
		}
		if at := now.Add(blockedFor); len(d.blocked) > 0 && at.Before(next) {
			next = at
		}
		if at, ok := d.lanes.NextDue(); ok && at.Before(next) {
			next = at
		}
		d.wakeAt = next
		d.mu.Unlock()
		d.carryOut(acts)
		for _, c := range d.breakers.Changes() {
			d.cfg.Observer.BreakerChanged(c.Key, c.To)
		}
		timer.Reset(max(time.Until(next), 0))
	}
}

// lanesChanged has Run wake in time for a lane that may start something. It is
// asked after every call that changed the lanes; the lock is held.
func (d *Dispatcher) lanesChanged() {
	if at, ok := d.lanes.NextDue(); ok && at.Before(d.wakeAt) {
		d.nudge()
	}
}

// nudge has Run look at its timers again.
func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Stats returns the state of the lanes, and how many deliveries wait on
// timers.
func (d *Dispatcher) Stats() (s lanes.Stats, held int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lanes.Stats(), len(d.held)
}
