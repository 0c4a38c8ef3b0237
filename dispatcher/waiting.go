package dispatcher

import (
	"slices"
	"time"

	"posthorn/dispatcher/lanes"
	"posthorn/webhook"
)

// block keeps a job until its lease may be acted on again.
func (d *Dispatcher) block(j *job) {
	if j.state.closing.Load() {
		d.letGo(j)
		return
	}
	j.state.blocked = append(j.state.blocked, j)
	d.blocked[j.state] = struct{}{}
	if time.Until(d.wakeAt) > blockedFor {
		d.nudge()
	}
}

// unblock admits what waited for leases that may be acted on again.
func (d *Dispatcher) unblock(now time.Time, acts *[]action) {
	for st := range d.blocked {
		if !st.lease.Live(now) || st.lease.Crowded(now) {
			continue
		}
		jobs := st.blocked
		st.blocked = nil
		delete(d.blocked, st)
		for _, j := range jobs {
			d.admit(now, j, acts)
		}
	}
}

// retryRegistry is the wait after the registry could not be asked.
const retryRegistry = time.Second

// awaitRegistry keeps a job until the registry knows what it was matched by, so
// that a brand-new endpoint is never taken for a deleted one. One goroutine of a
// lease waits for all versions of one topic; those of another topic (of a
// cluster that was restored, say) are waited for on their own. The lock is held.
func (d *Dispatcher) awaitRegistry(j *job) {
	st, topic := j.state, j.d.Registry.TopicID
	waiting, awaited := st.behind[topic]
	if st.behind == nil {
		st.behind = make(map[[16]byte][]*job)
	}
	st.behind[topic] = append(waiting, j)
	if !awaited {
		go d.admitBehind(st, topic)
	}
}

// admitBehind admits the jobs that wait for versions of a registry topic as it
// reaches them, until none waits any more. What joins while the least version so
// far is waited for is looked at when that is reached.
func (d *Dispatcher) admitBehind(st *leaseState, topic [16]byte) {
	for more := true; more; {
		d.mu.Lock()
		v := st.behind[topic][0].d.Registry
		for _, j := range st.behind[topic] {
			v.Offset = min(v.Offset, j.d.Registry.Offset)
		}
		d.mu.Unlock()
		for st.ctx.Err() == nil {
			err := d.cfg.Directory.WaitReached(st.ctx, v)
			if err == nil {
				break
			}
			d.cfg.Log.Warn("waiting for the registry", "error", err)
			select {
			case <-st.ctx.Done():
			case <-time.After(retryRegistry):
			}
		}
		var acts []action
		d.mu.Lock()
		var reached []*job
		st.behind[topic] = slices.DeleteFunc(st.behind[topic], func(j *job) bool {
			ok := j.d.Registry.Offset <= v.Offset || st.ctx.Err() != nil || d.cfg.Directory.Reached(j.d.Registry)
			if ok {
				reached = append(reached, j)
			}
			return ok
		})
		if more = len(st.behind[topic]) > 0; !more {
			delete(st.behind, topic)
		}
		for _, j := range reached {
			d.admit(time.Now(), j, &acts)
		}
		d.lanesChanged()
		d.mu.Unlock()
		d.carryOut(acts)
	}
}

// slowLane reports whether a delivery should be put back, and for how long,
// because memory is getting short and its lane would keep it for long.
func (d *Dispatcher) slowLane(now time.Time, j *job) (wait time.Duration, slow bool) {
	if d.bytes < d.cfg.ByteBudget/2 {
		return 0, false
	}
	lane, ok := d.lanes.Lane(j.d.EndpointID)
	if !ok || lane.Hanging || float64(lane.Queued) <= pace(lane)*slowQueue.Seconds() {
		return 0, false
	}
	return d.wayBack(now, j), true
}

// wayBack is how long a delivery that its lane has no room for is put back: until
// its turn, or as parked where the lane makes no progress. The lock is held.
func (d *Dispatcher) wayBack(now time.Time, j *job) time.Duration {
	if lane, ok := d.lanes.Lane(j.d.EndpointID); !ok || lane.Hanging || lane.Failing {
		return d.parkFor(j.d)
	}
	return d.lanes.Turn(now, j.d.EndpointID)
}

// pace is how many POSTs a second a lane makes, 0 if nothing is known.
func pace(lane lanes.LaneStats) float64 {
	if lane.PerSecond == 0 && lane.Latency > 0 { // not measured yet, but what it has in flight tells
		return float64(lane.Width) / lane.Latency.Seconds()
	}
	return lane.PerSecond
}

// mayHold reports whether there is room for a job that waits on a timer.
func (d *Dispatcher) mayHold(j *job) bool {
	return j.state.held < holdsPerLease && d.heldSize+j.size <= d.cfg.ByteBudget/heldShare &&
		(d.heldBy[j.d.EndpointID] == 0 || d.heldBy[j.d.EndpointID]+j.size <= d.cfg.ByteBudget/heldShareEach)
}

func (d *Dispatcher) hold(j *job, due time.Time) {
	d.heldSize += j.size
	d.heldBy[j.d.EndpointID] += j.size
	j.state.held++
	d.held.add(j, due)
	if due.Before(d.wakeAt) {
		d.nudge()
	}
}

// unheld keeps the counts of a job that was taken out of the heap.
func (d *Dispatcher) unheld(j *job) {
	d.heldSize -= j.size
	if d.heldBy[j.d.EndpointID] -= j.size; d.heldBy[j.d.EndpointID] <= 0 {
		delete(d.heldBy, j.d.EndpointID)
	}
	j.state.held--
	if j.immediate {
		j.immediate = false
		d.waited(j.d.EndpointID)
	}
}

// waited gives up a place among an endpoint's immediate retries.
func (d *Dispatcher) waited(endpointID string) {
	if d.waiters[endpointID]--; d.waiters[endpointID] <= 0 {
		delete(d.waiters, endpointID)
	}
}

// letGo gives back what a job took of the byte budget. If it isn't done, its
// lease is closing, and the next owner reads it again.
func (d *Dispatcher) letGo(j *job) {
	d.bytes -= j.size
	d.room.Broadcast()
}

func (d *Dispatcher) parkAll(jobs []*job, now time.Time, reason webhook.Reason, acts *[]action) {
	d.putBack(jobs, now, reason, func(j *job) time.Duration { return d.parkFor(j.d) }, acts)
}

// putBack puts jobs that were taken out of a queue back, each for its wait.
func (d *Dispatcher) putBack(jobs []*job, now time.Time, reason webhook.Reason, wait func(*job) time.Duration, acts *[]action) {
	for _, j := range jobs {
		if j.state.closing.Load() {
			d.letGo(j)
			continue
		}
		if !j.state.lease.Live(now) {
			d.block(j)
			continue
		}
		d.act(acts, action{job: j, do: doDefer, reason: reason, at: now.Add(wait(j))})
	}
}
