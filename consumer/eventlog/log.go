package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// Slack is how much later than its time a record may have been written and
	// still be found: producers set timestamps, and a log is in the order of its
	// writing.
	Slack = 10 * time.Minute

	fetchWait = 250 * time.Millisecond
	// requestTimeout ends a request that a broker doesn't answer.
	requestTimeout = 10 * time.Second
	// maxGaps is how many fetches in a row may show nothing where something
	// should be, before the position skips to the stable end: compaction and
	// aborted transactions leave nothing to see.
	maxGaps = 4
	// listAtMost bounds looking the logs' extents up.
	listAtMost = 15 * time.Second
)

// OutOfRangeError says that a log doesn't hold an offset any more.
type OutOfRangeError struct{ LogStart int64 }

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("the log begins at offset %d by now", e.LogStart)
}

// Log reads. It is safe for concurrent use.
type Log struct {
	cl  *kgo.Client
	adm *kadm.Client

	mu     sync.Mutex
	places map[place]leader
}

type place struct {
	topic     string
	partition int32
}

type leader struct {
	topicID [16]byte
	node    int32
	epoch   int32
}

// New reads over a client, which needn't consume anything.
func New(cl *kgo.Client) *Log {
	return &Log{cl: cl, adm: kadm.NewClient(cl), places: make(map[place]leader)}
}

// Stretches finds where records with timestamps in [since, until) lie. A zero
// since is the log's start, a zero until its stable end. Records that were
// written more than [Slack] after until aren't covered; what lies in between
// without belonging there is, so readers look at the timestamps.
func (l *Log) Stretches(ctx context.Context, topics []string, since, until time.Time) (Walk, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, listAtMost)
	defer cancel()
	ends, err := l.adm.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the ends of topics: %w", err)
	}
	from := func() (kadm.ListedOffsets, error) {
		if since.IsZero() {
			return l.adm.ListStartOffsets(ctx, topics...)
		}
		return l.adm.ListOffsetsAfterMilli(ctx, since.UnixMilli(), topics...)
	}
	starts, err := from()
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the starts of topics: %w", err)
	}
	var later kadm.ListedOffsets
	if !until.IsZero() {
		if later, err = l.adm.ListOffsetsAfterMilli(ctx, until.Add(Slack).UnixMilli(), topics...); err == nil {
			err = later.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("listing offsets of a time: %w", err)
		}
	}
	var walk Walk
	for _, topic := range slices.Sorted(maps.Keys(ends)) {
		for _, p := range slices.Sorted(maps.Keys(ends[topic])) {
			start, ok := starts.Lookup(topic, p)
			to := ends[topic][p].Offset
			if end, bounded := later.Lookup(topic, p); bounded && end.Offset >= 0 {
				to = min(to, end.Offset)
			}
			if ok && start.Offset < to {
				walk = append(walk, Stretch{Topic: topic, Partition: p, From: start.Offset, To: to, At: start.Offset})
			}
		}
	}
	return walk, nil
}

// Fetch returns committed records of a partition from an offset on, up to about
// maxBytes, and the offset to go on at. Both may be nothing new: ask again. The
// error is an [*OutOfRangeError] where the log no longer holds the offset.
func (l *Log) Fetch(ctx context.Context, topic string, partition int32, from int64, maxBytes int32) (records []*kgo.Record, next int64, err error) {
	for gaps := 1; ; gaps++ {
		records, next, end, err := l.fetch(ctx, place{topic, partition}, from, maxBytes)
		if err != nil {
			return nil, from, err
		}
		if len(records) > 0 || next > from || end <= from {
			return records, max(next, from), nil
		}
		if gaps >= maxGaps {
			return nil, end, nil
		}
	}
}

func (l *Log) fetch(ctx context.Context, at place, from int64, maxBytes int32) (records []*kgo.Record, next, end int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lead, err := l.leader(ctx, at)
	if err != nil {
		return nil, from, 0, err
	}
	p, err := l.ask(ctx, at, lead, from, maxBytes)
	if err != nil {
		// Most errors mean that the leader moved.
		l.mu.Lock()
		delete(l.places, at)
		l.mu.Unlock()
		return nil, from, 0, fmt.Errorf("fetching %s/%d: %w", at.topic, at.partition, err)
	}
	switch err := kerr.ErrorForCode(p.ErrorCode); {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return nil, from, 0, l.outOfRange(ctx, at, from)
	case err != nil:
		l.mu.Lock()
		delete(l.places, at)
		l.mu.Unlock()
		return nil, from, 0, fmt.Errorf("fetching %s/%d: %w", at.topic, at.partition, err)
	}
	part, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: at.topic, Partition: at.partition,
	}, p, kgo.DefaultDecompressor(), nil)
	if part.Err != nil && len(part.Records) == 0 {
		return nil, from, 0, fmt.Errorf("decoding records of %s/%d at offset %d: %w", at.topic, at.partition, next, part.Err)
	}
	return part.Records, next, p.LastStableOffset, nil
}

func (l *Log) ask(ctx context.Context, at place, lead leader, from int64, maxBytes int32) (*kmsg.FetchResponseTopicPartition, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis = int32(fetchWait.Milliseconds())
	req.MinBytes = 1
	req.MaxBytes = maxBytes
	req.IsolationLevel = 1 // read committed
	req.SessionEpoch = -1  // no session: every answer tells the whole state
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = at.topic, lead.topicID
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition = at.partition
	part.CurrentLeaderEpoch = lead.epoch
	part.FetchOffset = from
	part.PartitionMaxBytes = maxBytes
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	answer, err := l.cl.Broker(int(lead.node)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := answer.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, errors.New("the answer is not about the partition") // a throttled broker's
	}
	return &resp.Topics[0].Partitions[0], nil
}

// outOfRange says where the log begins by now.
func (l *Log) outOfRange(ctx context.Context, at place, from int64) error {
	starts, err := l.adm.ListStartOffsets(ctx, at.topic)
	if err != nil {
		return fmt.Errorf("listing the start of %s: %w", at.topic, err)
	}
	start, ok := starts.Lookup(at.topic, at.partition)
	if !ok || start.Err != nil {
		return fmt.Errorf("listing the start of %s/%d: %w", at.topic, at.partition, errors.Join(start.Err, errors.New("no answer")))
	}
	if start.Offset <= from {
		return fmt.Errorf("fetching %s/%d at %d: it is beyond the log's end", at.topic, at.partition, from)
	}
	return &OutOfRangeError{LogStart: start.Offset}
}

func (l *Log) leader(ctx context.Context, at place) (leader, error) {
	l.mu.Lock()
	lead, ok := l.places[at]
	l.mu.Unlock()
	if ok {
		return lead, nil
	}
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &at.topic
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, l.cl)
	if err != nil {
		return lead, fmt.Errorf("looking up topic %s: %w", at.topic, err)
	}
	if len(resp.Topics) != 1 {
		return lead, fmt.Errorf("looking up topic %s: the answer is about %d topics", at.topic, len(resp.Topics))
	}
	t := &resp.Topics[0]
	if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
		return lead, fmt.Errorf("looking up topic %s: %w", at.topic, err)
	}
	for _, p := range t.Partitions {
		if p.Partition == at.partition && p.Leader >= 0 {
			lead = leader{t.TopicID, p.Leader, p.LeaderEpoch}
			l.mu.Lock()
			l.places[at] = lead
			l.mu.Unlock()
			return lead, nil
		}
	}
	return lead, fmt.Errorf("looking up topic %s: partition %d has no leader now", at.topic, at.partition)
}
