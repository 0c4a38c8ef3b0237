package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/internal/embedded"
	"posthorn/internal/topics"
	"posthorn/registry"
)

// adminTimeout bounds a command on topics: a cluster that can't be reached has
// to be said, not waited for.
const adminTimeout = 60 * time.Second

// ErrTopicsDiffer says that "topics check" has found something.
var ErrTopicsDiffer = errors.New("the topics are not as configured")

// connect makes a client and sees that a broker answers.
func connect(ctx context.Context, k config.Kafka, opts ...kgo.Opt) (*kgo.Client, error) {
	base, err := topics.ClientOptions(k)
	if err != nil {
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := cl.Ping(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("connecting to Kafka at %v: %w", k.Brokers, err)
	}
	return cl, nil
}

const pingTimeout = 15 * time.Second

// planFor is the plan of a configuration, on the embedded broker as a development
// line makes it: that has one node, whatever the configuration says.
func planFor(ctx context.Context, cl *kgo.Client, c *config.Config) ([]topics.Topic, error) {
	m, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking which cluster it is: %w", err)
	}
	if m.Cluster == embedded.ClusterID {
		single := *c
		single.Topics.ReplicationFactor, single.Topics.MinInsyncReplicas = 1, 1
		c = &single
	}
	return topics.Plan(c), nil
}

// TopicsApply creates and aligns the topics of a configuration and writes what
// it did.
func TopicsApply(ctx context.Context, c *config.Config, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	cl, err := connect(ctx, c.Kafka)
	if err != nil {
		return err
	}
	defer cl.Close()
	plan, err := planFor(ctx, cl, c)
	if err != nil {
		return fmt.Errorf("applying topics: %w", err)
	}
	changes, err := topics.Apply(ctx, cl, plan)
	for _, ch := range changes {
		if werr := writef(out, "%s\n", ch); werr != nil {
			return errors.Join(err, werr)
		}
	}
	if err != nil {
		return fmt.Errorf("applying topics: %w", err)
	}
	if len(changes) == 0 {
		return writef(out, "all %d topics are as configured\n", len(plan))
	}
	return writef(out, "%s\n", counted(len(changes), "change"))
}

// TopicsCheck writes everything in which the topics differ from a
// configuration; if there is anything, it returns [ErrTopicsDiffer].
func TopicsCheck(ctx context.Context, c *config.Config, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	cl, err := connect(ctx, c.Kafka)
	if err != nil {
		return err
	}
	defer cl.Close()
	plan, err := planFor(ctx, cl, c)
	if err != nil {
		return fmt.Errorf("checking topics: %w", err)
	}
	recorded, err := topics.Recorded(ctx, cl, topics.Name(c.Prefix, topics.RoleRegistry))
	if err != nil {
		return fmt.Errorf("checking topics: %w", err)
	}
	problems, err := topics.Check(ctx, kadm.NewClient(cl), plan, recorded)
	if err != nil {
		return fmt.Errorf("checking topics: %w", err)
	}
	if len(problems) == 0 {
		return writef(out, "all %d topics are as configured\n", len(plan))
	}
	refuses := 0
	for _, p := range problems {
		mark := "differs"
		if p.Refuses {
			mark = "refuses"
			refuses++
		}
		if err := writef(out, "%s  %s\n", mark, p); err != nil {
			return err
		}
	}
	if err := writef(out, "%s, %d of which posthorn run refuses to start with\n", counted(len(problems), "difference"), refuses); err != nil {
		return err
	}
	return ErrTopicsDiffer
}

// KeysetCreate writes a new keyset, which seals the signing secrets, to a file
// that must not exist yet.
func KeysetCreate(path string, out io.Writer) error {
	if err := registry.CreateKeysetFile(path); err != nil {
		return err
	}
	return writef(out, "wrote %s; name it in registry.keyset_file, and keep a copy: without it no sealed secret can be opened again\n", path)
}

// ConfigCheck writes that a configuration (which has been read already, and so
// is valid) is, with its warnings.
func ConfigCheck(c *config.Config, path string, out io.Writer) error {
	if path == "" {
		path = "the configuration of defaults and environment"
	}
	for _, w := range c.Warnings() {
		if err := writef(out, "warning: %s\n", w); err != nil {
			return err
		}
	}
	return writef(out, "%s is valid: %s, %s of deliveries, %s\n",
		path, counted(len(c.Sources), "source"), counted(c.Partitions.Deliveries, "partition"), counted(len(c.Delivery.Tiers), "tier"))
}

// counted is a number of things: 1 source, 2 sources.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
