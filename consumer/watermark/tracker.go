// Package watermark holds the bookkeeping of a partition that is worked on out
// of order: which offsets are unfinished, up to where everything is done, how
// to write that into the few kilobytes of a commit's metadata, and which
// records are repeats of earlier ones. It knows nothing of Kafka.
package watermark

import "sync"

// Tracker follows one assignment of one partition: offsets are tracked in
// ascending order and finished in any. The watermark is the lowest unfinished
// offset, or the one after the highest tracked when all are finished.
//
// Memory grows with the number of unfinished offsets, not with the span: the
// unfinished tickets form a doubly linked list in offset order. It is safe for
// concurrent use.
type Tracker struct {
	mu         sync.Mutex
	head, tail *Ticket
	next       int64 // the offset after the highest tracked
	pending    int
	finished   Runs // recovered at takeover, not reached yet
	closed     bool
}

// Ticket is one unfinished offset.
type Ticket struct {
	tracker    *Tracker
	prev, next *Ticket
	offset     int64
	finished   bool
}

// NewTracker begins at a committed watermark, with the runs of offsets above
// it that an earlier owner had finished.
func NewTracker(base int64, finished Runs) *Tracker {
	return &Tracker{next: base, finished: finished}
}

// Track adds an offset. It returns nil when the offset was finished by an
// earlier owner or is below what was tracked already: there is nothing to do.
// Offsets that are skipped (transaction markers, compaction) count as finished.
func (t *Tracker) Track(offset int64) *Ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || offset < t.next {
		return nil
	}
	t.next = offset + 1
	if t.finished.take(offset) {
		return nil
	}
	k := &Ticket{tracker: t, prev: t.tail, offset: offset}
	if t.tail != nil {
		t.tail.next = k
	} else {
		t.head = k
	}
	t.tail = k
	t.pending++
	return k
}

// Done finishes the offset. Done twice, or after [Tracker.Close], does nothing:
// a late completion of an earlier assignment must not move a later one.
func (k *Ticket) Done() {
	t := k.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || k.finished {
		return
	}
	k.finished = true
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		t.head = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		t.tail = k.prev
	}
	k.prev, k.next = nil, nil
	t.pending--
}

// Offset returns the ticket's offset.
func (k *Ticket) Offset() int64 { return k.offset }

// Close ends the assignment: later calls of Done and Track do nothing.
func (t *Tracker) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// Watermark returns the offset to commit.
func (t *Tracker) Watermark() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.watermark()
}

func (t *Tracker) watermark() int64 {
	if t.head != nil {
		return t.head.offset
	}
	// Nothing we have read is unfinished: what an earlier owner had finished
	// right behind it counts too. Otherwise the snapshot would begin with a
	// run at the watermark itself, which no reader of it expects.
	for len(t.finished) > 0 && t.finished[0].From <= t.next {
		t.next = max(t.next, t.finished[0].To)
		t.finished = t.finished[1:]
	}
	return t.next
}

// Pending returns the number of unfinished offsets.
func (t *Tracker) Pending() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending
}

// Snapshot returns the watermark and the finished runs above it, as many as
// fit into limit bytes of [Runs.Append]: those nearest the watermark. Full says
// how much of the limit the whole would take (above 1: runs were left out), and
// leftOut how many finished offsets the left-out runs hold.
func (t *Tracker) Snapshot(limit int) Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Snapshot{Watermark: t.watermark()}
	at, bytes, fits := s.Watermark, 0, true
	add := func(from, to int64) { // finished: from..to-1
		if to <= from {
			return
		}
		if last := len(s.Finished) - 1; fits && from == at && last >= 0 { // touches the run before: one run
			run := &s.Finished[last]
			bytes += uvarintLen(uint64(to-run.From)) - uvarintLen(uint64(run.To-run.From))
			run.To, at = to, to
			return
		}
		bytes += uvarintLen(uint64(from-at)) + uvarintLen(uint64(to-from))
		at = to
		if fits = fits && bytes <= limit; fits {
			s.Finished = append(s.Finished, Run{from, to})
		} else {
			s.LeftOut += to - from
		}
	}
	for k := t.head; k != nil; k = k.next {
		to := t.next
		if k.next != nil {
			to = k.next.offset
		}
		add(k.offset+1, to)
	}
	for _, r := range t.finished { // what the earlier owner had finished beyond our reading position
		s.Unread = s.Unread || r.To > t.next
		add(max(r.From, t.next), r.To)
	}
	if limit > 0 {
		s.Full = float64(bytes) / float64(limit)
	}
	return s
}

// Snapshot is the state of a tracker as a commit holds it.
type Snapshot struct {
	Watermark int64
	Finished  Runs
	Full      float64
	// Unread says that some of the runs lie ahead of the reading position:
	// only reading on makes them fewer.
	Unread  bool
	LeftOut int64
}
