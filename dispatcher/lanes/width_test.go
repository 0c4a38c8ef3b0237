package lanes

import (
	"math/rand/v2"
	"testing"
	"time"
)

type randv2 = rand.Rand

// A flooded lane uses at least nine tenths of what its endpoint can take,
// whatever happens to what it can't, and stays steady once it has got there.
func TestFloodedLaneReachesTheCapacityOfItsEndpoint(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name     string
		receiver receiver
		capacity float64 // deliveries per second
		least    int     // width, once warm
		most     int
		failures float64 // most part of POSTs that may fail
	}{
		{"queues 8 x 100ms", queues(8, constant(100*ms)), 80, 8, 20, 0},
		{"queues 8 x ~100ms", queues(8, exponential(100*ms)), 80, 6, 40, 0},
		{"queues 1 x 100ms", queues(1, constant(100*ms)), 10, 1, 12, 0},
		{"queues 100 x 40ms", queues(100, constant(40*ms)), 2500, 50, 256, 0},
		{"queues 4 x 2s", queues(4, constant(2000*ms)), 2, 4, 12, 0},
		{"queues 8 x 2ms", queues(8, constant(2*ms)), 4000, 8, 80, 0},
		{"refuses 8 x 100ms", refuses(8, constant(100*ms)), 80, 4, 17, 0.05},
		{"refuses 50 x ~100ms", refuses(50, exponential(100*ms)), 500, 25, 100, 0.05},
		{"unbounded 100ms", answers(100 * ms), 2560, 128, 256, 0},
		{"unbounded 4s", answers(4000 * ms), 1, 4, 256, 0},
		{"unbounded 6s", answers(6000 * ms), 4 / 6.0, 1, 256, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, Config{QueueRecords: 1 << 22, QueueBytes: 1 << 40})
			s.receivers["k"] = c.receiver
			// Long enough for the baseline to be measured afresh more than once.
			const warm = 25 * time.Second
			end := time.Duration(max(75, min(240, 100_000/c.capacity))) * time.Second
			var good, bad float64
			s.onDone = func(_ *job, r Result) {
				if s.now < warm {
					return
				}
				if r == OK {
					good++
				} else {
					bad++
				}
				if w := int(s.set.lanes["k"].width.width); w < c.least || w > c.most {
					t.Fatalf("%v: width %d, want %d to %d", s.now, w, c.least, c.most)
				}
			}
			backlog := int(c.capacity*end.Seconds()*1.2) + 100
			s.arrive("k", backlog, min(time.Second, time.Duration(float64(time.Second)/c.capacity/2)))
			s.until(end)
			if used := good / (end - warm).Seconds() / c.capacity; used < 0.9 {
				t.Errorf("used %.2f of the capacity, want 0.9", used)
			}
			t.Logf("used %.3f of the capacity, %.3f failed", good/(end-warm).Seconds()/c.capacity, bad/(good+bad))
			if part := bad / (good + bad); part > c.failures {
				t.Errorf("%.3f of the POSTs failed, want at most %.3f", part, c.failures)
			}
		})
	}
}

// The ramp is a matter of seconds.
func TestLaneRampsWithinSeconds(t *testing.T) {
	s := newSim(t, Config{})
	s.receivers["k"] = queues(64, constant(100*time.Millisecond))
	done := 0
	s.onDone = func(*job, Result) { done++ }
	s.arrive("k", 20000, 250*time.Microsecond)
	s.until(5 * time.Second)
	if done < 640*5*7/10 {
		t.Errorf("%d done in the first 5 s, want 70 %% of %d", done, 640*5)
	}
}

// An endpoint whose service becomes slower for good is not taken for one that
// queues: after a while its width grows again.
func TestBaselineFollowsAnEndpointThatBecomesSlower(t *testing.T) {
	s := newSim(t, Config{QueueRecords: 1 << 20, QueueBytes: 1 << 40})
	done := 0
	s.onDone = func(*job, Result) { done++ }
	s.receivers["k"] = func(now time.Duration, _ *randv2) (time.Duration, Result) {
		if now > time.Minute {
			return 400 * time.Millisecond, OK
		}
		return 100 * time.Millisecond, OK
	}
	s.arrive("k", 300000, time.Millisecond)
	s.until(3 * time.Minute)
	before := done
	s.until(4 * time.Minute)
	if got := done - before; got < 60*200 {
		t.Errorf("%d done in the fourth minute, want at least %d (80 in flight)", got, 60*200)
	}
}

// A lane that comes back from a hang begins with one POST, not with the width
// that it had.
func TestLaneThatHungRampsUpFromOneProbe(t *testing.T) {
	s := newSim(t, Config{})
	s.receivers["k"] = func(now time.Duration, _ *randv2) (time.Duration, Result) {
		if now > 20*time.Second && now < 40*time.Second {
			return 15 * time.Second, Failed
		}
		return 100 * time.Millisecond, OK
	}
	s.arrive("k", 100000, 2*time.Millisecond)
	s.until(20 * time.Second)
	if l, _ := s.set.Lane("k"); l.Width < 30 {
		t.Fatalf("width %d before the hang: the test shows nothing", l.Width)
	}
	most, ramped := 0, false
	s.onStart = func(*job) {
		l, _ := s.set.Lane("k")
		switch {
		case s.now > 30*time.Second && s.now < 40*time.Second:
			most = max(most, l.Width)
		case s.now > 60*time.Second && l.InFlight > 8:
			ramped = true
		}
	}
	s.until(120 * time.Second)
	if most > 1 {
		t.Errorf("width %d while it hung, want 1", most)
	}
	if !ramped {
		t.Error("did not widen again after the hang")
	}
}

func TestNarrowStartsAtOneProbeAndWidensOnSuccess(t *testing.T) {
	s := newSim(t, Config{})
	s.receivers["k"] = answers(100 * time.Millisecond)
	s.set.Narrow(s.clock(), "k")
	s.arrive("k", 2000, 0)
	s.until(99 * time.Millisecond)
	if l, _ := s.set.Lane("k"); l.InFlight != 1 || l.Width != 1 {
		t.Fatalf("%d in flight of %d, want 1 of 1", l.InFlight, l.Width)
	}
	s.until(10 * time.Second)
	if l, _ := s.set.Lane("k"); l.Width < 4 {
		t.Errorf("width %d after 10 s of successes", l.Width)
	}
}

// Latency that is half again what it was is not taken for crowding for ever: the
// baseline is measured afresh at part of the width.
func TestBaselineIsMeasuredAfreshAtPartOfTheWidth(t *testing.T) {
	s := newSim(t, Config{QueueRecords: 1 << 20, QueueBytes: 1 << 40})
	done, least := 0, 1000
	s.onDone = func(*job, Result) {
		if done++; s.now > 70*time.Second {
			l, _ := s.set.Lane("k")
			least = min(least, l.Width)
		}
	}
	s.receivers["k"] = func(now time.Duration, _ *randv2) (time.Duration, Result) {
		if now > time.Minute {
			return 180 * time.Millisecond, OK
		}
		return 100 * time.Millisecond, OK
	}
	s.arrive("k", 6000, 10*time.Millisecond)
	s.after(time.Minute, func() { s.arrive("k", 150000, time.Millisecond) })
	s.until(2 * time.Minute)
	before := done
	s.until(3 * time.Minute)
	if got := done - before; got < 60*500 {
		t.Errorf("%d done in the third minute, want at least %d", got, 60*500)
	}
	if least < 4 {
		t.Errorf("width %d, want it never below where lanes start for latency alone", least)
	}
}

// At the least width that latency brings a lane to, what it shows is the
// baseline.
func TestBaselineIsTakenAnewAtTheInitialWidth(t *testing.T) {
	c := Config{}.withDefaults()
	w, now := newWidth(&c), instant(0)
	run := func(d, latency time.Duration) {
		for end := now + instant(d); now < end; now += instant(latency / 4) {
			w.observe(now, true, latency)
		}
	}
	run(10*time.Second, 100*time.Millisecond)
	if w.baseline != 100*time.Millisecond {
		t.Fatalf("baseline %v", w.baseline)
	}
	run(60*time.Second, 400*time.Millisecond)
	if w.baseline.Round(time.Millisecond) != 400*time.Millisecond {
		t.Errorf("baseline %v a minute after the latency rose to 400ms", w.baseline)
	}
}

// A lane's width is old news after half a minute without work.
func TestWidthIsForgottenOverAnIdleTime(t *testing.T) {
	s := newSim(t, Config{})
	s.receivers["k"] = answers(100 * time.Millisecond)
	s.arrive("k", 3000, time.Millisecond)
	s.until(30 * time.Second)
	grown, _ := s.set.Lane("k")
	if grown.Width < 16 {
		t.Fatalf("width %d: the test shows nothing", grown.Width)
	}
	s.arrive("k", 1, 0)
	s.until(31 * time.Second)
	if l, _ := s.set.Lane("k"); l.Width != grown.Width {
		t.Errorf("width %d after a short idle time, want %d", l.Width, grown.Width)
	}
	s.until(90 * time.Second)
	s.arrive("k", 1, 0)
	s.until(91 * time.Second)
	if l, _ := s.set.Lane("k"); l.Width != 4 {
		t.Errorf("width %d after a minute of idle time, want 4", l.Width)
	}
}
