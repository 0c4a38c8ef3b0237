package dispatcher

import (
	"time"

	"github.com/google/uuid"

	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/lanes"
	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

// idlePoster is how long a goroutine waits for its next POST.
const idlePoster = 100 * time.Millisecond

// startPost has a goroutine make the POST, at once or when its turn comes.
func (d *Dispatcher) startPost(j *job) { d.changeStarts((*starts).offer, j) }

// youngEnded counts a POST as over, and starts what waited for its place: at once,
// for what follows on the POST may wait for the producer.
func (d *Dispatcher) youngEnded(j *job) { d.changeStarts((*starts).ended, j) }

// changeStarts tells starts of a job, and starts what may start then.
func (d *Dispatcher) changeStarts(change func(s *starts, now time.Time, j *job, ready []*job) []*job, j *job) {
	d.startsMu.Lock()
	ready := change(d.starts, time.Now(), j, nil)
	d.awaitOld()
	d.startsMu.Unlock()
	d.launch(ready)
}

// awaitOld has the next start looked for when a young POST has grown old; the
// lock of starts is held.
func (d *Dispatcher) awaitOld() {
	if at, ok := d.starts.next(); ok && d.startsAt.IsZero() {
		d.startsAt = at
		d.startsTimer.Reset(time.Until(at))
	}
}

// grownOld starts what waited for POSTs that are young no longer.
func (d *Dispatcher) grownOld() {
	d.startsMu.Lock()
	d.startsAt = time.Time{}
	ready := d.starts.due(time.Now(), nil)
	d.awaitOld()
	d.startsMu.Unlock()
	d.launch(ready)
}

// launch gives each job to a goroutine that waits for work, whose stack has grown
// to what a POST needs already, or else to a new one.
func (d *Dispatcher) launch(ready []*job) {
	for _, j := range ready {
		select {
		case d.posts <- j:
		default:
			go d.poster(j)
		}
	}
}

func (d *Dispatcher) poster(j *job) {
	idle := time.NewTimer(idlePoster)
	defer idle.Stop()
	for {
		d.post(j)
		idle.Reset(idlePoster)
		select {
		case j = <-d.posts:
		case <-idle.C:
			return
		case <-d.ended:
			return
		}
	}
}

// post makes one attempt and settles it. It runs in a goroutine of its own, in
// a slot of the endpoint's lane and with the breaker's leave.
func (d *Dispatcher) post(j *job) {
	start := time.Now()
	if j.state.closing.Load() || !j.state.lease.Live(start) { // since it was given its slot
		d.youngEnded(j)
		d.unstart(j, start)
		return
	}
	if j.d.N == 0 {
		d.cfg.Observer.Started(j.d, start.Sub(j.d.MatchedAt)-j.started.Sub(j.offered))
	}
	contract, _ := d.cfg.Directory.Contract(j.d.Contract)
	s := webhook.SettlementOf(j.d, j.record, webhook.KindAttempt, "")
	s.AttemptID = uuid.Must(uuid.NewV7()).String()
	s.StartedAt = start

	ctx, traceID, endSpan := d.cfg.Spans.Attempt(j.state.ctx, j.d, j.target.URL)
	s.TraceID = traceID
	header, err := d.cfg.Directory.Sign(j.d, j.target, start)
	var res send.Result
	if err != nil {
		res = send.Result{Err: &send.RequestError{Err: err}, StartedAt: start}
	} else {
		res = d.cfg.Sender.Do(ctx, &send.Request{URL: j.target.URL, Header: header, Body: j.d.Body, Timeout: contract.Timeout, MinTLS: contract.MinTLS})
	}
	now := time.Now()
	o := send.Classify(res, send.RetryableFunc(contract.Retryable))
	if j.firstStart.IsZero() {
		j.firstStart = start
	}
	v := decide(j.d, o, contract, d.cfg.Schedule, d.away, j.firstStart, now)

	s.Duration, s.Phases, s.Status, s.Response = res.Duration, res.Phases, res.Status, res.Response
	s.Outcome, s.Reason, s.Detail = v.outcome, o.Reason, o.Detail
	s.NextAt = v.at
	endSpan(s)

	d.youngEnded(j) // before others may start the job again
	d.release(j, o, now)
	d.follow(j, s, v, now)
}

// unstart takes a start back before anything was sent.
func (d *Dispatcher) unstart(j *job, now time.Time) {
	j.allowed(breaker.Excluded)
	j.allowed = nil
	var acts []action
	d.mu.Lock()
	// One between two immediate attempts isn't dropped with a closing lease.
	back := j.state.closing.Load() && !j.firstStart.IsZero()
	if !back {
		d.block(j)
		d.closed(j.state)
	}
	d.start(now, d.lanes.Finish(now, j.d.EndpointID, lanes.Excluded, 0, nil), &acts)
	d.lanesChanged()
	d.mu.Unlock()
	d.carryOut(acts)
	if back {
		d.handBack(j)
	}
}

// release gives the lane's slot and the breaker's leave back.
func (d *Dispatcher) release(j *job, o send.Outcome, now time.Time) {
	key := j.d.EndpointID
	result, verdict := lanes.Failed, breaker.Failure
	switch o.Health {
	case send.Unknown:
		result, verdict = lanes.Excluded, breaker.Excluded
	case send.Alive: // also when it says no: that doesn't narrow its lane
		result, verdict = lanes.OK, breaker.Success
	}
	j.allowed(verdict)
	j.allowed = nil
	var acts []action
	d.mu.Lock()
	started := d.lanes.Finish(now, key, result, now.Sub(j.started), nil)
	if result == lanes.OK && j.target.BreakerOpen && d.breakers.State(key) == breaker.Closed {
		// What an earlier owner left open is closed: nobody else would say so.
		d.cfg.Observer.BreakerChanged(key, breaker.Closed)
	}
	if result == lanes.Failed && d.breakers.State(key) == breaker.Open {
		d.lanes.Narrow(now, key)
		d.parkAll(d.lanes.Shed(key, nil), now, webhook.ReasonBreakerOpen, &acts)
	}
	d.start(now, started, &acts)
	d.lanesChanged()
	d.mu.Unlock()
	d.carryOut(acts)
}

// follow carries the verdict out.
func (d *Dispatcher) follow(j *job, s *webhook.Settlement, v verdict, now time.Time) {
	switch v.next {
	case nextNone:
		d.settle(j, s, nil)
	case nextDead:
		d.die(j, s, v.reason)
	case nextScheduled:
		again := j.d.Retried(v.at)
		d.settle(j, s, func(done func(error)) { d.cfg.Retries.Put(again, now, done) })
	case nextAgain:
		again := j.d.Retried(v.at)
		again.Step = j.d.Step // cut by us: the receiver owes no step for it
		d.settle(j, s, func(done func(error)) { d.cfg.Retries.Put(again, now, done) })
	case nextImmediate:
		d.waitImmediate(j, s, v, now)
	}
}

// waitImmediate records the attempt and holds the delivery for its next one,
// which settles the same record: the ticket stays open. Where too many wait
// already, the wait is one that a topic can bear, or the lease is on its way
// out, it goes through the topics instead.
func (d *Dispatcher) waitImmediate(j *job, s *webhook.Settlement, v verdict, now time.Time) {
	again := j.d.Retried(v.at)
	d.mu.Lock()
	full := j.state.closing.Load() || d.waiters[j.d.EndpointID] >= waitersPerEndpoint || !d.mayHold(j) || v.at.Sub(now) >= longWait
	if !full { // its place is taken now: others end while this one's record is under way
		d.waiters[j.d.EndpointID]++
	}
	d.mu.Unlock()
	if full {
		d.settle(j, s, func(done func(error)) { d.cfg.Retries.Put(again, now, done) })
		return
	}
	d.cfg.Observer.Settled(s)
	d.cfg.Recorder.Record(s, func(err error) {
		if err != nil {
			j.state.lease.Fail(err)
			d.mu.Lock()
			d.waited(j.d.EndpointID)
			d.mu.Unlock()
			d.close(j, false)
			return
		}
		d.mu.Lock()
		j.d = again
		closing := j.state.closing.Load()
		if closing {
			d.waited(j.d.EndpointID)
		} else {
			j.immediate = true
			d.hold(j, v.at)
			d.closed(j.state)
		}
		d.mu.Unlock()
		if closing {
			// Not here: this runs on the producer's goroutine, and producing
			// may wait for it.
			go d.handBack(j)
		}
	})
}
