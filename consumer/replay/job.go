package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"posthorn/webhook"
)

const (
	// saveEvery is how often the position is saved while it moves: what lies behind
	// the last one is repeated after a crash.
	saveEvery = 2 * time.Second
	// lookEvery is how often a replay that waits looks at the registry again.
	lookEvery = 250 * time.Millisecond
	// retryAfter is the wait after something failed that may work later.
	retryAfter = 2 * time.Second
	// trickleEvery is how often an endpoint whose breaker is open gets one.
	trickleEvery = 10 * time.Second
	// scanRate bounds the records looked at in a second: whoever matches and
	// delivers what is live shares the processor.
	scanRate = 20_000
	// currentFor is after how long a registry that is current has what was committed
	// before.
	currentFor = 2 * time.Second
	// endWithin bounds what is still written after the lease was given up.
	endWithin = 2 * time.Second
)

// job is one replay in the hands of its owner.
type job struct {
	cfg   *Config
	key   string
	lease lease
	slots chan struct{}
	yield *Yield

	replay   *webhook.Replay
	progress webhook.ReplayProgress
	saved    time.Time
	source   Source
	pacer    *Pacer
	out      outstanding
	polled   time.Time
	slot     bool
	items    []Item // of the batch, not put on the line yet
	batch    bool   // there is one that isn't passed whole
	finished bool   // nothing follows the batch
	scanFree time.Time
	trickled time.Time
}

// run plays the replay until it is over (true) or the lease is (false).
func (j *job) run(ctx context.Context) bool {
	defer j.release()
	if j.cfg.Registry.WaitCurrent(ctx) != nil {
		return false
	}
	if _, ok := j.cfg.Registry.Replay(j.key); !ok {
		// Its record was committed together with the one that brought us here, and
		// current is what was read to its end a second ago.
		pause(ctx, currentFor)
		if j.cfg.Registry.WaitCurrent(ctx) != nil {
			return false
		}
	}
	if p, ok := j.cfg.Registry.Progress(j.key); ok {
		if j.progress = *p; p.Ended() {
			return true
		}
	}
	for ctx.Err() == nil {
		over, wait, err := j.step(ctx)
		switch {
		case over:
			return true
		case err != nil && ctx.Err() == nil && errors.Is(err, ErrNever):
			j.cfg.Log.Error("replay failed", "replay", j.key, "error", err)
			if j.end(ctx, webhook.ReplayBroken, err.Error()) {
				return true
			}
			wait = retryAfter
		case err != nil && ctx.Err() == nil:
			j.cfg.Log.Warn("replay waits", "replay", j.key, "error", err)
			j.hold(ctx, webhook.ReplayWaiting, "an error: it is tried again; the log says more")
			wait = retryAfter
		}
		pause(ctx, wait)
	}
	// The position is known better than it was saved; if this fails, a little more
	// is repeated.
	if j.source != nil && !j.lease.Ended() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
		defer cancel()
		_ = j.save(within, j.progress.State, j.progress.Reason)
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// step does one thing, and says how long to wait before the next.
func (j *job) step(ctx context.Context) (over bool, wait time.Duration, err error) {
	r, ok := j.cfg.Registry.Replay(j.key)
	switch {
	case !ok:
		return true, 0, nil // nobody wants it any more
	case r.Cancelled:
		return j.end(ctx, webhook.ReplayCancelled, ""), retryAfter, nil
	case r.Paused:
		j.hold(ctx, webhook.ReplayPaused, "")
		return false, lookEvery, nil
	}
	j.replay = r
	to, ok := j.cfg.Registry.Target(r.EndpointID)
	if !ok {
		return j.end(ctx, webhook.ReplayBroken, "the endpoint was deleted"), retryAfter, nil
	}
	if to.Held != "" {
		j.hold(ctx, webhook.ReplayWaiting, to.Held)
		return false, lookEvery, nil
	}
	now := time.Now()
	if !j.lease.Live(now) {
		return false, lookEvery, nil
	}
	if to.Trickle && now.Sub(j.trickled) < trickleEvery {
		if j.slot {
			err = j.save(ctx, webhook.ReplayRunning, "")
			j.release() // it may take days, and others wait
		}
		return false, lookEvery, err
	}
	if !j.take() {
		return false, lookEvery, nil
	}
	if err := j.open(ctx); err != nil {
		return false, 0, err
	}
	if len(j.items) == 0 {
		return j.fetch(ctx, to)
	}
	return j.put(ctx, to)
}

// take takes one of the process's slots, if there is one: who waits for it can
// still be paused and cancelled.
func (j *job) take() bool {
	if j.slot {
		return true
	}
	select {
	case j.slots <- struct{}{}:
		j.slot = true
		return true
	default:
		return false
	}
}

// release gives the slot back, and what it was for.
func (j *job) release() {
	if j.slot {
		<-j.slots
		j.slot = false
	}
	if j.source != nil {
		j.source.Rewind()
	}
	j.items, j.batch, j.finished = nil, false, false
}

// hold waits without a slot; it is told once.
func (j *job) hold(ctx context.Context, state, reason string) {
	j.release()
	if j.progress.State == state && j.progress.Reason == reason {
		return
	}
	if err := j.save(ctx, state, reason); err != nil && !errors.Is(err, errNotLive) && ctx.Err() == nil {
		j.cfg.Log.Warn("saving a replay's progress", "replay", j.key, "error", err)
	}
}

// open finds what is to be replayed. The plan is saved before anything is made of
// it, so that a successor has the same.
func (j *job) open(ctx context.Context) error {
	if j.source == nil {
		at := &j.progress
		if at.Position == nil {
			at = nil
		}
		source, err := j.cfg.Source(ctx, j.replay, at)
		if err != nil {
			return fmt.Errorf("opening what is to be replayed: %w", err)
		}
		j.source, j.pacer = source, NewPacer(j.replay.Rate, time.Now())
		if j.progress.StartedAt.IsZero() {
			j.progress.StartedAt = time.Now().UTC()
		}
	}
	if j.progress.State != webhook.ReplayRunning {
		return j.save(ctx, webhook.ReplayRunning, "")
	}
	return nil
}

// fetch looks at what follows.
func (j *job) fetch(ctx context.Context, to Target) (over bool, wait time.Duration, err error) {
	if j.batch {
		j.source.PassedAll()
		j.batch = false
	}
	if j.finished {
		return j.end(ctx, webhook.ReplayCompleted, ""), retryAfter, nil
	}
	now := time.Now()
	if err := j.saveNowAndThen(ctx, now); err != nil {
		return false, 0, err
	}
	if wait := j.scanFree.Sub(now); wait > 0 {
		return false, wait, nil
	}
	if work, wait := j.yield.Allow(now); work == 0 {
		return false, min(wait, lookEvery), nil
	}
	b, err := j.source.Next(ctx, to)
	if err != nil {
		return false, 0, fmt.Errorf("reading what is to be replayed: %w", err)
	}
	j.yield.Did(float64(b.Scanned) * scanWork)
	j.items, j.batch, j.finished = b.Items, true, b.Finished
	j.scanFree = now.Add(time.Duration(b.Scanned) * time.Second / scanRate)
	return false, 0, nil
}

// put puts as much on the line as may be there.
func (j *job) put(ctx context.Context, to Target) (over bool, wait time.Duration, err error) {
	now := time.Now()
	if len(j.out.offsets) > 0 && now.Sub(j.polled) >= pollEvery {
		finished, err := j.cfg.Line.Finished(ctx, j.replay.EndpointID)
		if err != nil {
			return false, 0, fmt.Errorf("asking how far dispatch has come: %w", err)
		}
		j.polled = now
		j.pacer.Done(now, j.out.settle(finished))
	}
	n, wait := j.pacer.Allow(now)
	if to.Trickle {
		n = min(n, 1)
	}
	if n == 0 {
		return false, min(wait, pollEvery), j.saveNowAndThen(ctx, now)
	}
	work, wait := j.yield.Allow(now)
	if work == 0 {
		return false, min(wait, pollEvery), j.saveNowAndThen(ctx, now)
	}
	j.trickled = now
	n = min(n, int(work), len(j.items))
	ds := j.deliveries(j.items[:n], now)
	if len(ds) > 0 {
		offsets, err := j.cfg.Line.Put(ctx, ds)
		if err != nil {
			if ctx.Err() == nil {
				j.lease.Fail(fmt.Errorf("producing replayed deliveries: %w", err))
			}
			return false, retryAfter, nil
		}
		if j.pacer.Outstanding() == 0 {
			j.polled = now // none can be done yet
		}
		j.pacer.Sent(now, len(ds))
		j.yield.Did(float64(len(ds)))
		j.out.add(offsets...)
	}
	j.progress.Produced += int64(len(ds))
	j.progress.Skipped += int64(n - len(ds))
	j.source.Passed(j.items[n-1])
	j.items = j.items[n:]
	return false, 0, j.saveNowAndThen(ctx, now)
}

// deliveries completes those of the items that can be made.
func (j *job) deliveries(items []Item, now time.Time) (ds []*webhook.Delivery) {
	origin := webhook.OriginReplay
	if j.replay.Kind == webhook.ReplayFailed {
		origin = webhook.OriginRetry
	}
	version := j.cfg.Registry.Version()
	for i := range items {
		if items[i].Skip {
			continue
		}
		d := &items[i].Delivery
		d.Tenant, d.EndpointID, d.Origin = j.replay.Tenant, j.replay.EndpointID, origin
		d.Run, d.BegunAt, d.MatchedAt, d.Registry = j.replay.Run, time.UnixMilli(j.replay.Run), now, version
		ds = append(ds, d)
	}
	return ds
}

func (j *job) saveNowAndThen(ctx context.Context, now time.Time) error {
	if now.Sub(j.saved) < saveEvery {
		return nil
	}
	return j.save(ctx, webhook.ReplayRunning, "")
}

// end saves the last state, and reports whether that is done.
func (j *job) end(ctx context.Context, state, reason string) bool {
	j.progress.EndedAt = time.Now().UTC()
	if err := j.save(ctx, state, reason); errors.Is(err, errNotLive) {
		j.progress.EndedAt = time.Time{}
		return false
	} else if err != nil {
		j.cfg.Log.Warn("saving a replay's end", "replay", j.key, "error", err)
		return false
	}
	j.cfg.Log.Info("replay ended", "replay", j.key, "state", state, "produced", j.progress.Produced)
	return true
}

// errNotLive says that the replay may be another's by now.
var errNotLive = errors.New("the lease isn't live")

func (j *job) save(ctx context.Context, state, reason string) error {
	// Whoever has the replay by now knows better.
	if j.lease.Ended() {
		return nil
	}
	// A process that was suspended doesn't know yet that it lost the lease; it must
	// not overwrite the end of a replay that a successor brought to it.
	if !j.lease.Live(time.Now()) {
		return errNotLive
	}
	j.progress.State, j.progress.Reason = state, reason
	if j.source != nil {
		if err := j.source.Tell(&j.progress); err != nil {
			return err
		}
	}
	now := time.Now()
	j.progress.UpdatedAt = now.UTC()
	if err := j.cfg.Registry.Save(ctx, j.key, &j.progress); err != nil {
		return fmt.Errorf("saving a replay's progress: %w", err)
	}
	j.saved = now
	return nil
}
