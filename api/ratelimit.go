package api

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxBuckets bounds the keys whose rate is remembered, by half: when one
// generation is full the one before it is forgotten, and with it buckets that
// nobody has asked since.
const maxBuckets = 10_000

// rates holds a token bucket for each key that made a request lately.
type rates struct {
	perSecond float64 // 0: no limit
	mu        sync.Mutex
	now, past map[string]*rate.Limiter
}

// take takes a token of a key's bucket; without one it returns how long to
// wait.
func (r *rates) take(id string, at time.Time) (wait time.Duration, ok bool) {
	if r.perSecond <= 0 {
		return 0, true
	}
	reservation := r.bucket(id).ReserveN(at, 1)
	if wait = reservation.DelayFrom(at); wait > 0 {
		reservation.CancelAt(at)
		return wait, false
	}
	return 0, true
}

func (r *rates) bucket(id string) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.now[id]; b != nil {
		return b
	}
	if r.now == nil || len(r.now) >= maxBuckets/2 {
		r.now, r.past = make(map[string]*rate.Limiter), r.now
	}
	b := r.past[id]
	if b == nil {
		// Two seconds' worth at once: a page that opens makes several requests.
		b = rate.NewLimiter(rate.Limit(r.perSecond), max(1, int(2*r.perSecond)))
	}
	r.now[id] = b
	return b
}

// limit refuses a request beyond its key's rate.
func (s *server) limit(p Principal) *Problem {
	if p.ID == Anonymous {
		return nil // one bucket for all callers would let one keep out the others
	}
	wait, ok := s.rates.take(p.ID, time.Now())
	if ok {
		return nil
	}
	problem := newProblem(http.StatusTooManyRequests, "This key may make %g requests a second.", s.cfg.RateLimit)
	problem.header = http.Header{"Retry-After": {strconv.Itoa(int((wait + time.Second - 1) / time.Second))}}
	return problem
}
