package topics

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster starts a broker of one node, and a client of it.
func cluster(t *testing.T) (*kgo.Client, *kadm.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	k := config.Default().Kafka
	k.Brokers = c.ListenAddrs()
	opts, err := ClientOptions(k)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl, kadm.NewClient(cl)
}

func small() *config.Config {
	c := config.Default()
	c.Topics.ReplicationFactor = 1
	c.Partitions = config.Partitions{Deliveries: 3, Fanout: 2, Attempts: 2, Dead: 1, Events: 1, Invalid: 1}
	return c
}

func apply(t *testing.T, cl *kgo.Client, c *config.Config) []Change {
	t.Helper()
	changes, err := Apply(t.Context(), cl, Plan(c))
	if err != nil {
		t.Fatalf("%v after %v", err, changes)
	}
	return changes
}

func check(t *testing.T, cl *kgo.Client, c *config.Config) []Problem {
	t.Helper()
	recorded, err := Recorded(t.Context(), cl, Name(c.Prefix, RoleRegistry))
	if err != nil {
		t.Fatal(err)
	}
	ps, err := Check(t.Context(), kadm.NewClient(cl), Plan(c), recorded)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// only requires exactly these problems, as "kind topic text-fragment".
func only(t *testing.T, got []Problem, want ...[3]string) {
	t.Helper()
	for _, p := range got {
		t.Logf("%s refuses=%v %s", p.Kind, p.Refuses, p)
	}
	if len(got) != len(want) {
		t.Fatalf("%d problems, want %d", len(got), len(want))
	}
	for i, w := range want {
		if p := got[i]; string(p.Kind) != w[0] || p.Topic != w[1] || !strings.Contains(p.Text, w[2]) {
			t.Errorf("problem %d is %s %s, want %v", i, p.Kind, p, w)
		}
	}
}

func TestPlanHasEveryTopicOfTheLine(t *testing.T) {
	c := config.Default()
	c.Prefix = "hooks"
	c.Delivery.Tiers = append(c.Delivery.Tiers, time.Hour)
	var names []string
	for _, topic := range Plan(c) {
		names = append(names, fmt.Sprintf("%s/%d", strings.TrimPrefix(topic.Name, "hooks."), topic.Partitions))
		if topic.Replicas != 3 || topic.Configs[keyMinInsync] != "2" {
			t.Errorf("%s: %d replicas, min in sync %s", topic.Name, topic.Replicas, topic.Configs[keyMinInsync])
		}
	}
	want := "registry/1 fanout/8 deliveries/32 retry.5s/32 retry.1m/32 retry.5m/32 retry.15m/32 retry.1h/32 attempts/8 dead/8 events/4 invalid/4 audit/1 replays/4"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	registry := Plan(c)[0]
	if registry.Configs[keyCleanup] != "compact" || registry.Configs[keyLag] != "86400000" || registry.Configs[keyRetention] != "" {
		t.Errorf("registry %v", registry.Configs)
	}
}

func TestMessagesOfEverySourceFit(t *testing.T) {
	c := config.Default()
	if n := MaxMessageBytes(c); n != 1<<20 {
		t.Errorf("default %d", n)
	}
	c.Sources = []config.Source{{MaxSize: 4 * config.MiB}, {MaxSize: 16 * config.MiB}}
	if n := MaxMessageBytes(c); n < 32<<20 {
		t.Errorf("%d for bodies of 16 MiB", n)
	}
}

func TestApplyCreatesAllAndASecondApplyDoesNothing(t *testing.T) {
	cl, _ := cluster(t)
	c := small()
	first := apply(t, cl, c)
	if len(first) != 2*len(Plan(c)) {
		t.Errorf("%d changes, want each topic created and recorded: %v", len(first), first)
	}
	only(t, check(t, cl, c))
	if again := apply(t, cl, c); len(again) != 0 {
		t.Errorf("a second apply did %v", again)
	}
}

func TestCheckListsEveryMissingTopic(t *testing.T) {
	cl, _ := cluster(t)
	ps := check(t, cl, small())
	if len(ps) != len(Plan(small())) {
		t.Errorf("%d problems, want one for each topic", len(ps))
	}
	for _, p := range ps {
		if p.Kind != KindMissing || !p.Refuses {
			t.Errorf("%s %v", p.Kind, p)
		}
	}
	if err := Refusals(ps); err == nil || strings.Count(err.Error(), "\n  ") != len(ps) {
		t.Errorf("the refusal doesn't list all: %v", err)
	}
}

func alter(t *testing.T, adm *kadm.Client, topic, key, value string) {
	t.Helper()
	rs, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs)
	}
}

func TestCheckSaysWhatDiffersAndApplyMendsIt(t *testing.T) {
	cl, adm := cluster(t)
	c := small()
	apply(t, cl, c)
	alter(t, adm, "posthorn.registry", keyCleanup, "compact,delete")
	alter(t, adm, "posthorn.deliveries", keyCleanup, "compact")
	alter(t, adm, "posthorn.deliveries", keyRetention, "3600000")
	alter(t, adm, "posthorn.retry.5s", keyBytes, "1000000")
	alter(t, adm, "posthorn.retry.15m", keyRetention, "4500000") // 1h15m: just enough
	alter(t, adm, "posthorn.retry.5m", keyRetention, "3899999")  // 1 ms short of 1h5m
	alter(t, adm, "posthorn.attempts", keyMaxMessage, "1000")
	alter(t, adm, "posthorn.dead", keyMinInsync, "2")
	alter(t, adm, "posthorn.events", keyRetention, "-1")
	alter(t, adm, "posthorn.invalid", keyMaxMessage, "9999999")
	ps := check(t, cl, c)
	only(t, ps,
		[3]string{"cleanup_policy", "posthorn.registry", `is "compact,delete" and must be compact`},
		[3]string{"cleanup_policy", "posthorn.deliveries", `is "compact" and must be delete`},
		[3]string{"short_retention", "posthorn.deliveries", "is 1h and delivery.max_age needs 1d or more"},
		[3]string{"short_retention", "posthorn.retry.5s", "retention.bytes is 1000000"},
		[3]string{"short_retention", "posthorn.retry.5m", "its delay of 5m needs 1h5m or more"},
		[3]string{"config_differs", "posthorn.retry.15m", "is 1h15m, the configuration says 7d"},
		[3]string{"small_messages", "posthorn.attempts", "is 1000 and must be 1048576 or more"},
		[3]string{"min_insync", "posthorn.dead", "is 2 and there are 1 replicas"},
		[3]string{"config_differs", "posthorn.events", "is unlimited, the configuration says 7d"},
		[3]string{"config_differs", "posthorn.invalid", `"9999999", the configuration says "1048576"`},
	)
	for _, p := range ps {
		if p.Refuses == (p.Kind == KindConfigDiffers) {
			t.Errorf("refuses=%v: %s", p.Refuses, p)
		}
	}
	if changes := apply(t, cl, c); len(changes) != len(ps) {
		t.Errorf("%d changes for %d problems: %v", len(changes), len(ps), changes)
	}
	only(t, check(t, cl, c))
}

func TestPartitionCountsAreFixedForATopicsLife(t *testing.T) {
	cl, adm := cluster(t)
	apply(t, cl, small())

	c := small()
	c.Partitions.Attempts = 5
	only(t, check(t, cl, c), [3]string{"partitions", "posthorn.attempts", "has 2 partitions, the configuration says 5"})
	if changes, err := Apply(t.Context(), cl, Plan(c)); err == nil || len(changes) > 0 {
		t.Errorf("apply did %v, %v", changes, err)
	}

	// Someone adds partitions by hand, and makes the configuration agree.
	if _, err := adm.CreatePartitions(t.Context(), 1, "posthorn.deliveries"); err != nil {
		t.Fatal(err)
	}
	c = small()
	c.Partitions.Deliveries = 4
	only(t, check(t, cl, c),
		[3]string{"partitions", "posthorn.deliveries", "has 4 partitions and began with 3"},
		[3]string{"partitions", "posthorn.retry.5s", "has 3 partitions, the configuration says 4"},
		[3]string{"partitions", "posthorn.retry.1m", "the configuration says 4"},
		[3]string{"partitions", "posthorn.retry.5m", "the configuration says 4"},
		[3]string{"partitions", "posthorn.retry.15m", "the configuration says 4"},
		[3]string{"unequal_partitions", "posthorn.deliveries", "posthorn.deliveries has 4, posthorn.retry.5s has 3"},
	)

	// A topic that was deleted comes back with the count that it had.
	if _, err := adm.DeleteTopic(t.Context(), "posthorn.dead"); err != nil {
		t.Fatal(err)
	}
	c = small()
	c.Partitions.Deliveries, c.Partitions.Dead = 3, 2
	_, err := Apply(t.Context(), cl, Plan(c))
	if err == nil || !strings.Contains(err.Error(), "posthorn.dead: began with 1 partition, as the registry says, and the configuration says 2") {
		t.Error(err)
	}
}

func TestTheRegistryHasExactlyOnePartition(t *testing.T) {
	cl, adm := cluster(t)
	apply(t, cl, small())
	if _, err := adm.CreatePartitions(t.Context(), 1, "posthorn.registry"); err != nil {
		t.Fatal(err)
	}
	only(t, check(t, cl, small()), [3]string{"partitions", "posthorn.registry", "has 2 partitions and must have exactly one"})
}

func TestATierThatIsNoLongerNamedRefusesWhileItHoldsRecords(t *testing.T) {
	cl, adm := cluster(t)
	c := small()
	apply(t, cl, c)
	c.Delivery.Tiers = c.Delivery.Tiers[:3] // without 15m
	only(t, check(t, cl, c))

	records := make([]*kgo.Record, 5)
	for i := range records {
		records[i] = &kgo.Record{Topic: "posthorn.retry.15m", Key: fmt.Append(nil, i), Value: []byte("x")}
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	only(t, check(t, cl, c), [3]string{"abandoned_tier", "posthorn.retry.15m", "holds 5 records and no tier of the configuration reads it: name 15m"})

	ends, err := adm.ListEndOffsets(t.Context(), "posthorn.retry.15m")
	if err != nil {
		t.Fatal(err)
	}
	commit := ends.Offsets()
	if err := adm.CommitAllOffsets(t.Context(), RetryGroup("posthorn.retry.15m"), commit); err != nil {
		t.Fatal(err)
	}
	only(t, check(t, cl, c))
}

func TestCountsAreReadBehindTransactionMarkers(t *testing.T) {
	cl, _ := cluster(t)
	c := small()
	apply(t, cl, c)
	// The registry's own writer uses transactions: an aborted record counts
	// for nothing, and the markers at the end are no record to wait for.
	k := c.Kafka
	k.Brokers, _ = cl.OptValue(kgo.SeedBrokers).([]string)
	opts, err := ClientOptions(k)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := kgo.NewClient(append(opts, kgo.TransactionalID("posthorn.registry"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	for _, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		value := `{"count":7}`
		if how == kgo.TryAbort {
			value = `{"count":8}`
		}
		r := &kgo.Record{Topic: "posthorn.registry", Key: []byte("partitions/other"), Value: []byte(value)}
		if err := tx.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got, err := Recorded(ctx, cl, "posthorn.registry")
	if err != nil || got["other"] != 7 || got["posthorn.deliveries"] != 3 || len(got) != len(Plan(c))+1 {
		t.Errorf("%v, %v", got, err)
	}

	bad := &kgo.Record{Topic: "posthorn.registry", Key: []byte("partitions/x"), Value: []byte("3")}
	if err := cl.ProduceSync(t.Context(), bad).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := Recorded(ctx, cl, "posthorn.registry"); err == nil || !strings.Contains(err.Error(), "is not a partition count") {
		t.Error(err)
	}
}

func TestTooFewBrokersAreNamed(t *testing.T) {
	cl, _ := cluster(t)
	c := small()
	c.Topics.ReplicationFactor = 3
	_, err := Apply(t.Context(), cl, Plan(c))
	if err == nil || !strings.Contains(err.Error(), "too few brokers for a replication factor of 3") {
		t.Error(err)
	}
}
