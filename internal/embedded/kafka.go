package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DefaultPartitions is the number of partitions of a topic that is created
// without one, or by being produced to.
const DefaultPartitions = 4

// ClusterID is by which a client knows that it talks to an embedded broker.
const ClusterID = "posthorn-dev"

// never is a period of ten years in milliseconds: kfake has no switch for its
// own compaction and retention, only this interval. (The largest int64 would
// overflow when kfake makes a time.Duration of it.)
const never = "315360000000"

// KafkaOptions configures [StartKafka].
type KafkaOptions struct {
	// DataDir keeps topics, records, group offsets and producer state; it is
	// created with mode 0700. Empty keeps everything in memory.
	DataDir string
	// Port on 127.0.0.1; 0 chooses a free one.
	Port int
	// Partitions of topics created without a count; 0 means DefaultPartitions.
	Partitions int
	// Logger takes the broker's warnings and errors; nil discards them.
	Logger *slog.Logger
}

// Kafka is a running broker.
//
// What DataDir promises: everything acknowledged survives Close and a kill of
// the process, as it has been written to the operating system by then; after a
// power failure the last moments may be missing (there is no fsync per record,
// as in Kafka's own default). A transaction that was open at a kill is aborted.
// After a kill, records below the log start may show again up to the beginning
// of their batch.
//
// What it doesn't do: compact. kfake's compaction counts records of open
// transactions as committed, so a record superseded only by a transaction that
// aborts later would be gone; compacted topics keep their whole history
// instead. Retention by time is done here, see [Kafka.trim]; retention.bytes is
// ignored.
type Kafka struct {
	cluster *kfake.Cluster
	lock    *os.File
	stop    context.CancelFunc
	done    sync.WaitGroup
	addr    string
	asked   int // metadata requests since createAsked was registered
	close   sync.Once
}

// StartKafka starts a broker and returns when it listens. A DataDir that
// another process has open is an error.
func StartKafka(opts KafkaOptions) (_ *Kafka, err error) {
	if opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("starting embedded Kafka: port %d: want 1 to 65535, or 0 for a free one", opts.Port)
	}
	if opts.Partitions < 0 {
		return nil, fmt.Errorf("starting embedded Kafka: partitions %d: want 1 or more, or 0 for %d", opts.Partitions, DefaultPartitions)
	}
	if opts.Partitions == 0 {
		opts.Partitions = DefaultPartitions
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	k := new(Kafka)
	defer func() {
		if err != nil && k.lock != nil {
			_ = k.lock.Close() // nothing is ever written to it
		}
	}()
	kopts := []kfake.Opt{
		kfake.Ports(opts.Port),
		kfake.ClusterID(ClusterID),
		kfake.DefaultNumPartitions(opts.Partitions),
		kfake.WithLogger(logger{opts.Logger}),
		kfake.BrokerConfigs(map[string]string{
			// Never on its own: it would compact (see Kafka), and its retention
			// also empties compacted topics, and partitions to the last record,
			// whose offsets begin at 0 again after a restart.
			"log.cleaner.backoff.ms": never,
			"log.retention.ms":       "-1",
			// A laptop that was closed for a week has not abandoned its groups.
			"offsets.retention.minutes": "5256000",
		}),
	}
	if opts.DataDir != "" {
		// kfake makes what is below readable for all; this directory isn't.
		if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("creating the embedded Kafka's directory: %w", err)
		}
		if k.lock, err = lockDir(filepath.Join(opts.DataDir, "lock")); err != nil {
			return nil, err
		}
		kopts = append(kopts, kfake.DataDir(opts.DataDir))
	}
	if k.cluster, err = kfake.NewCluster(kopts...); err != nil {
		return nil, fmt.Errorf("starting embedded Kafka on port %d: %w", opts.Port, err)
	}
	k.addr = k.cluster.ListenAddrs()[0]
	k.cluster.ControlKey(int16(kmsg.Metadata), k.createAsked)

	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.done.Go(func() { k.keepTrimming(ctx, opts.Logger) })
	return k, nil
}

// Addrs are the bootstrap addresses.
func (k *Kafka) Addrs() []string { return []string{k.addr} }

// Port is the port on 127.0.0.1.
func (k *Kafka) Port() int {
	addr, err := net.ResolveTCPAddr("tcp", k.addr)
	if err != nil {
		return 0
	}
	return addr.Port
}

// Close ends all connections and writes what is not yet written. It may be
// called more than once.
func (k *Kafka) Close() {
	k.close.Do(func() {
		// The trimmer first: a cluster that has ended never answers it.
		k.stop()
		k.done.Wait()
		k.cluster.Close()
		if k.lock != nil {
			_ = k.lock.Close() // nothing is ever written to it
		}
	})
}

// createAsked creates the topics that a metadata request allows to be created,
// so that any client can produce to a new topic. kfake could do it by itself,
// but a topic made so is on disk only after an orderly shutdown, and its records
// would be lost with a kill. kfake calls this apart from its own loop, which
// goes on serving CreateTopic meanwhile.
func (k *Kafka) createAsked(req kmsg.Request) (kmsg.Response, error, bool) { //nolint:revive // the order of results is that of kfake's control functions
	// kfake keeps the last request of each connection that a control function
	// has met, closed ones too, until the function is dropped: begin anew now and
	// then. (Control functions run one at a time.)
	if k.asked++; k.asked == 1000 {
		k.asked = 0
		k.cluster.DropControl()
		k.cluster.ControlKey(int16(kmsg.Metadata), k.createAsked)
	}
	m, ok := req.(*kmsg.MetadataRequest)
	if !ok || !m.AllowAutoTopicCreation {
		return nil, nil, false
	}
	for _, t := range m.Topics {
		if t.Topic == nil || !legalTopic(*t.Topic) {
			continue
		}
		// It may exist already; if it can't be made, the answer to the client is
		// the usual one, that there is no such topic.
		_ = k.cluster.CreateTopic(*t.Topic, -1, nil)
	}
	return nil, nil, false
}

// legalTopic reports whether Kafka allows the name: 1 to 249 ASCII letters,
// digits, dots, dashes and underscores, but not "." or "..".
func legalTopic(name string) bool {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) < 0
}

// logger passes kfake's log on.
type logger struct{ *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	var to slog.Level
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	default:
		return // its information is a line for each request
	}
	l.Log(context.Background(), to, "embedded kafka: "+fmt.Sprintf(format, args...)) //nolint:sloglint // the message is kfake's own
}
