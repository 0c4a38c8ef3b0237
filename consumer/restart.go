package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer/watermark"
)

// Ready reports why the stage needs a person, or nil.
func (s *Stage) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if !s.joined && !s.cfg.Regex { // a group is not joined while no topic matches
		errs = append(errs, fmt.Errorf("group %s: not joined yet", s.cfg.Group))
	}
	commits := false
	for _, l := range s.leases {
		commits = commits || !l.kept
	}
	if since := s.SinceAnswer(); commits && since > zombieAfter {
		errs = append(errs, fmt.Errorf("group %s: no commit was answered for %s, so nothing new is begun", s.cfg.Group, since.Round(time.Second)))
	}
	for _, err := range s.halted {
		errs = append(errs, err)
	}
	for p, l := range s.leases {
		if f := l.failure.Load(); f != nil {
			errs = append(errs, fmt.Errorf("%s/%d: waiting to be read again after a failure: %w", p.topic, p.id, f.err))
		}
	}
	return errors.Join(errs...)
}

// SinceAnswer is how long ago a commit was last answered well; 0 before the
// stage runs.
func (s *Stage) SinceAnswer() time.Duration {
	if s.answeredAt.Load() == nil {
		return 0
	}
	return s.sinceAnswer(time.Now())
}

// restartFailed gives failed partitions a fresh lease from what is finished.
// Rebalances are blocked meanwhile, but for a poll that came back with nothing.
func (s *Stage) restartFailed() {
	s.mu.Lock()
	var failed []*Lease
	for p, l := range s.leases {
		// A little early is as good as late: the wake-up comes once.
		if f := l.failure.Load(); f != nil && time.Since(f.at) >= s.restartAfterLocked(p, l)-restartAtFirst/10 {
			failed = append(failed, l)
		}
	}
	s.mu.Unlock()
	if len(failed) == 0 {
		return
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.cfg.Handler.Release(now, failed)
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	// A commit under way isn't waited for: it holds a watermark that the fresh
	// lease begins at or above, and the next one comes after it.
	s.mu.Lock()
	for _, l := range failed {
		p := partition{l.Topic, l.Partition}
		if s.leases[p] != l { // it went away while its work was released
			continue
		}
		if l.progress.Load() > 0 {
			s.restarts[p] = 0
		}
		s.restarts[p]++
		l.ended.Store(true)
		snap := l.tracker.Snapshot(watermark.RunsLimit)
		l.tracker.Close()
		readFrom := snap.Watermark
		if l.memory != nil {
			readFrom = min(l.readFrom.Load(), snap.Watermark)
		}
		next := s.newLease(p, snap.Watermark, snap.Finished, readFrom)
		next.applied = l.applied
		next.lost.Store(l.lost.Load())
		next.kept = l.kept
		if l.changes.Load() != l.committed.Load() {
			next.changes.Store(1) // what it had finished is still to be committed
		}
		if offsets[l.Topic] == nil {
			offsets[l.Topic] = make(map[int32]kgo.EpochOffset)
		}
		offsets[l.Topic][l.Partition] = kgo.EpochOffset{Epoch: -1, Offset: readFrom}
	}
	s.mu.Unlock()
	if len(offsets) > 0 {
		s.client.SetOffsets(offsets)
	}
}

// restartAfter is how long a failed lease waits before its partition is read
// again.
func (s *Stage) restartAfter(l *Lease) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restartAfterLocked(partition{l.Topic, l.Partition}, l)
}

func (s *Stage) restartAfterLocked(p partition, l *Lease) time.Duration {
	n := s.restarts[p]
	if l.progress.Load() > 0 { // it got something done since
		n = 0
	}
	return min(restartAtFirst<<min(n, 10), restartAtMost)
}

func (s *Stage) applyPauses() {
	pause, resume := make(map[string][]int32), make(map[string][]int32)
	// Under the lock, as the resume of a lease that is taken away is: a pause
	// never comes after it. Polling doesn't always keep rebalances away.
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, l := range s.leases {
		if want := l.paused.Load() || l.full.Load() || l.locating.Load() || s.halted[p] != nil; want != l.applied {
			l.applied = want
			if want {
				pause[p.topic] = append(pause[p.topic], p.id)
			} else {
				resume[p.topic] = append(resume[p.topic], p.id)
			}
		}
	}
	if len(pause) > 0 {
		s.client.PauseFetchPartitions(pause)
	}
	if len(resume) > 0 {
		s.client.ResumeFetchPartitions(resume)
	}
}
