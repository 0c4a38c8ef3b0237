package replay

import (
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// windowFor is how long the waits of live deliveries are counted before they
	// are looked at; a cycle is one window in which replays rest, and some in which
	// they run: fewer as long as the limit rises fast.
	windowFor                 = 500 * time.Millisecond
	runWindows, risingWindows = 9, 3
	// settleFor is the part of the rest in which what is on the line gets done.
	settleFor = 100 * time.Millisecond
	// keptRests and keptRuns are how many windows are compared.
	keptRests, keptRuns = 15, 45
	// leastWaits is how many waits a window needs to say anything.
	leastWaits = 20
	// A replay is felt when this quantile of live waits is so much longer than
	// while it rests; feltLeast is less than anyone notices.
	feltQuantile, feltFactor = 0.95, 1.1
	feltLeast                = 100 * time.Microsecond
	// behindAt is how long half of what is live may wait: beyond, the line is behind
	// whether replays rest or not.
	behindAt = 100 * time.Millisecond

	// All replays of a process together begin with firstYield deliveries a second,
	// and have leastYield in any case: a replay ends some time.
	firstYield, leastYield, mostYield = 100, 20, 10_000
	// Up fast until they were felt once, then carefully; down by a fifth, by half
	// where it is plain.
	upFirst, upLater, down, downPlain = 1.5, 1.1, 0.8, 0.5
	plainly                           = 2
	// scanWork is what a record that is looked at costs beside a delivery.
	scanWork = 1.0 / 40
	// idleAfter is how long nobody may ask before a cycle begins anew.
	idleAfter = time.Second
)

// Yield says how much all replays of a process may do together: as much as live
// deliveries don't feel. It has replays rest for a moment now and then, compares
// how long live deliveries wait with how long they wait while replays run, and
// lowers or raises the limit. In a process that makes no deliveries, or few, it
// knows nothing and rises to the most. It has no clock, and is safe for concurrent
// use.
type Yield struct {
	waits *Waits

	mu      sync.Mutex
	limit   float64 // work a second; a delivery is 1
	careful bool    // they were felt once
	tokens  float64
	asOf    time.Time
	asked   time.Time

	resting bool
	settled bool // of a rest: from is taken
	windows int  // of this run
	since   time.Time
	from    waited
	used    float64 // since the run began
	rests   []time.Duration
	runs    []time.Duration
	behind  int // windows of this run
}

// NewYield goes by the waits of live deliveries.
func NewYield(waits *Waits) *Yield { return &Yield{waits: waits, limit: firstYield} }

// Allow returns how much work may be done now, and if it is none, when to ask
// again.
func (y *Yield) Allow(now time.Time) (work float64, wait time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if now.Sub(y.asked) > idleAfter {
		if !y.resting && y.windows >= risingWindows {
			y.judge()
		}
		y.rest(now)
	}
	y.asked = now
	if y.turn(now); y.resting {
		until := windowFor
		if !y.settled {
			until = settleFor
		}
		return 0, until - now.Sub(y.since)
	}
	y.tokens = min(y.tokens+now.Sub(y.asOf).Seconds()*y.limit, max(1, y.limit*burstFor.Seconds()))
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
	case y.resting:
		if at >= windowFor {
			if w, ok := y.window(now); ok {
				y.rests = append(y.rests, w)
				y.rests = y.rests[max(0, len(y.rests)-keptRests):]
			}
			y.resting, y.windows, y.behind, y.used, y.tokens, y.asOf = false, 0, 0, 0, 0, now
		}
	case at >= windowFor:
		if w, ok := y.window(now); ok {
			y.runs = append(y.runs, w)
			y.runs = y.runs[max(0, len(y.runs)-keptRuns):]
		}
		if y.windows++; y.windows >= runWindows || y.windows >= risingWindows && !y.careful && y.needed() {
			y.judge()
			y.rest(now)
		}
	}
}

// rest begins a cycle.
func (y *Yield) rest(now time.Time) {
	y.resting, y.settled, y.since, y.windows = true, false, now, 0
}

// window ends one, begins the next, and returns what live deliveries waited; false
// if there were too few.
func (y *Yield) window(now time.Time) (time.Duration, bool) {
	sofar := y.waits.sofar()
	w := sofar.since(y.from)
	y.since, y.from = now, sofar
	if w.total() < leastWaits {
		return 0, false
	}
	if w.quantile(0.5) > behindAt {
		y.behind++
	}
	return w.quantile(feltQuantile), true
}

// rate is what a run has used so far, a second.
func (y *Yield) rate() float64 { return y.used / (float64(y.windows) * windowFor.Seconds()) }

// needed reports whether the limit is: what uses less says nothing of a higher one.
func (y *Yield) needed() bool { return y.rate() >= y.limit/2 }

// judge sets the limit by what a cycle has shown.
func (y *Yield) judge() {
	before, used := y.limit, y.rate()
	switch felt, plain := y.felt(); {
	case plain:
		y.limit, y.careful = min(y.limit, used)*downPlain, true
	case felt > 0:
		y.limit, y.careful = min(y.limit, used)*down, true
	case felt == 0 || !y.needed(): // not known of this limit, or of a higher one
	case y.careful:
		y.limit *= upLater
	default:
		y.limit *= upFirst
	}
	y.limit = min(max(y.limit, leastYield), mostYield)
	if y.limit != before {
		y.runs = y.runs[:0]
	}
}

// felt says whether live deliveries wait longer while replays run: 1 if they do, -1
// if they don't, 0 as long as the windows differ too much among themselves to tell;
// and whether it is plain. Medians of windows that are equally long go by what is
// mostly so, and not by what else a machine does now and then.
func (y *Yield) felt() (felt int, plain bool) {
	if y.behind > y.windows/2 {
		return 1, true
	}
	if len(y.rests) == 0 || len(y.runs) == 0 {
		return -1, false
	}
	rest, restError := middle(y.rests)
	run, runError := middle(y.runs)
	bound := rest*feltFactor + feltLeast.Seconds()
	unsure := math.Hypot(restError*feltFactor, runError)
	switch {
	case run > bound+unsure:
		return 1, run > bound*plainly+unsure
	case run > bound-unsure:
		return 0, false
	}
	return -1, false
}

// middle returns the median, in seconds, and its standard error: 1.25 σ/√n, where
// σ is 1.48 times the median of the distances from the median, as it is of a normal
// distribution.
func middle(ds []time.Duration) (median, standardError float64) {
	of := func(xs []float64) float64 {
		slices.Sort(xs)
		n := len(xs)
		return (xs[(n-1)/2] + xs[n/2]) / 2
	}
	xs := make([]float64, len(ds))
	for i, d := range ds {
		xs[i] = d.Seconds()
	}
	median = of(xs)
	for i := range xs {
		xs[i] = math.Abs(xs[i] - median)
	}
	return median, 1.25 * 1.48 * of(xs) / math.Sqrt(float64(len(ds)))
}
