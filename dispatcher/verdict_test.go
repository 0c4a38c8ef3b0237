package dispatcher

import (
	"testing"
	"time"

	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

func TestWhatFollowsAnAttemptInEveryShapeOfContract(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	line := []time.Duration{time.Minute, 5 * time.Minute}
	standard := &Contract{}
	own := &Contract{Schedule: []time.Duration{time.Second}}
	once := &Contract{Schedule: []time.Duration{}}
	at := func(d time.Duration) time.Time { return now.Add(d) }
	retry := send.Outcome{Verdict: send.Retryable, Reason: webhook.ReasonStatus5xx}
	asked := func(d time.Duration) send.Outcome { o := retry; o.RetryAt = at(d); return o }
	for _, c := range []struct {
		name     string
		contract *Contract
		step     int
		outcome  send.Outcome
		want     verdict
	}{
		{"delivered", standard, 0, send.Outcome{Verdict: send.Delivered}, verdict{next: nextNone, outcome: webhook.OutcomeDelivered}},
		{"the first failure waits by the line's schedule", standard, 0, retry, verdict{nextScheduled, at(time.Minute), webhook.OutcomeRetry, ""}},
		{"the second", standard, 1, retry, verdict{nextScheduled, at(5 * time.Minute), webhook.OutcomeRetry, ""}},
		{"after the last step it is dead", standard, 2, retry, verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: webhook.ReasonExhausted}},
		{"the contract's schedule goes before the line's", own, 0, retry, verdict{nextScheduled, at(time.Second), webhook.OutcomeRetry, ""}},
		{"and ends when it ends", own, 1, retry, verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: webhook.ReasonExhausted}},
		{"an empty schedule is a single attempt", once, 0, retry, verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: webhook.ReasonExhausted}},
		{"Retry-After may be more than the schedule", standard, 0, asked(90 * time.Second), verdict{nextScheduled, at(90 * time.Second), webhook.OutcomeRetry, ""}},
		{"not less", standard, 0, asked(time.Second), verdict{nextScheduled, at(time.Minute), webhook.OutcomeRetry, ""}},
		{"permanent, with its own reason", standard, 0, send.Outcome{Verdict: send.Permanent, Reason: webhook.ReasonGone},
			verdict{next: nextDead, outcome: webhook.OutcomeDead, reason: webhook.ReasonGone}},
		{"what we cut comes again", standard, 2, send.Outcome{Verdict: send.Cut, Reason: webhook.ReasonCut},
			verdict{next: nextAgain, at: at(7 * time.Second), outcome: webhook.OutcomeCut}},
	} {
		if got := decide(&webhook.Delivery{Step: c.step}, c.outcome, c.contract, line, 7*time.Second, now, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestImmediateRetriesWaitOneTwoAndFourSecondsGiveOrTakeHalf(t *testing.T) {
	i := &Immediate{Tries: 3, Initial: time.Second, Multiplier: 2, Jitter: 0.5, Within: time.Minute}
	for try, mid := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		least, most := time.Hour, time.Duration(0)
		for range 2000 {
			d := i.delay(try)
			least, most = min(least, d), max(most, d)
		}
		if least < mid/2 || most > mid*3/2+time.Nanosecond {
			t.Errorf("try %d waits from %v to %v, want within half of %v", try, least, most, mid)
		}
		if least > mid*6/10 || most < mid*14/10 {
			t.Errorf("try %d waits from %v to %v only: it isn't spread", try, least, most)
		}
	}
}

func TestNoImmediateRetryBeginsAfterTheWholeIsOver(t *testing.T) {
	c := &Contract{Immediate: &Immediate{Tries: 3, Initial: time.Second, Multiplier: 2, Jitter: 0.5, Within: time.Minute}}
	now := time.Unix(1_800_000_000, 0)
	retry := send.Outcome{Verdict: send.Retryable}
	for _, k := range []struct {
		name  string
		first time.Duration // ago
		asked time.Duration
		want  next
	}{
		{"early", 10 * time.Second, 0, nextImmediate},
		{"a retry would begin after 60 s", 59700 * time.Millisecond, 0, nextDead},
		{"Retry-After within the 60 s", 0, 30 * time.Second, nextImmediate},
		{"Retry-After beyond them", 0, 61 * time.Second, nextDead},
	} {
		o := retry
		if k.asked > 0 {
			o.RetryAt = now.Add(k.asked)
		}
		for range 50 {
			v := decide(&webhook.Delivery{}, o, c, nil, 7*time.Second, now.Add(-k.first), now)
			if v.next != k.want {
				t.Fatalf("%s: %+v, want %v", k.name, v, k.want)
			}
			if v.next == nextImmediate && k.asked > 0 && v.at.Before(o.RetryAt) {
				t.Fatalf("%s: comes at %v, earlier than asked", k.name, v.at)
			}
			if v.next == nextDead && v.reason != webhook.ReasonExhausted {
				t.Fatalf("%s: dead as %q", k.name, v.reason)
			}
		}
	}
	if v := decide(&webhook.Delivery{Step: 3}, retry, c, []time.Duration{time.Minute}, 7*time.Second, now, now); v.next != nextDead {
		t.Errorf("after three retries: %+v, want dead even where the line has a schedule", v)
	}
}
