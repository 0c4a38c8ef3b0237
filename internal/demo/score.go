package demo

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"posthorn/webhook"
)

// end is how a delivery ended, by the ledger.
type end int

const (
	endOpen end = iota
	endDelivered
	endDead
	endDiscarded
)

// try is one POST as the receiver saw it. Its status is 0 while, or if, there
// was no answer.
type try struct {
	at     time.Time
	status int
}

// Result is the demo's sum.
type Result struct {
	Events     int // sent
	Deliveries int // that had to come of them: event × subscription
	Verified   int // distinct deliveries received with a valid signature
	Retried    int // attempts that led to a retry
	Dead       int // deliveries given up
	Lost       int // deliveries neither delivered nor dead
	// Unexpected are requests that nobody had to get: to an endpoint that was
	// not subscribed, or with a signature that is not valid.
	Unexpected int
}

// String returns the demo's last line.
func (r Result) String() string {
	return fmt.Sprintf("demo: events=%d deliveries=%d verified=%d retried=%d dead=%d lost=%d",
		r.Events, r.Deliveries, r.Verified, r.Retried, r.Dead, r.Lost)
}

// Err returns a [*LossError] unless every delivery was either received with a
// valid signature or given up by the schedule, and nothing else was.
func (r Result) Err() error {
	if r.Lost == 0 && r.Unexpected == 0 && r.Verified >= r.Deliveries-r.Dead {
		return nil
	}
	return &LossError{r}
}

// LossError says that a demo did not deliver what it had to.
type LossError struct {
	Result Result
}

func (e *LossError) Error() string {
	r := e.Result
	var what []string
	if r.Lost > 0 {
		what = append(what, fmt.Sprintf("%d of %d deliveries were lost", r.Lost, r.Deliveries))
	}
	if r.Verified < r.Deliveries-r.Dead-r.Lost {
		what = append(what, fmt.Sprintf("%d are settled as delivered and were not received with a valid signature", r.Deliveries-r.Dead-r.Lost-r.Verified))
	}
	if r.Unexpected > 0 {
		what = append(what, fmt.Sprintf("%d requests were received that should not have been made", r.Unexpected))
	}
	return "demo: " + strings.Join(what, "; ")
}

// score compares what was planned with what the receiver and the ledger say. It
// is safe for concurrent use.
type score struct {
	events []*event
	pairs  []*pair
	// changed holds a value after each change.
	changed chan struct{}

	mu         sync.Mutex
	byID       map[string]*pair
	attempts   map[string]bool // that led to a retry, by ID: a record read twice counts once
	produced   int
	verified   int
	ended      [endDiscarded + 1]int
	openAtHang int
	unexpected int
	latencies  []time.Duration    // produced to received, of healthy endpoints
	measured   bool               // no more latencies
	samplesOf  []string           // deliveries to show: the plan's first of each contract
	sampled    map[string]*sample // as they were received
	more       func(*sample)      // told of what comes after the result
}

// sample is a delivery as it was received.
type sample struct {
	endpoint *endpoint
	kind     string // of the event; empty where it isn't one of the plan
	id       string
	header   http.Header
	body     []byte
	status   int
}

func newScore(events []*event, pairs []*pair) *score {
	s := &score{events: events, pairs: pairs, changed: make(chan struct{}, 1), byID: make(map[string]*pair, len(pairs)),
		attempts: make(map[string]bool), sampled: make(map[string]*sample)}
	contracts := make(map[string]bool)
	for _, p := range pairs {
		s.byID[p.id] = p
		if p.endpoint.manner == hanging {
			s.openAtHang++
		}
		if !contracts[p.endpoint.contract] {
			contracts[p.endpoint.contract] = true
			s.samplesOf = append(s.samplesOf, p.id)
		}
	}
	s.ended[endOpen] = len(pairs)
	return s
}

func (s *score) touch() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// sent notes that an event is about to be produced.
func (s *score) sent(e *event, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.produced = at
	s.produced++
}

// arrived notes a POST with a valid signature and returns how many the
// delivery had before it. ok is false where the endpoint should not have got
// it.
func (s *score) arrived(at time.Time, got *sample) (before int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byID[got.id]
	if p == nil || p.endpoint != got.endpoint {
		if s.more == nil {
			s.unexpected++
		}
		return 0, s.more != nil // someone tries the commands out
	}
	before = len(p.tries)
	p.tries = append(p.tries, try{at: at})
	if p.verified {
		return before, true
	}
	p.verified = true
	s.verified++
	if p.endpoint.manner == healthy && !s.measured {
		s.latencies = append(s.latencies, at.Sub(p.event.produced))
	}
	if slices.Contains(s.samplesOf, got.id) {
		got.kind = p.event.kind.name
		s.sampled[got.id] = got
	}
	return before, true
}

// answered notes the status that a POST was answered with.
func (s *score) answered(got *sample, number, status int) {
	s.mu.Lock()
	more := s.more
	if p := s.byID[got.id]; p != nil && number < len(p.tries) {
		p.tries[number].status = status
	}
	s.mu.Unlock()
	if more != nil {
		got.status = status
		more(got)
	}
}

// refused notes a request whose signature is not valid.
func (s *score) refused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unexpected++
}

// settled notes a record of the ledger.
func (s *score) settled(x *webhook.Settlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byID[x.DeliveryID]
	if p == nil || x.Run != 0 {
		return
	}
	p.last = x
	if x.Kind == webhook.KindAttempt && x.Outcome == webhook.OutcomeRetry {
		s.attempts[x.AttemptID] = true
	}
	if e := endOf(x); e != endOpen && p.end == endOpen {
		p.end = e
		s.ended[endOpen]--
		s.ended[e]++
		if p.endpoint.manner == hanging {
			s.openAtHang--
		}
	}
	s.touch()
}

// endOf returns how a settlement ends its delivery, endOpen if it doesn't.
func endOf(x *webhook.Settlement) end {
	switch {
	case x.Outcome == webhook.OutcomeDelivered:
		return endDelivered
	case x.Outcome == webhook.OutcomeDead, x.Kind == webhook.KindDead:
		return endDead
	case x.Kind == webhook.KindDiscard:
		return endDiscarded
	}
	return endOpen
}

// progress is where things stand.
type progress struct {
	events, produced              int
	deliveries, delivered         int
	verified, retried, dead       int
	open, openElsewhere, openHang int // openElsewhere: not at the hanging endpoint
}

func (s *score) progress() progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return progress{
		events: len(s.events), produced: s.produced, deliveries: len(s.pairs), delivered: s.ended[endDelivered],
		verified: s.verified, retried: len(s.attempts), dead: s.ended[endDead],
		open: s.ended[endOpen], openElsewhere: s.ended[endOpen] - s.openAtHang, openHang: s.openAtHang,
	}
}

// result returns the sum as it stands.
func (s *score) result() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Result{
		Events: s.produced, Deliveries: len(s.pairs), Verified: s.verified, Retried: len(s.attempts),
		Dead: s.ended[endDead], Lost: len(s.pairs) - s.ended[endDelivered] - s.ended[endDead], Unexpected: s.unexpected,
	}
}

// open returns the deliveries that are neither delivered nor dead, each with
// the last that the ledger says of it.
func (s *score) open() (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pairs {
		if p.end == endDelivered || p.end == endDead {
			continue
		}
		last := "nothing in the ledger"
		if x := p.last; x != nil {
			last = fmt.Sprintf("last %s %s (%s), n=%d deferrals=%d", x.Kind, x.Outcome, x.Reason, x.N, x.Deferrals)
		}
		lines = append(lines, fmt.Sprintf("%s  %s to %s: %s", p.id, p.event.id, p.endpoint.name, last))
	}
	return lines
}

// stopMeasuring ends the time in which latencies count.
func (s *score) stopMeasuring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measured = true
}

// tellOfMore has each further delivery told to f.
func (s *score) tellOfMore(f func(*sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more = f
}

// samples returns one delivery of each contract, of those that were received.
func (s *score) samples() (out []*sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.samplesOf {
		if got := s.sampled[id]; got != nil {
			out = append(out, got)
		}
	}
	return out
}

// illness is what the misbehaving endpoints did to themselves and to others.
type illness struct {
	failedFirst, recovered int  // deliveries of the failing endpoint
	example                pair // one of them
	held, hangDelivered    int  // deliveries of the hanging endpoint
	measured               int  // deliveries of the healthy ones meanwhile
	p50, p99, slowest      time.Duration
}

func (s *score) illness() (i illness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pairs {
		switch {
		case p.endpoint.manner == hanging:
			i.held++
			if p.end == endDelivered {
				i.hangDelivered++
			}
		case len(p.tries) > 1 && p.tries[0].status == http.StatusServiceUnavailable:
			i.failedFirst++
			if p.end == endDelivered {
				i.recovered++
			}
			if i.example.event == nil {
				i.example = *p
				i.example.tries = slices.Clone(p.tries)
			}
		}
	}
	ls := slices.Sorted(slices.Values(s.latencies))
	if i.measured = len(ls); i.measured > 0 {
		i.p50, i.p99, i.slowest = quantile(ls, 50), quantile(ls, 99), ls[len(ls)-1]
	}
	return i
}

// quantile returns the least value that percent of the sorted values don't
// exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
