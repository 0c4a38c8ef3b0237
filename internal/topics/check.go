package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"posthorn/internal/config"
)

// Check compares the cluster's topics with a plan and with the partition counts
// that the registry holds (see [Recorded]; nil where there is none yet), and
// returns everything that differs. An error means that the cluster could not be
// asked.
func Check(ctx context.Context, adm *kadm.Client, plan []Topic, recorded map[string]int32) ([]Problem, error) {
	s, err := survey(ctx, adm, plan)
	if err != nil {
		return nil, err
	}
	c := checker{found: s, recorded: recorded}
	for i := range plan {
		c.topic(&plan[i])
	}
	c.equal(plan)
	if err := c.abandoned(ctx, adm, plan); err != nil {
		return nil, err
	}
	return c.problems, nil
}

// found is what the cluster has.
type found struct {
	topics  map[string]kadm.TopicDetail
	configs map[string]map[string]string
}

// survey lists the topics of the plan's prefix and their configurations.
func survey(ctx context.Context, adm *kadm.Client, plan []Topic) (found, error) {
	f := found{topics: map[string]kadm.TopicDetail{}, configs: map[string]map[string]string{}}
	// Asking for authorized operations too is what goes past the client's
	// cache of metadata, which is seconds old: what was just created has to
	// be seen.
	all, err := adm.ListTopics(kadm.WithAuthorizedOps(ctx))
	if err != nil {
		return f, fmt.Errorf("listing topics: %w", err)
	}
	prefix := retryPrefix(plan)
	planned := map[string]bool{}
	for i := range plan {
		planned[plan[i].Name] = true
	}
	for name, t := range all {
		if !planned[name] && !strings.HasPrefix(name, prefix) {
			continue
		}
		if errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
			continue // the client asked for it before, and it isn't there
		}
		if t.Err != nil {
			return f, fmt.Errorf("listing topic %s: %w", name, t.Err)
		}
		f.topics[name] = t
	}
	if len(f.topics) == 0 {
		return f, nil
	}
	configs, err := adm.DescribeTopicConfigs(ctx, slices.Sorted(maps.Keys(f.topics))...)
	if err != nil {
		return f, fmt.Errorf("describing topics: %w", err)
	}
	for _, r := range configs {
		if r.Err != nil {
			return f, fmt.Errorf("describing topic %s: %w", r.Name, r.Err)
		}
		f.configs[r.Name] = map[string]string{}
		for _, kv := range r.Configs {
			if kv.Value != nil {
				f.configs[r.Name][kv.Key] = *kv.Value
			}
		}
	}
	return f, nil
}

// retryPrefix begins the names of a plan's retry tiers, those of earlier
// configurations too.
func retryPrefix(plan []Topic) string {
	return strings.TrimSuffix(registryOf(plan), string(RoleRegistry)) + string(RoleRetry) + "."
}

type checker struct {
	found
	recorded map[string]int32
	problems []Problem
}

func (c *checker) add(kind Kind, topic string, refuses bool, format string, args ...any) {
	c.problems = append(c.problems, Problem{kind, topic, refuses, fmt.Sprintf(format, args...)})
}

func (c *checker) topic(t *Topic) {
	have, ok := c.topics[t.Name]
	if !ok {
		c.add(KindMissing, t.Name, true, "there is no such topic; posthorn topics apply creates it with %s", partitions(t.Partitions))
		return
	}
	c.count(t, int32(len(have.Partitions)))
	replicas := have.Partitions.NumReplicas()
	if replicas < int(t.Replicas) {
		c.add(KindReplication, t.Name, false, "has a replication factor of %d, the configuration says %d; Kafka's own tools change it (kafka-reassign-partitions)", replicas, t.Replicas)
	}
	for _, key := range slices.Sorted(maps.Keys(t.Configs)) {
		c.config(t, key, replicas)
	}
}

func (c *checker) count(t *Topic, have int32) {
	was, ok := c.recorded[t.Name]
	switch {
	case t.Role == RoleRegistry && have != 1:
		c.add(KindPartitions, t.Name, true, "has %d partitions and must have exactly one: its offset is the registry's version", have)
	case ok && have != was:
		c.add(KindPartitions, t.Name, true, "has %s and began with %d, as the registry says; a count is fixed for a topic's life, for an endpoint's records must stay in one partition", partitions(have), was)
	case have != t.Partitions:
		c.add(KindPartitions, t.Name, true, "has %s, the configuration says %d; a count is fixed for a topic's life: set %s: %d", partitions(have), t.Partitions, countKey(t.Role), have)
	case !ok:
		c.add(KindPartitionsFresh, t.Name, false, "its partition count is not in the registry yet; posthorn topics apply records it")
	}
}

// countKey is the configuration's key for the partition count of a role.
func countKey(r Role) string {
	if r == RoleRetry {
		r = RoleDeliveries
	}
	return "partitions." + string(r)
}

func partitions(n int32) string {
	if n == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", n)
}

func (c *checker) config(t *Topic, key string, replicas int) {
	want, have := t.Configs[key], c.configs[t.Name][key]
	if key == keyMinInsync && !atLeast(replicas, have) {
		c.add(KindInsync, t.Name, true, "min.insync.replicas is %s and there are %d replicas: nothing can be produced to it; set topics.min_insync_replicas and run posthorn topics apply", have, replicas)
		return
	}
	// A topic of fewer replicas than planned can't have the planned minimum;
	// its replication factor is the problem, which is said already.
	if have == want || key == keyMinInsync && !atLeast(replicas, want) {
		return
	}
	switch {
	case key == keyCleanup && t.Role == RoleRegistry:
		c.add(KindCleanup, t.Name, true, "cleanup.policy is %q and must be compact: anything else deletes endpoints; posthorn topics apply sets it", have)
	case key == keyCleanup && t.Role == RoleReplays:
		c.add(KindCleanup, t.Name, true, "cleanup.policy is %q and must be compact: anything else deletes replays that are paused; posthorn topics apply sets it", have)
	case key == keyCleanup:
		c.add(KindCleanup, t.Name, true, "cleanup.policy is %q and must be delete: compaction would drop records of the same endpoint; posthorn topics apply sets it", have)
	case key == keyRetention && shorter(have, t.MinRetention):
		why := "delivery.max_age"
		if t.Role == RoleRetry {
			why = "its delay of " + config.FormatDuration(t.Delay)
		}
		c.add(KindRetention, t.Name, true, "retention.ms is %s and %s needs %s or more: records would be deleted while they wait; posthorn topics apply sets %s",
			duration(have), why, config.FormatDuration(t.MinRetention), duration(want))
	case key == keyBytes && t.MinRetention > 0:
		c.add(KindRetention, t.Name, true, "retention.bytes is %s and must be -1: records would be deleted while they wait; posthorn topics apply sets it", have)
	case key == keyMaxMessage && smaller(have, want):
		c.add(KindMessageSize, t.Name, true, "max.message.bytes is %s and must be %s or more for the largest sources[].max_size; posthorn topics apply sets it", have, want)
	case key == keyRetention:
		c.add(KindConfigDiffers, t.Name, false, "retention.ms is %s, the configuration says %s; posthorn topics apply sets it", duration(have), duration(want))
	default:
		c.add(KindConfigDiffers, t.Name, false, "%s is %q, the configuration says %q; posthorn topics apply sets it", key, have, want)
	}
}

// shorter reports whether a retention.ms is below the least allowed; -1 means
// for ever.
func shorter(ms string, least time.Duration) bool {
	n, err := strconv.ParseInt(ms, 10, 64)
	return least > 0 && (err != nil || n >= 0 && n < least.Milliseconds())
}

func smaller(have, want string) bool {
	h, err1 := strconv.ParseInt(have, 10, 64)
	w, err2 := strconv.ParseInt(want, 10, 64)
	return err1 != nil || err2 != nil || h < w
}

// atLeast reports whether n reaches a number written as text; a text that is
// no number asks for nothing.
func atLeast(n int, text string) bool {
	need, err := strconv.Atoi(text)
	return err != nil || n >= need
}

// duration writes milliseconds for people.
func duration(ms string) string {
	n, err := strconv.ParseInt(ms, 10, 64)
	switch {
	case err != nil:
		return strconv.Quote(ms)
	case n < 0:
		return "unlimited"
	case n > int64(1<<62/time.Millisecond): // beyond what a Duration holds
		return ms + "ms"
	default:
		return config.FormatDuration(time.Duration(n) * time.Millisecond)
	}
}

// equal requires one count for deliveries and retry tiers: a due reader puts a
// record back under its key, and owners hold what is theirs by partition.
func (c *checker) equal(plan []Topic) {
	var parts []string
	counts := map[int]bool{}
	deliveries := ""
	for i := range plan {
		t := &plan[i]
		if t.Role != RoleDeliveries && t.Role != RoleRetry {
			continue
		}
		if t.Role == RoleDeliveries {
			deliveries = t.Name
		}
		if have, ok := c.topics[t.Name]; ok {
			n := len(have.Partitions)
			counts[n] = true
			parts = append(parts, fmt.Sprintf("%s has %d", t.Name, n))
		}
	}
	if len(counts) > 1 {
		c.add(KindUnequal, deliveries, true, "deliveries and all retry tiers must have the same number of partitions: %s", strings.Join(parts, ", "))
	}
}

// abandoned finds retry tiers that the plan no longer names and that still hold
// records which nobody would ever deliver.
func (c *checker) abandoned(ctx context.Context, adm *kadm.Client, plan []Topic) error {
	planned := map[string]bool{}
	for i := range plan {
		planned[plan[i].Name] = true
	}
	prefix := retryPrefix(plan)
	for _, name := range slices.Sorted(maps.Keys(c.topics)) {
		if planned[name] || !strings.HasPrefix(name, prefix) {
			continue
		}
		n, err := held(ctx, adm, name)
		if err != nil {
			return err
		}
		if n > 0 {
			c.add(KindAbandoned, name, true, "holds %d records and no tier of the configuration reads it: name %s in delivery.tiers until it is empty",
				n, strings.TrimPrefix(name, prefix))
		}
	}
	return nil
}

// held counts the records of a tier that its group has not committed behind.
func held(ctx context.Context, adm *kadm.Client, topic string) (int64, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("listing the start of %s: %w", topic, err)
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("listing the end of %s: %w", topic, err)
	}
	commits, err := committed(ctx, adm, RetryGroup(topic), topic)
	if err != nil {
		return 0, err
	}
	var n int64
	ends.Each(func(end kadm.ListedOffset) {
		from := int64(0)
		if start, ok := starts.Lookup(topic, end.Partition); ok {
			from = start.Offset
		}
		n += max(0, end.Offset-max(from, commits[end.Partition]))
	})
	return n, nil
}
