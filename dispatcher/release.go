package dispatcher

import (
	"context"
	"time"

	"posthorn/webhook"
)

// afterCut bounds the wait for the acknowledgements of what was cut short.
const afterCut = 2 * time.Second

// Release ends leases: what is queued or held is dropped (it isn't done, so the
// next owner reads it), immediate retries are put back, what is in flight is
// waited for until ctx ends and then cut short. When it returns nothing of the
// leases runs any more, or their acknowledgements are late.
func (d *Dispatcher) Release(ctx context.Context, ls []Lease) {
	var states []*leaseState
	d.mu.Lock()
	for _, l := range ls {
		if st := d.leases[l]; st != nil {
			states = append(states, st)
			delete(d.leases, l)
		}
	}
	back, _ := d.closeLeases(states)
	d.mu.Unlock()
	for _, j := range back {
		d.handBack(j)
	}
	d.await(ctx, states)
}

// Drain stops everything: nothing new starts, and what is in flight is waited
// for until ctx ends.
func (d *Dispatcher) Drain(ctx context.Context) {
	var states []*leaseState
	d.mu.Lock()
	d.draining = true
	for _, st := range d.leases {
		states = append(states, st)
	}
	back, left := d.closeLeases(states)
	inFlight := -len(back)
	for _, st := range states {
		inFlight += st.open
	}
	d.mu.Unlock()
	d.cfg.Log.Info("draining", "in_flight", inFlight, "put_back", len(back), "left_to_next_owner", left)
	for _, j := range back {
		d.handBack(j)
	}
	if cut := d.await(ctx, states); cut > 0 {
		d.cfg.Log.Warn("drained with attempts cut short; they are put back and spend no step", "cut", cut)
	}
}

// closeLeases takes the leases' jobs out of lanes and holds, and returns the
// immediate retries, which must be put back, and how many others there were:
// they stay unfinished. The lock is held.
func (d *Dispatcher) closeLeases(states []*leaseState) (back []*job, left int) {
	closing := make(map[*leaseState]bool, len(states))
	for _, st := range states {
		if !st.closing.Load() {
			st.closing.Store(true)
			closing[st] = true
		}
	}
	mine := func(j *job) bool { return closing[j.state] }
	// One between two immediate attempts is put back, wherever it waits: its
	// record says nothing of the attempts that were made.
	leave := func(j *job) {
		if j.firstStart.IsZero() {
			d.letGo(j)
			left++
			return
		}
		j.state.open++
		back = append(back, j)
	}
	for _, j := range d.lanes.Remove(mine, nil) {
		leave(j)
	}
	for st := range closing {
		for _, j := range st.blocked {
			leave(j)
		}
		st.blocked = nil
		delete(d.blocked, st)
	}
	var held []*job
	for _, j := range d.held {
		if mine(j) {
			held = append(held, j)
		}
	}
	for _, j := range held {
		d.held.remove(j)
		d.unheld(j)
		leave(j)
	}
	for st := range closing {
		if st.open == 0 { // else whoever closes the last job does it
			close(st.idle)
		}
	}
	return back, left
}

// handBack puts an immediate retry that was waiting back as it is: its attempts
// so far are recorded, so n and step stand.
func (d *Dispatcher) handBack(j *job) {
	s := webhook.SettlementOf(j.d, j.record, webhook.KindPark, webhook.ReasonHandover)
	s.NextAt = j.d.NotBefore
	again := j.d.Deferred(j.d.NotBefore)
	d.settle(j, s, func(done func(error)) { d.cfg.Retries.Put(again, time.Now(), done) })
}

// await waits for open jobs until ctx ends, cuts them short and waits a little
// more. It returns how many were cut.
func (d *Dispatcher) await(ctx context.Context, states []*leaseState) (cut int) {
	for _, st := range states {
		select {
		case <-st.idle:
		case <-ctx.Done():
		}
	}
	d.mu.Lock()
	for _, st := range states {
		cut += st.open
	}
	d.mu.Unlock()
	late := time.NewTimer(afterCut)
	defer late.Stop()
	for _, st := range states {
		st.cancel()
	}
	for _, st := range states {
		select {
		case <-st.idle:
		case <-late.C:
			return cut
		}
	}
	return cut
}
