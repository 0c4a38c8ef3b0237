package kafkatest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	startTimeout = 90 * time.Second // a cold JVM beside other tests on two cores
	stopGrace    = 30 * time.Second
	startTries   = 3 // a free port may be taken before the broker binds it
)

// Broker is one Apache Kafka broker, controller and broker in one process. Its
// methods are for one goroutine at a time; its address may be used by all.
type Broker struct {
	install installation
	dir     string // temporary; holds data, configuration and log
	addr    string
	proc    *process
}

type options struct{ properties map[string]string }

// Option changes how a broker is started.
type Option func(*options)

// WithProperty sets a property of the broker's configuration.
func WithProperty(key, value string) Option {
	return func(o *options) { o.properties[key] = value }
}

// Start runs a broker until the test ends. It returns when the broker answers.
func Start(tb testing.TB, opts ...Option) *Broker {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout+startTimeout)
	defer cancel()
	b, err := start(ctx, opts)
	if err != nil {
		unavailable(tb, err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the end of the broker's log:\n%s", logTail(b.Log()))
		}
		b.remove()
	})
	return b
}

// Open runs a broker for a program that is no test, until [Broker.Close].
func Open(ctx context.Context) (*Broker, error) { return start(ctx, nil) }

// Close ends the broker and removes what it stored.
func (b *Broker) Close() { b.remove() }

// unavailable skips the test when this machine has no means to run Kafka, and
// fails it when the environment requires Kafka or something else went wrong.
func unavailable(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, errUnavailable) && os.Getenv(requireEnv) != "1" {
		tb.Skipf("SKIPPED, as Apache Kafka %s is not available: %v (%s=1 makes this a failure)", Version, err, requireEnv)
	}
	tb.Fatalf("starting Apache Kafka %s: %v", Version, err)
}

var shared struct {
	sync.Mutex
	broker *Broker
	err    error
}

// Shared returns the one broker of this test process, starting and warming it
// up at the first call. Tests share it: they name their topics and groups apart.
// [Main] stops it.
func Shared(tb testing.TB) *Broker {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.broker == nil && shared.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout+startTimeout)
		defer cancel()
		b, err := start(ctx, nil)
		if err == nil {
			if err = b.Warm(ctx); err != nil {
				b.remove()
			}
		}
		if shared.err = err; err == nil {
			shared.broker = b
		}
	}
	if shared.err != nil {
		unavailable(tb, shared.err)
	}
	return shared.broker
}

// Main runs the tests and stops the shared broker; TestMain passes the result
// to os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.broker != nil {
		if code != 0 {
			fmt.Fprintf(os.Stderr, "the end of the shared broker's log:\n%s\n", logTail(shared.broker.Log()))
		}
		shared.broker.remove()
		shared.broker = nil
	}
	return code
}

func start(ctx context.Context, opts []Option) (*Broker, error) {
	o := options{properties: map[string]string{}}
	for _, opt := range opts {
		opt(&o)
	}
	inst, err := install(ctx)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		b, err := startOnce(ctx, inst, o)
		if err == nil {
			return b, nil
		}
		if try == startTries || ctx.Err() != nil || !strings.Contains(err.Error(), "Address already in use") {
			return nil, err
		}
	}
}

func startOnce(ctx context.Context, inst installation, o options) (_ *Broker, err error) {
	dir, err := os.MkdirTemp("", "posthorn-kafka-")
	if err != nil {
		return nil, fmt.Errorf("creating data directory: %w", err)
	}
	b := &Broker{install: inst, dir: dir}
	defer func() {
		if err != nil {
			b.remove()
		}
	}()
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	b.addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	if err := b.writeConfig(ports[1], o.properties); err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	format := exec.CommandContext(ctx, inst.java, "-Xmx128m", "-cp", filepath.Join(inst.lib, "*"), "kafka.tools.StorageTool",
		"format", "-t", base64.RawURLEncoding.EncodeToString(id), "-c", b.config())
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("formatting the data directory: %w\n%s", err, tail(out, 4096))
	}
	return b, b.run(ctx)
}

// writeConfig writes the broker's properties. One broker can't replicate: the
// factors and minimums of the internal topics, 3 and 2 by default, are 1. Group
// members need no company: the rebalance delay is 0. Loopback only.
func (b *Broker) writeConfig(controllerPort int, overrides map[string]string) error {
	controller := fmt.Sprintf("127.0.0.1:%d", controllerPort)
	properties := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         "1@" + controller,
		"controller.listener.names":                        "CONTROLLER",
		"listeners":                                        "PLAINTEXT://" + b.addr + ",CONTROLLER://" + controller,
		"advertised.listeners":                             "PLAINTEXT://" + b.addr,
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         filepath.Join(b.dir, "data"),
		"num.partitions":                                   "4",
		"default.replication.factor":                       "1",
		"min.insync.replicas":                              "1",
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "8",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "8",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"share.coordinator.state.topic.num.partitions":     "8",
		"group.initial.rebalance.delay.ms":                 "0",
		"auto.create.topics.enable":                        "false",
	}
	maps.Copy(properties, overrides)
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", k, properties[k])
	}
	if err := os.WriteFile(b.config(), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("writing the broker's configuration: %w", err)
	}
	if err := os.WriteFile(b.logConfig(), []byte(log4j), 0o600); err != nil {
		return fmt.Errorf("writing the log configuration: %w", err)
	}
	return nil
}

// log4j sends the log to standard output, which is the log file.
const log4j = `appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
`

func (b *Broker) config() string    { return filepath.Join(b.dir, "server.properties") }
func (b *Broker) logConfig() string { return filepath.Join(b.dir, "log4j2.properties") }

// Log is the path of the broker's log file; it is removed with the broker.
func (b *Broker) Log() string { return filepath.Join(b.dir, "server.log") }

// Addrs are the bootstrap addresses, the same over restarts.
func (b *Broker) Addrs() []string { return []string{b.addr} }

// run starts the process and waits until it answers.
func (b *Broker) run(ctx context.Context) error {
	log, err := os.OpenFile(b.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the broker's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	cmd := exec.Command(b.install.java, "-Xmx512m", "-Dlog4j2.configurationFile="+b.logConfig(), "-cp", filepath.Join(b.install.lib, "*"),
		"kafka.Kafka", b.config())
	cmd.Stdout, cmd.Stderr = log, log
	if b.proc, err = startProcess(cmd, b.dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := b.waitReady(ctx); err != nil {
		b.proc.stop(0)
		return fmt.Errorf("waiting for the broker: %w; the end of its log:\n%s", err, logTail(b.Log()))
	}
	return nil
}

// waitReady returns when the broker answers a metadata request.
func (b *Broker) waitReady(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.RetryTimeout(time.Second))
	if err != nil {
		return fmt.Errorf("opening a client: %w", err)
	}
	defer cl.Close()
	for {
		if err := cl.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-b.proc.done:
			return fmt.Errorf("it ended: %w", b.proc.err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // it has no event to wait for
		}
	}
}

// Stop ends the broker in good order; its data stays.
func (b *Broker) Stop() { b.proc.stop(stopGrace) }

// Kill ends the broker with SIGKILL; its data stays.
func (b *Broker) Kill() { b.proc.stop(0) }

// Restart runs the broker again on its data and addresses, stopping it first if
// it still runs. It returns when the broker answers.
func (b *Broker) Restart(ctx context.Context) error {
	b.Stop()
	return b.run(ctx)
}

// remove kills the broker and removes its directory.
func (b *Broker) remove() {
	if b.proc != nil {
		b.proc.stop(0)
	}
	_ = os.RemoveAll(b.dir)
}

// freePorts asks the kernel for ports that are free now.
func freePorts(n int) (ports []int, err error) {
	var held []net.Listener // until all are chosen, so that they differ
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		held = append(held, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
