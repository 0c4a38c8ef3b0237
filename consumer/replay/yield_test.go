package replay

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// machine is what live deliveries and replays share: the nearer it is to its
// capacity, the longer live deliveries wait.
type machine struct {
	t        *testing.T
	yield    *Yield
	waits    *Waits
	now      time.Time
	rand     *rand.Rand
	live     float64                            // deliveries a second
	capacity float64                            // work a second; 0: without end
	noise    float64                            // windows' own ups and downs, in parts
	idle     time.Duration                      // the mean wait without replays
	jitter   time.Duration                      // windows' own ups and downs beside noise
	slower   func(replays float64) (by float64) // in place of capacity
	wants    float64                            // what replays ask for a second
	done     float64                            // work of replays
}

func newMachine(t *testing.T) *machine {
	waits := NewWaits()
	return &machine{idle: 2 * time.Millisecond, t: t, yield: NewYield(waits), waits: waits, now: time.Unix(1_700_000_000, 0),
		rand: rand.New(rand.NewPCG(1, 2)), live: 1000, wants: 100_000}
}

// mean is the mean wait of live deliveries beside replays at a rate.
func (m *machine) mean(replays float64) time.Duration {
	if m.slower != nil {
		return time.Duration(float64(m.idle) * m.slower(replays))
	}
	if m.capacity == 0 {
		return m.idle
	}
	return time.Duration(float64(m.idle) / max(0.01, 1-(m.live+replays)/m.capacity))
}

// run lets time pass, and returns how much work a second replays did.
func (m *machine) run(lasts time.Duration) float64 {
	const step = 5 * time.Millisecond
	done, asked, recent, noise, jitter := m.done, 0.0, 0.0, 1.0, 0.0
	for at := time.Duration(0); at < lasts; at += step {
		m.now = m.now.Add(step)
		if at%(500*time.Millisecond) == 0 {
			noise, jitter = math.Exp(m.noise*m.rand.NormFloat64()), m.rand.NormFloat64()*float64(m.jitter)
		}
		asked = min(asked+m.wants*step.Seconds(), 100)
		n := 0.0
		if work, wait := m.yield.Allow(m.now); work >= 1 {
			n = math.Floor(min(work, asked))
			m.yield.Did(n)
			m.done += n
			asked -= n
		} else if wait <= 0 {
			m.t.Fatalf("nothing is allowed, and no time to ask again: %v", wait)
		}
		recent += (n/step.Seconds() - recent) / 10
		for range int(m.live*step.Seconds() + m.rand.Float64()) {
			m.waits.Note(time.Duration(m.rand.ExpFloat64() * (noise*float64(m.mean(recent)) + jitter)))
		}
	}
	return (m.done - done) / lasts.Seconds()
}

func TestReplaysRiseToWhatTheyAskForWhereNobodyFeelsThem(t *testing.T) {
	for _, live := range []float64{0, 5, 1000} {
		m := newMachine(t)
		m.live, m.wants = live, 2000
		m.run(time.Minute)
		if rate := m.run(time.Minute); rate < 0.85*2000 || rate > 2000 {
			t.Errorf("%.0f a second of 2,000 beside %v live ones", rate, live)
		}
	}
}

func TestTenthsOfAMillisecondDoNotSlowReplaysDown(t *testing.T) {
	m := newMachine(t)
	// p95 is 3 ms, more or less 0.3.
	m.idle, m.jitter, m.wants = time.Millisecond, 100*time.Microsecond, 500
	m.slower = func(replays float64) float64 { return 1 + replays/500*0.1 } // and 0.3 more
	m.run(8 * time.Second)
	for range 20 {
		if rate := m.run(10 * time.Second); rate < 0.9*500 || m.yield.Limit() < 500 {
			t.Errorf("%.0f a second of 500, at a limit of %.0f", rate, m.yield.Limit())
		}
	}
}

func TestReplaysThatMakeLiveDeliveriesWaitThreeTimesAsLongAreSlowedDownWithinSeconds(t *testing.T) {
	for _, idle := range []time.Duration{250 * time.Microsecond, time.Millisecond, 10 * time.Millisecond} {
		m := newMachine(t)
		m.idle, m.wants = idle, 500
		m.run(time.Minute)
		m.slower = func(replays float64) float64 { return 1 + 2*min(1, replays/300) }
		m.run(8 * time.Second)
		if limit := m.yield.Limit(); limit > 450 {
			t.Errorf("a limit of %.0f after 8 s, when waits of %v have become three times as long", limit, idle)
		}
	}
}

func TestAReplaySpeedsUpAgainSoonAfterOthersHadTheMachine(t *testing.T) {
	m := newMachine(t)
	m.wants = 500
	m.run(time.Minute)
	m.slower = func(float64) float64 { return 200 } // behind, whether replays rest or not
	m.run(20 * time.Second)
	if limit := m.yield.Limit(); limit > 50 {
		t.Errorf("a limit of %.0f where all is behind", limit)
	}
	m.slower = nil
	m.run(45 * time.Second)
	if rate := m.run(10 * time.Second); rate < 0.9*500 {
		t.Errorf("%.0f a second of 500, 45 s later", rate)
	}
}

func TestLiveDeliveriesDoNotWaitMuchLongerBesideReplays(t *testing.T) {
	for _, noise := range []float64{0, 0.3} {
		m := newMachine(t)
		m.capacity, m.noise = 4000, noise
		m.run(2 * time.Minute)
		rate := m.run(3 * time.Minute)
		felt := float64(m.mean(rate)) / float64(m.mean(0))
		if felt > 1.25 || rate < 2*leastYield {
			t.Errorf("with noise %v: %.2f times as long, %.0f replayed a second", noise, felt, rate)
		}
	}
}

func TestReplaysGiveWayWhenLiveDeliveriesNeedTheRoomAndTakeItBack(t *testing.T) {
	m := newMachine(t)
	m.capacity = 4000
	m.run(2 * time.Minute)
	before := m.run(time.Minute)
	m.live = 3500
	m.run(time.Minute)
	during := m.run(time.Minute)
	m.live = 1000
	m.run(2 * time.Minute)
	after := m.run(time.Minute)
	if during > before/2 || after < before/2 {
		t.Errorf("%.0f a second at first, %.0f while there was little room, %.0f after", before, during, after)
	}
}

func TestAReplayMakesLittleOfALineThatIsBehindButSomething(t *testing.T) {
	m := newMachine(t)
	m.live, m.capacity = 1500, 1500 // waits of 200 ms, whether replays rest or not
	m.run(time.Minute)
	if rate := m.run(time.Minute); rate > leastYield || rate < leastYield*0.8 {
		t.Errorf("%.0f a second", rate)
	}
}

func TestALimitThatIsNotNeededDoesNotRise(t *testing.T) {
	m := newMachine(t)
	m.wants = 20
	m.run(time.Minute)
	if limit := m.yield.Limit(); limit != firstYield {
		t.Errorf("the limit is %v after 20 a second", limit)
	}
}

func TestATimeInWhichNobodyAskedIsNotCounted(t *testing.T) {
	m := newMachine(t)
	m.wants, m.capacity = 200, 0
	m.run(20 * time.Second)
	limit := m.yield.Limit()
	for range 20 {
		// Paused for an hour in which everything was slow.
		for range 2000 {
			m.waits.Note(time.Second)
		}
		m.now = m.now.Add(time.Hour)
		m.run(1200 * time.Millisecond)
	}
	if now := m.yield.Limit(); now < limit {
		t.Errorf("the limit fell from %v to %v", limit, now)
	}
}

func TestWaitsAreToldApartByAnEighth(t *testing.T) {
	for d := time.Duration(0); d < 2*time.Second; d += d/50 + time.Microsecond {
		b := waitBucket(d)
		from, to := waitOf(b), waitOf(b+1)
		d := min(d, longestWait)
		if d < from || d >= to || to-from > d/8+time.Microsecond {
			t.Fatalf("%v counts as [%v, %v)", d, from, to)
		}
	}
	w := NewWaits()
	for i := range 1000 {
		w.Note(time.Duration(i) * 10 * time.Microsecond)
	}
	w.Note(-time.Hour) // a clock that was set back
	w.Note(time.Hour)
	for q, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.95: 9500 * time.Microsecond} {
		if got := w.sofar().quantile(q); got < want*9/10 || got > want*11/10 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
