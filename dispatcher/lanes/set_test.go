package lanes

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func must(t testing.TB, c Config) *Set[int] {
	t.Helper()
	s, err := New[int](c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expect(t *testing.T, d Decision, v Verdict) {
	t.Helper()
	if d.Verdict != v {
		t.Fatalf("verdict %v, want %v", d.Verdict, v)
	}
}

func TestValidateNamesEveryMistake(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the zero config: %v", err)
	}
	for _, n := range []int{1, 2, 3, 300, 5000} {
		if err := (Config{MaxInFlight: n}).Validate(); err != nil {
			t.Errorf("MaxInFlight %d: %v", n, err)
		}
	}
	err := Config{InitialWidth: -1, MaxWidth: -2, QueueRecords: -1, QueueBytes: -1, SuspectBytes: -1, MaxInFlight: -1, SickShare: 2,
		UnprovenShare: 0.1, SlowAfter: 1, MinTurn: -1, MaxTurn: -2, QueueFor: -1, IdleLanes: -1, IdleFor: -1}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"InitialWidth", "MaxWidth", "QueueRecords", "QueueBytes", "SuspectBytes", "MaxInFlight", "SickShare",
		"UnprovenShare", "SlowAfter", "MinTurn", "MaxTurn", "QueueFor", "IdleLanes", "IdleFor"} {
		if !strings.Contains(err.Error(), field+" is") {
			t.Errorf("%s is not named in: %v", field, err)
		}
	}
	if _, err := New[int](Config{SickShare: 2}); err == nil {
		t.Error("New took it")
	}
}

func TestQueueIsBoundedInRecordsAndBytes(t *testing.T) {
	s, now := must(t, Config{QueueBytes: 100}), time.Unix(0, 0)
	for i := range 4 {
		expect(t, s.Offer(now, "k", i, 1000, Options{}), Start)
	}
	expect(t, s.Offer(now, "k", 4, 1000, Options{}), Queued) // the first, whatever its size
	expect(t, s.Offer(now, "k", 5, 1, Options{}), Spill)
	if st := s.Stats(); st.Queued != 1 || st.QueuedBytes != 1000 {
		t.Errorf("%+v", st)
	}
	if got := s.Finish(now, "k", OK, 0, nil); !slices.Equal(got, []int{4}) {
		t.Errorf("started %v", got)
	}
	if st := s.Stats(); st.Queued != 0 || st.QueuedBytes != 0 || st.InFlight != 4 {
		t.Errorf("%+v", st)
	}
}

func TestEndpointsOwnWidthIsKept(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	expect(t, s.Offer(now, "k", 1, 1, Options{MaxWidth: 1}), Start)
	for i := range 100 {
		expect(t, s.Offer(now, "k", i, 1, Options{MaxWidth: 1}), Queued)
	}
	for range 50 {
		now = now.Add(time.Millisecond)
		if got := s.Finish(now, "k", OK, time.Millisecond, nil); len(got) != 1 {
			t.Fatalf("%d started, want 1", len(got))
		}
	}
}

// What a lane shows no success for is kept short, also when it had success once:
// full, it is spilled while nothing is known, and parked once it only fails.
func TestALaneWithoutSuccessQueuesOnlyItsSuspectBytes(t *testing.T) {
	s, now := must(t, Config{QueueBytes: 1000, SuspectBytes: 100}), time.Unix(0, 0)
	queue := func(want int, then Verdict) {
		t.Helper()
		for i := range 100 {
			if d := s.Offer(now, "k", i, 10, Options{Returning: true}); d.Verdict != Start && d.Verdict != Queued {
				expect(t, d, then)
				break
			}
		}
		if l, _ := s.Lane("k"); l.QueuedBytes != want {
			t.Errorf("%d bytes queued, want %d", l.QueuedBytes, want)
		}
	}
	queue(100, Spill)
	now = now.Add(time.Second)
	s.Finish(now, "k", Failed, time.Second, nil)
	expect(t, s.Offer(now, "k", 0, 10, Options{}), Park)
	s.Finish(now, "k", OK, time.Second, nil)
	queue(1000, Spill)

	s.Shed("k", nil)
	s.Finish(now, "k", Failed, time.Second, nil)
	queue(1000, Spill) // one failure among successes changes nothing
	now = now.Add(4 * time.Second)
	s.Finish(now, "k", Failed, 4*time.Second, nil)
	now = now.Add(time.Second)
	expect(t, s.Offer(now, "k", 0, 10, Options{}), Park)
	s.Shed("k", nil)
	queue(100, Park)
}

// A failing endpoint is probed with one POST at a time, and its first success
// gives it back its width.
func TestFailureNarrowsToOneProbeUntilASuccess(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	for i := range 10 {
		s.Offer(now, "k", i, 1, Options{})
	}
	for i := range 4 {
		if got, want := len(s.Finish(now, "k", Failed, 0, nil)), max(0, i-2); got != want {
			t.Fatalf("%d started after failure %d, want %d", got, i+1, want)
		}
	}
	if st := s.Stats(); st.SickInFlight != 1 || st.InFlight != 1 {
		t.Errorf("%+v", st)
	}
	if got := s.Finish(now, "k", OK, 0, nil); len(got) < 2 {
		t.Errorf("%d started after a success, want the width back", len(got))
	}
	if st := s.Stats(); st.SickInFlight != 0 {
		t.Errorf("%+v", st)
	}
}

func TestExcludedSaysNothingAboutTheEndpoint(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	for i := range 5 {
		s.Offer(now, "k", i, 1, Options{})
	}
	if got := s.Finish(now, "k", Excluded, 0, nil); len(got) != 1 {
		t.Errorf("%d started, want the slot used again", len(got))
	}
	for range 4 {
		s.Finish(now, "k", Excluded, time.Second, nil)
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("%+v, want nothing left: nothing was learned", st)
	}
	if got := s.Finish(now, "k", OK, 0, nil); len(got) != 0 || s.Stats().InFlight != 0 {
		t.Error("a Finish without a start changed something")
	}
}

func TestRemoveTakesWhatWasPickedAndKeepsTheOrder(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	for i := range 60 {
		s.Offer(now, name("k", i%3), i, 10, Options{})
	}
	odd := func(i int) bool { return i%2 == 1 }
	if got, want := s.Largest(2, odd), []Crowd{{"k-0", 8}, {"k-1", 8}}; !slices.Equal(got, want) {
		t.Errorf("largest %v, want %v", got, want)
	}
	if got := s.Remove(odd, nil); len(got) != 24 || slices.ContainsFunc(got, func(i int) bool { return !odd(i) }) {
		t.Errorf("removed %v", got)
	}
	if got := s.Largest(9, odd); len(got) != 0 {
		t.Errorf("left %v", got)
	}
	if st := s.Stats(); st.Queued != 24 || st.QueuedBytes != 240 || st.InFlight != 12 || st.Backlogged != 3 {
		t.Errorf("%+v", st)
	}
	n := 0
	for key, l := range s.Lanes() {
		if n++; l.Queued != 8 || l.InFlight != 4 || !strings.HasPrefix(key, "k-") {
			t.Errorf("%s: %+v", key, l)
		}
	}
	if n != 3 {
		t.Errorf("%d lanes", n)
	}
	got := s.RemoveKey("k-0", nil)
	if !slices.IsSorted(got) || len(got) != 8 {
		t.Errorf("removed %v", got)
	}
	if got := s.RemoveKey("nobody", nil); got != nil {
		t.Errorf("removed %v", got)
	}
	for i := range 4 {
		if st := s.Stats(); st.InFlight != 12-i {
			t.Errorf("%+v: want the slots held until Finish", st)
		}
		s.Finish(now, "k-0", Excluded, 0, nil)
	}
	if _, ok := s.Lane("k-0"); ok {
		t.Error("the lane of a removed key is remembered")
	}
}

func TestTurnQueuesUpBehindTheSpilled(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	a, b := s.Turn(now, "k"), s.Turn(now, "k")
	if a < 5*time.Second || b <= a {
		t.Errorf("turns %v, %v", a, b)
	}
	if l, _ := s.Lane("k"); l.Out != 2 {
		t.Errorf("%+v", l)
	}
}

func TestIdleLanesAreForgottenOldestFirst(t *testing.T) {
	s, now := must(t, Config{IdleLanes: 100, IdleFor: time.Minute}), time.Unix(0, 0)
	use := func(key string) {
		s.Offer(now, key, 0, 1, Options{})
		s.Finish(now, key, OK, 0, nil)
	}
	for i := range 1000 {
		now = now.Add(time.Millisecond)
		use(name("k", i))
	}
	if st := s.Stats(); st.Lanes != 100 || st.Idle != 100 {
		t.Errorf("%+v, want 100 remembered", st)
	}
	if _, ok := s.Lane("k-999"); !ok {
		t.Error("the latest was forgotten")
	}
	now = now.Add(2 * time.Minute)
	for i := range 100 {
		use(name("late", i))
	}
	if st := s.Stats(); st.Lanes != 100 {
		t.Errorf("%+v", st)
	}
	now = now.Add(2 * time.Minute)
	for range 100 {
		use("one")
	}
	if st := s.Stats(); st.Lanes != 1 {
		t.Errorf("%+v, want the long idle ones gone", st)
	}
}

func TestClockThatGoesBackIsIgnored(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(100, 0)
	for i := range 5 {
		s.Offer(now, "k", i, 1, Options{Rate: 10})
	}
	now = now.Add(-time.Hour)
	s.Offer(now, "k", 6, 1, Options{Rate: 10})
	if got := s.Due(now, nil); len(got) != 0 {
		t.Errorf("started %v", got)
	}
	if due, ok := s.NextDue(); !ok || !due.After(time.Unix(100, 0)) {
		t.Errorf("due %v, %v", due, ok)
	}
}

func TestTimersGiveTheEarliest(t *testing.T) {
	h := timers[int]{kind: timerDue}
	lanes := make([]*lane[int], 200)
	for i := range lanes {
		lanes[i] = &lane[int]{key: fmt.Sprint(i)}
		h.set(lanes[i], instant(i*7919%200))
	}
	for i := range lanes {
		h.set(lanes[i], instant(i*104729%200))
		if i%3 == 0 {
			h.clear(lanes[i])
			h.clear(lanes[i])
		}
	}
	last, n := instant(-1), 0
	for l := h.first(); l != nil; l = h.first() {
		at := l.alarms[timerDue].at
		if at < last {
			t.Fatalf("%d after %d", at, last)
		}
		last, n = at, n+1
		h.clear(l)
	}
	if n != 133 {
		t.Errorf("%d lanes, want 133", n)
	}
}

// The doc comment of IdleLanes states what an idle lane costs: this, its key, its
// place in the map and the room its queue and its starts once needed.
func TestIdleLaneIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(lane[*int]{}); n > 512 {
		t.Errorf("a lane has %d bytes", n)
	}
}
