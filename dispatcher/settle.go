package dispatcher

import (
	"sync/atomic"
	"time"

	"posthorn/webhook"
)

// carryOut does what was decided under the lock. POSTs go first: putting back
// may wait for the producer, and they have their slots already.
func (d *Dispatcher) carryOut(acts []action) {
	for _, a := range acts {
		if a.do == doPost {
			d.startPost(a.job)
		}
	}
	for _, a := range acts {
		switch a.do {
		case doPost:
		case doDefer:
			d.deferJob(a.job, a.at, a.reason)
		case doDiscard:
			d.settle(a.job, webhook.SettlementOf(a.job.d, a.job.record, webhook.KindDiscard, a.reason), nil)
		case doDead:
			d.die(a.job, webhook.SettlementOf(a.job.d, a.job.record, webhook.KindDead, a.reason), a.reason)
		}
	}
}

// deferJob puts a delivery back unsent. It leaves its owner for a tier whatever
// its wait, counted from now: putting back the others before it may have taken
// a while.
func (d *Dispatcher) deferJob(j *job, at time.Time, reason webhook.Reason) {
	now := time.Now()
	at = later(at, now.Add(d.away))
	s := webhook.SettlementOf(j.d, j.record, webhook.KindPark, reason)
	s.NextAt = at
	again := j.d.Deferred(at)
	d.settle(j, s, func(done func(error)) { d.cfg.Retries.Put(again, now, done) })
}

func (d *Dispatcher) die(j *job, s *webhook.Settlement, reason webhook.Reason) {
	dead := j.d
	d.settle(j, s, func(done func(error)) { d.cfg.Retries.Dead(dead, reason, s.Status, done) })
}

// settle produces the settlement's record and what follows from it, and
// finishes the job when both are acknowledged. After the assignment is over
// nothing is produced but the record of a POST that did happen: the next owner
// reads the delivery again.
func (d *Dispatcher) settle(j *job, s *webhook.Settlement, follow func(done func(error))) {
	if s.StartedAt.IsZero() {
		s.StartedAt = time.Now()
	}
	dropped := false
	if j.state.lease.Ended() {
		if s.Kind != webhook.KindAttempt {
			d.close(j, false)
			return
		}
		dropped = follow != nil
		follow = nil
	}
	var left atomic.Int32
	var failed atomic.Bool
	left.Store(1)
	if follow != nil {
		left.Store(2)
	}
	done := func(err error) {
		if err != nil {
			failed.Store(true)
			j.state.lease.Fail(err)
		}
		if left.Add(-1) == 0 {
			d.close(j, !failed.Load() && !dropped)
		}
	}
	d.cfg.Observer.Settled(s)
	d.cfg.Recorder.Record(s, done)
	if follow != nil {
		follow(done)
	}
}

// close ends a job's open part; finished says that all it led to is
// acknowledged.
func (d *Dispatcher) close(j *job, finished bool) {
	if finished {
		j.ticket.Done()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.letGo(j)
	d.closed(j.state)
}

// closed counts an open part down. The lock is held.
func (d *Dispatcher) closed(st *leaseState) {
	st.open--
	if st.closing.Load() && st.open == 0 {
		close(st.idle)
	}
}
