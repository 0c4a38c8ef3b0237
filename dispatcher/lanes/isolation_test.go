package lanes

import (
	"strings"
	"testing"
	"time"
)

func is(kind string) func(*job) bool {
	return func(j *job) bool { return strings.HasPrefix(j.key, kind+"-") }
}

// Steady traffic to many endpoints waits for nothing, whether a tenth of them
// hang or none.
func TestHangingLanesDelayNobody(t *testing.T) {
	for _, hanging := range []int{0, 100} {
		s := newSim(t, Config{})
		for i := range 900 {
			s.receivers[name("ok", i)] = answers(100 * time.Millisecond)
			s.after(time.Duration(i)*time.Millisecond, func() { s.arrive(name("ok", i), 200, 300*time.Millisecond) })
		}
		for i := range hanging {
			s.receivers[name("hang", i)] = hangs(15 * time.Second)
			s.arrive(name("hang", i), 600, 100*time.Millisecond)
		}
		s.until(90 * time.Second)
		if w := s.waits(0.999, is("ok")); w != 0 {
			t.Errorf("%d hanging: healthy deliveries waited %v at p99.9, want 0", hanging, w)
		}
	}
}

// 2,000 endpoints that hang from their very first POST arrive before anything
// else. Endpoints that are known to be fine never wait, and new ones that are
// fine get their slots too, from the first second on.
func TestNewHangingLanesLeaveSlotsToOthersFromTheStart(t *testing.T) {
	s := newSim(t, Config{})
	for i := range 300 {
		s.receivers[name("old", i)] = answers(100 * time.Millisecond)
		s.arrive(name("old", i), 400, 100*time.Millisecond)
	}
	s.until(2 * time.Second) // they prove themselves
	for i := range 2000 {
		s.receivers[name("hang", i)] = hangs(15 * time.Second)
		s.arrive(name("hang", i), 20, 10*time.Millisecond)
	}
	s.after(50*time.Millisecond, func() {
		for i := range 300 {
			s.receivers[name("new", i)] = answers(100 * time.Millisecond)
			s.arrive(name("new", i), 100, 250*time.Millisecond)
		}
	})
	s.until(3 * time.Second)
	if st := s.set.Stats(); st.InFlight-st.SickInFlight-st.UnprovenInFlight > 2000 || st.UnprovenInFlight < 2000 {
		t.Errorf("in flight %+v: every hanging lane should have a POST out", st)
	}
	s.until(60 * time.Second)
	for _, kind := range []string{"old", "new"} {
		if w := s.waits(0.999, is(kind)); w != 0 {
			t.Errorf("%s healthy deliveries waited %v at p99.9, want 0", kind, w)
		}
	}
}

// More new hanging endpoints than there are slots: those that are known to be
// fine still have their reserve.
func TestProvenLanesKeepTheirReserve(t *testing.T) {
	s := newSim(t, Config{MaxInFlight: 256})
	for i := range 20 {
		s.receivers[name("old", i)] = answers(100 * time.Millisecond)
		s.arrive(name("old", i), 600, 100*time.Millisecond)
	}
	s.until(time.Second)
	for i := range 1000 {
		s.receivers[name("hang", i)] = hangs(15 * time.Second)
		s.arrive(name("hang", i), 10, 100*time.Millisecond)
	}
	s.until(60 * time.Second)
	if w := s.waits(0.999, is("old")); w != 0 {
		t.Errorf("healthy deliveries waited %v at p99.9, want 0", w)
	}
}

// Lanes that had grown wide begin to hang all at once. The others still find
// slots within the seconds until that is known.
func TestWideLanesThatHangTogetherLeaveSlots(t *testing.T) {
	s := newSim(t, Config{MaxInFlight: 512})
	down := 30 * time.Second
	for i := range 10 {
		s.receivers[name("wide", i)] = func(now time.Duration, _ *randv2) (time.Duration, Result) {
			if now >= down {
				return 15 * time.Second, Failed
			}
			return 200 * time.Millisecond, OK
		}
		s.arrive(name("wide", i), 30000, 2*time.Millisecond)
	}
	for i := range 40 {
		s.receivers[name("ok", i)] = answers(100 * time.Millisecond)
		s.after(time.Duration(i)*5*time.Millisecond, func() { s.arrive(name("ok", i), 300, 200*time.Millisecond) })
	}
	s.until(down)
	if st := s.set.Stats(); st.InFlight < 400 {
		t.Fatalf("only %d in flight before the outage: the test shows nothing", st.InFlight)
	}
	s.until(60 * time.Second)
	if w := s.waits(0.999, is("ok")); w > 0 {
		t.Errorf("healthy deliveries waited %v at p99.9, want 0", w)
	}
}

// Slots are shared in turn between lanes that wait for nothing but the cap.
func TestNoLaneStarvesAtTheCap(t *testing.T) {
	s := newSim(t, Config{MaxInFlight: 64, QueueRecords: 100000, QueueBytes: 1 << 30})
	served := map[string]int{}
	s.onDone = func(j *job, _ Result) { served[j.key]++ }
	for i := range 300 {
		s.receivers[name("ok", i)] = answers(100 * time.Millisecond)
		s.arrive(name("ok", i), 1000, time.Millisecond)
	}
	for i := range 30 {
		s.receivers[name("bad", i)] = fails(100 * time.Millisecond)
		s.arrive(name("bad", i), 1000, time.Millisecond)
	}
	s.until(61 * time.Second)
	least, most := 1<<30, 0
	for i := range 300 {
		least, most = min(least, served[name("ok", i)]), max(most, served[name("ok", i)])
	}
	if most > least+least/5+4 {
		t.Errorf("healthy lanes were served between %d and %d times, want nearly the same", least, most)
	}
	for i := range 30 {
		if served[name("bad", i)] < 20 {
			t.Errorf("%s was served %d times in a minute", name("bad", i), served[name("bad", i)])
		}
	}
	if used := float64(least*300) / (60 * 640); used < 0.85 {
		t.Errorf("healthy lanes used %.2f of the slots", used)
	}
}

// Ten endpoints that were down come back: sick lanes are probed in turn however
// many there are, so each is found to be well.
func TestSickLanesAreProbedWithinTheirShareUntilTheyRecover(t *testing.T) {
	s := newSim(t, Config{MaxInFlight: 64})
	for i := range 200 {
		s.receivers[name("sick", i)] = func(now time.Duration, _ *randv2) (time.Duration, Result) {
			if now < time.Minute {
				return 50 * time.Millisecond, Failed
			}
			return 50 * time.Millisecond, OK
		}
		s.arrive(name("sick", i), 100, time.Second)
	}
	s.until(3 * time.Minute)
	for i := range 200 {
		lane, ok := s.set.Lane(name("sick", i))
		if !ok || s.set.lanes[name("sick", i)].failed || lane.Queued > 0 {
			t.Fatalf("%s did not recover: %+v", name("sick", i), lane)
		}
	}
}

// An endpoint on which one POST in a hundred hangs is held to the sick share but
// not to a single probe: the other ninety-nine go on.
func TestOneHangingPostDoesNotStopALaneThatAnswers(t *testing.T) {
	s := newSim(t, Config{})
	done := 0
	s.onDone = func(_ *job, r Result) {
		if r == OK {
			done++
		}
	}
	n := 0
	s.receivers["k-0"] = func(time.Duration, *randv2) (time.Duration, Result) {
		if n++; n%100 == 0 {
			return 15 * time.Second, Failed
		}
		return 100 * time.Millisecond, OK
	}
	s.arrive("k-0", 60000, time.Millisecond)
	s.until(60 * time.Second)
	if done < 60*40 {
		t.Errorf("%d delivered in a minute, want what four in flight can do at least", done)
	}
}

// Hundreds of endpoints that were fine go down together (they share a host).
// They stop being trusted before they are known to hang, so that they can't take
// every slot by having a few POSTs out each.
func TestProvenLanesThatHangTogetherAreDoubtedInTime(t *testing.T) {
	s := newSim(t, Config{MaxInFlight: 1024})
	down := 5 * time.Second
	for i := range 400 {
		s.receivers[name("host", i)] = func(now time.Duration, _ *randv2) (time.Duration, Result) {
			if now >= down {
				return 15 * time.Second, Failed
			}
			return 50 * time.Millisecond, OK
		}
		s.after(time.Duration(i)*time.Millisecond, func() { s.arrive(name("host", i), 100, 400*time.Millisecond) })
	}
	for i := range 100 {
		s.receivers[name("ok", i)] = answers(100 * time.Millisecond)
		s.after(time.Duration(i)*3*time.Millisecond, func() { s.arrive(name("ok", i), 130, 300*time.Millisecond) })
	}
	s.until(40 * time.Second)
	if w := s.waits(0.999, is("ok")); w != 0 {
		t.Errorf("healthy deliveries waited %v at p99.9, want 0", w)
	}
}

// A lane that doesn't answer is doubted after half a second, or twice its usual
// latency, and trusted again as soon as it answers.
func TestDoubtFollowsTheUsualLatencyAndEndsWithAnAnswer(t *testing.T) {
	for _, c := range []struct{ usual, doubted time.Duration }{
		{100 * time.Millisecond, 500 * time.Millisecond},
		{2 * time.Second, 4 * time.Second},
	} {
		s, now := must(t, Config{}), time.Unix(0, 0)
		suspects := func(after time.Duration) int {
			now = now.Add(after)
			s.Stalled(now, nil) // lets time pass
			return s.Stats().UnprovenInFlight
		}
		s.Offer(now, "k", 0, 1, Options{})
		if got := suspects(0); got != 1 {
			t.Errorf("%d unproven in flight before the first answer, want 1", got)
		}
		now = now.Add(c.usual)
		s.Finish(now, "k", OK, c.usual, nil)
		for range 3 {
			s.Offer(now, "k", 0, 1, Options{})
		}
		if got := suspects(c.doubted - 1); got != 0 {
			t.Errorf("usually %v: %d unproven in flight just before %v, want 0", c.usual, got, c.doubted)
		}
		if got := suspects(1); got != 3 {
			t.Errorf("usually %v: %d unproven in flight after %v, want 3", c.usual, got, c.doubted)
		}
		s.Finish(now, "k", OK, c.doubted, nil)
		if got := suspects(0); got != 0 {
			t.Errorf("usually %v: %d unproven in flight after an answer, want 0", c.usual, got)
		}
	}
}
