package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/bench/sink"
	"posthorn/internal/embedded"
	"posthorn/internal/kafkatest"
	"posthorn/registry"
	"posthorn/webhook"
)

const (
	tenant     = "acme"
	eventTopic = "orders"
	prefix     = "posthorn"
)

// signingKey is what every endpoint signs with.
var signingKey = []byte("benchmarks sign like everyone")

// setup is what a run wants; the zero value of a field means its default.
type setup struct {
	ports     int                              // of the receiver
	endpoints int                              // ports if 0; endpoint i is at port i modulo ports
	events    func(i int) []string             // of endpoint i; its own type by default
	endpoint  func(i int, e *webhook.Endpoint) // further changes
	roles     string                           // match,dispatch,retry,api by default
	more      string                           // further lines of the configuration
	kafka     bool                             // Apache Kafka in place of the embedded broker
	env       []string                         // of posthorn
	idle      bool                             // don't start posthorn yet
	dir       string                           // of the embedded broker's data; "": memory
}

// rig is the processes of one run.
type rig struct {
	s      *settings
	setup  setup
	dir    string
	config string
	addr   string
	broker *child            // nil with Apache Kafka
	kafka  *kafkatest.Broker // nil with the embedded one
	sink   *sink.Sink
	client *kgo.Client
	lines  []*line
	keyset *registry.Keyset
	fed    int64
}

// line is a process of posthorn.
type line struct {
	*child
	admin string
}

// newRig starts everything.
func newRig(ctx context.Context, s *settings, u setup) (_ *rig, err error) {
	r := &rig{s: s, setup: u}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.setup.endpoints == 0 {
		r.setup.endpoints = r.setup.ports
	}
	if r.dir, err = os.MkdirTemp("", "posthorn-bench-"); err != nil {
		return nil, err
	}
	if r.sink, err = sink.New(r.setup.ports, signingKey); err != nil {
		return nil, err
	}
	if err = r.startBroker(ctx); err != nil {
		return nil, err
	}
	r.client, err = kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ProducerLinger(0), kgo.UnknownTopicRetries(-1),
		kgo.MaxBufferedRecords(200_000))
	if err != nil {
		return nil, err
	}
	if err = r.configure(ctx); err != nil {
		return nil, err
	}
	if err = r.register(ctx); err != nil {
		return nil, err
	}
	if !u.idle {
		_, err = r.start(ctx, u.roles)
	}
	return r, err
}

func (r *rig) startBroker(ctx context.Context) error {
	if r.setup.kafka {
		b, err := kafkatest.Open(ctx)
		if err != nil {
			return err
		}
		r.kafka, r.addr = b, b.Addrs()[0]
		return b.Warm(ctx)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr := make(chan string, 1)
	env := []string{"BENCH_BROKER_DIR=" + r.setup.dir}
	if r.broker, err = start(func(text string) {
		if a, is := strings.CutPrefix(text, "listening on "); is {
			addr <- a
		}
	}, env, self, "broker"); err != nil {
		return err
	}
	select {
	case r.addr = <-addr:
		return nil
	case <-r.broker.done:
		return fmt.Errorf("the broker ended: %s", r.broker.log())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// broker is the process of the embedded broker.
func broker(ctx context.Context) error {
	k, err := embedded.StartKafka(embedded.KafkaOptions{Partitions: 8, DataDir: os.Getenv("BENCH_BROKER_DIR")})
	if err != nil {
		return err
	}
	fmt.Println("listening on", strings.Join(k.Addrs(), ","))
	<-ctx.Done()
	k.Close()
	return nil
}

func (r *rig) configure(ctx context.Context) error {
	keys := filepath.Join(r.dir, "keyset.json")
	if err := r.posthorn(ctx, "keyset", "create", keys); err != nil {
		return err
	}
	var err error
	if r.keyset, err = registry.OpenKeyset(keys); err != nil {
		return err
	}
	r.config = filepath.Join(r.dir, "posthorn.yaml")
	text := fmt.Sprintf(`kafka: {brokers: [%q]}
prefix: %s
topics: {replication_factor: 1}
sources:
  - {name: orders, topics: [%s], format: cloudevents, start: earliest}
registry: {keyset_file: %s}
delivery: {allow_cidr: [127.0.0.0/8]}
http: {listen: "127.0.0.1:0", pprof: true}
log: {format: json}
%s`, r.addr, prefix, eventTopic, keys, r.setup.more)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := r.posthorn(ctx, "topics", "apply", "--config", r.config); err != nil {
		return err
	}
	made, err := kadm.NewClient(r.client).CreateTopic(ctx, 8, 1, nil, eventTopic)
	return errors.Join(err, made.Err)
}

// posthorn runs a command of the program to its end.
func (r *rig) posthorn(ctx context.Context, args ...string) error {
	c, err := start(nil, nil, r.s.binary, args...)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.kill()
		return ctx.Err()
	}
	if c.err != nil {
		return fmt.Errorf("posthorn %s: %w\n%s", strings.Join(args, " "), c.err, c.log())
	}
	return nil
}

func endpointID(i int) string { return fmt.Sprintf("%sbench%07d", webhook.EndpointPrefix, i) }

// kind is the event type of endpoint i alone.
func kind(i int) string { return "order." + strconv.Itoa(i) }

// register writes the endpoints straight into the registry.
func (r *rig) register(ctx context.Context) error {
	secret := "whsec_" + base64.StdEncoding.EncodeToString(signingKey)
	failed := make(chan error, 1)
	for i := range r.setup.endpoints {
		e := &webhook.Endpoint{ID: endpointID(i), Tenant: tenant, URL: r.sink.URL(i % r.setup.ports), Events: []string{kind(i)},
			Contract: "standard", CreatedAt: time.Now().UTC(), UpdatedAt: time.Now().UTC(), Version: 1}
		if r.setup.events != nil {
			e.Events = r.setup.events(i)
		}
		if r.setup.endpoint != nil {
			r.setup.endpoint(i, e)
		}
		sealed, err := r.keyset.Seal(e, "sec_1", secret)
		if err != nil {
			return err
		}
		sealed.ID = "sec_1"
		e.Secrets = []webhook.SealedSecret{sealed}
		value, err := json.Marshal(e)
		if err != nil {
			return err
		}
		r.client.Produce(ctx, &kgo.Record{Topic: prefix + ".registry", Key: []byte("endpoint/" + e.ID), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := r.client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fmt.Errorf("registering endpoints: %w", err)
	default:
		return nil
	}
}

// start starts a process of posthorn and waits until it runs.
func (r *rig) start(ctx context.Context, roles string) (*line, error) {
	if roles == "" {
		roles = "match,dispatch,retry,api"
	}
	running := make(chan string, 1)
	l := new(line)
	var err error
	l.child, err = start(func(text string) {
		var said struct {
			Msg   string `json:"msg"`
			Admin string `json:"admin"`
		}
		if json.Unmarshal([]byte(text), &said) == nil && said.Msg == "running" {
			select {
			case running <- said.Admin:
			default:
			}
		}
	}, r.setup.env, r.s.binary, "run", "--config", r.config, "--roles", roles)
	if err != nil {
		return nil, err
	}
	r.lines = append(r.lines, l)
	select {
	case l.admin = <-running:
		return l, nil
	case <-l.done:
		return nil, fmt.Errorf("posthorn ended: %s", l.log())
	case <-time.After(2 * time.Minute):
		return nil, errors.New("posthorn didn't start within 2 minutes")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cpu is that of all processes of posthorn.
func (r *rig) cpu() (total time.Duration, err error) {
	for _, l := range r.lines {
		used, err := cpu(l.pid())
		if err != nil {
			return 0, fmt.Errorf("%w\n%s", err, l.log())
		}
		total += used
	}
	return total, nil
}

// takeProfile writes a CPU profile of the next seconds, if one is wanted.
func (r *rig) takeProfile(ctx context.Context, name string, d time.Duration) {
	if r.s.profile == "" || len(r.lines) == 0 {
		return
	}
	get := func(path, file string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.lines[0].admin+path, nil)
		if err != nil {
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			r.s.log("no profile: %v", err)
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		_ = os.MkdirAll(r.s.profile, 0o750)
		_ = os.WriteFile(filepath.Join(r.s.profile, name+file), b, 0o600)
	}
	get(fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(d.Seconds())), ".cpu.pb.gz")
	get("/debug/pprof/allocs", ".allocs.pb.gz")
	get("/debug/pprof/heap", ".heap.pb.gz")
}

func (r *rig) close() {
	for _, l := range r.lines {
		l.stop()
	}
	if r.client != nil {
		r.client.Close()
	}
	if r.broker != nil {
		r.broker.kill()
	}
	if r.kafka != nil {
		r.kafka.Close()
	}
	if r.sink != nil {
		r.sink.Close()
	}
	_ = os.RemoveAll(r.dir)
}
