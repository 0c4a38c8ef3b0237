package app

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/internal/topics"
)

// clientOptions are what every Kafka client of the process has in common.
func clientOptions(c *config.Config, extra []kgo.Opt) ([]kgo.Opt, error) {
	opts, err := topics.ClientOptions(c.Kafka)
	if err != nil {
		return nil, err
	}
	opts = append(opts,
		// A topic that was just created shows within a second.
		kgo.MetadataMinAge(250*time.Millisecond),
		// One that a source's pattern begins to match is read within this time.
		kgo.MetadataMaxAge(15*time.Second),
	)
	return append(opts, extra...), nil
}

// bufferedRecords is where kgo's Produce begins to block. The stages bound
// themselves well below.
const bufferedRecords = 100_000

// producerOptions are those of producers that a delivery depends on: what was
// given to them is never given up, so that a stage either gets its
// acknowledgement or is told that there never will be one. Idempotence and
// acknowledgement by all in-sync replicas are kgo's defaults.
func producerOptions(c *config.Config, linger time.Duration) []kgo.Opt {
	return []kgo.Opt{
		kgo.UnknownTopicRetries(-1),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(topics.MaxMessageBytes(c)),
		// Half of lz4's cost there and back, a quarter for batches of a record or
		// two, and its reader keeps no blocks of 4 MiB.
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.MaxBufferedRecords(bufferedRecords),
		// An endpoint's records lie in the same partition of the deliveries
		// topic and of every tier: the partition follows from the key alone.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	}
}
