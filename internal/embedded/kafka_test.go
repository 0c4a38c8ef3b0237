package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func start(t *testing.T, opts KafkaOptions) *Kafka {
	t.Helper()
	k, err := StartKafka(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func client(t *testing.T, k *Kafka, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(k.Addrs()...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func produce(t *testing.T, cl *kgo.Client, topic string, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: 0, Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func consume(t *testing.T, k *Kafka, topic string, n int) (values []string) {
	t.Helper()
	cl := client(t, k, kgo.ConsumeTopics(topic))
	defer cl.Close()
	for len(values) < n {
		fs := cl.PollFetches(t.Context())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

// fill writes what a restart has to bring back.
func fill(t *testing.T, k *Kafka) {
	t.Helper()
	cl := client(t, k, kgo.AllowAutoTopicCreation(), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	produce(t, cl, "auto", "one", "two") // nobody has created it

	tx := client(t, k, kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer tx.Close()
	for value, end := range map[string]kgo.TransactionEndTry{"committed": kgo.TryCommit, "aborted": kgo.TryAbort} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, tx, "auto", value)
		if err := tx.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "auto", Partition: 0, At: 2, LeaderEpoch: -1, Metadata: "holes=AAEC"})
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "group", offsets); err != nil {
		t.Fatal(err)
	}
}

func checkFilled(t *testing.T, k *Kafka) {
	t.Helper()
	if got := strings.Join(consume(t, k, "auto", 3), " "); got != "one two committed" {
		t.Errorf("read %q", got)
	}
	adm := kadm.NewClient(client(t, k))
	got, err := adm.FetchOffsets(t.Context(), "group")
	if o, _ := got.Lookup("auto", 0); err != nil || o.At != 2 || o.Metadata != "holes=AAEC" {
		t.Errorf("offset %+v, %v", o, err)
	}
	topics, err := adm.ListTopics(t.Context(), "auto")
	if err != nil || len(topics["auto"].Partitions) != DefaultPartitions {
		t.Errorf("topic %+v, %v", topics["auto"], err)
	}
}

func TestEverythingAcknowledgedSurvivesAnOrderlyEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kafka")
	k := start(t, KafkaOptions{DataDir: dir})
	port := k.Port()
	fill(t, k)
	k.Close()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", info, err)
	}
	k = start(t, KafkaOptions{DataDir: dir, Port: port})
	if k.Addrs()[0] != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("listens on %v, want port %d", k.Addrs(), port)
	}
	checkFilled(t, k)
}

// TestEverythingAcknowledgedSurvivesAKill starts on a copy of the directory of
// a running broker: what a killed process would have left.
func TestEverythingAcknowledgedSurvivesAKill(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	k := start(t, KafkaOptions{DataDir: dir})
	fill(t, k)
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	checkFilled(t, start(t, KafkaOptions{DataDir: left}))
}

func TestADirectoryHasOneBrokerAtATime(t *testing.T) {
	dir := t.TempDir()
	k := start(t, KafkaOptions{DataDir: dir})
	if _, err := StartKafka(KafkaOptions{DataDir: dir}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second broker: %v", err)
	}
	k.Close()
	k.Close()
	start(t, KafkaOptions{DataDir: dir})
}

func TestOptionsOutOfRangeAndTakenPortsAreRefused(t *testing.T) {
	k := start(t, KafkaOptions{})
	for _, opts := range []KafkaOptions{{Port: -1}, {Port: 65536}, {Partitions: -1}, {Port: k.Port(), DataDir: t.TempDir()}} {
		if _, err := StartKafka(opts); err == nil {
			t.Errorf("%+v accepted", opts)
		}
	}
}

func TestOnlyLegalTopicsAreCreatedByBeingProducedTo(t *testing.T) {
	k := start(t, KafkaOptions{})
	cl := client(t, k, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	for _, name := range []string{"../x", "a b", strings.Repeat("t", 250), ".."} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: name}).FirstErr(); err == nil {
			t.Errorf("topic %q was created", name)
		}
		cancel()
	}
}

func TestTopicsAreCreatedOverManyRequests(t *testing.T) {
	k := start(t, KafkaOptions{})
	cl := client(t, k)
	for range 2500 {
		if _, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
	}
	produce(t, client(t, k, kgo.AllowAutoTopicCreation()), "late", "x")
}

// TestRetentionNeverEmptiesAPartition also holds that a compacted topic and one
// without a retention of its own keep all, and that a young record keeps those
// behind it, however old their timestamps are.
func TestRetentionNeverEmptiesAPartition(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	k := start(t, KafkaOptions{DataDir: dir})
	cl := client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	adm := kadm.NewClient(cl)
	hour, compact := "3600000", "compact"
	for topic, configs := range map[string]map[string]*string{
		"expired": {"retention.ms": &hour}, "young": {"retention.ms": &hour},
		"compacted": {"cleanup.policy": &compact, "retention.ms": &hour}, "plain": nil,
	} {
		if _, err := adm.CreateTopic(t.Context(), 2, 1, configs, topic); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	old := now.Add(-2 * time.Hour)
	write := func(topic string, ages ...time.Time) {
		for _, at := range ages {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("k"), Timestamp: at}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("expired", old, old, old)
	write("young", old, now, old)
	write("compacted", old, old)
	write("plain", old, old)
	if err := k.trim(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	k.cluster.Close() // as Close, but without the lock, which is still ours
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	k = start(t, KafkaOptions{DataDir: left})
	adm = kadm.NewClient(client(t, k))
	starts, err := adm.ListStartOffsets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends, err := adm.ListEndOffsets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string][2]int64{"expired": {2, 3}, "young": {1, 3}, "compacted": {0, 2}, "plain": {0, 2}} {
		start, _ := starts.Lookup(topic, 0)
		end, _ := ends.Lookup(topic, 0)
		if got := [2]int64{start.Offset, end.Offset}; got != want {
			t.Errorf("%s: offsets %v, want %v", topic, got, want)
		}
	}
}
