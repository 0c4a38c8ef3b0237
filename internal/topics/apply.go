package topics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Change is one thing that [Apply] did.
type Change struct {
	Topic string
	Text  string
}

// String returns one line for people.
func (c Change) String() string { return c.Topic + ": " + c.Text }

// Apply creates the topics that are missing, sets the configurations that
// differ, and records the partition counts in the registry. It never changes a
// partition count: where one differs from the plan or from the record it
// changes nothing at all and returns a [*NotReadyError]. It returns what it did,
// also beside an error; a second call does nothing. The client must not be
// transactional.
func Apply(ctx context.Context, cl *kgo.Client, plan []Topic) ([]Change, error) {
	adm := kadm.NewClient(cl)
	recorded, err := Recorded(ctx, cl, registryOf(plan))
	if err != nil {
		return nil, err
	}
	s, err := survey(ctx, adm, plan)
	if err != nil {
		return nil, err
	}
	if err := fixed(s, plan, recorded); err != nil {
		return nil, err
	}
	a := applier{adm: adm, cl: cl, found: s, recorded: recorded, registry: registryOf(plan)}
	for i := range plan {
		if err := a.topic(ctx, &plan[i]); err != nil {
			return a.changes, err
		}
	}
	if err := a.listed(ctx); err != nil {
		return a.changes, err
	}
	// Counts come last: the registry itself may just have been created.
	for i := range plan {
		t := &plan[i]
		if _, ok := recorded[t.Name]; ok {
			continue
		}
		if err := record(ctx, cl, a.registry, t.Name, t.Partitions); err != nil {
			return a.changes, err
		}
		a.did(t.Name, "recorded %s in %s", partitions(t.Partitions), a.registry)
	}
	return a.changes, nil
}

// fixed refuses a plan whose partition counts are not those of the topics or of
// the record.
func fixed(s found, plan []Topic, recorded map[string]int32) error {
	c := checker{found: s, recorded: recorded}
	for i := range plan {
		t := &plan[i]
		if have, ok := s.topics[t.Name]; ok {
			c.count(t, int32(len(have.Partitions)))
		} else if was, ok := recorded[t.Name]; ok && was != t.Partitions {
			c.add(KindPartitions, t.Name, true, "began with %s, as the registry says, and the configuration says %d; a count is fixed for a topic's life: set %s: %d",
				partitions(was), t.Partitions, countKey(t.Role), was)
		}
	}
	c.equal(plan)
	return Refusals(c.problems)
}

type applier struct {
	adm      *kadm.Client
	cl       *kgo.Client
	found    found
	recorded map[string]int32
	registry string
	created  []string
	changes  []Change
}

func (a *applier) did(topic, format string, args ...any) {
	a.changes = append(a.changes, Change{topic, fmt.Sprintf(format, args...)})
}

func (a *applier) topic(ctx context.Context, t *Topic) error {
	if _, ok := a.found.topics[t.Name]; !ok {
		return a.create(ctx, t)
	}
	var alter []kadm.AlterConfig
	have, replicas := a.found.configs[t.Name], a.found.topics[t.Name].Partitions.NumReplicas()
	for _, key := range slices.Sorted(maps.Keys(t.Configs)) {
		want := t.Configs[key]
		if key == keyMinInsync && !atLeast(replicas, want) {
			continue // or nothing could be produced to it
		}
		if have[key] != want {
			alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &want})
		}
	}
	if len(alter) == 0 {
		return nil
	}
	resps, err := a.adm.AlterTopicConfigs(ctx, alter, t.Name)
	if err != nil {
		return fmt.Errorf("setting configurations of %s: %w", t.Name, err)
	}
	for _, r := range resps {
		if r.Err != nil {
			return fmt.Errorf("setting configurations of %s: %w", t.Name, withMessage(r.Err, r.ErrMessage))
		}
	}
	for _, c := range alter {
		a.did(t.Name, "set %s from %q to %q", c.Name, have[c.Name], *c.Value)
	}
	return nil
}

func (a *applier) create(ctx context.Context, t *Topic) error {
	configs := make(map[string]*string, len(t.Configs))
	for k, v := range t.Configs {
		configs[k] = &v
	}
	r, err := a.adm.CreateTopic(ctx, t.Partitions, t.Replicas, configs, t.Name)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return fmt.Errorf("creating %s: another process has just created it; run posthorn topics apply again", t.Name)
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return fmt.Errorf("creating %s: the cluster has too few brokers for a replication factor of %d; set topics.replication_factor to at most their number: %w",
			t.Name, t.Replicas, withMessage(err, r.ErrMessage))
	case err != nil:
		return fmt.Errorf("creating %s: %w", t.Name, withMessage(err, r.ErrMessage))
	}
	a.created = append(a.created, t.Name)
	a.did(t.Name, "created with %s and a replication factor of %d", partitions(t.Partitions), t.Replicas)
	return nil
}

// listedEvery is how often the metadata is asked for what was created.
const listedEvery = 50 * time.Millisecond

// listed returns when the cluster's metadata shows what was created. The
// controller answers a creation before the brokers have heard of it (KRaft):
// a process started right after would refuse, for it would find topics missing.
func (a *applier) listed(ctx context.Context) error {
	for len(a.created) > 0 {
		all, err := a.adm.ListTopics(kadm.WithAuthorizedOps(ctx)) // see survey
		if err != nil {
			return fmt.Errorf("waiting until the brokers know the topics: %w", err)
		}
		a.created = slices.DeleteFunc(a.created, func(name string) bool { return all.Has(name) })
		if len(a.created) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until the brokers know %v: %w", a.created, ctx.Err())
		case <-time.After(listedEvery):
		}
	}
	return nil
}

func withMessage(err error, message string) error {
	if message == "" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, message)
}

// committed returns a group's committed offsets of a topic, by partition; of a
// group that never was, none.
func committed(ctx context.Context, adm *kadm.Client, group, topic string) (map[int32]int64, error) {
	at := map[int32]int64{}
	resps, err := adm.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return at, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetching the commits of group %s: %w", group, err)
	}
	resps.Each(func(r kadm.OffsetResponse) {
		if r.Topic == topic && r.Err == nil {
			at[r.Partition] = r.At
		}
	})
	return at, nil
}
