package app

import (
	"context"
	"time"

	"posthorn/registry"
)

// heartbeatEvery is how often the registry is written to at least: so that a
// quiet topic rolls its segment and dropped secrets leave the disk, and so that
// a clock that goes wrong is noticed.
const heartbeatEvery = time.Minute

// beat writes heartbeats while the registry is followed closely: only then does
// reading one back tell the time.
func (l *Line) beat(ctx context.Context, learned *registry.Learned) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		if err := l.follower.WaitCurrent(ctx); err != nil {
			return
		}
		if err := learned.Heartbeat(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("writing the registry's heartbeat", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// skewed is told of each measurement of the clocks, by the follower's goroutine
// alone.
func (l *Line) skewed(s registry.Skew) {
	l.metrics.ClockSkew(s.Ahead, s.Within)
	if bad := s.Excessive(); bad != l.skewSaid {
		l.skewSaid = bad
		if bad {
			l.log.Warn("this host's clock differs from the broker's: deliveries are sent early or late by as much", "clock", s.String(), "limit", registry.SkewLimit)
		} else {
			l.log.Info("this host's clock agrees with the broker's again", "clock", s.String())
		}
	}
}

// clockWarning is what readiness says about the clock; it is no reason to take
// the process out of service.
func (l *Line) clockWarning() string {
	s, known := l.clock.Skew()
	if !known || !s.Excessive() {
		return ""
	}
	return "this host's clock is " + s.String() + ", more than " + registry.SkewLimit.String() + ": deliveries are sent early or late by as much"
}
