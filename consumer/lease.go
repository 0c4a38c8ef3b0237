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
	member  string // the group's name for us when the lease began
	tracker *watermark.Tracker
	// memory belongs to the goroutine that polls; nil where repeats pass.
	memory *watermark.Memory[webhook.Identity]
	// from is the watermark at takeover: records below it are only noted.
	from int64
	// readFrom is where a successor begins to read, see [watermark.Memory].
	readFrom atomic.Int64

	ended   atomic.Bool // revoked, lost, or about to be replaced
	failure atomic.Pointer[failure]
	// answeredAt is when all that is finished was last known to be committed,
	// or its commit was begun.
	answeredAt atomic.Pointer[time.Time]
	noRuns     atomic.Bool  // the broker has no room for metadata
	progress   atomic.Int64 // handed-out work that was finished
	// kept leases need a person: nothing is committed for them, so that the next
	// process finds them as they are. It never changes.
	kept bool
	// lost is why the lease was halted, once it is; its commits then say so.
	lost atomic.Pointer[loss]
	// next is what is read next, of those that were handed over by the client. It
	// belongs to the goroutine that polls.
	next int64
	// locating leases are outside their log: they are paused until extent is
	// known.
	locating atomic.Bool
	extent   atomic.Pointer[extent]
	paused   atomic.Bool // wanted by the handler
	full     atomic.Bool // paused because the commit metadata is nearly full
	applied  bool        // paused at the client; belongs to the goroutine that polls

	changes   atomic.Int64 // finished offsets so far
	committed atomic.Int64 // of changes, those that a commit holds
}

// Live reports whether records of this lease may still cause a POST or a
// produce: the assignment is ours, and a commit was answered without a fencing
// error less than [zombieAfter] ago. A process that was suspended, or that is
// cut off from its coordinator, finds its leases dead before another owner can
// have finished much.
func (l *Lease) Live(now time.Time) bool {
	return !l.ended.Load() && l.failure.Load() == nil && l.stage.sinceAnswer(now) < zombieAfter
}

// failure is why and when a lease was given up.
type failure struct {
	err error
	at  time.Time
}

// Ended reports whether the assignment is over for good.
func (l *Lease) Ended() bool { return l.ended.Load() }

// Crowded reports whether new POSTs must wait for a commit: this partition's
// last one is older than [lateCommit], and as many offsets as [uncommittedLimit] have been
// finished since. It bounds what a crash repeats while commits are blocked.
func (l *Lease) Crowded(now time.Time) bool {
	return l.changes.Load()-l.committed.Load() >= uncommittedLimit && now.Sub(*l.answeredAt.Load()) > lateCommit
}

// Fail gives the partition up until it is restarted from what is finished:
// something that a record led to could not be produced for good. The stage
// restarts it after a second, and later each time that it fails again without
// having finished anything.
func (l *Lease) Fail(err error) {
	if l.ended.Load() || !l.failure.CompareAndSwap(nil, &failure{err, time.Now()}) {
		return
	}
	l.stage.log.Error("restarting partition from its commit", "stage", l.stage.cfg.Name,
		"topic", l.Topic, "partition", l.Partition, "error", err)
	l.stage.cfg.Observer.Failed(l.Topic, l.Partition)
	time.AfterFunc(l.stage.restartAfter(l), l.stage.wake)
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
	// Record may be set to nil once it has been read: it keeps the whole batch
	// that it came in alive, and work may wait for long.
	Record *kgo.Record
	lease  *Lease
	ticket *watermark.Ticket
}

// Done marks the record finished: whatever it led to is acknowledged.
func (w *Work) Done() {
	w.ticket.Done()
	w.lease.changes.Add(1)
	w.lease.progress.Add(1)
}

// Lease returns the lease that the record came with.
func (w *Work) Lease() *Lease { return w.lease }
