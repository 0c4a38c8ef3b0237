package retrytopics

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Config of a [Reader].
type Config struct {
	// Tier is the delay of the topic that is read; the publisher's ladder must
	// have it.
	Tier time.Duration
	// Publisher produces what has fallen due.
	Publisher *Publisher
	// HeldBytes bounds what is held for one partition, in bytes, queued or
	// being produced; 1 MiB by default. Above it the partition is paused, from
	// half of it on it is resumed, so that it is full again before its head is
	// due. One fetch may overshoot it.
	HeldBytes int
	// InFlight bounds the produces under way over all partitions; 2,048 by
	// default, so that four tiers stay below the 10,000 records that kgo
	// buffers before it blocks (kgo.MaxBufferedRecords).
	InFlight int
	// Late, if set, is told for each record moved how long after it was due
	// its successor was acked.
	Late func(time.Duration)
	// Moved, if set, is told for each record moved where it went: a
	// [TierName] or [ToDeliveries]. Like Late it runs on the producer's
	// goroutine and must not block.
	Moved func(to string)
}

// Validate reports every mistake in the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Publisher == nil {
		errs = append(errs, errors.New("no publisher given"))
	} else if _, ok := c.Publisher.tiers[c.Tier]; !ok {
		errs = append(errs, fmt.Errorf("tier %v is not one of the ladder's %v", c.Tier, c.Publisher.ladder.tiers))
	}
	if c.HeldBytes < 0 {
		errs = append(errs, fmt.Errorf("held bytes %d: want 0 (for 1 MiB) or more", c.HeldBytes))
	}
	if c.InFlight < 0 {
		errs = append(errs, fmt.Errorf("in flight %d: want 0 (for 2,048) or more", c.InFlight))
	}
	return errors.Join(errs...)
}

const (
	// exact is how late a record may be moved and still count its rest from
	// the exact time it was due. Lateness then doesn't add up from tier to
	// tier, and 120 s are two hops of 1m, not 1m and eleven of 5s.
	exact = time.Second
	// burst is how many records of one partition are moved before the next
	// partition has its turn.
	burst = 256
	// recheck is how soon a due head is looked at again whose lease was in
	// doubt.
	recheck = 100 * time.Millisecond
	// longestNap bounds Run's sleep: a clock that was stepped, or a host that
	// was suspended, is noticed within it.
	longestNap = time.Second
)

// Reader moves on the records of one tier as they fall due. It holds what the
// stage runtime hands it, in memory and bounded, and watches only the heads of
// the partitions, with one timer. All methods are safe for concurrent use.
type Reader struct {
	cfg  Config
	wake chan struct{}

	// mu guards what follows and the partitions' fields. It is never held
	// across a call to a Producer, a Lease, a Ticket or a hook.
	mu       sync.Mutex
	parts    map[Lease]*partition
	order    schedule
	inFlight int
	waiting  bool // Run waits for a produce to be acked
}

// NewReader returns a reader that holds nothing yet.
func NewReader(cfg Config) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("building due reader of tier %v: %w", cfg.Tier, err)
	}
	if cfg.HeldBytes == 0 {
		cfg.HeldBytes = 1 << 20
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = 2048
	}
	if cfg.Late == nil {
		cfg.Late = func(time.Duration) {}
	}
	if cfg.Moved == nil {
		cfg.Moved = func(string) {}
	}
	return &Reader{cfg: cfg, wake: make(chan struct{}, 1), parts: make(map[Lease]*partition)}, nil
}

// Take hands over records of a lease's partition, in offset order over all
// calls for that lease. It never blocks. recs may be reused afterwards.
func (r *Reader) Take(l Lease, recs []Parked) {
	if len(recs) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.parts[l]
	if p == nil {
		p = &partition{lease: l, index: -1}
		r.parts[l] = p
	}
	if p.over.Load() {
		return // failed: the runtime reads these again
	}
	idle := len(p.queue) == 0
	p.take(recs, r.cfg.Tier, time.Now())
	if idle {
		p.at = p.queue[0].due
		r.order.set(p)
		r.wakeRun()
	}
	r.flow(p)
}

// Release drops what is held for a lease, without Done: the next owner reads
// it again. What is already being produced is still waited for, and its
// tickets are told. Nothing new is produced for the lease once Release has
// returned, but for one record that was on its way into the producer. A lease
// that is taken for again begins anew.
func (r *Reader) Release(l Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.parts[l]; p != nil {
		delete(r.parts, l)
		r.end(p)
	}
}

// end stops a partition for good. r.mu is held.
func (r *Reader) end(p *partition) {
	p.over.Store(true)
	p.queue = nil
	r.order.set(p)
}

// Stats is what a reader holds at the moment.
type Stats struct {
	Records  int // waiting to fall due
	Bytes    int // of records waiting or being produced
	InFlight int // records being produced
}

// Stats returns what the reader holds, over all leases.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{InFlight: r.inFlight}
	for _, p := range r.parts {
		if !p.over.Load() {
			s.Records += len(p.queue)
			s.Bytes += p.held
		}
	}
	return s
}

// Run moves records on as they fall due, until ctx is done. It doesn't wait
// for the acks of what it has produced: flush the producer for that. It blocks
// in the producer while that one's buffer is full.
func (r *Reader) Run(ctx context.Context) {
	timer := time.NewTimer(longestNap)
	defer timer.Stop()
	buf := make([]entry, 0, burst)
	for ctx.Err() == nil {
		p, due, nap := r.next(time.Now(), buf)
		if p != nil {
			n := r.move(p, due)
			r.moved(p, n, len(due)-n)
			clear(due)
			continue
		}
		timer.Reset(nap)
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// next returns the partition whose head is due, with the records of it to move
// now, their places in flight taken; or nil and how long to sleep.
func (r *Reader) next(now time.Time, buf []entry) (p *partition, due []entry, nap time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) == 0 {
		return nil, nil, longestNap
	}
	p = r.order[0]
	if wait := p.at.Sub(now); wait > 0 {
		return nil, nil, min(wait, longestNap)
	}
	free := min(r.cfg.InFlight-r.inFlight, burst)
	if free <= 0 {
		r.waiting = true
		return nil, nil, longestNap
	}
	due = p.due(buf[:0], now, free)
	if len(due) == 0 {
		// The clock was put back since the head was looked at last.
		p.at = p.queue[0].due
		r.order.set(p)
		return nil, nil, 0
	}
	r.inFlight += len(due)
	return p, due, 0
}

// move produces the successors of due records and returns how many it
// produced: fewer than all when the lease is not, or not certainly, ours.
func (r *Reader) move(p *partition, due []entry) int {
	for i := range due {
		e := due[i]
		now := time.Now()
		if p.over.Load() || !p.lease.Live(now) {
			return i
		}
		base := e.due
		if now.Sub(base) >= exact {
			base = now
		}
		r.cfg.Publisher.put(e.Delivery, base, now, func(to string, err error) {
			r.acked(p, e, to, err)
		})
	}
	return len(due)
}

// moved takes the n records that were produced off the queue, and gives back
// the places in flight of the rest.
func (r *Reader) moved(p *partition, n, rest int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight -= rest
	if p.over.Load() {
		return
	}
	p.drop(n)
	switch {
	case rest > 0:
		p.at = time.Now().Add(recheck)
	case len(p.queue) > 0:
		// Behind whatever else is due by now: a partition with an hour's
		// backlog mustn't go before a head that has just fallen due.
		p.at = p.queue[0].due
		if now := time.Now(); p.at.Before(now) {
			p.at = now
		}
	}
	r.order.set(p)
}

// acked ends the produce of one record's successor.
func (r *Reader) acked(p *partition, e entry, to string, err error) {
	if err == nil {
		e.Ticket.Done()
		r.cfg.Late(time.Since(e.due))
		r.cfg.Moved(to)
	}
	r.mu.Lock()
	r.inFlight--
	// At half, so that Run is woken once for many acks.
	if r.waiting && r.inFlight <= r.cfg.InFlight/2 {
		r.waiting = false
		r.wakeRun()
	}
	p.held -= e.Size
	failed := err != nil && !p.over.Load()
	if failed {
		r.end(p) // it stays in parts, so that Take drops what still comes
	}
	r.flow(p)
	r.mu.Unlock()
	if failed {
		p.lease.Fail(fmt.Errorf("moving a delivery from tier %s to %s: %w", TierName(r.cfg.Tier), to, err))
	}
}

// flow pauses or resumes a partition by what is held for it. r.mu is held, and
// given up while the lease is told. One goroutine at a time tells a lease and
// goes on until it has told the latest, so a Pause and a Resume that are
// decided at once by Take and by an ack can't arrive in the wrong order.
func (r *Reader) flow(p *partition) {
	if p.applying {
		return
	}
	p.applying = true
	for !p.over.Load() {
		var tell func()
		switch {
		case !p.paused && p.held > r.cfg.HeldBytes:
			tell = p.lease.Pause
		case p.paused && p.held <= r.cfg.HeldBytes/2:
			tell = p.lease.Resume
		}
		if tell == nil {
			break
		}
		p.paused = !p.paused
		r.mu.Unlock()
		tell()
		r.mu.Lock()
	}
	p.applying = false
}

func (r *Reader) wakeRun() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
