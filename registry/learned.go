package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// LearnedConfig is what a [Learned] needs.
type LearnedConfig struct {
	// Topic is the registry's topic.
	Topic string
	// Opts are passed to the Kafka client: seed brokers, TLS, SASL, dialer.
	Opts []kgo.Opt
	// Logger is slog.Default() if it is nil.
	Logger *slog.Logger
	// Clock is told of heartbeats; one of its own if it is nil.
	Clock *Clock
	// Count is called for every incident.
	Count func(Incident)
}

// Validate reports what is missing.
func (c *LearnedConfig) Validate() error {
	if c.Topic == "" {
		return errors.New("learned registry records: the topic's name is missing")
	}
	return nil
}

// Learned writes what the system itself finds out, such as breakers, under
// keys that no user's change rewrites but a deletion. It needs no lock: each
// key has one writer, the owner of the endpoint, and the last record counts.
type Learned struct {
	cfg LearnedConfig
	log *slog.Logger
	cl  *kgo.Client
}

// NewLearned makes the producer. Nothing is asked of Kafka before the first record.
func NewLearned(cfg LearnedConfig) (*Learned, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts := append([]kgo.Opt{}, cfg.Opts...)
	opts = append(opts,
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.UnknownTopicRetries(-1),
		// Thousands of breakers may open at once; beyond this Send drops.
		kgo.MaxBufferedRecords(50_000),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("creating client for learned registry records: %w", err)
	}
	if cfg.Clock == nil {
		cfg.Clock = NewClock(nil)
	}
	l := &Learned{cfg: cfg, log: cfg.Logger, cl: cl}
	if l.log == nil {
		l.log = slog.Default()
	}
	return l, nil
}

// learnedKinds are learned of endpoints, and gone with them.
var learnedKinds = [...]string{KindBreaker, KindHealth, KindFilter}

func (l *Learned) record(key string, value []byte) (*kgo.Record, error) {
	kind, _, err := SplitKey(key)
	if err != nil {
		return nil, err
	}
	if kind != KindProgress && !slices.Contains(learnedKinds[:], kind) {
		return nil, fmt.Errorf("registry key %.80q: only records %v and %s are learned, others are written under the lock", key, learnedKinds, KindProgress)
	}
	if len(value) > MaxRecordBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrTooLarge, key, len(value), MaxRecordBytes)
	}
	return &kgo.Record{Topic: l.cfg.Topic, Key: []byte(key), Value: value}, nil
}

// Put writes a record that is learned, such as "breaker/ID", and waits until Kafka has
// it; a nil value removes the key. If ctx ends earlier, it may still be
// written. The value must not be changed afterwards.
func (l *Learned) Put(ctx context.Context, key string, value []byte) error {
	r, err := l.record(key, value)
	if err != nil {
		return err
	}
	return l.produce(ctx, r)
}

func (l *Learned) produce(ctx context.Context, r *kgo.Record) error {
	acked := make(chan error, 1)
	// The record's own context never ends: cancelling one that is on its way
	// costs an idempotent producer its place in the sequence.
	l.cl.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) { acked <- err })
	select {
	case err := <-acked:
		if err != nil {
			return fmt.Errorf("writing registry record %s: %w", r.Key, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send is Put for callers that must not wait, such as a breaker under its
// lock. A record that can't be written is counted and logged.
func (l *Learned) Send(key string, value []byte) {
	failed := func(err error) {
		l.log.Error("learned registry record not written", "key", key, "error", err)
		if l.cfg.Count != nil {
			l.cfg.Count(IncidentWriteFailed)
		}
	}
	r, err := l.record(key, value)
	if err != nil {
		failed(err)
		return
	}
	l.cl.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) {
		if err != nil {
			failed(err)
		}
	})
}

// Heartbeat writes a record that says nothing but the time, for two reasons.
// Kafka rolls a segment only when something is appended and never compacts the
// active one: without it, dropped secrets would stay on the disk of a quiet
// topic. And reading it back tells how far our clock is from the broker's. To be
// called every minute by each process.
func (l *Learned) Heartbeat(ctx context.Context) error {
	value, err := json.Marshal(l.cfg.Clock.send())
	if err != nil {
		return fmt.Errorf("encoding heartbeat: %w", err)
	}
	return l.produce(ctx, &kgo.Record{Topic: l.cfg.Topic, Key: []byte(heartbeatKey), Value: value})
}

// Close writes what is still buffered, until ctx ends, and closes the client.
func (l *Learned) Close(ctx context.Context) error {
	defer l.cl.Close()
	if err := l.cl.Flush(ctx); err != nil {
		return fmt.Errorf("flushing learned registry records: %w", err)
	}
	return nil
}
