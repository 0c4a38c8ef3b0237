// Package breaker keeps a circuit breaker per endpoint, so that an endpoint
// which mostly fails is left alone for a while: no HTTP request is made and no
// attempt spent.
//
// The breakers are [gobreaker] two-step breakers over a rolling window. Three of
// its properties shape this package:
//
//   - A half-open breaker counts what it has let through: one request whose end
//     is never reported keeps it from ever deciding. So every Allow comes with a
//     done that must be called, and what was let through but never sent is
//     reported as [Excluded], which gives its place back.
//   - Its callback on state changes runs under its mutex. Ours only notes the
//     change; see [Set.Changes].
//   - A breaker can't be restored to a state. The next owner of an endpoint
//     begins with a closed one and learns for itself.
//
// A request counts in the window in which it began, and nowhere if that has
// passed when it ends. So the window must be longer than requests may take, or
// an endpoint that only times out would never be judged.
package breaker

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Config is the shape of the breakers. The zero value of a field means its
// default.
type Config struct {
	// Window is the stretch of time that is judged, and Bucket the step in which
	// it rolls; defaults 2 min and 10 s. Window is rounded up to whole buckets.
	// The default holds ten timeouts of 15 s of a lane that narrows to a single
	// probe: four at once, then six in a row, take 105 s.
	Window, Bucket time.Duration
	// MinRequests is how many requests of the window must have ended before it
	// is judged; default 10.
	MinRequests int
	// FailureRatio opens the breaker once this part of the requests that ended
	// in the window failed, in (0, 1]; default 0.5.
	FailureRatio float64
	// OpenFor is how long a breaker stays open before it lets probes through;
	// default 30 s.
	OpenFor time.Duration
	// Probes is how many requests a half-open breaker lets through at once, and
	// how many must succeed in a row to close it; default 2.
	Probes int
}

func or[N int | float64 | time.Duration](v, def N) N {
	if v == 0 {
		return def
	}
	return v
}

func (c Config) withDefaults() Config {
	c.Window = or(c.Window, 2*time.Minute)
	c.Bucket = or(c.Bucket, c.Window/12)
	c.MinRequests = or(c.MinRequests, 10)
	c.FailureRatio = or(c.FailureRatio, 0.5)
	c.OpenFor = or(c.OpenFor, 30*time.Second)
	c.Probes = or(c.Probes, 2)
	return c
}

// maxBuckets bounds what a breaker weighs: a bucket is 24 bytes.
const maxBuckets = 120

// Validate reports every field that is out of its range, after defaults.
// longest is the longest that a request may take (the highest timeout of any
// contract); 0 leaves that out.
func (c Config) Validate(longest time.Duration) error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("breaker: "+format, args...))
		}
	}
	// With one bucket gobreaker's window is fixed: it forgets all at once.
	check(c.Bucket > 0 && c.Window >= 2*c.Bucket,
		"Window is %v and Bucket %v, want at least two buckets in a window", c.Window, c.Bucket)
	if c.Bucket > 0 {
		check(c.Window/c.Bucket <= maxBuckets, "Window is %v and Bucket %v, want at most %d buckets", c.Window, c.Bucket, maxBuckets)
	}
	check(c.Window >= longest+c.Bucket, "Window is %v, want at least the longest request (%v) and a bucket (%v): what took longer would never count", c.Window, longest, c.Bucket)
	check(c.MinRequests >= 1, "MinRequests is %d, want at least 1", c.MinRequests)
	check(c.FailureRatio > 0 && c.FailureRatio <= 1, "FailureRatio is %v, want a part in (0, 1]", c.FailureRatio)
	check(c.OpenFor > 0, "OpenFor is %v, want more than 0", c.OpenFor)
	check(c.Probes >= 1 && c.Probes <= 1000, "Probes is %d, want 1 to 1000", c.Probes)
	return errors.Join(errs...)
}

// Verdict is how a request that was let through ended. What counts as a failure
// is for the caller to say.
type Verdict uint8

// The verdicts.
const (
	Success  Verdict = iota + 1
	Failure          // counts against the endpoint
	Excluded         // says nothing about it: never sent, or cut short by us
)

// Errors that stand for verdicts in gobreaker, which knows errors only.
var (
	errFailure  = errors.New("failure")
	errExcluded = errors.New("excluded")
)

// State is the state of a breaker. Its String is "closed", "half-open" or "open".
type State = gobreaker.State

// The states.
const (
	Closed   = gobreaker.StateClosed
	HalfOpen = gobreaker.StateHalfOpen
	Open     = gobreaker.StateOpen
)

// Set is the breakers of all endpoints that a process owns. It is safe for
// concurrent use. Its times are those of time.Now, which gobreaker reads.
//
// Lock order: Set.mu, then a breaker's own mutex, then notes.mu.
type Set struct {
	cfg      Config
	settings gobreaker.Settings

	mu       sync.Mutex
	breakers map[string]*entry
	order    []*entry // all of them, for the sweep
	hand     int      // where the sweep goes on

	notes notes
}

type entry struct {
	key     string
	at      int // its index in Set.order
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	// pending counts requests let through whose done is still to come. It rises
	// under Set.mu only, so that the sweep never drops a breaker in use.
	pending atomic.Int64
}

// NewSet returns an empty set. longest is the longest that a request may take;
// see [Config.Validate], whose error it returns.
func NewSet(c Config, longest time.Duration) (*Set, error) {
	if err := c.Validate(longest); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	s := &Set{cfg: c, breakers: make(map[string]*entry)}
	s.notes.wake = make(chan struct{}, 1)
	s.settings = gobreaker.Settings{
		MaxRequests:   uint32(c.Probes),
		Interval:      c.Window,
		BucketPeriod:  c.Bucket,
		Timeout:       c.OpenFor,
		ReadyToTrip:   s.trips,
		IsExcluded:    func(err error) bool { return errors.Is(err, errExcluded) },
		OnStateChange: s.notes.add,
	}
	return s, nil
}

// trips judges requests that ended, not those still out, so that a burst in
// flight doesn't dilute the failures that it will turn out to be.
func (s *Set) trips(c gobreaker.Counts) bool {
	ended := uint64(c.TotalSuccesses) + uint64(c.TotalFailures)
	return ended >= uint64(s.cfg.MinRequests) && float64(c.TotalFailures) >= s.cfg.FailureRatio*float64(ended)
}

// Allow asks whether a request may be made to the endpoint. If ok, done must be
// called with how it ended, exactly once (more calls are ignored), however long
// that takes; otherwise done is nil.
func (s *Set) Allow(key string) (done func(Verdict), ok bool) {
	s.mu.Lock()
	e := s.breakers[key]
	if e == nil {
		e = s.add(key)
	}
	e.pending.Add(1)
	s.mu.Unlock()

	report, err := e.breaker.Allow()
	if err != nil {
		e.pending.Add(-1)
		return nil, false
	}
	var called atomic.Bool
	return func(v Verdict) {
		if called.Swap(true) {
			return
		}
		switch v {
		case Success:
			report(nil)
		case Excluded:
			report(errExcluded)
		default:
			report(errFailure)
		}
		e.pending.Add(-1)
	}, true
}

// State returns the endpoint's state; Closed for one that has no breaker.
func (s *Set) State(key string) State {
	s.mu.Lock()
	e := s.breakers[key]
	s.mu.Unlock()
	if e == nil {
		return Closed
	}
	return e.breaker.State()
}

// Len returns how many breakers there are.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.order)
}

// add makes a breaker and looks whether two others can go: the set can't grow
// without shrinking by what it no longer needs. Holds mu.
func (s *Set) add(key string) *entry {
	s.sweep(2)
	settings := s.settings
	settings.Name = strings.Clone(key) // keys may be slices of whole fetches
	e := &entry{key: settings.Name, at: len(s.order), breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](settings)}
	s.breakers[e.key] = e
	s.order = append(s.order, e)
	return e
}

// Sweep looks at the next n breakers, drops those that are closed, empty and
// not in use, and returns how many it dropped. A breaker becomes empty when
// nothing has been let through for a window. Call it on a timer with a part of
// Len, so that a quiet set shrinks too.
func (s *Set) Sweep(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sweep(n)
}

func (s *Set) sweep(n int) (dropped int) {
	for range min(n, len(s.order)) {
		if s.hand >= len(s.order) {
			s.hand = 0
		}
		e := s.order[s.hand]
		// State first: it rolls the window on, which Counts doesn't.
		if e.pending.Load() > 0 || e.breaker.State() != Closed || e.breaker.Counts() != (gobreaker.Counts{}) {
			s.hand++
			continue
		}
		s.drop(e)
		dropped++
	}
	return dropped
}

// Forget drops the endpoint's breaker, whatever its state: for an endpoint that
// was deleted, or whose partition went to another owner. What was let through
// before may still be reported, to no effect.
func (s *Set) Forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.breakers[key]; e != nil {
		s.drop(e)
	}
}

func (s *Set) drop(e *entry) {
	last := len(s.order) - 1
	s.order[e.at] = s.order[last]
	s.order[e.at].at = e.at
	s.order[last] = nil
	s.order = s.order[:last]
	delete(s.breakers, e.key)
}
