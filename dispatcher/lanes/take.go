package lanes

import (
	"cmp"
	"iter"
	"slices"
	"time"
)

// Stalled appends to into the endpoints whose lanes make no progress and have
// something queued: call it on a timer, then Shed each and park what it held.
// It costs as much as there are such lanes.
func (s *Set[T]) Stalled(now time.Time, into []string) []string {
	s.at(now)
	for l := s.stalled.head; l != nil; l = l.links[roleStalled].next {
		into = append(into, l.key)
	}
	return into
}

// Overlong appends to into the endpoints of which something has been queued for
// one and a half times QueueFor, or that need twice QueueFor for their queues:
// they got slower than they were or were thought to be, or have no slot. Call it
// on a timer, and put back what [Set.Trim] takes of each. A lane
// is looked at once in a quarter of QueueFor, so calls in between cost little.
func (s *Set[T]) Overlong(now time.Time, into []string) []string {
	t := s.at(now)
	// Backlogged lanes are in the order of when they are to be looked at: each
	// came to the end of the list with the same wait before it.
	for l := s.backlogged.head; l != nil && l.lookAt <= t; l = s.backlogged.head {
		l.leave(roleQueued)
		l.lookAt = t + instant(s.cfg.QueueFor/4)
		l.join(&s.backlogged)
		_, known := l.perSecond()
		if t-l.queue.at(0).since >= instant(s.cfg.QueueFor)*3/2 || known && l.queue.n > 2*l.room(&s.cfg, t) {
			into = append(into, l.key)
		}
	}
	return into
}

// Trim takes what its lane can't start within QueueFor out of the endpoint's
// queue, and half of it at least, whatever is thought of the pace. Those that
// came first stay. It appends what it took to into, oldest first.
func (s *Set[T]) Trim(now time.Time, key string, into []T) []T {
	t := s.at(now)
	l := s.lanes[key]
	if l == nil {
		return into
	}
	keep := min(l.queue.n/2, l.room(&s.cfg, t))
	return s.takeOut(l, into, func(into []T) []T { return l.queue.cut(keep, into) })
}

// Shed takes everything out of the endpoint's queue, oldest first, and appends
// it to into: for a breaker that opens or a lane that stalls.
func (s *Set[T]) Shed(key string, into []T) []T { return s.RemoveFrom(key, nil, into) }

// RemoveFrom takes the items that pred picks (nil: all) out of the endpoint's
// queue, oldest first, and appends them to into.
func (s *Set[T]) RemoveFrom(key string, pred func(T) bool, into []T) []T {
	if l := s.lanes[key]; l != nil {
		into = s.take(l, pred, into)
	}
	return into
}

// Remove takes the items that pred picks (nil: all) out of every queue and
// appends them to into: for a partition that is revoked. What is in flight is
// not touched; its slots come back by Finish, as [Excluded] if it was cut.
func (s *Set[T]) Remove(pred func(T) bool, into []T) []T {
	for l := s.backlogged.head; l != nil; {
		next := l.links[roleQueued].next // l may leave the list
		into = s.take(l, pred, into)
		l = next
	}
	return into
}

// RemoveKey takes everything out of the endpoint's queue and forgets what was
// learned of it: for one that was deleted or disabled. Slots of POSTs in flight
// stay taken until Finish.
func (s *Set[T]) RemoveKey(key string, into []T) []T {
	l := s.lanes[key]
	if l == nil {
		return into
	}
	l.failed, l.hanging, l.proven, l.succeeded = false, false, false, never
	l.width, l.pace, l.out, l.latency = newWidth(&s.cfg), pace{}, outstanding{}, 0
	return s.take(l, nil, into)
}

func (s *Set[T]) take(l *lane[T], pred func(T) bool, into []T) []T {
	return s.takeOut(l, into, func(into []T) []T { return l.queue.take(pred, into) })
}

// takeOut keeps the counts of what out takes out of the lane's queue.
func (s *Set[T]) takeOut(l *lane[T], into []T, out func([]T) []T) []T {
	records, bytes := l.queue.n, l.queue.bytes
	into = out(into)
	s.queued -= records - l.queue.n
	s.queuedBytes -= bytes - l.queue.bytes
	s.settle(l, s.clock)
	return into
}

// Crowd is how many queued items of an endpoint a predicate picked.
type Crowd struct {
	Key   string
	Items int
}

// Largest returns the endpoints whose queues hold most of the items that pred
// picks (nil: all), at most n of them, the largest first. It looks at every
// queued item.
func (s *Set[T]) Largest(n int, pred func(T) bool) []Crowd {
	var all []Crowd
	for l := s.backlogged.head; l != nil; l = l.links[roleQueued].next {
		items := 0
		for i := range l.queue.n {
			if pred == nil || pred(l.queue.at(i).item) {
				items++
			}
		}
		if items > 0 {
			all = append(all, Crowd{l.key, items})
		}
	}
	slices.SortFunc(all, func(a, b Crowd) int {
		return cmp.Or(cmp.Compare(b.Items, a.Items), cmp.Compare(a.Key, b.Key))
	})
	return all[:min(n, len(all))]
}

// LaneStats is the state of one lane.
type LaneStats struct {
	InFlight    int
	Width       int // how many may be in flight now
	Queued      int
	QueuedBytes int
	Out         int           // spilled and not back yet, an estimate
	PerSecond   float64       // measured while backlogged; 0 before
	Latency     time.Duration // moving average of successes; 0 before
	Sick        bool          // with something in flight: within the sick share
	Hanging     bool
	Failing     bool // the last outcome a failure, and no success for SlowAfter
}

func (l *lane[T]) stats(c *Config, now instant) LaneStats {
	return LaneStats{
		InFlight: l.inFlight(), Width: l.effectiveWidth(),
		Queued: l.queue.n, QueuedBytes: l.queue.bytes, Out: l.out.count(),
		PerSecond: l.pace.perSec, Latency: l.latency,
		Sick: l.class == sick && l.inFlight() > 0, Hanging: l.hanging, Failing: l.failing(c, now),
	}
}

// Lanes iterates over the lanes with something queued. The set must not be
// changed meanwhile.
func (s *Set[T]) Lanes() iter.Seq2[string, LaneStats] {
	return func(yield func(string, LaneStats) bool) {
		for l := s.backlogged.head; l != nil; l = l.links[roleQueued].next {
			if !yield(l.key, l.stats(&s.cfg, s.clock)) {
				return
			}
		}
	}
}

// Lane returns the state of an endpoint's lane; false if it has none.
func (s *Set[T]) Lane(key string) (LaneStats, bool) {
	l := s.lanes[key]
	if l == nil {
		return LaneStats{}, false
	}
	return l.stats(&s.cfg, s.clock), true
}

// Stats is the state of a set.
type Stats struct {
	InFlight         int // POSTs
	SickInFlight     int // of sick lanes
	UnprovenInFlight int // of lanes that have not proven themselves, the sick not counted
	Queued           int // records
	QueuedBytes      int
	Lanes            int // remembered, the idle ones too
	Idle             int // with nothing in flight or queued
	Backlogged       int // lanes with something queued
	Stalled          int // hanging lanes with something queued
	Waiting          int // lanes that could start but for the limits over all lanes
	RateLimited      int // lanes that wait for their rate
}

// Stats returns the state of the set as of the last call.
func (s *Set[T]) Stats() Stats {
	return Stats{
		InFlight: s.inFlight, SickInFlight: s.byClass[sick], UnprovenInFlight: s.byClass[unproven],
		Queued: s.queued, QueuedBytes: s.queuedBytes,
		Lanes: len(s.lanes), Idle: s.resting.n, Backlogged: s.backlogged.n, Stalled: s.stalled.n,
		Waiting: s.waiting(), RateLimited: len(s.due.heap),
	}
}
