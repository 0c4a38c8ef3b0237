package replay

import (
	"testing"
	"time"
)

// play lets a pacer feed an endpoint that takes so many a second, seen a commit
// later, and returns how many were sent and the most that waited in the line.
func play(p *Pacer, begun time.Time, takes func(at time.Duration) float64, lasts time.Duration) (sent, waited int, sentAt []time.Duration) {
	const step = time.Millisecond
	const commitLag = 100 * time.Millisecond
	var done []int // by step
	var queue, taken float64
	var told int
	var polled time.Duration
	for at := time.Duration(0); at < lasts; at += step {
		now := begun.Add(at)
		if n, _ := p.Allow(now); n > 0 {
			p.Sent(now, n)
			sent += n
			queue += float64(n)
			for range n {
				sentAt = append(sentAt, at)
			}
		}
		eaten := min(queue, takes(at)*step.Seconds())
		queue -= eaten
		taken += eaten
		done = append(done, int(taken+1e-6))
		if at > 10*time.Second {
			waited = max(waited, int(queue))
		}
		if at-polled >= pollEvery {
			polled = at
			if seen := len(done) - 1 - int(commitLag/step); seen >= 0 {
				p.Done(now, done[seen]-told)
				told = done[seen]
			}
		}
	}
	return sent, waited, sentAt
}

func TestAReplayHasNoMoreOnTheLineThanItsEndpointTakesInASecond(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	for _, takes := range []float64{0.5, 1, 5, 20, 100, 700} {
		p := NewPacer(5000, begun)
		sent, waited, _ := play(p, begun, func(time.Duration) float64 { return takes }, time.Minute)
		if most := max(leastOutstanding, int(takes*1.3)); waited > most {
			t.Errorf("an endpoint that takes %v a second has %d waiting, want %d at most", takes, waited, most)
		}
		if least := takes * 60 * 0.8; float64(sent) < least-1 {
			t.Errorf("an endpoint that takes %v a second got %d in a minute, want %.0f at least", takes, sent, least)
		}
	}
}

func TestAReplayKeepsItsRateAndReachesIt(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	for _, rate := range []float64{0.5, 1, 10, 100, 2000} {
		p := NewPacer(rate, begun)
		sent, _, at := play(p, begun, func(time.Duration) float64 { return 1e6 }, time.Minute)
		if float64(sent) < rate*60*0.85-1 {
			t.Errorf("%d in a minute at %v a second", sent, rate)
		}
		// In no second more than the rate and the burst.
		from := 0
		for i := range at {
			for at[i]-at[from] >= time.Second {
				from++
			}
			if n := i - from + 1; float64(n) > rate*1.1+2 {
				t.Fatalf("%d in a second at %v a second", n, rate)
			}
		}
	}
}

// A job puts what it may on the line, waits for the acknowledgement, and asks again.
func TestAReplayKeepsItsRateThoughEachPutIsAwaited(t *testing.T) {
	const put, lasts = 20 * time.Millisecond, 30 * time.Second
	begun := time.Unix(1_700_000_000, 0)
	for _, rate := range []float64{10, 100, 400, 500, 2000} {
		p, y := NewPacer(rate, begun), NewYield(NewWaits())
		sent := 0
		for now := begun; now.Sub(begun) < 2*lasts; {
			p.taken = 1e4 // the endpoint takes any
			n, wait := p.Allow(now)
			if n == 0 {
				now = now.Add(wait)
				continue
			}
			work, wait := y.Allow(now)
			if work == 0 {
				now = now.Add(min(wait, pollEvery))
				continue
			}
			n = min(n, int(work))
			p.Sent(now, n)
			y.Did(float64(n))
			if now = now.Add(put); now.Sub(begun) > lasts { // it has risen
				sent += n
			}
			p.Done(now, n)
		}
		if got := float64(sent) / lasts.Seconds(); got < 0.85*rate || got > rate*1.02 {
			t.Errorf("%.0f a second of %v", got, rate)
		}
	}
}

func TestAReplayFollowsAnEndpointThatSlowsDownOrStops(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	p := NewPacer(1000, begun)
	sent, _, at := play(p, begun, func(at time.Duration) float64 {
		if at > 20*time.Second {
			return 0
		}
		return 1000
	}, time.Minute)
	late := 0
	for _, a := range at {
		if a > 22*time.Second {
			late++
		}
	}
	if sent < 15_000 || late > 0 || p.Outstanding() > mostOutstanding {
		t.Errorf("%d sent, %d of them to an endpoint that had stopped, %d outstanding", sent, late, p.Outstanding())
	}
}

func TestWhatIsOutstandingIsCountedByItsOffsets(t *testing.T) {
	var o outstanding
	o.add(7, 9)
	o.add(5, 30)
	below := func(limit int64) func(int64) bool {
		return func(offset int64) bool { return offset < limit || offset == 30 }
	}
	if n := o.settle(below(8)); n != 3 {
		t.Errorf("%d are done, want 5, 7 and 30", n)
	}
	if n := o.settle(below(8)); n != 0 || len(o.offsets) != 1 {
		t.Errorf("%d are done again, %v left", n, o.offsets)
	}
}
