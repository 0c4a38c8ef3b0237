package replay

import (
	"math"
	"slices"
	"time"
)

const (
	// backlogFor is how much work of an endpoint a replay may have on the line, by
	// the rate at which the endpoint takes it. What is live waits behind it, half
	// of it at most: the other half is the time until a commit tells.
	backlogFor = time.Second
	// leastOutstanding is the start, and what an endpoint gets of which nothing is
	// known; mostOutstanding bounds what a crash of dispatch repeats.
	leastOutstanding, mostOutstanding = 2, 1024
	// burstFor is how much of the rate may be used at once. A replay waits for the
	// acknowledgement of what it put on the line before it goes on, so less than that
	// takes would lower the rate; and a burst of POSTs is what live ones feel.
	burstFor = 50 * time.Millisecond
	// pollEvery is how often the line is asked how far it has come.
	pollEvery = 200 * time.Millisecond
)

// Pacer says how many deliveries a replay may put on the line: so many a second,
// and never more than the endpoint takes in about a second. An endpoint that is
// slow is so never flooded, and what is live waits behind few. It has no clock
// and isn't safe for concurrent use.
type Pacer struct {
	rate   float64 // a second
	tokens float64
	asOf   time.Time

	sent, done int64
	taken      float64 // deliveries a second that the endpoint takes; a moving average
	doneAsOf   time.Time
}

// NewPacer returns a pacer of a rate above 0.
func NewPacer(rate float64, now time.Time) *Pacer {
	return &Pacer{rate: rate, tokens: 1, asOf: now, doneAsOf: now}
}

// Allow returns how many deliveries may be sent now, and if it is none, when to
// ask again.
func (p *Pacer) Allow(now time.Time) (n int, wait time.Duration) {
	if d := now.Sub(p.asOf); d > 0 {
		p.tokens = accrued(p.tokens, p.rate, d)
		p.asOf = now
	}
	room := p.Most() - p.Outstanding()
	if n = min(int(p.tokens), room); n > 0 {
		return n, 0
	}
	if room <= 0 {
		return 0, pollEvery
	}
	return 0, time.Duration(math.Ceil((1 - p.tokens) / p.rate * float64(time.Second)))
}

// accrued is what tokens have become after a time, at a rate a second.
func accrued(tokens, rate float64, d time.Duration) float64 {
	return min(tokens+rate*d.Seconds(), max(1, rate*burstFor.Seconds()))
}

// Most is how many may be outstanding.
func (p *Pacer) Most() int {
	return int(min(max(p.taken*backlogFor.Seconds(), leastOutstanding), mostOutstanding))
}

// Outstanding is how many were sent and haven't been seen to be done.
func (p *Pacer) Outstanding() int { return int(p.sent - p.done) }

// Sent takes in that n deliveries were put on the line.
func (p *Pacer) Sent(now time.Time, n int) {
	if p.Outstanding() == 0 {
		p.doneAsOf = now // what was idle says nothing of the endpoint
	}
	p.sent += int64(n)
	p.tokens -= float64(n)
}

// Done takes in that n more were seen to be done: delivered, or put off.
func (p *Pacer) Done(now time.Time, n int) {
	d := now.Sub(p.doneAsOf).Seconds()
	if d <= 0 {
		p.done += int64(n)
		return
	}
	// While nothing is outstanding, nothing can be learned of the endpoint.
	if p.Outstanding() > 0 {
		rate, over := float64(n)/d, backlogFor.Seconds()
		if rate > p.taken {
			over /= 4 // soon up, slowly down
		}
		p.taken += (1 - math.Exp(-d/over)) * (rate - p.taken)
	}
	p.done += int64(n)
	p.doneAsOf = now
}

// outstanding is where the deliveries lie that aren't done, in ascending order:
// all of an endpoint are in one partition.
type outstanding struct {
	offsets []int64
}

func (o *outstanding) add(offsets ...int64) {
	o.offsets = append(o.offsets, offsets...)
	slices.Sort(o.offsets)
}

// settle drops those that are finished, and returns how many.
func (o *outstanding) settle(finished func(offset int64) bool) (n int) {
	kept := o.offsets[:0]
	for _, offset := range o.offsets {
		if finished(offset) {
			n++
			continue
		}
		kept = append(kept, offset)
	}
	o.offsets = kept
	return n
}
