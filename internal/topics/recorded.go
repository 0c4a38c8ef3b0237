package topics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitionsKey begins the registry's keys that hold partition counts:
// "partitions/<topic>".
const partitionsKey = "partitions/"

// partitionsRecord is the value of such a key.
type partitionsRecord struct {
	Count int32 `json:"count"`
}

// Recorded returns the partition counts that the registry holds, by topic. It
// reads the registry topic up to its end as of the call; of a topic that
// doesn't exist it returns nothing.
func Recorded(ctx context.Context, cl *kgo.Client, registry string) (map[string]int32, error) {
	counts := map[string]int32{}
	err := readCommitted(ctx, cl, registry, func(r *kgo.Record) error {
		topic, ok := strings.CutPrefix(string(r.Key), partitionsKey)
		if !ok {
			return nil
		}
		if r.Value == nil {
			delete(counts, topic)
			return nil
		}
		var p partitionsRecord
		if err := json.Unmarshal(r.Value, &p); err != nil || p.Count < 1 {
			return fmt.Errorf("record %s at offset %d: %.80q is not a partition count; want {\"count\":32}", r.Key, r.Offset, r.Value)
		}
		counts[topic] = p.Count
		return nil
	})
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("reading partition counts from %s: %w", registry, err)
	}
	return counts, nil
}

// record writes a partition count to the registry.
func record(ctx context.Context, cl *kgo.Client, registry, topic string, count int32) error {
	value, err := json.Marshal(partitionsRecord{count})
	if err != nil {
		return fmt.Errorf("recording the partition count of %s: %w", topic, err)
	}
	r := &kgo.Record{Topic: registry, Key: []byte(partitionsKey + topic), Value: value}
	if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		return fmt.Errorf("recording the partition count of %s in %s: %w", topic, registry, err)
	}
	return nil
}

// readCommitted calls each with every committed record of a topic's only
// partition up to its stable end. It fetches by itself, because it has to know
// its position: the last offsets of a compacted topic with transactions may
// hold no record at all, and a consumer would wait for one.
func readCommitted(ctx context.Context, cl *kgo.Client, topic string, each func(*kgo.Record) error) error {
	adm := kadm.NewClient(cl)
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("listing its start: %w", err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("listing its end: %w", err)
	}
	start, _ := starts.Lookup(topic, 0)
	end, _ := ends.Lookup(topic, 0)
	for at := start.Offset; at < end.Offset; {
		next, err := fetchOnce(ctx, cl, adm, topic, at, each)
		if err != nil {
			return err
		}
		if next <= at {
			return fmt.Errorf("fetching offset %d of %d brought nothing", at, end.Offset)
		}
		at = next
	}
	return nil
}

// fetchBytes bounds one answer; a single larger batch is returned all the same.
const fetchBytes = 4 << 20

// fetchOnce fetches once from an offset and returns the offset to go on from.
func fetchOnce(ctx context.Context, cl *kgo.Client, adm *kadm.Client, topic string, at int64, each func(*kgo.Record) error) (int64, error) {
	md, err := adm.Metadata(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("finding its leader: %w", err)
	}
	detail := md.Topics[topic]
	if detail.Err != nil {
		return 0, fmt.Errorf("finding its leader: %w", detail.Err)
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.IsolationLevel = -1, 1
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(time.Second.Milliseconds()), 1, fetchBytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, detail.ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = at, fetchBytes, -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)

	kresp, err := cl.Broker(int(detail.Partitions[0].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return 0, fmt.Errorf("fetching offset %d: %w", at, err)
	}
	resp, ok := kresp.(*kmsg.FetchResponse)
	if !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("fetching offset %d: the answer is not for the partition asked for", at)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, fmt.Errorf("fetching offset %d: %w", at, err)
	}
	fp, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: at, IsolationLevel: kgo.ReadCommitted(), Topic: topic,
	}, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	if fp.Err != nil {
		return 0, fmt.Errorf("fetching offset %d: %w", at, fp.Err)
	}
	for _, r := range fp.Records {
		if err := each(r); err != nil {
			return 0, err
		}
	}
	return next, nil
}
