package registry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// fetchWait is how long a broker holds a fetch with nothing to give. An
	// idle registry is then at most 250 ms and two round trips behind.
	fetchWait = 250 * time.Millisecond
	// fetchBytes lets a bootstrap read large pieces: 600 MB of a million
	// endpoints take some forty fetches.
	fetchBytes = 16 << 20
	// requestTimeout ends a request that a broker doesn't answer.
	requestTimeout = 5 * time.Second
	// maxGaps is how many fetches in a row must show nothing between the
	// position and the stable end before the position skips to it. Compaction
	// can remove all that lies there; one empty answer might have been a
	// throttled broker's.
	maxGaps = 4
)

// reader is the part of a follower that its goroutine owns.
type reader struct {
	f         *Follower
	next      int64 // the next offset to fetch; -1: the log's start, to be looked up
	lastEpoch int32 // leader epoch of the last batch read
	gaps      int
	// seen holds the keys of a re-read, so that what is no longer in the topic
	// can be removed at its end. Nil during the first read.
	seen map[string]struct{}
}

// step does one thing: look up the leader, the log's start, or fetch once.
func (r *reader) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	at := r.f.place()
	var err error
	switch {
	case at.leader < 0:
		return r.locate(ctx, at)
	case r.next < 0:
		r.next, err = r.f.listOffset(ctx, at, earliest, 0)
	default:
		err = r.fetch(ctx, at)
	}
	if err != nil {
		// Most errors mean that the leader moved; looking it up also finds a
		// topic that was made anew.
		r.f.update(func() { r.f.at.leader = -1 })
	}
	return err
}

func (f *Follower) place() place {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

// locate looks up the topic's ID and its partition's leader.
func (r *reader) locate(ctx context.Context, at place) error {
	f := r.f
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &f.cfg.Topic
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, f.cl)
	if err != nil {
		return fmt.Errorf("looking up topic: %w", err)
	}
	if len(resp.Topics) != 1 {
		return fmt.Errorf("looking up topic: the answer is about %d topics", len(resp.Topics))
	}
	t := &resp.Topics[0]
	switch err := kerr.ErrorForCode(t.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("%w: topic %s does not exist; create it with: posthorn topics apply", ErrTopic, f.cfg.Topic)
	case err != nil:
		return fmt.Errorf("looking up topic: %w", err)
	case len(t.Partitions) != 1:
		return fmt.Errorf("%w: topic %s has %d partitions, it must have exactly one", ErrTopic, f.cfg.Topic, len(t.Partitions))
	}
	p := &t.Partitions[0]
	if p.Leader < 0 {
		return errors.New("looking up topic: its partition has no leader now")
	}
	now := at
	now.topicID, now.leader, now.leaderEpoch = t.TopicID, p.Leader, p.LeaderEpoch
	if at.topicID != t.TopicID && at.topicID != ([16]byte{}) {
		f.log.Error("registry topic was deleted and created again; it is read anew")
		r.restart(now, IncidentRecreated)
		return nil
	}
	if p.LeaderEpoch != r.lastEpoch && r.lastEpoch >= 0 && r.next >= 0 {
		if err := r.checkTruncation(ctx, now); err != nil {
			return err
		}
		if f.place().round != at.round {
			return nil
		}
	}
	f.update(func() { f.at = now })
	return nil
}

// checkTruncation asks a new leader where the epoch of our last record ended
// (KIP-320). An end before our position means that records we have read were
// lost in an unclean election.
func (r *reader) checkTruncation(ctx context.Context, at place) error {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
	topic.Topic = r.f.cfg.Topic
	part := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	part.CurrentLeaderEpoch = at.leaderEpoch
	part.LeaderEpoch = r.lastEpoch
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := r.f.cl.Broker(int(at.leader)).Request(ctx, req)
	if err != nil {
		return fmt.Errorf("checking leader epoch: %w", err)
	}
	resp := answer.(*kmsg.OffsetForLeaderEpochResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return errors.New("checking leader epoch: the answer is not about the partition")
	}
	p := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return fmt.Errorf("checking leader epoch: %w", err)
	}
	if p.EndOffset < r.next {
		r.f.log.Error("registry topic lost records that had been read; it is read anew", "read_to", r.next, "log_ends", p.EndOffset)
		r.restart(at, IncidentDataLoss)
	}
	return nil
}

// restart begins to read from the log's start. The store goes on serving
// lookups, but is neither ready nor current until the end is reached.
func (r *reader) restart(at place, why Incident) {
	r.next, r.lastEpoch, r.gaps = -1, -1, 0
	r.seen = make(map[string]struct{})
	r.f.update(func() {
		at.position, at.end = 0, 0
		at.round = r.f.at.round + 1
		r.f.at = at
		r.f.ready, r.f.asOf = false, time.Time{}
	})
	r.f.count(why)
}

// fetch asks for what follows, and takes it in.
func (r *reader) fetch(ctx context.Context, at place) error {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(fetchWait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = fetchBytes
	req.IsolationLevel = 1 // read committed
	req.SessionEpoch = -1  // no session: every answer tells the whole state
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = r.f.cfg.Topic, at.topicID
	part := kmsg.NewFetchRequestTopicPartition()
	part.CurrentLeaderEpoch = at.leaderEpoch
	part.FetchOffset = r.next
	part.PartitionMaxBytes = fetchBytes
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)

	began := time.Now()
	answer, err := r.f.cl.Broker(int(at.leader)).Request(ctx, req)
	if err != nil {
		return fmt.Errorf("fetching: %w", err)
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("fetching: %w", err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		// A throttled broker answers about nothing.
		return errors.New("fetching: the answer is not about the partition")
	}
	return r.absorb(&resp.Topics[0].Partitions[0], at, began)
}

// absorb takes in the answer to a fetch that began at a time.
func (r *reader) absorb(p *kmsg.FetchResponseTopicPartition, at place, began time.Time) error {
	f := r.f
	err := kerr.ErrorForCode(p.ErrorCode)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		f.log.Error("registry topic no longer holds the position read to; it is read anew", "position", r.next)
		r.restart(at, IncidentDataLoss)
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetching: %w", err)
	}
	part, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: r.next, IsolationLevel: kgo.ReadCommitted(), Topic: f.cfg.Topic,
	}, p, kgo.DefaultDecompressor(), nil)
	readAll(part.Records, r.take)
	if part.Err != nil {
		// What came before the damage is taken in; it is not read again.
		r.next = max(r.next, next)
		return fmt.Errorf("decoding fetched records at offset %d: %w", next, part.Err)
	}
	if next > r.next || p.LastStableOffset <= r.next || len(p.RecordBatches) > 0 {
		r.gaps = 0
	} else if r.gaps++; r.gaps >= maxGaps {
		f.log.Warn("nothing is left between the position and the stable end; skipped to it", "position", r.next, "end", p.LastStableOffset)
		next, r.gaps = p.LastStableOffset, 0
	}
	r.next = max(r.next, next)

	atEnd := r.next >= p.LastStableOffset
	if atEnd && r.seen != nil {
		r.sweep()
	}
	f.update(func() {
		f.at.position, f.at.end = r.next, p.LastStableOffset
		if atEnd {
			f.ready, f.asOf = true, began
		}
	})
	return nil
}

// readBlock is how many records of a large fetch are read by one goroutine.
const readBlock = 256

// readAll reads records, many at a time where there are many, and hands them on in
// their order. Most of reading is decoding JSON, and until a registry is read
// nothing is delivered.
func readAll(records []*kgo.Record, take func(*kgo.Record, change)) {
	if len(records) <= readBlock {
		for _, record := range records {
			take(record, readChange(record.Key, record.Value))
		}
		return
	}
	type block struct {
		records []*kgo.Record
		changes chan []change
	}
	ahead := make(chan block, runtime.GOMAXPROCS(0))
	go func() {
		defer close(ahead)
		for part := range slices.Chunk(records, readBlock) {
			b := block{part, make(chan []change, 1)}
			ahead <- b
			go func() {
				changes := make([]change, len(part))
				for i, record := range part {
					changes[i] = readChange(record.Key, record.Value)
				}
				b.changes <- changes
			}()
		}
	}()
	for b := range ahead {
		for i, c := range <-b.changes {
			take(b.records[i], c)
		}
	}
}

// take applies one committed record.
func (r *reader) take(record *kgo.Record, c change) {
	f := r.f
	if record.LeaderEpoch >= 0 {
		r.lastEpoch = record.LeaderEpoch
	}
	f.mu.Lock()
	if w := f.watched; w != nil && w.topicID == f.at.topicID && w.offset == record.Offset {
		w.seen = true
	}
	f.mu.Unlock()
	if f.cfg.Clock != nil && string(record.Key) == heartbeatKey {
		if skew, ok := f.cfg.Clock.read(record); ok && f.cfg.OnSkew != nil {
			f.cfg.OnSkew(skew)
		}
	}
	if r.seen != nil && record.Value != nil {
		r.seen[string(record.Key)] = struct{}{}
	}
	if err := f.store.apply(c); err != nil {
		f.log.Error("registry record left out", "offset", record.Offset, "error", err)
		f.count(IncidentBadRecord)
		return
	}
	f.notify(string(record.Key))
}

func (f *Follower) notify(key string) {
	if f.cfg.OnChange == nil {
		return
	}
	if kind, id, err := SplitKey(key); err == nil {
		f.cfg.OnChange(kind, id)
	}
}

// sweep ends a re-read: keys that it hasn't met are gone from the topic.
func (r *reader) sweep() {
	gone := r.f.store.retain(func(key string) bool {
		_, ok := r.seen[key]
		return ok
	})
	r.seen = nil
	if len(gone) > 0 {
		r.f.log.Error("registry keys are gone from the topic after it was read anew", "keys", len(gone))
	}
	for _, key := range gone {
		r.f.notify(key)
	}
}

// The timestamps that ask for an offset (Kafka's ListOffsets).
const (
	earliest int64 = -2
	latest   int64 = -1
)

// listOffset asks the leader for the start or, read committed, the stable end
// of the log.
func (f *Follower) listOffset(ctx context.Context, at place, timestamp int64, isolation int8) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolation
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic = f.cfg.Topic
	part := kmsg.NewListOffsetsRequestTopicPartition()
	part.CurrentLeaderEpoch = at.leaderEpoch
	part.Timestamp = timestamp
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := f.cl.Broker(int(at.leader)).Request(ctx, req)
	if err != nil {
		return 0, fmt.Errorf("listing offsets: %w", err)
	}
	resp := answer.(*kmsg.ListOffsetsResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errors.New("listing offsets: the answer is not about the partition")
	}
	p := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return 0, fmt.Errorf("listing offsets: %w", err)
	}
	return p.Offset, nil
}

// stableEnd asks where the stable end is now, until it gets an answer. The
// result's position is that end.
func (f *Follower) stableEnd(ctx context.Context) (place, error) {
	var at place
	for {
		// Offsets of a leader that is looked up, or of a log whose start isn't
		// known yet, can't be asked for.
		err := f.wait(ctx, func() (bool, error) { at = f.at; return at.leader >= 0, nil })
		if err != nil {
			return place{}, err
		}
		reqCtx, cancel := context.WithTimeout(ctx, requestTimeout)
		end, err := f.listOffset(reqCtx, at, latest, 1)
		cancel()
		if err == nil {
			at.position = end
			return at, nil
		}
		if ctx.Err() != nil {
			return place{}, ctx.Err()
		}
		// The fetches meet the same trouble and look the leader up.
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return place{}, ctx.Err()
		case <-f.done:
			return place{}, ErrStopped
		}
	}
}
