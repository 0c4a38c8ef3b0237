package lanes

import (
	"slices"
	"time"
)

// instant is nanoseconds since the set's first call; see [Set.at].
type instant int64

// never is an instant before all others.
const never instant = -1 << 62

// class is what is known of a lane, and decides which slots it may take.
type class uint8

const (
	trusted  class = iota // succeeds
	unproven              // no success yet, or none lately with POSTs out
	sick                  // last outcome a failure, or oldest POST out for SlowAfter
	classes
)

// lane is one endpoint's state. Its flags change only in [Set.Finish],
// [Set.Narrow] and on its watch alarm, and [Set.settle] afterwards brings every
// list, heap and counter in line with them.
type lane[T any] struct {
	key    string
	queue  queue[T]
	links  [roles]link[T]
	alarms [timerKinds]alarm
	// starts are the instants at which the POSTs in flight began, ascending;
	// how many there are is the lane's in flight.
	starts []instant
	class  class
	// lookAt is when the age of what is queued is looked at next.
	lookAt instant

	proven  bool // has succeeded
	doubted bool // POSTs out, and no answer for doubtAfter
	slow    bool // the oldest POST has been out for SlowAfter
	failed  bool // the last outcome was a failure
	hanging bool // no answer for stallAfter with POSTs out; ended by one

	// answered is when a POST last succeeded, or failed in less than SlowAfter.
	answered instant
	// succeeded is when a POST last succeeded.
	succeeded instant
	idleAt    instant // when it last ran out of work
	// latency is the moving average over successes, over about eight of them.
	latency time.Duration

	rate   float64 // permitted POSTs per second; 0 is any
	tat    instant // when the next is due at that rate (GCRA's theoretical arrival time)
	capped int     // the endpoint's own limit on width; 0 is none

	width widthControl
	pace  pace
	out   outstanding
}

func (l *lane[T]) inFlight() int { return len(l.starts) }

// begun notes a POST that starts now.
func (l *lane[T]) begun(now instant) { l.starts = append(l.starts, now) }

// ended removes the POST that began at or nearest before the instant. A caller
// that measures latency a little differently from the set removes a neighbour
// instead, which is as good: only the oldest matters, and only to tell seconds.
func (l *lane[T]) ended(began instant) {
	i, found := slices.BinarySearch(l.starts, began)
	if !found {
		i = max(i-1, 0)
	}
	l.starts = slices.Delete(l.starts, i, i+1)
}

// effectiveWidth is how many POSTs the lane may have in flight now: one probe
// while its last outcome was a failure or it hangs, otherwise what it has grown
// to.
func (l *lane[T]) effectiveWidth() int {
	if l.failed || l.hanging {
		return 1
	}
	w := l.width.now()
	if l.capped > 0 {
		w = min(w, l.capped)
	}
	return w
}

func (l *lane[T]) classify() class {
	switch {
	case l.failed || l.hanging || l.slow:
		return sick
	case !l.proven || l.doubted:
		return unproven
	}
	return trusted
}

// doubtAfter is how long a proven lane with POSTs out may go without an answer
// before its slots count as suspects': far above the noise of a healthy lane,
// and a tenth of SlowAfter, so that many lanes which begin to hang at once are
// bounded before they are known to.
func (l *lane[T]) doubtAfter(c *Config) instant {
	return instant(max(c.SlowAfter/10, 2*l.latency))
}

// stallAfter is how long a lane with POSTs out may go without an answer before
// it counts as hanging. An endpoint that is known to answer, but takes six
// seconds, doesn't hang at five.
func (l *lane[T]) stallAfter(c *Config) instant {
	return instant(max(c.SlowAfter, 2*l.latency))
}

// failing reports whether the lane does nothing but fail, and may for long: its
// last outcome was a failure, and its last success, if any, is SlowAfter ago.
func (l *lane[T]) failing(c *Config, now instant) bool {
	return l.failed && now-l.succeeded >= instant(c.SlowAfter)
}

// quietSince is since when the lane, with POSTs in flight, has had no answer.
func (l *lane[T]) quietSince() instant { return max(l.starts[0], l.answered) }

// watch brings the flags that time alone changes up to date and returns when to
// look again; ok is false if there is nothing left to wait for.
func (l *lane[T]) watch(c *Config, now instant) (next instant, ok bool) {
	if l.inFlight() == 0 {
		l.doubted, l.slow = false, false
		return 0, false
	}
	soonest := func(at instant) {
		if !ok || at < next {
			next, ok = at, true
		}
	}
	if at := l.quietSince() + l.doubtAfter(c); now >= at {
		l.doubted = true
	} else {
		l.doubted = false
		soonest(at)
	}
	if at := l.starts[0] + instant(c.SlowAfter); now >= at {
		l.slow = true
	} else {
		l.slow = false
		soonest(at)
	}
	if at := l.quietSince() + l.stallAfter(c); now >= at {
		if !l.hanging {
			l.hanging = true
			l.width.narrow() // it ramps up from a single probe once it answers
			l.pace = pace{}  // and will be measured anew
		}
	} else if !l.hanging {
		soonest(at)
	}
	return next, ok
}

// rateSlack is how far ahead of its spacing a rate-limited POST may start. It
// makes up for timers that fire late; without it every late timer would lower
// the rate for good.
const rateSlack = instant(20 * time.Millisecond)

// dueAt is when the rate limit permits the next POST.
func (l *lane[T]) dueAt() instant {
	if l.rate > 0 {
		return l.tat - rateSlack
	}
	return never
}

// interval is the time between two POSTs at that rate: a day at most, so that no
// rate can overflow a sum.
func interval(rate float64) instant {
	return instant(min(float64(time.Second)/rate, float64(24*time.Hour)))
}

// limit sets the endpoint's own limits. Where they change, what follows from the
// old ones is forgotten: the wait for the next POST, the measured pace, and the
// turns that new arrivals would line up behind.
func (l *lane[T]) limit(now instant, rate float64, capped int) {
	if rate == l.rate && capped == l.capped {
		return
	}
	if rate > 0 {
		l.tat = min(l.tat, now+interval(rate))
	}
	l.rate, l.capped = rate, capped
	l.pace, l.out = pace{}, outstanding{}
}

func (l *lane[T]) spendToken(now instant) {
	if l.rate > 0 {
		l.tat = max(l.tat, now) + interval(l.rate)
	}
}

// blank reports whether forgetting the lane loses nothing.
func (l *lane[T]) blank(now instant) bool {
	return !l.proven && !l.failed && !l.hanging && l.out.count() == 0 && l.tat <= now && l.width.fresh()
}

// reset makes the lane a new one, keeping the memory it has grown.
func (l *lane[T]) reset(c *Config, key string) {
	*l = lane[T]{key: key, starts: l.starts[:0], queue: queue[T]{ring: l.queue.ring}, answered: never, succeeded: never, idleAt: never, tat: never}
	l.width = newWidth(c)
}
