package replay

import (
	"context"
	"sync"

	"posthorn/consumer"
)

// atOnce bounds the replays of a process that do something; those that are paused
// or wait, also for an endpoint whose breaker is open, don't count.
const atOnce = 16

// Runner runs the replays of the partitions that it has. It is a
// [consumer.Handler].
type Runner struct {
	cfg   Config
	slots chan struct{}
	yield *Yield

	mu   sync.Mutex
	jobs map[lease]*leaseJobs
}

// leaseJobs are the replays of one lease.
type leaseJobs struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running map[string]bool // by key
	wg      sync.WaitGroup
}

// NewRunner makes a runner.
func NewRunner(cfg Config) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, slots: make(chan struct{}, atOnce), yield: NewYield(cfg.Waits), jobs: make(map[lease]*leaseJobs)}, nil
}

// Take implements [consumer.Handler]. A record's key is the replay's.
func (r *Runner) Take(l *consumer.Lease, work []*consumer.Work) {
	r.mu.Lock()
	defer r.mu.Unlock()
	jobs := r.jobs[l]
	if jobs == nil {
		jobs = &leaseJobs{running: make(map[string]bool)}
		jobs.ctx, jobs.cancel = context.WithCancel(context.Background())
		r.jobs[l] = jobs
	}
	for _, w := range work {
		key := string(w.Record.Key)
		gone := w.Record.Value == nil
		w.Record = nil
		// The record of a replay that is over is taken off the topic by another
		// without a value; and one may have been asked for twice.
		if gone || jobs.running[key] {
			w.Done()
			continue
		}
		jobs.running[key] = true
		jobs.wg.Go(func() {
			j := &job{cfg: &r.cfg, key: key, lease: l, slots: r.slots, yield: r.yield}
			if j.run(jobs.ctx) {
				w.Done()
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(jobs.running, key)
		})
	}
}

// Crowded implements [consumer.Handler]: a partition has few replays.
func (r *Runner) Crowded(*consumer.Lease, float64) {}

// Release implements [consumer.Handler]: a replay's next owner goes on from what
// was saved last.
func (r *Runner) Release(ctx context.Context, ls []*consumer.Lease) {
	var ended []*leaseJobs
	r.mu.Lock()
	for _, l := range ls {
		if jobs := r.jobs[l]; jobs != nil {
			jobs.cancel()
			ended = append(ended, jobs)
			delete(r.jobs, l)
		}
	}
	r.mu.Unlock()
	await(ctx, ended)
}

// Drain implements [consumer.Handler].
func (r *Runner) Drain(ctx context.Context) {
	var all []*leaseJobs
	r.mu.Lock()
	for _, jobs := range r.jobs {
		jobs.cancel()
		all = append(all, jobs)
	}
	r.mu.Unlock()
	await(ctx, all)
}

// await waits for jobs that were cancelled until ctx ends.
func await(ctx context.Context, all []*leaseJobs) {
	ended := make(chan struct{})
	go func() {
		for _, jobs := range all {
			jobs.wg.Wait()
		}
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// Room implements [consumer.Handler].
func (r *Runner) Room(ctx context.Context) error { return ctx.Err() }

var _ consumer.Handler = (*Runner)(nil)
