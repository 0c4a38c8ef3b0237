package consumer

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/consumer/watermark"
	"posthorn/webhook"
)

// commit is what the group had committed for a partition.
type commit struct {
	offset   int64 // -1: nothing
	metadata string
}

// ForeignCommitError says that the group's commit was not written by Posthorn:
// someone reset the group by hand.
type ForeignCommitError struct {
	Group     string
	Topic     string
	Partition int32
	Offset    int64
}

func (e *ForeignCommitError) Error() string {
	return fmt.Sprintf("%s/%d: the commit of group %s at offset %d was not written by Posthorn, so the group was reset by hand; "+
		"events are delivered again with \"posthorn replay create\", not by moving offsets; start with --accept-reset to go on from there all the same",
		e.Topic, e.Partition, e.Group, e.Offset)
}

// offsetsFetched keeps the commits with their metadata, which kgo itself
// doesn't hand on, until [Stage.takeOver] runs a moment later.
func (s *Stage) offsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				c := commit{offset: p.Offset}
				if p.Metadata != nil {
					c.metadata = *p.Metadata
				}
				s.fetched[partition{t.Topic, p.Partition}] = c
			}
		}
	}
	return nil
}

// assigned is called once the group has decided, whether or not there is
// anything in it for us.
func (s *Stage) assigned(context.Context, *kgo.Client, map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = true
}

// freshMetadata is the metadata of a partition that nobody has worked on.
func freshMetadata(at int64) string {
	return watermark.EncodeMetadata(watermark.Snapshot{Watermark: at}, 0)
}

// takeOver builds a lease for each new partition and says where to read from:
// below the watermark, as far as repeats are remembered.
func (s *Stage) takeOver(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	<-s.started
	topics := make([]string, 0, len(offsets))
	for t := range offsets {
		topics = append(topics, t)
	}
	starts, err := s.adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("taking partitions over: listing start offsets: %w", err)
	}
	ends, err := s.adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("taking partitions over: listing end offsets: %w", err)
	}
	for t, ps := range offsets {
		for id := range ps {
			start, end, err := bounds(starts, ends, t, id)
			if err != nil && s.hasCommit(partition{t, id}) {
				// One partition without a leader must not keep the others from
				// being worked on: go on from its commit, unchecked.
				s.log.Warn("taking a partition over unchecked", "stage", s.cfg.Name, "error", err)
				start, end, err = 0, math.MaxInt64, nil
			}
			if err != nil {
				return nil, fmt.Errorf("taking partitions over: %w", err)
			}
			at, err := s.takeOverOne(ctx, partition{t, id}, start, end)
			if err != nil {
				return nil, fmt.Errorf("taking partitions over: %w", err)
			}
			ps[id] = kgo.NewOffset().At(at).WithEpoch(-1)
		}
	}
	s.mu.Lock()
	n := len(s.leases)
	s.mu.Unlock()
	s.answered(time.Now()) // the group has just let us in
	s.cfg.Observer.Assigned(n)
	s.wake() // halted partitions are paused by the goroutine that polls
	return offsets, nil
}

func (s *Stage) hasCommit(p partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.fetched[p]
	return ok && c.offset >= 0
}

func bounds(starts, ends kadm.ListedOffsets, topic string, id int32) (start, end int64, err error) {
	so, ok := starts.Lookup(topic, id)
	eo, ok2 := ends.Lookup(topic, id)
	switch {
	case !ok || !ok2:
		return 0, 0, fmt.Errorf("%s/%d: no offsets listed", topic, id)
	case so.Err != nil:
		return 0, 0, fmt.Errorf("%s/%d: listing start offset: %w", topic, id, so.Err)
	case eo.Err != nil:
		return 0, 0, fmt.Errorf("%s/%d: listing end offset: %w", topic, id, eo.Err)
	}
	return so.Offset, eo.Offset, nil
}

// takeOverOne returns the offset to read from.
func (s *Stage) takeOverOne(ctx context.Context, p partition, start, end int64) (int64, error) {
	s.mu.Lock()
	c, known := s.fetched[p]
	delete(s.fetched, p)
	delete(s.halted, p)
	s.mu.Unlock()
	// fresh: what is committed isn't where we begin, so that is to be written
	// soon, even if nothing gets done.
	fresh := !known || c.offset < 0
	if fresh {
		at := start
		if from, ok := s.cfg.Starts[p.topic][p.id]; ok {
			at = min(max(from, start), end)
		}
		c = commit{offset: at, metadata: freshMetadata(at)}
	}

	var halt error
	var lost *loss
	found := func(what string, e *LossError, records int64) {
		s.cfg.Observer.Lost(p.topic, p.id, max(records, 0))
		s.log.Error("records were lost", "when", what+" they were worked on", "stage", s.cfg.Name, "accepted", s.cfg.AcceptLoss, "error", e)
		fresh = true
		if !s.cfg.AcceptLoss {
			halt = e
			lost = &loss{Loss: watermark.Loss{ReadTo: e.Committed, CutTo: min(e.End, end)}}
		}
	}
	told, rest, marked := watermark.UnmarkLoss(c.metadata)
	if marked {
		// It was halted before. That the log has grown since mends nothing, and
		// what is finished from the cut on were other records.
		c.metadata, end = rest, min(end, told.CutTo)
		found("before", &LossError{Topic: p.topic, Partition: p.id, Committed: told.ReadTo, Start: -1, End: told.CutTo}, told.ReadTo-told.CutTo)
	}
	if (c.offset < start || c.offset > end) && halt == nil {
		if !marked {
			found("before", &LossError{Topic: p.topic, Partition: p.id, Committed: c.offset, Start: start, End: end}, start-c.offset)
		}
		if halt == nil {
			// The metadata told of the old log.
			c = commit{offset: start, metadata: freshMetadata(start)}
		}
	}
	back, finished, err := watermark.DecodeMetadata(c.metadata, c.offset)
	foreign := err != nil
	if foreign {
		s.log.Warn("commit without our metadata: going on without its holes", "stage", s.cfg.Name, "topic", p.topic, "partition", p.id)
		if s.cfg.RefuseForeign && halt == nil {
			halt = &ForeignCommitError{Group: s.cfg.Group, Topic: p.topic, Partition: p.id, Offset: c.offset}
		}
		if s.cfg.DedupWindow > 0 && halt == nil {
			if back, err = s.guessBack(ctx, p, c.offset); err != nil {
				return 0, err
			}
		}
	}
	if n := len(finished); n > 0 && finished[n-1].To > end && halt == nil {
		// The log was cut behind the watermark and has grown anew, or will:
		// the offsets that were finished are other records now.
		if !marked {
			found("after", &LossError{Topic: p.topic, Partition: p.id, Committed: finished[n-1].To, Start: start, End: end}, finished[n-1].To-end)
		}
		if halt == nil {
			finished = nil
		}
	}
	readFrom := c.offset
	if s.cfg.DedupWindow > 0 {
		readFrom = max(c.offset-back, start)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.leases[p]
	l := s.newLease(p, c.offset, finished, readFrom)
	if old != nil { // a takeover that was interrupted begins again
		old.ended.Store(true)
		old.tracker.Close()
		l.applied = old.applied
	}
	if fresh {
		l.changes.Store(1)
	}
	if halt != nil {
		l.kept = lost == nil
		l.lost.Store(lost)
		s.halted[p] = halt
		// It is read from its end and soon paused; what still comes of it is
		// not handed on.
		return end, nil
	}
	return readFrom, nil
}

// newLease registers a lease; s.mu is held.
func (s *Stage) newLease(p partition, base int64, finished watermark.Runs, readFrom int64) *Lease {
	l := &Lease{Topic: p.topic, Partition: p.id, stage: s, from: base,
		tracker: watermark.NewTracker(base, finished)}
	l.member, _ = s.client.GroupMetadata()
	l.readFrom.Store(readFrom)
	l.next = readFrom
	now := time.Now()
	l.answeredAt.Store(&now)
	if s.cfg.DedupWindow > 0 {
		l.memory = watermark.NewMemory[webhook.Identity](s.cfg.DedupWindow, dedupLeast)
	}
	s.leases[p] = l
	return l
}

// guessBack finds how far below a foreign commit the window reaches: by count,
// and by the timestamps, counted from the latest record of the partition.
func (s *Stage) guessBack(ctx context.Context, p partition, at int64) (int64, error) {
	back := min(at, dedupLeast)
	latest, err := s.adm.ListMaxTimestampOffsets(ctx, p.topic)
	if err != nil {
		return 0, fmt.Errorf("%s/%d: finding the repeats' window: %w", p.topic, p.id, err)
	}
	if l, ok := latest.Lookup(p.topic, p.id); ok && l.Err == nil && l.Timestamp > 0 {
		listed, err := s.adm.ListOffsetsAfterMilli(ctx, l.Timestamp-s.cfg.DedupWindow.Milliseconds(), p.topic)
		if err != nil {
			return 0, fmt.Errorf("%s/%d: finding the repeats' window: %w", p.topic, p.id, err)
		}
		if o, ok := listed.Lookup(p.topic, p.id); ok && o.Err == nil {
			back = max(back, at-o.Offset)
		}
	}
	return back, nil
}

// revoked hands partitions back: what is in flight gets two seconds, the rest
// is cut, and what is finished is committed before the next owner reads it.
func (s *Stage) revoked(ctx context.Context, _ *kgo.Client, parts map[string][]int32) {
	<-s.started
	ls := s.take(parts)
	if len(ls) == 0 {
		return
	}
	within, cancel := context.WithTimeout(ctx, releaseWithin)
	s.cfg.Handler.Release(within, ls)
	cancel()
	// A member that the group has thrown out learns it as a revocation too,
	// after it has joined anew: then the partitions have another owner, whose
	// commits ours would undo. It is another member by then. That commits have
	// gone unanswered alone says nothing: a rebalance blocks them.
	if member, _ := s.client.GroupMetadata(); member == ls[0].member || s.sinceAnswer(time.Now()) < zombieAfter {
		within, cancel = context.WithTimeout(ctx, releaseWithin)
		s.commit(within, ls)
		cancel()
	}
	s.end(ls)
}

// lost gives partitions up that are another member's already: nothing is
// committed, and whatever is in flight is cut.
func (s *Stage) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	<-s.started
	ls := s.take(parts)
	for _, l := range ls {
		l.ended.Store(true)
	}
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.cfg.Handler.Release(now, ls)
	s.end(ls)
}

// take removes leases from the table; the caller ends them.
func (s *Stage) take(parts map[string][]int32) []*Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ls []*Lease
	for t, ids := range parts {
		for _, id := range ids {
			p := partition{t, id}
			delete(s.halted, p)
			delete(s.restarts, p)
			if l := s.leases[p]; l != nil {
				delete(s.leases, p)
				ls = append(ls, l)
				if l.applied { // a pause outlives a rebalance in kgo
					s.client.ResumeFetchPartitions(map[string][]int32{t: {id}})
				}
			}
		}
	}
	return ls
}

func (s *Stage) end(ls []*Lease) {
	for _, l := range ls {
		l.ended.Store(true)
		l.tracker.Close()
	}
	s.mu.Lock()
	n := len(s.leases)
	s.mu.Unlock()
	s.cfg.Observer.Assigned(n)
}
