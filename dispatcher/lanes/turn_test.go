package lanes

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A flood of 50,000 at an endpoint of 100 a second: each delivery is spilled
// about once, the endpoint is busy until the last, and those that came first
// are served first.
func TestFloodIsSpilledAboutOnceAndKeepsTheEndpointBusy(t *testing.T) {
	for _, c := range []struct {
		name   string
		gap    time.Duration
		spills float64 // most per delivery on average
		rate   float64
	}{
		{"within 50s", time.Millisecond, 1.15, 0},
		{"within 5s", 100 * time.Microsecond, 1.6, 0},
		{"at once", 0, 2.1, 0},
		{"rate limited, at once", 0, 1.15, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, Config{})
			s.receivers["k"] = queues(10, constant(100*time.Millisecond))
			if c.rate > 0 {
				s.receivers["k"] = answers(100 * time.Millisecond)
				s.options["k"] = Options{Rate: c.rate}
			}
			done, busyUntil := 0, time.Duration(0)
			s.onDone = func(*job, Result) {
				if done++; done == 49000 {
					busyUntil = s.now
				}
			}
			s.arrive("k", 50000, c.gap)
			s.until(900 * time.Second)
			if done != 50000 {
				t.Fatalf("%d done after 900 s", done)
			}
			if used := 49000 / 100 / busyUntil.Seconds(); used < 0.9 {
				t.Errorf("used %.3f of the capacity until 49,000 were done, want 0.9", used)
			}
			total, most := 0, 0
			for _, j := range s.jobs {
				if j.parks > 0 {
					t.Fatalf("job %d was parked, though the lane works", j.id)
				}
				total, most = total+j.spills, max(most, j.spills)
			}
			mean := float64(total) / 50000
			t.Logf("spills: %.2f on average, %d at most; 49,000 done by %v", mean, most, busyUntil)
			if mean > c.spills || most > 4 {
				t.Errorf("spills: %.2f on average, %d at most; want %.2f and 4", mean, most, c.spills)
			}
			if c.gap < time.Millisecond {
				return // they all came together: there is no first
			}
			// Position by completion against position by arrival.
			order := slices.Clone(s.jobs)
			slices.SortFunc(order, func(a, b *job) int { return int(a.done - b.done) })
			displaced := make([]int, len(order))
			for i, j := range order {
				displaced[i] = max(i-j.id, j.id-i)
			}
			slices.Sort(displaced)
			if d := displaced[len(displaced)*95/100]; d > 5000 {
				t.Errorf("95 %% within %d places of their turn, want 5,000 (about a queue)", d)
			}
		})
	}
}

// An endpoint's own limit on POSTs in flight and its latency tell its pace before
// that is measured: what is spilled gets turns that it can keep.
func TestALaneAtItsEndpointsLimitGivesTurnsAtItsPaceFromTheFirstAnswerOn(t *testing.T) {
	s, now := must(t, Config{QueueRecords: 10}), time.Unix(0, 0)
	id := 0
	offer := func() Decision {
		id++
		return s.Offer(now, "k", id, 1, Options{MaxWidth: 2})
	}
	for range 12 {
		offer()
	}
	now = now.Add(time.Second)
	for range 2 {
		s.Finish(now, "k", OK, time.Second, nil)
	}
	for range 2 {
		expect(t, offer(), Queued)
	}
	first, second := offer(), offer()
	expect(t, first, Spill)
	if step := second.After - first.After; step < 450*time.Millisecond || step > 500*time.Millisecond {
		t.Errorf("turns %v apart, want half a second", step)
	}
}

// A lane that is fed by turns alone and could do more isn't measured: its width
// and latency tell, or it would stay as slow as it was once taken for.
func TestALaneThatRunsDryIsNotTakenForSlow(t *testing.T) {
	s := newSim(t, Config{})
	s.receivers["k"] = answers(100 * time.Millisecond) // 2,560 a second at its widest
	done, last := 0, time.Duration(0)
	s.onDone = func(*job, Result) { done, last = done+1, s.now }
	s.arrive("k", 120_000, 195*time.Microsecond)
	s.until(2 * time.Minute)
	if done != 120_000 || last > 56*time.Second {
		t.Errorf("%d of 120,000 done by %v, want all within 56 s (47 at full speed)", done, last)
	}
}

// What a lane queues holds its partition's watermark down. However slow it is,
// it queues no more than it can start soon, and is kept busy all the same.
func TestNothingIsQueuedForLongHoweverSlowTheLane(t *testing.T) {
	for _, c := range []struct {
		name    string
		options Options
		latency time.Duration
		perSec  float64
	}{
		{"one in a quarter of an hour", Options{Rate: 1.0 / 900}, 100 * time.Millisecond, 1.0 / 900},
		{"one in 100 s", Options{Rate: 0.01}, 100 * time.Millisecond, 0.01},
		{"one in 10 s", Options{Rate: 0.1}, 100 * time.Millisecond, 0.1},
		{"one a second", Options{Rate: 1}, 100 * time.Millisecond, 1},
		{"one at a time, of 4 s", Options{MaxWidth: 1}, 4 * time.Second, 0.25},
		{"one at a time, of 1 s", Options{MaxWidth: 1}, time.Second, 1},
		{"two at a time, of 200 ms", Options{MaxWidth: 2}, 200 * time.Millisecond, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			const run = 2 * time.Hour
			s := newSim(t, Config{})
			s.receivers["k"], s.options["k"] = answers(c.latency), c.options
			n := int(c.perSec*run.Seconds()) + 100
			s.arrive("k", n, 0)
			s.until(run)
			done, spills := 0, 0
			for _, j := range s.jobs {
				if j.spills += j.parks; j.ok {
					done++
				}
				spills += j.spills
			}
			t.Logf("%d of %d done, spilled %d times, queued for %v at most", done, n, spills, s.kept)
			if used := float64(done) / (c.perSec * run.Seconds()); used < 0.9 {
				t.Errorf("used %.2f of what the endpoint takes", used)
			}
			if s.kept > 40*time.Second {
				t.Errorf("one was queued for %v", s.kept)
			}
			if c.options.Rate > 0 && s.kept > 25*time.Second {
				t.Errorf("one was queued for %v, though the rate is known", s.kept)
			}
			if mean := float64(spills) / float64(n); mean > 4 {
				t.Errorf("spilled %.1f times on average", mean)
			}
		})
	}
}

// The rest is spilled at once.
func TestALaneOfKnownRateQueuesWhatItCanStartSoon(t *testing.T) {
	for _, c := range []struct {
		rate   float64
		queued int // within 20 s of one that has started
	}{{0.01, 0}, {0.1, 2}, {1, 20}, {10, 200}} {
		s, now := must(t, Config{}), time.Unix(0, 0)
		for i := range 700 {
			s.Offer(now, "k", i, 1100, Options{Rate: c.rate})
		}
		if l, _ := s.Lane("k"); l.InFlight != 1 || l.Queued != c.queued || l.Out != 699-c.queued {
			t.Errorf("rate %v: %+v, want %d queued and the rest out", c.rate, l, c.queued)
		}
	}
}

// An endpoint that gets slow with a full queue gives it up, bit by bit.
func TestALaneThatSlowsDownGivesUpWhatItQueued(t *testing.T) {
	s := newSim(t, Config{})
	s.receivers["k"] = func(now time.Duration, _ *rand.Rand) (time.Duration, Result) {
		if now < time.Minute {
			return 10 * time.Millisecond, OK
		}
		return 4500 * time.Millisecond, OK
	}
	s.options["k"] = Options{MaxWidth: 2} // from 200 a second to one in two
	s.arrive("k", 20_000, time.Millisecond)
	s.until(58 * time.Second)
	if l, _ := s.set.Lane("k"); l.Queued < 1000 {
		t.Fatalf("%+v: the case tests nothing", l)
	}
	s.kept = 0
	s.until(20 * time.Minute)
	if s.kept > 90*time.Second {
		t.Errorf("one was queued for %v", s.kept)
	}
}

// While spilled deliveries are out, what arrives new lines up behind them even
// if the queue has room, and what returns is let in.
func TestQueueBelongsToThoseWhoseTurnHasComeWhileAnyAreOut(t *testing.T) {
	s, now := must(t, Config{QueueRecords: 10}), time.Unix(0, 0)
	id := 0
	offer := func(returning bool) Decision {
		id++
		return s.Offer(now, "k", id, 1, Options{Returning: returning})
	}
	for range 4 {
		expect(t, offer(false), Start)
	}
	for range 10 {
		expect(t, offer(false), Queued)
	}
	first := offer(false)
	expect(t, first, Spill)
	if second := offer(false); second.After <= first.After {
		t.Errorf("turns %v, then %v: want them in order", first.After, second.After)
	}
	now = now.Add(time.Second)
	for range 3 {
		s.Finish(now, "k", OK, time.Second, nil)
	}
	if l, _ := s.Lane("k"); l.Queued != 7 || l.Out != 2 {
		t.Fatalf("%+v, want 7 queued, 2 out", l)
	}
	expect(t, offer(false), Spill)
	expect(t, offer(true), Queued)
	if l, _ := s.Lane("k"); l.Out != 2 {
		t.Errorf("%d out, want 2", l.Out)
	}
}

// Returning deliveries of an owner before, or of parks, were never counted here.
func TestReturnsThatWereNeverCountedDoNotUnderflow(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	for i := range 10 {
		s.Offer(now, "k", i, 1, Options{Returning: true})
	}
	l, _ := s.Lane("k")
	if l.Out != 0 || l.InFlight != 4 || l.Queued != 6 {
		t.Errorf("%+v, want 4 in flight, 6 queued, none out", l)
	}
}

// Spilled deliveries that never come back (expired, or another owner has them)
// are forgotten, even while new ones are spilled all the time.
func TestSpilledDeliveriesThatNeverReturnAreForgotten(t *testing.T) {
	s, start := must(t, Config{QueueRecords: 1}), time.Unix(0, 0)
	now := start
	for i := range 5 {
		s.Offer(now, "k", i, 1, Options{})
	}
	lost := 0
	for i := range 1000 {
		if s.Offer(now, "k", i, 1, Options{}).Verdict == Spill {
			lost++
		}
	}
	if l, _ := s.Lane("k"); lost != 1000 || l.Out != 1000 {
		t.Fatalf("%d lost, %d out", lost, l.Out)
	}
	added := 0
	for range 60 {
		now = now.Add(time.Second)
		for range 4 {
			s.Finish(now, "k", OK, time.Second, nil)
		}
		for range 10 {
			if s.Offer(now, "k", 0, 1, Options{}).Verdict == Spill {
				added++
			}
		}
	}
	if l, _ := s.Lane("k"); l.Out > 40*10 {
		t.Errorf("%d still counted as out a minute later, of %d lost and %d added", l.Out, lost, added)
	}
	now = now.Add(time.Hour)
	s.Shed("k", nil)
	s.Offer(now, "k", 0, 1, Options{})
	if l, _ := s.Lane("k"); l.Out != 0 {
		t.Errorf("%d still counted as out an hour later", l.Out)
	}
}

// A rate is used but never exceeded, though timers fire late.
func TestRateIsUsedAndNeverExceeded(t *testing.T) {
	for _, rate := range []float64{0.5, 10, 100, 1000} {
		for _, late := range []time.Duration{0, 7 * time.Millisecond} {
			s := newSim(t, Config{QueueRecords: 1 << 20, QueueBytes: 1 << 40})
			s.late = late
			s.receivers["k"] = answers(30 * time.Millisecond)
			s.options["k"] = Options{Rate: rate}
			var starts []time.Duration
			s.onStart = func(*job) { starts = append(starts, s.now) }
			s.arrive("k", int(rate*60)+10, 0)
			s.until(40 * time.Second)
			for i := range starts {
				// Any stretch holds what the rate permits, one, and the slack's worth.
				for _, n := range []int{1, 2, 10, 100, 1000} {
					if i+n >= len(starts) {
						continue
					}
					span := starts[i+n] - starts[i]
					if permitted := rate*(span+time.Duration(rateSlack)).Seconds() + 1e-6; float64(n) > permitted {
						t.Fatalf("rate %v: %d starts in %v after the first, permitted %.2f", rate, n, span, permitted)
					}
				}
			}
			if used := float64(len(starts)) / (rate * 40); used < 0.95 {
				t.Errorf("rate %v, timers %v late: used %.3f of it, want 0.95", rate, late, used)
			}
		}
	}
}

// A limit that is changed counts at once, for what is queued as for what comes:
// nothing waits out the old spacing, or lines up behind turns given at it.
func TestAChangedLimitCountsAtOnceForWhatIsQueuedAndSpilled(t *testing.T) {
	s, now := must(t, Config{QueueRecords: 3}), time.Unix(0, 0)
	slow, fast := Options{Rate: 0.01, MaxWidth: 1}, Options{Rate: 100, MaxWidth: 2}
	id := 0
	offer := func(o Options) Decision {
		id++
		return s.Offer(now, "k", id, 1, o)
	}
	expect(t, offer(slow), Start)
	for range 10 {
		offer(slow)
	}
	before, _ := s.Lane("k")
	if before.Queued+before.Out != 10 {
		t.Fatalf("%+v, want 10 queued or out", before)
	}
	now = now.Add(10 * time.Millisecond)
	s.Finish(now, "k", OK, 10*time.Millisecond, nil)

	s.Limits(now, "k", fast.Rate, fast.MaxWidth)
	if at, ok := s.NextDue(); ok != (before.Queued > 0) || at.Sub(now) > 10*time.Millisecond {
		t.Errorf("at 100 a second the next is due in %v (%v)", at.Sub(now), ok)
	}
	started := 0
	for range before.Queued {
		started += len(s.Due(now, nil))
		for range started {
			s.Finish(now, "k", OK, 0, nil)
		}
		now = now.Add(10 * time.Millisecond)
	}
	if started != before.Queued {
		t.Errorf("%d of %d started", started, before.Queued)
	}
	if d := offer(fast); d.Verdict != Start && d.Verdict != Queued {
		t.Errorf("%v: it waits behind the turns of the old rate", d)
	}

	now = now.Add(time.Second)
	s.Finish(now, "k", OK, time.Second, nil)
	s.Limits(now, "k", 0.1, 1)
	expect(t, offer(Options{Rate: 0.1, MaxWidth: 1}), Start)
	expect(t, offer(Options{Rate: 0.1, MaxWidth: 1}), Queued)
	if at, ok := s.NextDue(); ok && at.Sub(now) < 9*time.Second {
		t.Errorf("at one in ten seconds the next is due in %v", at.Sub(now))
	}
	s.Limits(now, "nobody", 5, 5)
	if _, known := s.Lane("nobody"); known {
		t.Error("a lane was made for an endpoint without work")
	}
}

// Every delivery refused by a hanging lane is parked, the queue it had is given
// back, and one probe at a time goes out.
func TestHangingLaneParks(t *testing.T) {
	s, now := must(t, Config{}), time.Unix(0, 0)
	for i := range 10 {
		s.Offer(now, "k", i, 1, Options{})
	}
	now = now.Add(4999 * time.Millisecond)
	if got := s.Stalled(now, nil); len(got) != 0 {
		t.Fatalf("%v stalled before SlowAfter", got)
	}
	now = now.Add(time.Millisecond)
	if got := s.Stalled(now, nil); !slices.Equal(got, []string{"k"}) {
		t.Fatalf("%v stalled, want k", got)
	}
	if got := s.Shed("k", nil); !slices.Equal(got, []int{4, 5, 6, 7, 8, 9}) {
		t.Fatalf("shed %v", got)
	}
	expect(t, s.Offer(now, "k", 10, 1, Options{}), Park)
	if st := s.Stats(); st.SickInFlight != 4 || st.Stalled != 0 {
		t.Errorf("%+v, want 4 sick in flight", st)
	}
	now = now.Add(10 * time.Second)
	for range 4 {
		s.Finish(now, "k", Failed, 15*time.Second, nil)
	}
	if st := s.Stats(); st.SickInFlight != 0 {
		t.Errorf("%+v, want no idle lane among the sick", st)
	}
	expect(t, s.Offer(now, "k", 11, 1, Options{Returning: true}), Start)
	expect(t, s.Offer(now, "k", 12, 1, Options{Returning: true}), Park)
	s.Finish(now.Add(time.Second), "k", OK, time.Second, nil)
	expect(t, s.Offer(now.Add(time.Second), "k", 13, 1, Options{}), Start)
	expect(t, s.Offer(now.Add(time.Second), "k", 14, 1, Options{}), Queued)
}
