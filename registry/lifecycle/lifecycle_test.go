package lifecycle

import (
	"testing"
	"time"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func TestOneSuccessEndsAnOccurrenceAndOnlyDeathsCountAsExhausted(t *testing.T) {
	s := State{}
	for i, tt := range []struct {
		o         Observation
		failing   bool
		exhausted int
	}{
		{Delivered, false, 0}, {Nothing, false, 0}, {Failed, true, 0}, {Failed, true, 0}, {Exhausted, true, 1},
		{Nothing, true, 1}, {Exhausted, true, 2}, {Delivered, false, 0}, {Exhausted, true, 1}, {Waited, false, 0}, {Failed, true, 0},
	} {
		before := s
		s = s.After(tt.o, start.Add(time.Duration(i)*time.Hour), start)
		if s.FailingSince.IsZero() == tt.failing || s.Exhausted != tt.exhausted {
			t.Errorf("%d: %+v after %v of %+v", i, s, tt.o, before)
		}
		if !before.FailingSince.IsZero() && tt.failing && !s.FailingSince.Equal(before.FailingSince) {
			t.Errorf("%d: the occurrence began anew", i)
		}
	}
}

func TestHowFarAnEndpointIsOnItsWay(t *testing.T) {
	failing := func(age time.Duration, exhausted int) State {
		return State{FailingSince: start.Add(-age), Exhausted: exhausted}
	}
	days, both, count, off := Policy{FailingFor: 5 * day}, Policy{5 * day, 10}, Policy{Exhausted: 10}, Policy{}
	for _, tt := range []struct {
		policy Policy
		state  State
		want   Judgement
	}{
		{days, State{}, Judgement{}},
		{days, failing(0, 100), Judgement{}},
		{days, failing(60*time.Hour-1, 9), Judgement{}},
		{days, failing(60*time.Hour, 0), Judgement{50, CauseFailing}},
		{days, failing(90*time.Hour-1, 9), Judgement{50, CauseFailing}},
		{days, failing(90*time.Hour, 0), Judgement{75, CauseFailing}},
		{days, failing(5*day-1, 9), Judgement{75, CauseFailing}},
		{days, failing(5*day, 2), Judgement{100, CauseFailing}},
		{days, failing(50*day, 1), Judgement{75, CauseFailing}}, // a single delivery, long ago
		{both, failing(0, 4), Judgement{}},
		{both, failing(0, 5), Judgement{50, CauseExhausted}},
		{both, failing(90*time.Hour, 5), Judgement{75, CauseFailing}},
		{both, failing(60*time.Hour, 8), Judgement{75, CauseExhausted}},
		{both, failing(60*time.Hour, 5), Judgement{50, CauseFailing}},
		{both, failing(time.Hour, 10), Judgement{100, CauseExhausted}},
		{count, failing(50*day, 9), Judgement{75, CauseExhausted}},
		{count, failing(0, 11), Judgement{100, CauseExhausted}},
		{off, failing(500*day, 1000), Judgement{}},
	} {
		if got := tt.policy.Judge(tt.state, start); got != tt.want {
			t.Errorf("%+v of %+v: %+v, want %+v", tt.policy, tt.state, got, tt.want)
		}
	}
}

func TestWhatWasObservedBeforeAnEndpointWasEnabledDoesNotCount(t *testing.T) {
	s := State{FailingSince: start, Exhausted: 3, LastEvent: start.Truncate(day)}
	if got := s.Since(start); got != s {
		t.Errorf("enabled at the same time: %+v", got)
	}
	if got := s.Since(start.Add(1)); !got.FailingSince.IsZero() || got.Exhausted != 0 || !got.LastEvent.Equal(s.LastEvent) {
		t.Errorf("enabled after: %+v", got)
	}
}

func TestAnOccurrenceBeginsNoEarlierThanTheEndpointIsActiveWhateverTheClocksSay(t *testing.T) {
	for _, active := range []time.Time{start.Add(3 * time.Second), start.Add(1234567), start.Add(1), start, start.Add(-time.Hour)} {
		s := State{}.After(Failed, start.Add(1), active)
		if s.FailingSince.IsZero() || s.Since(active) != s || s.FailingSince.After(active) && !s.FailingSince.Equal(start) {
			t.Errorf("active since %v, it fails since %v", active, s.FailingSince)
		}
		if later := s.After(Exhausted, start.Add(time.Minute), active); !later.FailingSince.Equal(s.FailingSince) {
			t.Errorf("active since %v, the occurrence began anew at %v", active, later.FailingSince)
		}
	}
}

func TestInactivityCountsFromTheEndOfTheLastEventsDay(t *testing.T) {
	created := start
	for _, tt := range []struct {
		last   time.Time
		active time.Time
		now    time.Time
		want   bool
	}{
		{time.Time{}, created, created.Add(90*day - 1), false},
		{time.Time{}, created, created.Add(90 * day), true},
		{created.Add(10 * day), created, created.Add(100 * day), false},
		{created.Add(10 * day), created, created.Add(102 * day), true},
		{created.Add(10 * day), created.Add(50 * day), created.Add(139 * day), false}, // enabled again meanwhile
		{created.Add(10 * day), created.Add(50 * day), created.Add(140 * day), true},
	} {
		s := State{}
		if !tt.last.IsZero() {
			s = s.Seen(tt.last)
		}
		if got := Inactive(s, tt.active, 90*day, tt.now); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	if Inactive(State{}, created, 0, created.Add(1000*day)) {
		t.Error("without a limit")
	}
	if s := (State{}).Seen(start); s != s.Seen(start.Add(-day)) || s == s.Seen(start.Add(day)) {
		t.Error("the last day goes back, or not on")
	}
}
