package dispatcher

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

// Contract is what a contract promises about sending; how a POST is built and
// signed is behind [Directory].
type Contract struct {
	Timeout time.Duration
	// MinTLS is the lowest TLS version that will do, as in crypto/tls; 0 means
	// the client's own.
	MinTLS uint16
	// Retryable reports whether a status is worth another attempt; status 0
	// stands for no answer at all.
	Retryable func(status int) bool
	// Schedule is the delays between attempts; nil means the line's own.
	Schedule []time.Duration
	// Immediate, if any, takes the place of the schedule.
	Immediate *Immediate
}

// Immediate describes retries that wait in the process instead of in a topic.
type Immediate struct {
	Tries      int // after the first attempt
	Initial    time.Duration
	Multiplier float64
	Jitter     float64       // 0.5 means ± 50 %
	Within     time.Duration // from the first attempt's start to the last one's
}

// delay returns how long to wait before the retry of that number, from 0.
func (i *Immediate) delay(try int) time.Duration {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(i.Initial),
		backoff.WithMultiplier(i.Multiplier),
		backoff.WithRandomizationFactor(i.Jitter),
		backoff.WithMaxInterval(i.Within),
		backoff.WithMaxElapsedTime(0), // 15 minutes otherwise, of a clock that we don't use
	)
	var d time.Duration
	for range try + 1 {
		d = b.NextBackOff()
	}
	return d
}

// next says what follows an attempt.
type next int

const (
	nextNone      next = iota // delivered
	nextScheduled             // again, through the retry topics
	nextImmediate             // again, in this process
	nextDead
	nextAgain // cut short by us: again, at the same step
)

// verdict is what an attempt leads to.
type verdict struct {
	next    next
	at      time.Time // of the next attempt
	outcome webhook.Outcome
	reason  webhook.Reason // why it is dead
}

// decide is the one place that chooses between retry, dead letter and stop.
// The delivery's N and Step are those before the attempt, which ended now;
// firstStart is when the first of a chain of immediate attempts began, and away
// the wait of what a handover or shutdown cut short: it leaves its owner.
func decide(d *webhook.Delivery, o send.Outcome, c *Contract, line []time.Duration, away time.Duration, firstStart, now time.Time) verdict {
	switch o.Verdict {
	case send.Delivered:
		return verdict{next: nextNone, outcome: webhook.OutcomeDelivered}
	case send.Cut:
		return verdict{next: nextAgain, at: now.Add(away), outcome: webhook.OutcomeCut}
	case send.Permanent:
		return verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: o.Reason}
	}
	if i := c.Immediate; i != nil {
		if d.Step < i.Tries {
			if at := later(now.Add(i.delay(d.Step)), o.RetryAt); !at.After(firstStart.Add(i.Within)) {
				return verdict{next: nextImmediate, at: at, outcome: webhook.OutcomeRetry}
			}
		}
		return verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: webhook.ReasonExhausted}
	}
	schedule := c.Schedule
	if schedule == nil {
		schedule = line
	}
	if d.Step < len(schedule) {
		// The receiver may ask for more patience than the schedule has, not
		// for less.
		return verdict{next: nextScheduled, at: later(now.Add(schedule[d.Step]), o.RetryAt), outcome: webhook.OutcomeRetry}
	}
	return verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: webhook.ReasonExhausted}
}
