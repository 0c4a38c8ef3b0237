package consumer

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer/watermark"
	"posthorn/webhook"
)

// Lease is one assignment of one partition. A partition that goes away and
// comes back is another lease with another tracker, so that a late completion
// never moves a later assignment's watermark. Its methods are safe for
// concurrent use.
type Lease struct {
	Topic     string
	Partition int32

	stage   *Stage
	tracker *watermark.Tracker
	// memory belongs to the goroutine that polls; nil where repeats pass.
	memory *watermark.Memory[webhook.Identity]
	// from is the watermark at takeover: records below it are only noted.
	from int64
	// readFrom is where a successor begins to read, see [watermark.Memory].
	readFrom atomic.Int64

	ended    atomic.Bool  // revoked, lost or replaced
	failedAt atomic.Int64 // Unix nanoseconds; 0 while it has not failed
	paused   atomic.Bool  // wanted by the handler
	applied  bool         // paused at the client; belongs to the goroutine that polls

	changes   atomic.Int64 // finished offsets so far
	committed atomic.Int64 // of changes, those that a commit holds
	commitAt  int64        // the watermark last committed; belongs to the committer
}

// Live reports whether records of this lease may still cause a POST or a
// produce: the assignment is ours, and a commit was answered without a fencing
// error less than [zombieAfter] ago. A process that was suspended, or that is
// cut off from its coordinator, finds its leases dead before another owner can
// have finished much.
func (l *Lease) Live(now time.Time) bool {
	return !l.ended.Load() && l.failedAt.Load() == 0 && now.Sub(l.stage.lastCommit()) < zombieAfter
}

// Ended reports whether the assignment is over for good.
func (l *Lease) Ended() bool { return l.ended.Load() }

// Crowded reports whether new POSTs must wait for a commit: the last one is
// older than [lateCommit], and as many offsets as [uncommittedLimit] have been
// finished since. It bounds what a crash repeats while commits are blocked.
func (l *Lease) Crowded(now time.Time) bool {
	return l.changes.Load()-l.committed.Load() >= uncommittedLimit && now.Sub(l.stage.lastCommit()) > lateCommit
}

// Fail gives the partition up until it is restarted from what is finished:
// something that a record led to could not be produced for good. The stage
// restarts it after a second.
func (l *Lease) Fail(err error) {
	if l.ended.Load() || !l.failedAt.CompareAndSwap(0, time.Now().UnixNano()) {
		return
	}
	l.stage.log.Error("restarting partition from its commit", "stage", l.stage.cfg.Name,
		"topic", l.Topic, "partition", l.Partition, "error", err)
	l.stage.cfg.Observer.Failed(l.Topic, l.Partition)
	time.AfterFunc(restartAfter, l.stage.wake)
}

// Pause stops fetching the partition, Resume goes on; both take effect at the
// next poll, and a new lease begins unpaused.
func (l *Lease) Pause() {
	if !l.paused.Swap(true) {
		l.stage.wake()
	}
}

// Resume undoes [Lease.Pause].
func (l *Lease) Resume() {
	if l.paused.Swap(false) {
		l.stage.wake()
	}
}

// Work is one record of a lease together with the duty to finish it.
type Work struct {
	Record *kgo.Record
	lease  *Lease
	ticket *watermark.Ticket
}

// Done marks the record finished: whatever it led to is acknowledged.
func (w *Work) Done() {
	w.ticket.Done()
	w.lease.changes.Add(1)
}

// Lease returns the lease that the record came with.
func (w *Work) Lease() *Lease { return w.lease }
