package lanes

import (
	"strings"
	"time"
)

// Set is the lanes of all endpoints whose deliveries a process owns. It is not
// safe for concurrent use: hold a lock around every call. Offer and Finish take
// well under a microsecond and allocate nothing once the set has warmed up.
//
// Times passed in must come from one clock; one that is earlier than the last
// counts as the last.
type Set[T any] struct {
	cfg                 Config
	sickCap, suspectCap int

	epoch time.Time
	clock instant

	lanes map[string]*lane[T]
	spare []*lane[T] // dropped lanes, to be used again

	rings      [gates]list[T]
	backlogged list[T]
	stalled    list[T]
	resting    list[T] // idle lanes, longest idle first
	watched    timers[T]
	due        timers[T]

	inFlight    int
	byClass     [classes]int
	queued      int
	queuedBytes int
	served      uint
}

// New returns an empty set, or the error of [Config.Validate].
func New[T any](c Config) (*Set[T], error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	s := &Set[T]{
		cfg:        c,
		sickCap:    max(1, int(float64(c.MaxInFlight)*c.SickShare)),
		suspectCap: max(1, int(float64(c.MaxInFlight)*c.UnprovenShare)),
		lanes:      make(map[string]*lane[T]),
		backlogged: list[T]{role: roleQueued},
		stalled:    list[T]{role: roleStalled},
		resting:    list[T]{role: roleTurn},
		watched:    timers[T]{kind: timerWatch},
		due:        timers[T]{kind: timerDue},
	}
	for g := range s.rings {
		s.rings[g].role = roleTurn
	}
	return s, nil
}

// Verdict is what becomes of an item that was offered.
type Verdict uint8

// The verdicts of [Set.Offer].
const (
	Start  Verdict = iota + 1 // POST it now; call Finish when it is done
	Queued                    // kept; Finish or Due will hand it out
	Spill                     // put it back, to be offered again as Returning after Decision.After
	Park                      // put it back for longer: the lane makes no progress, or is full and only fails
)

// String returns the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Start:
		return "start"
	case Queued:
		return "queued"
	case Spill:
		return "spill"
	case Park:
		return "park"
	}
	return "none"
}

// Decision is a verdict, and for Spill how long the delivery waits for its turn
// (between MinTurn and MaxTurn).
type Decision struct {
	Verdict Verdict
	After   time.Duration
}

// Options says what else matters of an item that is offered.
type Options struct {
	// Returning is set for deliveries that were put back before (deferrals > 0):
	// their turn has come.
	Returning bool
	// Rate is the most POSTs per second to the endpoint; 0 is no limit. Starts
	// are spaced evenly, with up to 20 ms made up after a late timer.
	Rate float64
	// MaxWidth is the endpoint's own limit on POSTs in flight; 0 is none.
	MaxWidth int
}

// Result is how a POST ended.
type Result uint8

// The results for [Set.Finish].
const (
	OK       Result = iota + 1 // the endpoint took it
	Failed                     // any other answer, or none
	Excluded                   // says nothing about the endpoint: never sent, or cut short by us
)

// at turns a time into an instant and lets what is due by then happen.
func (s *Set[T]) at(now time.Time) instant {
	if s.epoch.IsZero() {
		s.epoch = now
	}
	s.clock = max(s.clock, instant(now.Sub(s.epoch)))
	for l := s.watched.first(); l != nil && l.alarms[timerWatch].at <= s.clock; l = s.watched.first() {
		s.look(l, s.clock)
		s.settle(l, s.clock)
	}
	return s.clock
}

// Offer asks what to do with an item of size bytes for the endpoint. On Queued
// the set keeps the item; otherwise it is the caller's.
func (s *Set[T]) Offer(now time.Time, key string, item T, size int, o Options) Decision {
	t := s.at(now)
	l := s.lane(key)
	l.limit(t, o.Rate, o.MaxWidth)
	l.out.expire(t)
	if o.Returning {
		l.out.returned()
	}
	d := s.decide(l, t, size, o.Returning)
	switch d.Verdict {
	case Start:
		s.begin(l, t)
	case Queued:
		l.queue.push(item, size, t)
		s.queued++
		s.queuedBytes += size
	}
	s.settle(l, t)
	return d
}

func (s *Set[T]) decide(l *lane[T], now instant, size int, returning bool) Decision {
	if l.inFlight() == 0 && l.queue.n == 0 && l.idleAt != never && now-l.idleAt > idleForgets {
		l.width.rest()
	}
	s.reclass(l) // a lane fresh from the map has the zero class
	if l.queue.n == 0 && l.inFlight() < l.effectiveWidth() && l.dueAt() <= now && s.open(s.gateOf(l)) {
		return Decision{Verdict: Start}
	}
	if l.hanging {
		return Decision{Verdict: Park}
	}
	failing, most := l.failing(&s.cfg, now), s.cfg.QueueBytes
	if failing || !l.proven {
		most = s.cfg.SuspectBytes
	}
	full := l.queue.n >= min(s.cfg.QueueRecords, l.room(&s.cfg, now)) || l.queue.n > 0 && l.queue.bytes+size > most
	if full || !returning && l.out.count() > 0 {
		if failing {
			return Decision{Verdict: Park}
		}
		return Decision{Verdict: Spill, After: l.turn(&s.cfg, now)}
	}
	return Decision{Verdict: Queued}
}

// Finish returns the slot of a POST that Offer, Finish or Due started, and
// appends to start the items that may start now, of whatever lane. latency is
// measured from the time passed to the call that started it.
func (s *Set[T]) Finish(now time.Time, key string, r Result, latency time.Duration, start []T) []T {
	t := s.at(now)
	l := s.lanes[key]
	if l == nil || l.inFlight() == 0 {
		return start
	}
	l.ended(t - instant(latency))
	s.inFlight--
	s.byClass[l.class]--
	aged := l.doubted || l.slow || l.hanging
	if r != Excluded {
		s.learn(l, t, r == OK, latency)
	}
	if aged && l.inFlight() > 0 {
		// The oldest POST may be another one now and an answer ends doubts; the
		// alarm may be set to a later stage than the lane is back in.
		s.look(l, t)
	}
	s.settle(l, t)
	return s.pump(t, start)
}

func (s *Set[T]) learn(l *lane[T], now instant, ok bool, latency time.Duration) {
	l.failed = !ok
	if ok || latency < s.cfg.SlowAfter {
		// A bad answer is one too: the lane fails, but doesn't hang.
		l.hanging, l.answered = false, now
	}
	if ok {
		l.proven, l.succeeded = true, now
		if l.latency == 0 {
			l.latency = latency
		}
		l.latency += (latency - l.latency) / 8
	}
	l.width.observe(now, ok, latency)
	l.pace.observe(now, l.queue.n > 0, l.width.doubling)
}

// Due appends to start the items of rate-limited lanes whose time has come, and
// of any others that may start; see [Set.NextDue].
func (s *Set[T]) Due(now time.Time, start []T) []T {
	t := s.at(now)
	for l := s.due.first(); l != nil && l.alarms[timerDue].at <= t; l = s.due.first() {
		s.settle(l, t) // moves it to the ring of its gate
	}
	return s.pump(t, start)
}

// NextDue returns when to call Due next; false if nothing waits for its rate.
// Ask after every call that changes the set. The answer is the time of that call
// if it left something behind that may start at once: an Offer that raises a
// lane's rate or comes just after its time, for one, can't hand out what the lane
// had queued.
func (s *Set[T]) NextDue() (time.Time, bool) {
	at := s.clock
	if _, ok := s.pick(); !ok {
		l := s.due.first()
		if l == nil {
			return time.Time{}, false
		}
		at = l.alarms[timerDue].at
	}
	return s.epoch.Add(time.Duration(at)), true
}

// Limits tells the endpoint's lane, if it has one, of limits that were changed
// (see [Options]): they count at once, also for what is queued. Ask NextDue
// afterwards.
func (s *Set[T]) Limits(now time.Time, key string, rate float64, maxWidth int) {
	t := s.at(now)
	if l := s.lanes[key]; l != nil {
		l.limit(t, rate, maxWidth)
		s.settle(l, t)
	}
}

// Turn counts one more spilled delivery of the endpoint, which the caller took
// out of the queue itself (see [Set.RemoveFrom]), and returns how long it waits
// for its turn.
func (s *Set[T]) Turn(now time.Time, key string) time.Duration {
	t := s.at(now)
	l := s.lane(key)
	after := l.turn(&s.cfg, t)
	s.settle(l, t)
	return after
}

// Narrow takes the lane down to one probe, from which successes widen it again:
// for a breaker that was found open or goes half-open.
func (s *Set[T]) Narrow(now time.Time, key string) {
	t := s.at(now)
	l := s.lane(key)
	l.width.narrow()
	l.failed = true
	s.settle(l, t)
}

// lane returns the endpoint's lane, a new one if need be.
func (s *Set[T]) lane(key string) *lane[T] {
	if l := s.lanes[key]; l != nil {
		return l
	}
	var l *lane[T]
	if n := len(s.spare); n > 0 {
		l, s.spare[n-1], s.spare = s.spare[n-1], nil, s.spare[:n-1]
	} else {
		l = new(lane[T])
	}
	l.reset(&s.cfg, strings.Clone(key)) // keys may be slices of whole fetches
	s.lanes[l.key] = l
	return l
}

// idle keeps a lane without work for what is known of it, and drops those that
// are not worth it: the blank, the long idle, and the oldest beyond IdleLanes.
func (s *Set[T]) idle(l *lane[T], now instant) {
	if l.links[roleTurn].in != &s.resting {
		l.idleAt = now
		l.join(&s.resting)
	}
	if l.blank(now) {
		s.drop(l)
	}
	for range 2 { // two for each that comes: the list shrinks if it must
		oldest := s.resting.head
		if oldest == nil || s.resting.n <= s.cfg.IdleLanes && now-oldest.idleAt <= instant(s.cfg.IdleFor) {
			return
		}
		s.drop(oldest)
	}
}

func (s *Set[T]) drop(l *lane[T]) {
	l.leave(roleTurn)
	delete(s.lanes, l.key)
	if len(s.spare) < 256 {
		l.key = ""
		s.spare = append(s.spare, l)
	}
}
