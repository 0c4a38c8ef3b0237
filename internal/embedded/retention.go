package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// trimInterval is how often expired records are deleted; Kafka's own default
// (log.retention.check.interval.ms) is five minutes.
const trimInterval = 5 * time.Minute

func (k *Kafka) keepTrimming(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := k.trim(ctx, now); err != nil && ctx.Err() == nil {
				log.Warn("embedded kafka: applying retention", "err", err)
			}
		}
	}
}

// trim deletes the records that are older than their topic's own retention.ms;
// topics without one, and compacted ones, keep everything. Only a stretch from
// the start of the log goes, and the last record of a partition always stays:
// kfake finds a partition's end in its segments alone, so one without any would
// begin at offset 0 again after a restart, below its groups' commits.
func (k *Kafka) trim(ctx context.Context, now time.Time) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.addr))
	if err != nil {
		return fmt.Errorf("opening a client: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("listing topics: %w", err)
	}
	if len(topics) == 0 {
		return nil // an empty list would ask for the configuration of the broker
	}
	configs, err := adm.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		return fmt.Errorf("describing topics: %w", err)
	}
	for _, topic := range configs {
		age, ok := retention(topic)
		if !ok {
			continue
		}
		if err := k.trimTopic(ctx, adm, topic.Name, now.Add(-age)); err != nil {
			return fmt.Errorf("topic %s: %w", topic.Name, err)
		}
	}
	return nil
}

// retention reads a topic's own retention.ms.
func retention(topic kadm.ResourceConfig) (age time.Duration, ok bool) {
	for _, c := range topic.Configs {
		switch {
		case c.Value == nil:
		case c.Key == "cleanup.policy" && !strings.Contains(*c.Value, "delete"):
			return 0, false
		case c.Key == "retention.ms":
			ms, err := strconv.ParseInt(*c.Value, 10, 64)
			if err == nil && ms >= 0 && ms < int64(1<<63-1)/int64(time.Millisecond) {
				age, ok = time.Duration(ms)*time.Millisecond, true
			}
		}
	}
	return age, ok
}

func (k *Kafka) trimTopic(ctx context.Context, adm *kadm.Client, topic string, before time.Time) error {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("listing start offsets: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return fmt.Errorf("listing end offsets: %w", err)
	}
	// The first record that is young enough: all before it are too old. The end,
	// where there is none.
	keeps, err := adm.ListOffsetsAfterMilli(ctx, before.UnixMilli(), topic)
	if err != nil {
		return fmt.Errorf("listing offsets by time: %w", err)
	}
	var failed error
	keeps.Each(func(keep kadm.ListedOffset) {
		start, ok1 := starts.Lookup(topic, keep.Partition)
		end, ok2 := ends.Lookup(topic, keep.Partition)
		if !ok1 || !ok2 || keep.Err != nil || start.Err != nil || end.Err != nil || ctx.Err() != nil {
			return // asked again at the next tick
		}
		if to := min(keep.Offset, end.Offset-1); to > start.Offset {
			if err := k.cluster.DeleteRecords(topic, keep.Partition, to); err != nil {
				failed = fmt.Errorf("deleting records of partition %d before %d: %w", keep.Partition, to, err)
			}
		}
	})
	return failed
}
