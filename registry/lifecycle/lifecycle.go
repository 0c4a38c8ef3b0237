// Package lifecycle decides when an endpoint that fails is to be disabled, and
// when its owner is to be warned. Pure: no Kafka, no HTTP, no clock.
//
// What is remembered of an endpoint is a [State]; it changes with each
// settlement's [Observation], and [Policy.Judge] says how far the endpoint is on
// the way to being disabled.
package lifecycle

import "time"

// State is the record "health/<endpoint ID>" of the registry, written by the
// endpoint's owner when it ceases to fail or has done so for a minute, at the
// first event after a quiet day where inactivity counts, at most hourly besides,
// and when the endpoint is handed over.
type State struct {
	// FailingSince is when the first attempt failed of those that no success has
	// followed; zero while it doesn't fail. It names the occurrence: a
	// later one has another.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Exhausted counts the deliveries in a row that were given up after their last
	// attempt.
	Exhausted int `json:"exhausted,omitempty"`
	// LastEvent is the day (UTC) of the last delivery that an event of the
	// endpoint's subscriptions began; zero if none is known.
	LastEvent time.Time `json:"last_event,omitzero"`
}

// Observation is what a settlement says of an endpoint.
type Observation int

// The observations.
const (
	Nothing   Observation = iota // it says nothing about the receiver
	Delivered                    // the receiver has it
	Failed                       // an attempt failed, and another follows
	Exhausted                    // an attempt failed, and none follows
	Waited                       // it is paused: no attempts, no judgement
)

// After returns the state after an observation at a time, of an endpoint that has
// been active (created, or enabled again) since another. The two are of different
// hosts' clocks: an occurrence begins no earlier than the endpoint is active, or it
// would be taken for one of before.
func (s State) After(o Observation, at, active time.Time) State {
	switch o {
	case Delivered, Waited:
		s.FailingSince, s.Exhausted = time.Time{}, 0
	case Failed, Exhausted:
		if s.FailingSince.IsZero() {
			s.FailingSince = at.UTC().Truncate(time.Millisecond)
			if s.FailingSince.Before(active) {
				s.FailingSince = active.UTC()
			}
		}
		if o == Exhausted {
			s.Exhausted++
		}
	case Nothing:
	}
	return s
}

// Seen returns the state after an event of the endpoint's subscriptions.
func (s State) Seen(at time.Time) State {
	if day := at.UTC().Truncate(24 * time.Hour); day.After(s.LastEvent) {
		s.LastEvent = day
	}
	return s
}

// Since returns the state of an endpoint that has been active only since a time:
// what was observed before doesn't count.
func (s State) Since(active time.Time) State {
	if s.FailingSince.Before(active) {
		s.FailingSince, s.Exhausted = time.Time{}, 0
	}
	return s
}

// Policy says when an endpoint is disabled for failing; 0 for never.
type Policy struct {
	// FailingFor is how long it fails without a single success.
	FailingFor time.Duration
	// Exhausted is how many deliveries in a row are given up.
	Exhausted int
}

// minExhausted is how many deliveries must have been given up before the time
// alone disables: two failures with a quiet week between them are not a week of
// failing.
const minExhausted = 2

// Cause is why an endpoint is on its way to being disabled.
type Cause string

// The causes, as in [webhook.DisabledReason].
const (
	CauseFailing   Cause = "failing"
	CauseExhausted Cause = "exhausted"
)

// Judgement is how far an endpoint is on its way: 0, 50, 75 or 100 percent,
// where it is to be disabled.
type Judgement struct {
	Percent int
	Cause   Cause
}

// Judge looks at a state after a failed attempt.
func (p Policy) Judge(s State, now time.Time) Judgement {
	if s.FailingSince.IsZero() {
		return Judgement{}
	}
	byTime := Judgement{Cause: CauseFailing}
	if p.FailingFor > 0 {
		byTime.Percent = stage(float64(now.Sub(s.FailingSince)) / float64(p.FailingFor))
		if byTime.Percent == 100 && s.Exhausted < minExhausted {
			byTime.Percent = 75
		}
	}
	byCount := Judgement{Cause: CauseExhausted}
	if p.Exhausted > 0 {
		byCount.Percent = stage(float64(s.Exhausted) / float64(p.Exhausted))
	}
	switch {
	case byTime.Percent == 0 && byCount.Percent == 0:
		return Judgement{}
	case byCount.Percent > byTime.Percent:
		return byCount
	}
	return byTime
}

func stage(way float64) int {
	switch {
	case way >= 1:
		return 100
	case way >= 0.75:
		return 75
	case way >= 0.5:
		return 50
	}
	return 0
}

// Inactive reports whether an endpoint has had no event for so long that it is
// to be disabled; after is 0 for never. Days count whole: the day of the last
// event is over before the count begins.
func Inactive(s State, active time.Time, after time.Duration, now time.Time) bool {
	last := active
	if end := s.LastEvent.Add(24 * time.Hour); !s.LastEvent.IsZero() && end.After(last) {
		last = end
	}
	return after > 0 && now.Sub(last) >= after
}
