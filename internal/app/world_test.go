package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/contract"
	"posthorn/internal/config"
	"posthorn/internal/embedded"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/webhook"
)

func TestMain(m *testing.M) {
	embedded.ClickHouseChild()
	goleak.VerifyTestMain(m)
}

// world is a broker, receivers and any number of Posthorn processes on a
// network in memory, in virtual time.
type world struct {
	t      *testing.T
	broker *embedded.Virtual
	net    kfake.VirtualNetwork // of the receivers
	client *kgo.Client
	keyset *registry.Keyset
	cfg    *config.Config
	log    *slog.Logger
	// options, if set, changes those of every process.
	options func(*Options)

	mu   sync.Mutex
	hits []hit
}

// hit is one POST as a receiver saw it.
type hit struct {
	at       time.Time
	endpoint string // the URL's path
	id       string // of the delivery
	header   http.Header
	body     string
	status   int
}

const secretText = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// inVirtualTime runs a test in a world of its own, beside others.
func inVirtualTime(t *testing.T, change func(*config.Config), f func(*world)) {
	t.Helper()
	t.Parallel()
	inVirtualTimeFrom(t, time.Time{}, change, f)
}

// inVirtualTimeFrom begins at that time, or when virtual time does, in 2000; the
// test is not made parallel. The keyset file is read outside the bubble, so that no
// time depends on a disk.
func inVirtualTimeFrom(t *testing.T, begin time.Time, change func(*config.Config), f func(*world)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keyset.json")
	if err := registry.CreateKeysetFile(file); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(begin)) // nothing runs yet that would wake up meanwhile
		w := &world{t: t, log: slog.New(slog.DiscardHandler)}
		if os.Getenv("POSTHORN_TEST_LOG") != "" {
			w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		w.broker = embedded.StartVirtual(t, kfake.SeedTopics(4, "orders"))
		w.cfg = config.Default()
		w.cfg.Kafka.Brokers = w.broker.Addrs()
		w.cfg.Topics.ReplicationFactor = 1
		w.cfg.Partitions = config.Partitions{Deliveries: 4, Fanout: 2, Attempts: 2, Dead: 2, Events: 1, Invalid: 1}
		w.cfg.Registry.KeysetFile = file
		w.cfg.Sources = []config.Source{{Name: "orders", Topics: []string{"orders"}, Format: config.FormatCloudEvents,
			Start: config.Start{At: config.StartEarliest}, MaxSize: config.DefaultMaxSize}}
		if change != nil {
			change(w.cfg)
		}
		var err error
		if w.keyset, err = registry.OpenKeyset(file); err != nil {
			t.Fatal(err)
		}
		w.client, err = kgo.NewClient(append(w.broker.ClientOpts(), kgo.ProducerLinger(0), kgo.AllowAutoTopicCreation(),
			kgo.ProducerBatchMaxBytes(8<<20))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.client.Close)
		if _, err := topics.Apply(context.Background(), w.client, topics.Plan(w.cfg)); err != nil {
			t.Fatal(err)
		}
		f(w)
	})
}

// cuttable is a network that can be cut, as by kill -9 or a pulled cable.
type cuttable struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	mu   sync.Mutex
	cut  bool
	open map[net.Conn]struct{}
}

func (c *cuttable) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		_ = conn.Close()
		return nil, errors.New("the network is cut")
	}
	c.open[conn] = struct{}{}
	return conn, nil
}

func (c *cuttable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for conn := range c.open {
		_ = conn.Close()
	}
}

// process is one Posthorn process.
type process struct {
	t     *testing.T
	stop  context.CancelFunc
	ended chan error
	kafka *cuttable
	http  *cuttable
}

func (w *world) process(roles ...Role) *process {
	w.t.Helper()
	p := &process{t: w.t, ended: make(chan error, 1),
		kafka: &cuttable{dial: w.broker.DialContext, open: make(map[net.Conn]struct{})},
		http:  &cuttable{open: make(map[net.Conn]struct{})}}
	p.http.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		return w.net.DialContext(ctx, network, "localhost:"+port)
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	started := make(chan struct{})
	if len(roles) == 0 {
		roles = []Role{RoleMatch, RoleDispatch, RoleRetry}
	}
	w.t.Cleanup(func() { // after a failure the bubble has to empty all the same
		p.kafka.Cut()
		p.http.Cut()
		p.stop()
	})
	opts := Options{Config: w.cfg, Roles: roles, Log: w.log, NoAdmin: true, Dial: p.http.Dial,
		Kafka: []kgo.Opt{kgo.Dialer(p.kafka.Dial)}, Started: func(string) { close(started) }}
	if w.options != nil {
		w.options(&opts)
	}
	go func() { p.ended <- Run(ctx, opts) }()
	select {
	case <-started:
	case err := <-p.ended:
		w.t.Fatalf("starting: %v", err)
	}
	return p
}

// terminate is SIGTERM.
func (p *process) terminate() {
	p.t.Helper()
	p.stop()
	if err := <-p.ended; err != nil {
		p.t.Errorf("stopping: %v", err)
	}
}

// kill is kill -9: nothing gets out any more.
func (p *process) kill() {
	p.kafka.Cut()
	p.http.Cut()
	p.stop()
	go func() { <-p.ended }()
}

// receiver answers POSTs to a port; answer gets the hit and returns its status.
func (w *world) receiver(port int, answer func(h *hit, rw http.ResponseWriter, r *http.Request)) {
	w.t.Helper()
	ln, err := w.net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		w.t.Fatal(err)
	}
	w.serve(ln, answer)
}

func (w *world) serve(ln net.Listener, answer func(h *hit, rw http.ResponseWriter, r *http.Request)) {
	srv := &http.Server{ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var body strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			body.Write(buf[:n])
			if err != nil {
				break
			}
		}
		h := &hit{at: time.Now(), endpoint: r.URL.Path, id: r.Header.Get("Webhook-Id"), header: r.Header.Clone(), body: body.String(), status: 200}
		if answer != nil {
			answer(h, rw, r)
		}
		w.mu.Lock()
		w.hits = append(w.hits, *h)
		w.mu.Unlock()
		rw.WriteHeader(h.status)
	})}
	go func() { _ = srv.Serve(ln) }()
	w.t.Cleanup(func() { _ = srv.Close() })
}

// received returns the hits so far on a path ("" for all).
func (w *world) received(path string) (hs []hit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hits {
		if path == "" || h.endpoint == path {
			hs = append(hs, h)
		}
	}
	return hs
}

// endpoint registers an endpoint of tenant acme at the receiver of port 8080,
// on the path of its name.
func (w *world) endpoint(name string, events ...string) *webhook.Endpoint {
	w.t.Helper()
	e := &webhook.Endpoint{ID: webhook.EndpointPrefix + name, Tenant: "acme", URL: "http://hooks.example.com:8080/" + name,
		Events: events, Contract: contract.Default, CreatedAt: time.Now(), UpdatedAt: time.Now(), Version: 1}
	w.put(e)
	return e
}

func (w *world) put(e *webhook.Endpoint) {
	w.t.Helper()
	w.produce(w.sealedRecord(e))
}

// sealedRecord is the registry's record of an endpoint, with a secret.
func (w *world) sealedRecord(e *webhook.Endpoint) *kgo.Record {
	w.t.Helper()
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
	return &kgo.Record{Topic: "posthorn.registry", Key: []byte("endpoint/" + e.ID), Value: value}
}

func (w *world) produce(r *kgo.Record) {
	w.t.Helper()
	if err := w.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
		w.t.Fatalf("producing to %s: %v", r.Topic, err)
	}
}

// event produces an event of tenant acme.
func (w *world) event(id, kind string) {
	w.t.Helper()
	w.produce(&kgo.Record{Topic: "orders", Key: []byte(id), Value: []byte(`{"id":"` + id + `"}`), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte("shop")},
		{Key: "ce_type", Value: []byte(kind)}, {Key: "ce_tenant", Value: []byte("acme")},
		{Key: "content-type", Value: []byte("application/json")}}})
}

// read returns every record of a topic.
func (w *world) read(topic string) (rs []*kgo.Record) {
	w.t.Helper()
	cl, err := kgo.NewClient(append(w.broker.ClientOpts(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		fs := cl.PollFetches(ctx)
		cancel()
		if fs.NumRecords() == 0 {
			return rs
		}
		rs = append(rs, fs.Records()...)
	}
}

// settlements returns the ledger.
func (w *world) settlements() (ss []*webhook.Settlement) {
	w.t.Helper()
	for _, r := range w.read("posthorn.attempts") {
		s := new(webhook.Settlement)
		if err := json.Unmarshal(r.Value, s); err != nil {
			w.t.Fatal(err)
		}
		ss = append(ss, s)
	}
	return ss
}
