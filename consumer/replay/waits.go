package replay

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// waitSteps is how finely waits are told apart: so many steps between a time
	// and its double, in powers of two.
	waitSteps, waitStepBits = 8, 3
	// longestWait is what longer ones count as, about.
	longestWait = time.Second
)

// waitBuckets covers waits up to longestWait, in microseconds.
var waitBuckets = waitBucket(longestWait) + 1

// waitBucket is the place of a wait: what doubles is eight further.
func waitBucket(d time.Duration) int {
	us := uint64(max(0, min(d, longestWait)).Microseconds()) + waitSteps
	octave := bits.Len64(us) - 1 - waitStepBits
	return octave<<waitStepBits + int(us>>octave) - waitSteps
}

// waitOf is the least wait of a bucket.
func waitOf(bucket int) time.Duration {
	octave := bucket >> waitStepBits
	us := (bucket&(waitSteps-1) + waitSteps) << octave
	return time.Duration(us-waitSteps) * time.Microsecond
}

// Waits counts how long live deliveries waited for this process, from their match
// to their first POST, but for the time in the lanes of their endpoints: what a
// replay must not be felt in. It is safe for concurrent use.
type Waits struct{ counts []atomic.Int64 }

// NewWaits returns one without any.
func NewWaits() *Waits { return &Waits{counts: make([]atomic.Int64, waitBuckets)} }

// Note counts a wait.
func (w *Waits) Note(d time.Duration) { w.counts[waitBucket(d)].Add(1) }

// sofar is what has been counted so far.
func (w *Waits) sofar() waited {
	all := make(waited, len(w.counts))
	for i := range w.counts {
		all[i] = w.counts[i].Load()
	}
	return all
}

// waited is how many waits there were, by bucket.
type waited []int64

// since is what was counted after an earlier moment.
func (w waited) since(earlier waited) waited {
	d := make(waited, len(w))
	for i := range w {
		d[i] = w[i] - earlier[i]
	}
	return d
}

func (w waited) total() (n int64) {
	for _, c := range w {
		n += c
	}
	return n
}

// quantile is the wait that a part of all didn't reach, between the bounds of its
// bucket in proportion; 0 if there were none.
func (w waited) quantile(q float64) time.Duration {
	rest := q * float64(w.total())
	for i, c := range w {
		if rest < float64(c) {
			from, to := waitOf(i), waitOf(i+1)
			return from + time.Duration(rest/float64(c)*float64(to-from))
		}
		rest -= float64(c)
	}
	return 0
}
