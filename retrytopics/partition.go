package retrytopics

import (
	"container/heap"
	"sync/atomic"
	"time"

	"posthorn/webhook"
)

// Parked is one record of a tier, as the stage runtime read it.
type Parked struct {
	Delivery *webhook.Delivery
	// Timestamp is the record's: the tier's delay counts from it.
	Timestamp time.Time
	// Size is what the record weighs in memory, in bytes: key, value and
	// headers. It counts towards [Config.HeldBytes].
	Size int
	// Ticket is told when the record's successor is acked.
	Ticket Ticket
}

// Ticket stands for one record at the runtime that reads the tier.
type Ticket interface {
	// Done marks the record as finished: its offset may be committed.
	Done()
}

// Lease is one assignment of one partition of the tier to this process.
// Implementations must be comparable (a pointer). Its methods are called from
// several goroutines, without any lock held, and must not block; they must not
// wait for a lock that is held across [Reader.Take] or [Reader.Release].
type Lease interface {
	// Live reports whether the assignment is certainly still ours. While it is
	// lost or in doubt, nothing is produced for it.
	Live(now time.Time) bool
	// Fail asks for the partition to be read again from its commit. It is
	// called once at most between Take and Release.
	Fail(err error)
	// Pause and Resume stop and go on with fetching the partition. They
	// alternate, beginning with Pause, and don't overlap.
	Pause()
	Resume()
}

// partition is what one lease holds. Its fields belong to Reader.mu.
type partition struct {
	lease Lease
	queue []entry   // FIFO; only Run takes from its front
	held  int       // bytes queued or in flight
	at    time.Time // when Run looks at the head (again)
	index int       // place in the heap, -1 when not in it

	// over is set for good when the lease is released or has failed. Run reads
	// it outside the lock before each produce.
	over     atomic.Bool
	paused   bool // what the lease was told last
	applying bool // a goroutine is telling it
}

type entry struct {
	Parked
	due time.Time
}

// take appends records that were read at now.
func (p *partition) take(recs []Parked, tier time.Duration, now time.Time) {
	for _, rec := range recs {
		// A record was in the log before it was read: one from a clock ahead
		// of ours waits the tier's delay from now instead of wedging the FIFO.
		base := rec.Timestamp
		if now.Before(base) {
			base = now
		}
		// A body is held whatever the caller says of its size.
		rec.Size = max(rec.Size, len(rec.Delivery.Body))
		p.held += rec.Size
		p.queue = append(p.queue, entry{rec, base.Add(tier)})
	}
}

// due appends to dst the records at the front that are due, n at most.
func (p *partition) due(dst []entry, now time.Time, n int) []entry {
	for i := range min(n, len(p.queue)) {
		if p.queue[i].due.After(now) {
			break
		}
		dst = append(dst, p.queue[i])
	}
	return dst
}

// drop removes n records from the front.
func (p *partition) drop(n int) {
	clear(p.queue[:n]) // or the array would keep the bodies alive
	p.queue = p.queue[n:]
	if len(p.queue) == 0 {
		p.queue = nil
	}
}

// schedule orders partitions by when their heads are to be looked at.
type schedule []*partition

var _ heap.Interface = (*schedule)(nil)

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push is part of [heap.Interface].
func (s *schedule) Push(x any) {
	p := x.(*partition)
	p.index = len(*s)
	*s = append(*s, p)
}

// Pop is part of [heap.Interface].
func (s *schedule) Pop() any {
	old := *s
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*s = old[:len(old)-1]
	p.index = -1
	return p
}

// set puts a partition at its place for p.at, or takes it out when it has
// nothing to watch.
func (s *schedule) set(p *partition) {
	switch watch := len(p.queue) > 0 && !p.over.Load(); {
	case watch && p.index < 0:
		heap.Push(s, p)
	case watch:
		heap.Fix(s, p.index)
	case p.index >= 0:
		heap.Remove(s, p.index)
	}
}
