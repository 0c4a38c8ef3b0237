package retrytopics

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Ladder is the set of delays that topics exist for. It is immutable; the zero
// Ladder has no tier, so that every wait goes to the deliveries topic.
type Ladder struct {
	tiers []time.Duration // ascending
}

// NewLadder builds a ladder of tiers given in strictly ascending order, each a
// positive whole number of seconds. The error names every mistake.
func NewLadder(tiers ...time.Duration) (Ladder, error) {
	if len(tiers) == 0 {
		return Ladder{}, errors.New("retry tiers: none given; want at least one, for instance 5s, 1m, 5m, 15m")
	}
	var errs []error
	for i, d := range tiers {
		if d <= 0 || d%time.Second != 0 {
			errs = append(errs, fmt.Errorf("retry tier %d (%v): want a whole number of seconds, 1s or more", i+1, d))
		}
		if i > 0 && d <= tiers[i-1] {
			errs = append(errs, fmt.Errorf("retry tier %d (%v): want more than the tier before it (%v)", i+1, d, tiers[i-1]))
		}
	}
	if len(errs) > 0 {
		return Ladder{}, errors.Join(errs...)
	}
	return Ladder{slices.Clone(tiers)}, nil
}

// DefaultLadder has the tiers 5s, 1m, 5m and 15m.
func DefaultLadder() Ladder {
	return Ladder{[]time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute}}
}

// Tiers returns the delays, ascending.
func (l Ladder) Tiers() []time.Duration { return slices.Clone(l.tiers) }

// Smallest returns the shortest delay: the least that a wait must be to leave
// the deliveries topic. It is 0 for the zero Ladder.
func (l Ladder) Smallest() time.Duration {
	if len(l.tiers) == 0 {
		return 0
	}
	return l.tiers[0]
}

// Cut returns the largest tier that is not longer than the wait. ok is false
// when the wait is shorter than every tier: the delivery goes to the
// deliveries topic and its owner holds it until not_before.
func (l Ladder) Cut(wait time.Duration) (tier time.Duration, ok bool) {
	for _, d := range slices.Backward(l.tiers) {
		if d <= wait {
			return d, true
		}
	}
	return 0, false
}

// slack is how much earlier than the clock a wait's base may be put so that
// the wait becomes a whole number of seconds, as all tiers are. The caller
// read the clock for not_before a moment before it read it for the base:
// without slack, a retry in 60 s whose base is 1 ms late would be 59.999 s
// away, that is eleven hops of 5 s instead of one of 1 m. Records in a tier
// are then out of order by the slack at most.
const slack = 250 * time.Millisecond

// plan says which tier takes a delivery that is due at notBefore next, and the
// timestamp that the tier's delay counts from: base, or up to slack before it.
// timestamp + tier is never after notBefore. ok is false when the rest is
// shorter than every tier.
func (l Ladder) plan(notBefore, base time.Time) (tier time.Duration, timestamp time.Time, ok bool) {
	// Both lose their fractions of a millisecond in the record, so they lose
	// them here, or a wait would grow or shrink under way.
	timestamp = base.Truncate(time.Millisecond)
	wait := notBefore.Truncate(time.Millisecond).Sub(timestamp)
	if wait <= 0 {
		return 0, timestamp, false
	}
	if short := time.Second - wait%time.Second; short <= slack {
		timestamp, wait = timestamp.Add(-short), wait+short
	}
	tier, ok = l.Cut(wait)
	return tier, timestamp, ok
}

// TierName is the suffix of a tier's topic: the delay in the largest of the
// units h, m and s that divides it, such as "5s", "15m" or "1h".
func TierName(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return strconv.FormatInt(int64(d/time.Hour), 10) + "h"
	case d%time.Minute == 0:
		return strconv.FormatInt(int64(d/time.Minute), 10) + "m"
	default:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
}
