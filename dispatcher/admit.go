package dispatcher

import (
	"context"
	"time"

	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/lanes"
	"posthorn/webhook"
)

// action is something to do after the lock is released.
type action struct {
	job    *job
	do     todo
	reason webhook.Reason
	at     time.Time // of a deferral: not before, nor sooner than what leaves its owner may be back
}

type todo int

const (
	doPost    todo = iota
	doDefer        // put back unsent
	doDiscard      // nobody to deliver to
	doDead
)

// Take takes work of one lease up. It doesn't block but for producing what is
// put back.
func (d *Dispatcher) Take(l Lease, jobs []Job) {
	now := time.Now()
	var acts []action
	d.mu.Lock()
	st := d.state(l)
	for _, in := range jobs {
		j := &job{d: in.Delivery, record: in.Record, ticket: in.Ticket, state: st, size: int64(len(in.Delivery.Body)) + jobOverhead}
		d.bytes += j.size
		d.admit(now, j, &acts)
	}
	d.lanesChanged()
	d.mu.Unlock()
	d.carryOut(acts)
}

func (d *Dispatcher) state(l Lease) *leaseState {
	st := d.leases[l]
	if st == nil {
		st = &leaseState{lease: l, idle: make(chan struct{})}
		st.ctx, st.cancel = context.WithCancel(context.Background())
		st.closing.Store(d.draining)
		d.leases[l] = st
	}
	return st
}

// admit finds out what to do with a delivery now. The lock is held.
func (d *Dispatcher) admit(now time.Time, j *job, acts *[]action) {
	if j.state.closing.Load() {
		d.letGo(j)
		return
	}
	if !j.state.lease.Live(now) { // not even put back: whoever has it now will
		d.block(j)
		return
	}
	if !d.cfg.Directory.Reached(j.d.Registry) {
		d.awaitRegistry(j)
		return
	}
	e, ok := d.cfg.Directory.Endpoint(j.d.EndpointID)
	if reason := nobody(e, ok, j.d); reason != "" {
		d.act(acts, action{job: j, do: doDiscard, reason: reason})
		return
	}
	if _, ok := d.cfg.Directory.Contract(j.d.Contract); !ok {
		d.act(acts, action{job: j, do: doDead, reason: webhook.ReasonUnknownContract})
		return
	}
	if now.Sub(j.d.MatchedAt) > d.cfg.MaxAge || j.d.NotBefore.Sub(now) > d.cfg.MaxAge+aheadOfTime {
		d.act(acts, action{job: j, do: doDead, reason: webhook.ReasonExpired})
		return
	}
	if j.d.NotBefore.After(now) {
		if !d.mayHold(j) {
			d.act(acts, action{job: j, do: doDefer, reason: webhook.ReasonHoldsFull, at: j.d.NotBefore})
			return
		}
		d.hold(j, j.d.NotBefore)
		return
	}
	if e.Parked != "" {
		d.act(acts, action{job: j, do: doDefer, reason: e.Parked, at: now.Add(d.parkFor(j.d))})
		return
	}
	if d.breakers.State(j.d.EndpointID) == breaker.Open {
		d.act(acts, action{job: j, do: doDefer, reason: webhook.ReasonBreakerOpen, at: now.Add(d.parkFor(j.d))})
		return
	}
	if e.BreakerOpen {
		if _, known := d.lanes.Lane(j.d.EndpointID); !known {
			// An earlier owner left it open, and breakers can't be restored: a
			// single probe finds out how the endpoint is.
			d.lanes.Narrow(now, j.d.EndpointID)
		}
	}
	if wait, slow := d.slowLane(now, j); slow {
		d.act(acts, action{job: j, do: doDefer, reason: webhook.ReasonLaneFull, at: now.Add(wait)})
		return
	}
	if j.offered.IsZero() {
		j.offered = now
	}
	opts := lanes.Options{Returning: j.d.Deferrals > 0, Rate: e.RateLimit, MaxWidth: e.MaxInFlight}
	switch dec := d.lanes.Offer(now, j.d.EndpointID, j, int(j.size), opts); dec.Verdict {
	case lanes.Start:
		d.start(now, []*job{j}, acts)
	case lanes.Queued:
	case lanes.Spill:
		d.act(acts, action{job: j, do: doDefer, reason: webhook.ReasonLaneFull, at: now.Add(dec.After)})
	case lanes.Park:
		d.act(acts, action{job: j, do: doDefer, reason: webhook.ReasonLaneStalled, at: now.Add(d.parkFor(j.d))})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// parkFor is how long a delivery waits whose lane makes no progress: it grows
// with the times that it was put back.
func (d *Dispatcher) parkFor(v *webhook.Delivery) time.Duration {
	return d.cfg.Parks[min(v.Deferrals, len(d.cfg.Parks)-1)]
}

// start lets jobs go that have a slot of their lane, if the lease and the
// breaker agree. A slot that isn't used lets others start, hence the loop. The
// lock is held.
func (d *Dispatcher) start(now time.Time, jobs []*job, acts *[]action) {
	for len(jobs) > 0 {
		j := jobs[0]
		jobs = jobs[1:]
		key := j.d.EndpointID
		giveUpSlot := func() {
			jobs = d.lanes.Finish(now, key, lanes.Excluded, 0, jobs)
		}
		switch {
		case j.state.closing.Load():
			giveUpSlot()
			d.letGo(j)
			continue
		case !j.state.lease.Live(now), j.state.lease.Crowded(now):
			giveUpSlot()
			d.block(j)
			continue
		}
		// What waited in the queue may have been overtaken by a change: a new
		// URL or secret counts at once, and nothing goes to whom nobody wants.
		e, known := d.cfg.Directory.Endpoint(key)
		if reason := nobody(e, known, j.d); reason != "" {
			giveUpSlot()
			d.act(acts, action{job: j, do: doDiscard, reason: reason})
			continue
		}
		if e.Parked != "" {
			giveUpSlot()
			d.act(acts, action{job: j, do: doDefer, reason: e.Parked, at: now.Add(d.parkFor(j.d))})
			continue
		}
		j.target = e
		allowed, ok := d.breakers.Allow(key)
		if !ok {
			giveUpSlot()
			d.act(acts, action{job: j, do: doDefer, reason: webhook.ReasonBreakerOpen, at: now.Add(d.parkFor(j.d))})
			continue
		}
		j.allowed, j.started = allowed, now
		d.act(acts, action{job: j, do: doPost})
	}
}

// nobody says why nobody wants a delivery any more, if that is so.
func nobody(e Endpoint, known bool, v *webhook.Delivery) webhook.Reason {
	switch {
	case !known:
		return webhook.ReasonEndpointDeleted
	case e.Suspended:
		return webhook.ReasonTenantSuspended
	case e.Disabled:
		return webhook.ReasonEndpointDisabled
	case v.MatchedAt.Before(e.PurgeBefore):
		return webhook.ReasonPurged
	}
	return ""
}

// act notes an action: from here on the job is open until it is settled.
func (d *Dispatcher) act(acts *[]action, a action) {
	a.job.state.open++
	*acts = append(*acts, a)
}

// purgedLately is how long after a purge a change of the endpoint has its queue
// looked at for what was matched before. Nothing is queued for longer.
const purgedLately = 15 * time.Minute

// EndpointChanged looks at an endpoint's queue again, after the endpoint was
// changed or deleted or its tenant suspended: what nobody wants any more is
// discarded, what shall wait is put back, and limits that were changed count, at
// once.
func (d *Dispatcher) EndpointChanged(id string) {
	var acts []action
	d.mu.Lock()
	now := time.Now()
	e, ok := d.cfg.Directory.Endpoint(id)
	wanted := ok && !e.Disabled && !e.Suspended
	if wanted {
		d.lanes.Limits(now, id, e.RateLimit, e.MaxInFlight)
	}
	if !wanted || e.Parked != "" || now.Sub(e.Purged) < purgedLately {
		for _, j := range d.lanes.RemoveKey(id, nil) {
			d.admit(now, j, &acts)
		}
	}
	d.lanesChanged()
	d.mu.Unlock()
	if !ok {
		d.breakers.Forget(id)
	}
	d.carryOut(acts)
}

// Paused puts back what is queued for endpoints that are parked, after many of
// them were at once.
func (d *Dispatcher) Paused() {
	var acts []action
	d.mu.Lock()
	now := time.Now()
	parked := func(j *job) bool {
		e, ok := d.cfg.Directory.Endpoint(j.d.EndpointID)
		return ok && e.Parked != ""
	}
	for _, j := range d.lanes.Remove(parked, nil) {
		d.admit(now, j, &acts)
	}
	d.lanesChanged()
	d.mu.Unlock()
	d.carryOut(acts)
}

// Crowded puts the work of a lease back that keeps holes open in its commit
// metadata: that of the lanes with most of it queued, of those that hang or are
// slow. Lanes that move soon close their holes themselves; they give their
// queues up only when the metadata is far too full.
func (d *Dispatcher) Crowded(l Lease, full float64) {
	now := time.Now()
	var acts []action
	d.mu.Lock()
	if st := d.leases[l]; st != nil && !st.closing.Load() && l.Live(now) {
		mine := func(j *job) bool { return j.state == st }
		given := 0
		for _, c := range d.lanes.Largest(crowdedLooked, mine) {
			if given == crowdedLanes {
				break
			}
			if full < overfull && !d.keepsHoles(c.Key) {
				continue
			}
			given++
			for _, j := range d.lanes.RemoveFrom(c.Key, mine, nil) {
				d.act(&acts, action{job: j, do: doDefer, reason: webhook.ReasonCrowded, at: now.Add(d.wayBack(now, j))})
			}
		}
	}
	d.mu.Unlock()
	d.carryOut(acts)
}

const (
	// crowdedLanes is how many lanes give their queues up at a time, of the
	// crowdedLooked with most in them.
	crowdedLanes, crowdedLooked = 4, 256
	// overfull is how full commit metadata may get before any lane gives up.
	overfull = 1.5
)

// keepsHoles reports whether a lane will keep what it has queued for longer
// than a moment.
func (d *Dispatcher) keepsHoles(key string) bool {
	lane, ok := d.lanes.Lane(key)
	if !ok {
		return false
	}
	p := pace(lane)
	return lane.Hanging || lane.Sick || p == 0 || float64(lane.Queued) > p*slowQueue.Seconds()
}
