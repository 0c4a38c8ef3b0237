package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/consumer/watermark"
)

func (s *Stage) commitLoop(ctx context.Context) {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		ls := make([]*Lease, 0, len(s.leases))
		for _, l := range s.leases {
			ls = append(ls, l)
		}
		s.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, commitWithin)
		crowded := s.commit(within, ls)
		cancel()
		// Beside the loop: giving work up produces, and that may wait, but
		// commits and the end of the stage mustn't.
		if len(crowded) > 0 && s.crowding.CompareAndSwap(false, true) {
			go func() {
				defer s.crowding.Store(false)
				for l, full := range crowded {
					s.cfg.Handler.Crowded(l, full)
				}
			}()
		}
	}
}

// planned is one partition's part of a commit.
type planned struct {
	lease    *Lease
	at       int64
	metadata string
	changes  int64
}

// commit writes the watermarks of leases that changed, each with its finished
// runs. When none changed for a second, all are written again: the answer is
// the zombie guard's proof of membership. It returns when the broker answered,
// with the leases whose metadata is filling, and how full it is.
func (s *Stage) commit(ctx context.Context, ls []*Lease) (crowded map[*Lease]float64) {
	// Not a mutex: a handover can't wait for ever.
	select {
	case s.committing <- struct{}{}:
		defer func() { <-s.committing }()
	case <-ctx.Done():
		return nil
	}
	begun := time.Now()
	idle := s.sinceAnswer(begun) >= idleCommit
	plan := make(map[partition]planned, len(ls))
	for _, l := range ls {
		if l.ended.Load() {
			continue // another member's by now, whose commits are further on
		}
		if l.kept {
			continue
		}
		changes := l.changes.Load() // before the snapshot: what finishes between counts as uncommitted
		if !idle && changes == l.committed.Load() {
			l.answeredAt.Store(&begun) // nothing is waiting for a commit
			continue
		}
		why, limit := l.lost.Load(), watermark.RunsLimit
		if why != nil {
			limit = watermark.LossRunsLimit
		}
		snap := l.tracker.Snapshot(limit)
		if s.cfg.DedupWindow > 0 || len(snap.Finished) > 0 {
			s.cfg.Observer.Holes(len(snap.Finished), snap.Full, snap.LeftOut)
		}
		// Runs of an earlier owner that lie ahead only go by being read.
		if snap.Full > pauseAt && !snap.Unread {
			if !l.full.Swap(true) {
				s.wake()
			}
		} else if (snap.Full < resumeAt || snap.Unread) && l.full.Swap(false) {
			s.wake()
		}
		if snap.Full > crowdedAt {
			if crowded == nil {
				crowded = make(map[*Lease]float64)
			}
			crowded[l] = snap.Full
		}
		if l.ended.Load() { // after the snapshot: since it ended it may have moved for nothing
			continue
		}
		if l.noRuns.Load() {
			snap.Finished = nil
		}
		back := max(snap.Watermark-l.readFrom.Load(), 0)
		if s.cfg.DedupWindow == 0 {
			back = 0
		}
		at, metadata := snap.Watermark, watermark.EncodeMetadata(snap, back)
		if why != nil {
			at, metadata = why.metadata(snap, snap.Watermark-back)
		}
		plan[partition{l.Topic, l.Partition}] = planned{l, at, metadata, changes}
	}
	if len(plan) == 0 {
		return crowded
	}
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	for p, c := range plan {
		if offsets[p.topic] == nil {
			offsets[p.topic] = make(map[int32]kgo.EpochOffset)
		}
		offsets[p.topic][p.id] = kgo.EpochOffset{Epoch: -1, Offset: c.at}
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			t := &req.Topics[i]
			for j := range t.Partitions {
				// A new pointer each: by default all share the one to the
				// member's ID.
				m := plan[partition{t.Topic, t.Partitions[j].Partition}].metadata
				t.Partitions[j].Metadata = &m
			}
		}
		return nil
	})
	s.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		s.committed(plan, resp, err, begun)
	})
	return crowded
}

// committed takes the answer in. Only an answer without a fencing error renews
// the proof of membership, as of the time that the request was begun.
func (s *Stage) committed(plan map[partition]planned, resp *kmsg.OffsetCommitResponse, err error, begun time.Time) {
	if err == nil && resp != nil {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if e := kerr.ErrorForCode(p.ErrorCode); e != nil {
					if fences(e) {
						err = errors.Join(err, e)
					} else {
						s.commitFailed(e)
					}
					if c, ok := plan[partition{t.Topic, p.Partition}]; ok && errors.Is(e, kerr.OffsetMetadataTooLarge) {
						// The broker takes less than Kafka's default: better
						// an offset without its runs than none.
						c.lease.noRuns.Store(true)
					}
					continue
				}
				if c, ok := plan[partition{t.Topic, p.Partition}]; ok {
					c.lease.committed.Store(c.changes)
					c.lease.answeredAt.Store(&begun)
				}
			}
		}
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.commitFailed(err)
		}
		return
	}
	if last := s.answeredAt.Load(); last == nil || begun.After(*last) {
		s.answered(begun)
	}
	s.cfg.Observer.Committed(time.Since(begun), len(plan))
}

func (s *Stage) commitFailed(err error) {
	s.cfg.Observer.CommitFailed(err)
	s.log.Warn("committing", "stage", s.cfg.Name, "error", err)
}

// fences reports whether a partition's error puts our membership in doubt. Any
// other is that partition's own trouble, and must not stop the rest.
func fences(err error) bool {
	for _, e := range []error{
		kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.FencedInstanceID, kerr.FencedMemberEpoch, kerr.StaleMemberEpoch,
		kerr.RebalanceInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
