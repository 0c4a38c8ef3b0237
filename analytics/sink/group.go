package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// commit is what the group had committed for a partition.
type commit struct {
	offset   int64 // -1: nothing
	metadata string
}

// LossError says that records which had not been inserted are gone from the
// log: retention was shorter than ClickHouse was away.
type LossError struct {
	Topic     string
	Partition int32
	// Committed is what was to be read next.
	Committed int64
	// Start and End are those of the log, -1 if the loss was found while it was read.
	Start, End int64
}

func (e *LossError) Error() string {
	if e.Start < 0 {
		return fmt.Sprintf("%s/%d: the log no longer has what the ledger was to read next, at offset %d, so records were lost before they were in ClickHouse; "+
			"find out why, then start again with --accept-loss to go on", e.Topic, e.Partition, e.Committed)
	}
	return fmt.Sprintf("%s/%d: the ledger's committed offset %d is outside the log (%d to %d), so records were lost before they were in ClickHouse; "+
		"find out why, then start with --accept-loss to go on", e.Topic, e.Partition, e.Committed, e.Start, e.End)
}

var errLeft = errors.New("the partition is another member's now")

func (s *Sink) options() []kgo.Opt {
	opts := append([]kgo.Opt{}, s.cfg.Client...)
	return append(opts,
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(s.cfg.Deliveries, s.cfg.Attempts),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.BlockRebalanceOnPoll(),
		kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.MaxDecompressBatchBytes(64<<20),
		// Bounded as they are compressed, and the fan-out of one body shrinks
		// fifty-fold.
		kgo.FetchMaxPartitionBytes(128<<10),
		kgo.FetchMaxBytes(1<<20),
		kgo.HeartbeatInterval(time.Second),
		kgo.SessionTimeout(10*time.Second),
		kgo.RebalanceTimeout(20*time.Second),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what the log lost is told, never skipped over
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnOffsetsFetched(s.offsetsFetched),
		kgo.AdjustFetchOffsetsFn(s.takeOver),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	)
}

func (s *Sink) assigned(context.Context, *kgo.Client, map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = true
	signal(s.changed)
}

// offsetsFetched keeps the commits with their metadata, which kgo itself
// doesn't hand on, until [Sink.takeOver] runs a moment later.
func (s *Sink) offsetsFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				c := commit{offset: p.Offset}
				if p.Metadata != nil {
					c.metadata = *p.Metadata
				}
				s.fetched[tp{t.Topic, p.Partition}] = c
			}
		}
	}
	return nil
}

// takeOver begins a buffer for each new partition where its commit says, with
// the batch that was planned there.
func (s *Sink) takeOver(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
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
	listed, err := s.adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("taking partitions over: listing topics: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	given := make(map[string][]int32, len(offsets))
	for t, ps := range offsets {
		for id := range ps {
			given[t] = append(given[t], id)
		}
	}
	s.client.ResumeFetchPartitions(given) // a pause outlives the assignment it was made in
	for t, ps := range offsets {
		for id := range ps {
			start, ok := starts.Lookup(t, id)
			end, ok2 := ends.Lookup(t, id)
			if !ok || !ok2 || start.Err != nil || end.Err != nil {
				return nil, fmt.Errorf("taking partitions over: %s/%d: listing its bounds: %w", t, id, errors.Join(start.Err, end.Err))
			}
			ps[id] = kgo.NewOffset().At(s.takeOverOne(tp{t, id}, listed[t].ID, start.Offset, end.Offset)).WithEpoch(-1)
		}
	}
	return offsets, nil
}

// takeOverOne returns the offset to read from; s.mu is held.
func (s *Sink) takeOverOne(id tp, topicID kadm.TopicID, start, end int64) int64 {
	c, known := s.fetched[id]
	delete(s.fetched, id)
	delete(s.halted, id)
	if old := s.parts[id]; old != nil { // a takeover that was interrupted begins again
		s.drop(old)
	}
	fresh := !known || c.offset < 0
	if fresh {
		c = commit{offset: start}
	}
	var halt error
	planned := parsePlan(c.metadata, c.offset)
	// A plan beyond the log's end: the log was cut, and what lies there one day
	// will be other records than those of the batch.
	if c.offset < start || c.offset > end || planned != nil && planned.last >= end {
		loss := &LossError{Topic: id.topic, Partition: id.partition, Committed: c.offset, Start: start, End: end}
		s.cfg.Observer.Lost(id.topic, id.partition, max(start-c.offset, 0))
		s.log.Error("records were lost before they were in ClickHouse", "accepted", s.cfg.AcceptLoss, "error", loss)
		c, planned, fresh = commit{offset: start}, nil, true
		if !s.cfg.AcceptLoss {
			halt = loss
		}
	}
	s.parts[id] = &part{tp: id, id: topicID, fresh: fresh, buf: newBuffer(c.offset, planned)}
	if halt != nil {
		s.halted[id] = halt
		return end // what still comes is not taken in
	}
	return c.offset
}

// lostBehind halts a partition whose log no longer has what was to be read next,
// and reports whether that is what went wrong.
func (s *Sink) lostBehind(id tp, err error) bool {
	var told *kgo.ErrDataLoss
	if !errors.As(err, &told) && !errors.Is(err, kerr.OffsetOutOfRange) {
		return false
	}
	s.mu.Lock()
	p := s.parts[id]
	if p == nil || s.halted[id] != nil {
		s.mu.Unlock()
		return true
	}
	loss := &LossError{Topic: id.topic, Partition: id.partition, Committed: p.buf.read, Start: -1, End: -1}
	s.halted[id] = loss
	s.mu.Unlock()
	s.client.PauseFetchPartitions(map[string][]int32{id.topic: {id.partition}})
	s.cfg.Observer.Lost(id.topic, id.partition, 0)
	s.log.Error("records were lost before they were in ClickHouse", "accepted", false, "error", loss)
	return true
}

// revoked gives partitions away: the insert under way is waited for, shortly,
// and what came through is committed.
func (s *Sink) revoked(ctx context.Context, _ *kgo.Client, gone map[string][]int32) {
	parts := s.leave(gone)
	s.awaitIdle(parts, handoverWithin)
	for _, p := range parts {
		s.mu.Lock()
		busy, at := s.busy == p, p.buf.next
		// What is only read is the next owner's. A plan stays: it may be under
		// way.
		untouched := p.buf.plan != nil || s.halted[p.tp] != nil
		s.mu.Unlock()
		if busy || untouched {
			continue
		}
		if err := s.commit(ctx, p, at, nil); err != nil {
			s.log.Warn("committing at the handover", "topic", p.topic, "partition", p.partition, "error", err)
		}
	}
	s.end(parts)
}

// lost drops partitions that are another member's already.
func (s *Sink) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	s.end(s.leave(gone))
}

// leave keeps further batches of these partitions from beginning.
func (s *Sink) leave(gone map[string][]int32) (parts []*part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, ids := range gone {
		for _, id := range ids {
			if p := s.parts[tp{t, id}]; p != nil {
				p.leaving = true
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// awaitIdle waits until none of the partitions is being inserted.
func (s *Sink) awaitIdle(parts []*part, within time.Duration) {
	late := time.After(within)
	for _, p := range parts {
		s.mu.Lock()
		busy, idle := s.busy == p, s.idle
		s.mu.Unlock()
		if !busy {
			continue
		}
		select {
		case <-idle:
		case <-late:
			return
		}
	}
}

// end drops partitions. No commit goes out for them afterwards.
func (s *Sink) end(parts []*part) {
	s.committing <- struct{}{} // the one under way is bounded
	defer func() { <-s.committing }()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		s.drop(p)
		delete(s.halted, p.tp)
	}
	signal(s.room)
}

// drop forgets a partition; s.mu is held.
func (s *Sink) drop(p *part) {
	p.ended, p.leaving = true, true
	if s.parts[p.tp] == p {
		delete(s.parts, p.tp)
	}
	s.bytes -= p.buf.bytes
	p.buf.bytes = 0
	s.tellBuffered()
}

// commit writes a partition's offset with a plan. It fails for a partition
// that is no longer ours.
func (s *Sink) commit(ctx context.Context, p *part, at int64, next *plan) error {
	s.committing <- struct{}{}
	defer func() { <-s.committing }()
	s.mu.Lock()
	ended := p.ended
	s.mu.Unlock()
	if ended {
		return errLeft
	}
	ctx, cancel := context.WithTimeout(ctx, commitWithin)
	defer cancel()
	metadata := next.metadata()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				// A new pointer: by default it is the one to the member's ID.
				req.Topics[i].Partitions[j].Metadata = &metadata
			}
		}
		return nil
	})
	var failed error
	offsets := map[string]map[int32]kgo.EpochOffset{p.topic: {p.partition: {Epoch: -1, Offset: at}}}
	s.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil || resp == nil {
			return
		}
		for _, t := range resp.Topics {
			for _, r := range t.Partitions {
				failed = errors.Join(failed, kerr.ErrorForCode(r.ErrorCode))
			}
		}
	})
	return failed
}
