package lanes

import (
	"math"
	"time"
)

// pace measures how many POSTs a lane completes per second while it has more to
// do than it can: only then is it the endpoint's speed, not that of arrivals.
type pace struct {
	since   instant // start of the window; meaningless while open is false
	open    bool
	n       int
	perSec  float64
	windows int
}

// observe counts a completion; backlogged says whether more was waiting, growing
// whether the lane gets faster: then the latest is all that counts.
func (p *pace) observe(now instant, backlogged, growing bool) {
	if !backlogged {
		p.open = false
		return
	}
	if !p.open {
		p.open, p.since, p.n = true, now, 0
		return
	}
	p.n++
	span := time.Duration(now - p.since)
	if span < 500*time.Millisecond || p.n < 8 && span < 5*time.Second {
		return
	}
	measured := float64(p.n) / span.Seconds()
	if p.windows == 0 || growing {
		p.perSec = measured
	}
	p.perSec += (measured - p.perSec) * 0.3
	p.windows++
	p.since, p.n = now, 0
}

const (
	// guess is the pace assumed of a lane that was not measured yet. It is high
	// on purpose: those that come back too early are spilled once more, by then
	// at a measured pace, whereas a guess that is too low would leave the
	// endpoint idle for as long as the flood's tail is out.
	guess = 1000
	// eager is by how much turns are given closer than the measured pace.
	eager = 1.05
	// lost is how long after its turn a spilled delivery that has not come back
	// is waited for: it expired, was discarded or went to another owner.
	lost = instant(15 * time.Second)
)

// perSecond is the pace at which the lane works its deliveries off; known is
// false while that is a guess.
func (l *lane[T]) perSecond() (pace float64, known bool) {
	p := &l.pace
	// A lane still doubling its width gets faster from second to second: what
	// it did is no promise, unless it has been at it for seconds, or is as wide
	// as the endpoint allows.
	width := l.width.width
	widest := l.capped > 0 && width >= float64(l.capped)
	if widest {
		width = float64(l.capped)
	}
	settled := p.windows >= 2 && (widest || !l.width.doubling) || p.windows >= 8
	measured := p.perSec
	if l.latency > 0 {
		// What its width and latency come to. A lane that has run dry isn't
		// measured any more: where it was taken for too slow, the turns given
		// since would keep it dry. And one that has got slow is measured rarely.
		full := width / l.latency.Seconds()
		if !settled && widest {
			settled, measured = true, full
		} else if float64(l.queue.n) <= width {
			measured = max(measured, full)
		}
		measured = min(measured, 2*full)
	}
	switch {
	case l.rate > 0 && settled:
		return min(l.rate, measured*eager), true
	case l.rate > 0:
		return l.rate, true
	case settled:
		return measured * eager, true
	}
	return max(guess, 4*p.perSec), false
}

// room is how many deliveries the lane may have queued so that the last of them
// starts within QueueFor, as far as the pace is known.
func (l *lane[T]) room(c *Config, now instant) int {
	left := instant(c.QueueFor) - max(l.dueAt()-now, 0)
	if left < 0 {
		return 0
	}
	perSec, _ := l.perSecond()
	return 1 + int(min(time.Duration(left).Seconds()*perSec, math.MaxInt32))
}

// turn gives a delivery that is put back its turn, counts it as out, and
// returns how long it waits.
func (l *lane[T]) turn(c *Config, now instant) time.Duration {
	perSec, known := l.perSecond()
	step := min(float64(time.Second)/perSec, float64(c.MaxTurn))
	wait := float64(c.MinTurn)
	if known {
		// Back when half of what is queued has been worked off, or what is left
		// of it takes half of QueueFor: a slow lane has room by then. What is
		// queued beyond its room will be taken out.
		backlog := float64(max(l.dueAt()-now, 0)) + float64(min(l.queue.n, l.room(c, now)))*step
		wait = max(wait, backlog/2, backlog-float64(c.QueueFor)/2)
	}
	at := now + instant(min(wait, float64(c.MaxTurn)))
	if l.out.count() > 0 {
		at = max(at, l.out.tail+instant(step))
	}
	at = min(at, now+instant(c.MaxTurn))
	l.out.add(at)
	return time.Duration(at - now)
}

// outstanding counts the spilled deliveries that have not come back. Not all
// do, and what comes back may be another's (state is lost on restart), so it is
// an estimate that never goes below zero and heals: it is kept in two spans of
// turns, and what is left of the earlier span is forgotten when its last turn
// is long past, however many are still being added behind it.
type outstanding struct {
	early, late int
	until       instant // the last turn of the early span
	tail        instant // the last turn given
}

func (o *outstanding) count() int { return o.early + o.late }

func (o *outstanding) add(turn instant) {
	if o.count() == 0 {
		o.until = turn
		o.tail = turn
	}
	if turn <= o.until {
		o.early++
	} else {
		o.late++
	}
	o.tail = max(o.tail, turn)
}

// returned takes one off, if any is out.
func (o *outstanding) returned() {
	switch {
	case o.early > 0:
		o.early--
	case o.late > 0:
		o.late--
	}
}

// expire forgets those that should have been back long ago.
func (o *outstanding) expire(now instant) {
	if o.count() > 0 && now > o.until+lost {
		o.early, o.late, o.until = o.late, 0, o.tail
		if now > o.until+lost {
			o.early = 0
		}
	}
}
