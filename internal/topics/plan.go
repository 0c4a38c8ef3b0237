// Package topics plans, creates and checks Posthorn's own topics: which there
// are, how many partitions each has, how long it keeps what.
//
// [Plan] derives them from the configuration, [Apply] creates and aligns them,
// and [Check] says everything that differs, so that a process can refuse to
// start on topics that would lose deliveries.
package topics

import (
	"strconv"
	"time"

	"posthorn/internal/config"
	"posthorn/retrytopics"
)

// Role says what a topic is for.
type Role string

// The roles of our topics.
const (
	RoleRegistry   Role = "registry"
	RoleFanout     Role = "fanout"
	RoleDeliveries Role = "deliveries"
	RoleRetry      Role = "retry"
	RoleAttempts   Role = "attempts"
	RoleDead       Role = "dead"
	RoleEvents     Role = "events"
	RoleInvalid    Role = "invalid"
	RoleAudit      Role = "audit"
	RoleReplays    Role = "replays"
)

// The topic configurations (Kafka's "Topic Configs") that a plan sets.
const (
	keyCleanup     = "cleanup.policy"
	keyRetention   = "retention.ms"
	keyBytes       = "retention.bytes"
	keyMaxMessage  = "max.message.bytes"
	keyMinInsync   = "min.insync.replicas"
	keyCompression = "compression.type"
	keyLag         = "max.compaction.lag.ms"
	keyTimestamps  = "message.timestamp.type"
)

// Topic is one topic of a plan.
type Topic struct {
	Name string
	Role Role
	// Delay of a retry tier; 0 for the others.
	Delay      time.Duration
	Partitions int32
	Replicas   int16
	// MinRetention is the least retention with which nothing that is still to
	// be delivered is deleted; 0 where nothing waits.
	MinRetention time.Duration
	// Configs are the topic's configurations, as Kafka writes them.
	Configs map[string]string
}

// Name returns the name of the one topic of a role, any but [RoleRetry].
func Name(prefix string, role Role) string { return prefix + "." + string(role) }

// RetryName returns the name of a tier's topic.
func RetryName(prefix string, delay time.Duration) string {
	return retrytopics.RetryTopic(prefix, delay)
}

// RetryGroup returns the consumer group whose members read a tier's topic: it
// has the topic's name. [Check] finds by it what a tier still holds.
func RetryGroup(topic string) string { return topic }

// MaxMessageBytes is the most bytes of a record batch that our topics take,
// and that producers to them have to be set to. A body is at most the largest
// max_size of any source, in an envelope; 64 KiB are for headers and framing.
// Doubling leaves room for what an envelope escapes. It is 1 MiB at least,
// which is about Kafka's own default.
func MaxMessageBytes(c *config.Config) int32 {
	largest := config.DefaultMaxSize
	for i := range c.Sources {
		largest = max(largest, c.Sources[i].MaxSize)
	}
	return int32(max(config.MiB, 2*largest+64*config.KiB)) // at most 2 × 16 MiB and 64 KiB
}

// ReplaysPartitions is the partition count of the topic of replays: over how many
// processes they can spread.
const ReplaysPartitions = 4

// compactionLag is how long a dropped record of the registry, such as an old
// secret, may stay on disk once its segment could be compacted.
const compactionLag = 24 * time.Hour

// Plan lists the topics that a configuration calls for, in a fixed order.
func Plan(c *config.Config) []Topic {
	p, r := c.Partitions, c.Topics.Retention
	topic := func(role Role, name string, partitions int, keep time.Duration) Topic {
		return Topic{
			Name: name, Role: role, Partitions: int32(partitions), Replicas: int16(c.Topics.ReplicationFactor),
			Configs: map[string]string{
				keyCleanup: "delete",
				// A limit in bytes would delete whatever its age.
				keyRetention: millis(keep), keyBytes: "-1",
				keyMaxMessage: strconv.Itoa(int(MaxMessageBytes(c))),
				keyMinInsync:  strconv.Itoa(c.Topics.MinInsync()),
				// Batches stay as their producers compressed them.
				keyCompression: "producer",
			},
		}
	}
	named := func(role Role, partitions int, keep time.Duration) Topic {
		return topic(role, Name(c.Prefix, role), partitions, keep)
	}

	registry := named(RoleRegistry, 1, 0)
	delete(registry.Configs, keyRetention)
	delete(registry.Configs, keyBytes)
	registry.Configs[keyCleanup] = "compact"
	registry.Configs[keyLag] = millis(compactionLag)
	// The broker's own time, by which processes compare their clocks with it.
	registry.Configs[keyTimestamps] = "LogAppendTime"

	// A replay that is paused keeps its record for as long as it takes.
	replays := named(RoleReplays, ReplaysPartitions, 0)
	delete(replays.Configs, keyRetention)
	delete(replays.Configs, keyBytes)
	replays.Configs[keyCleanup] = "compact"

	fanout := named(RoleFanout, p.Fanout, r.Fanout)
	deliveries := named(RoleDeliveries, p.Deliveries, r.Deliveries)
	fanout.MinRetention, deliveries.MinRetention = c.Delivery.MaxAge, c.Delivery.MaxAge

	plan := []Topic{registry, fanout, deliveries}
	for _, delay := range c.Delivery.Tiers {
		t := topic(RoleRetry, RetryName(c.Prefix, delay), p.Deliveries, r.Retry)
		t.Delay, t.MinRetention = delay, config.MinRetention(delay)
		plan = append(plan, t)
	}
	return append(plan,
		named(RoleAttempts, p.Attempts, r.Attempts),
		named(RoleDead, p.Dead, r.Dead),
		named(RoleEvents, p.Events, r.Events),
		named(RoleInvalid, p.Invalid, r.Invalid),
		named(RoleAudit, 1, r.Audit),
		replays,
	)
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// registryOf returns the name of a plan's registry, "" without one.
func registryOf(plan []Topic) string {
	for i := range plan {
		if plan[i].Role == RoleRegistry {
			return plan[i].Name
		}
	}
	return ""
}
