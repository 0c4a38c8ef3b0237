package replay

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// windowFor is how long the waits of live deliveries are counted before they
	// are looked at. Replays rest for one window at first and every restEvery, and
	// whenever they seem to be felt.
	windowFor = 500 * time.Millisecond
	restEvery = 10 * time.Second
	// settleFor is the part of the rest in which what is on the line gets done.
	settleFor = 100 * time.Millisecond
	// keptRests is how many windows in which replays rested are compared with.
	keptRests = 3
	// leastWaits is how many waits a window needs to say anything.
	leastWaits = 20
	// A replay is felt when this quantile of live waits is longer than while it
	// rests by more than this part of it, and by more than feltLeast: windows of the
	// same kind differ by tenths of a millisecond. It is plain at twice as much.
	feltQuantile, feltPart, plainly = 0.95, 0.2, 2
	feltLeast                       = time.Millisecond
	// behindAt is how long half of what is live may wait: beyond, the line is behind
	// whether replays rest or not.
	behindAt = 100 * time.Millisecond

	// All replays of a process together begin with firstYield deliveries a second,
	// and have leastYield in any case: a replay ends some time.
	firstYield, leastYield, mostYield = 100, 20, 10_000
	// Up fast, after fewWindows each time, and carefully, after manyWindows, from
	// when they were felt until calmAfter raises weren't; down by a fifth, by half
	// where it is plain.
	upFast, upCarefully, down, downPlain = 2, 1.25, 0.8, 0.5
	fewWindows, manyWindows, calmAfter   = 3, 9, 4
	// scanWork is what a record that is looked at costs beside a delivery.
	scanWork = 1.0 / 40
	// idleAfter is how long nobody may ask before the windows are counted anew.
	idleAfter = time.Second
)

// Yield says how much all replays of a process may do together: as much as live
// deliveries don't feel. It has replays rest for a moment now and then, compares
// how long live deliveries wait with how long they wait while replays run, and
// lowers or raises the limit. In a process that makes no deliveries, or few, it
// knows nothing and rises to what is asked for. It has no clock, and is safe for
// concurrent use.
type Yield struct {
	waits *Waits

	mu     sync.Mutex
	limit  float64 // work a second; a delivery is 1
	calm   int     // raises since they were felt
	tokens float64
	asOf   time.Time
	asked  time.Time

	resting bool
	settled bool      // of a rest: from is taken
	since   time.Time // this window, or rest, began
	from    waited
	rests   []time.Duration
	rested  time.Time // when the last rest was over

	begun time.Time // this run
	used  float64   // in it
	rate  float64   // of used a second, as of the last window

	// Since the limit was set: how many windows, and how long half and nearly all of
	// the live deliveries waited in the last manyWindows with enough of them.
	windows     int
	halves, all []time.Duration
}

// NewYield goes by the waits of live deliveries.
func NewYield(waits *Waits) *Yield { return &Yield{waits: waits, limit: firstYield, calm: calmAfter} }

// Allow returns how much work may be done now, and if it is none, when to ask
// again.
func (y *Yield) Allow(now time.Time) (work float64, wait time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if now.Sub(y.asked) > idleAfter {
		// A replay that is slow, or reads slowly, doesn't pay with a rest each time.
		y.set(y.limit)
		y.run(now)
		if y.resting || now.Sub(y.rested) >= restEvery {
			y.rest(now)
		}
	}
	y.asked = now
	if y.turn(now); y.resting {
		until := windowFor
		if !y.settled {
			until = settleFor
		}
		return 0, until - now.Sub(y.since)
	}
	y.tokens = accrued(y.tokens, y.limit, now.Sub(y.asOf))
	y.asOf = now
	if y.tokens < 1 {
		return 0, time.Duration(math.Ceil((1 - y.tokens) / y.limit * float64(time.Second)))
	}
	return y.tokens, 0
}

// Did takes in work that was done; it may be more than was allowed.
func (y *Yield) Did(work float64) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.tokens -= work
	y.used += work
}

// Limit is how much a second it allows.
func (y *Yield) Limit() float64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.limit
}

// turn goes on to the next window when it is time.
func (y *Yield) turn(now time.Time) {
	at := now.Sub(y.since)
	switch {
	case y.resting && !y.settled:
		if at >= settleFor {
			y.settled, y.from = true, y.waits.sofar()
		}
	case at < windowFor:
	case y.resting:
		if _, tail, ok := y.window(now); ok {
			y.rests = last(append(y.rests, tail), keptRests)
		}
		y.lower()
		y.resting, y.rested, y.tokens, y.asOf = false, now, 0, now
		y.run(now)
	default:
		if half, tail, ok := y.window(now); ok {
			y.halves, y.all = last(append(y.halves, half), manyWindows), last(append(y.all, tail), manyWindows)
		}
		y.windows++
		y.rate = y.used / now.Sub(y.begun).Seconds()
		y.look(now)
	}
}

// look sees whether what was counted is enough to rest, or to raise the limit.
func (y *Yield) look(now time.Time) {
	by, enough := float64(upFast), fewWindows
	if y.calm < calmAfter {
		by, enough = upCarefully, manyWindows
	}
	felt, _ := y.felt()
	switch {
	case felt && y.limit > leastYield, now.Sub(y.rested) >= restEvery:
		y.rest(now)
	case !felt && y.windows >= enough && y.rate >= y.limit/2: // what uses less says nothing of more
		y.set(min(y.limit*by, mostYield))
		y.calm++
		y.run(now)
	}
}

// rest begins one.
func (y *Yield) rest(now time.Time) { y.resting, y.settled, y.since = true, false, now }

// run begins one.
func (y *Yield) run(now time.Time) {
	y.since, y.from, y.begun, y.used = now, y.waits.sofar(), now, 0
}

// set sets the limit; what was seen of another says nothing of it.
func (y *Yield) set(limit float64) {
	y.limit, y.windows, y.halves, y.all = limit, 0, y.halves[:0], y.all[:0]
}

// window ends one, begins the next, and returns what half and nearly all of the
// live deliveries waited; false if there were too few.
func (y *Yield) window(now time.Time) (half, tail time.Duration, ok bool) {
	sofar := y.waits.sofar()
	w := sofar.since(y.from)
	y.since, y.from = now, sofar
	return w.quantile(0.5), w.quantile(feltQuantile), w.total() >= leastWaits
}

// lower lowers the limit if replays are felt in comparison with the rest behind
// them too: what else this machine does may have changed.
func (y *Yield) lower() {
	felt, plain := y.felt()
	if !felt {
		return
	}
	by := down
	if plain {
		by = downPlain
	}
	y.set(max(min(y.limit, y.rate)*by, leastYield))
	y.calm = 0
}

// felt says whether live deliveries wait longer while replays run, and whether
// plainly, which takes fewer windows. Medians go by what is mostly so, and not by
// what else a machine does now and then.
func (y *Yield) felt() (felt, plain bool) {
	if len(y.all) < fewWindows {
		return false, false
	}
	if middle(last(y.halves, fewWindows)) > behindAt {
		return true, true
	}
	if len(y.rests) == 0 {
		return false, false
	}
	rest := middle(y.rests)
	margin := max(time.Duration(feltPart*float64(rest)), feltLeast)
	if middle(last(y.all, fewWindows))-rest > plainly*margin {
		return true, true
	}
	return len(y.all) == manyWindows && middle(y.all)-rest > margin, false
}

// last returns the last n.
func last(ds []time.Duration, n int) []time.Duration { return ds[max(0, len(ds)-n):] }

// middle returns the median.
func middle(ds []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(ds))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
