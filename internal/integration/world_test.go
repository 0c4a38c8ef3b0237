//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer/watermark"
	"posthorn/registry"
	"posthorn/webhook"
)

const (
	tenant      = "acme"
	eventSource = "shop"
	secretText  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// setup is what a test wants of the line; the zero value of a field means its
// default.
type setup struct {
	prefix     string
	partitions int    // of deliveries; 4
	schedule   string // seconds, as in "2s, 4s"
	maxAge     string
	timeout    string // of the contract "quick"; 2s
	session    string // of a member; the product's default
	retry      string // of the contract "quick": its mapping
	more       string // further lines of the configuration
}

// world is one prefix on a broker: topics, configuration, keyset, endpoints.
type world struct {
	t      testing.TB
	prefix string
	topic  string // of events
	config string // file
	client *kgo.Client
	adm    *kadm.Client
	keyset *registry.Keyset
	// mayProduce holds events back; nil: none.
	mayProduce func(i int) bool
}

// newWorld writes a configuration and creates the topic of events, on brokers
// that are shared or a test's own. Posthorn's topics are still missing.
func newWorld(t testing.TB, brokers []string, s setup) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, prefix: s.prefix, topic: s.prefix + "-orders", config: filepath.Join(dir, "posthorn.yaml")}
	keys := filepath.Join(dir, "keyset.json")
	must(t, "keyset", "create", keys)
	var err error
	if w.keyset, err = registry.OpenKeyset(keys); err != nil {
		t.Fatal(err)
	}
	contracts := filepath.Join(dir, "contracts")
	w.write(filepath.Join(contracts, "quick.yaml"), "description: Standard Webhooks for the impatient\n"+
		"body: {form: data}\nsignature: {scheme: standard}\nsecret: {format: standard, rotation_overlap: 24h}\n"+
		"timeout: "+or(s.timeout, "2s")+"\nretry: "+or(s.retry, "{except: [410]}")+"\n")
	w.write(w.config, fmt.Sprintf(`kafka: {brokers: [%q], session_timeout: %s}
prefix: %s
partitions: {deliveries: %d, fanout: 2, attempts: 2, dead: 2, events: 1, invalid: 1}
topics: {replication_factor: 1}
sources:
  - {name: orders, topics: [%s], format: cloudevents, start: earliest}
registry: {keyset_file: %s}
contracts_dir: %s
delivery:
  tiers: [1s, 2s, 4s]
  schedule: [%s]
  max_age: %s
  allow_cidr: [127.0.0.0/8]
breaker: {open_for: 2s, window: 5m}
%s`, strings.Join(brokers, `", "`), or(s.session, "10s"), s.prefix, or(s.partitions, 4), w.topic, keys, contracts,
		or(s.schedule, "2s, 4s, 8s"), or(s.maxAge, "24h"), s.more))
	w.connect(brokers)
	w.create(w.topic, 4)
	return w
}

func or[T comparable](v, def T) T {
	if v == *new(T) {
		return def
	}
	return v
}

func (w *world) write(file, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) connect(brokers []string) {
	w.t.Helper()
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ProducerLinger(time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.client.Close)
	w.adm = kadm.NewClient(w.client)
}

// create makes a topic.
func (w *world) create(topic string, partitions int32) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if r, err := w.adm.CreateTopic(ctx, partitions, 1, nil, topic); err != nil || r.Err != nil {
		w.t.Fatalf("creating %s: %v %v", topic, err, r.Err)
	}
	poll(w.t, 30*time.Second, "the broker to know of "+topic, func() bool {
		listed, err := w.adm.ListTopics(kadm.WithAuthorizedOps(ctx), topic)
		return err == nil && listed.Has(topic) && len(listed[topic].Partitions) == int(partitions)
	})
}

// apply creates Posthorn's topics.
func (w *world) apply() { w.t.Helper(); must(w.t, "topics", "apply", "--config", w.config) }

// run starts a process of the line and waits until it runs.
func (w *world) run(args ...string) *process {
	w.t.Helper()
	return launch(w.t, nil, append([]string{"run", "--config", w.config}, args...)...).started()
}

// endpointID is that of the endpoint of a number.
func endpointID(i int) string { return fmt.Sprintf("%s%03d", webhook.EndpointPrefix, i) }

// register puts endpoints 0 to n-1 at the receiver, each subscribed to one
// type, straight into the registry: endpoint i gets the events of type(i).
func (w *world) register(r *receiver, n int, kind func(i int) string, change func(i int, e *webhook.Endpoint)) {
	w.t.Helper()
	records := make([]*kgo.Record, 0, n)
	for i := range n {
		e := &webhook.Endpoint{ID: endpointID(i), Tenant: tenant, URL: r.url + "/" + strconv.Itoa(i), Events: []string{kind(i)},
			Contract: "quick", CreatedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC(), Version: 1}
		if change != nil {
			change(i, e)
		}
		sealed, err := w.keyset.Seal(e, "sec_1", secretText)
		if err != nil {
			w.t.Fatal(err)
		}
		sealed.ID = "sec_1"
		e.Secrets = []webhook.SealedSecret{sealed}
		value, err := json.Marshal(e)
		if err != nil {
			w.t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: w.prefix + ".registry", Key: []byte("endpoint/" + e.ID), Value: value})
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if err := w.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		w.t.Fatalf("registering endpoints: %v", err)
	}
}

// event is a CloudEvent in binary mode; the key spreads it over partitions.
func (w *world) event(id, kind string, data []byte) *kgo.Record {
	return &kgo.Record{Topic: w.topic, Key: []byte(id), Value: data, Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte(eventSource)},
		{Key: "ce_type", Value: []byte(kind)}, {Key: "ce_tenant", Value: []byte(tenant)},
		{Key: "content-type", Value: []byte("application/json")},
	}}
}

// produce produces n events at a rate, event i made by make(i), and returns
// when all are acknowledged.
func (w *world) produce(ctx context.Context, n int, perSecond float64, event func(i int) *kgo.Record) error {
	failed := make(chan error, 1)
	begun, done := time.Now(), 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; i < n; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if w.mayProduce != nil && !w.mayProduce(i) {
			begun, done = time.Now(), i // what was held back isn't made up for
			continue
		}
		for due := done + int(time.Since(begun).Seconds()*perSecond); i < min(due, n); i++ {
			w.client.Produce(ctx, event(i), func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
	if err := w.client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fmt.Errorf("producing events: %w", err)
	default:
		return nil
	}
}

// ends returns where the partitions of a topic end.
func (w *world) ends(topic string) map[int32]int64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	listed, err := w.adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		w.t.Fatalf("listing where %s ends: %v", topic, err)
	}
	out := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
	return out
}

// progress is what a group had committed of one partition.
type progress struct {
	watermark int64
	finished  watermark.Runs
	metadata  int // characters
}

// done reports whether an offset was committed as finished.
func (p progress) done(offset int64) bool {
	if offset < p.watermark {
		return true
	}
	for _, r := range p.finished {
		if r.From <= offset && offset < r.To {
			return true
		}
	}
	return false
}

// committed returns what the dispatchers' group has committed.
func (w *world) committed() map[int32]progress {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	offsets, err := w.adm.FetchOffsets(ctx, w.prefix+".dispatch")
	if err != nil {
		w.t.Fatalf("fetching commits: %v", err)
	}
	out := make(map[int32]progress)
	offsets.Each(func(o kadm.OffsetResponse) {
		_, runs, err := watermark.DecodeMetadata(o.Metadata, o.At)
		if err != nil {
			w.t.Errorf("commit metadata of partition %d: %v", o.Partition, err)
		}
		out[o.Partition] = progress{o.At, runs, len(o.Metadata)}
	})
	return out
}
