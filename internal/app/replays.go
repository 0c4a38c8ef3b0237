package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer"
	"posthorn/consumer/eventlog"
	"posthorn/consumer/replay"
	"posthorn/consumer/watermark"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/registry/filter"
	"posthorn/registry/match"
	"posthorn/webhook"
)

// buildReplays adds the stage that runs replays. It belongs to the role match: it
// reads what that reads, and makes the same of it.
func (l *Line) buildReplays() error {
	events, err := newSourceEvents(l.cfg)
	if err != nil {
		return err
	}
	book, err := l.openLedger()
	if err != nil {
		return err
	}
	log := eventlog.New(l.control)
	cfg := replay.EventsConfig{Log: log, Events: events, Bodies: bodies{l.contracts}, Topics: l.eventTopics, Covering: covering, MaxRecord: l.maxBody()}
	var failed replay.Ledger
	if book != nil {
		failed = &failedLedger{ledger: book, rebuild: l.rebuilder(log, events), bodies: bodies{l.contracts}}
	}
	runner, err := replay.NewRunner(replay.Config{
		Registry: &replayRegistry{follower: l.follower, store: l.store, save: l.learned.Put, subscribed: make(map[string]subscribed)},
		Line:     newReplayLine(l),
		Source: func(ctx context.Context, r *webhook.Replay, at *webhook.ReplayProgress) (replay.Source, error) {
			switch {
			case r.Kind == webhook.ReplayEvents:
				return replay.OpenEvents(ctx, &cfg, r, at)
			case failed == nil:
				return nil, errors.New("no ClickHouse is configured for this process")
			}
			return replay.OpenFailed(ctx, failed, r, at)
		},
		Waits: l.waits,
		Log:   l.log,
	})
	if err != nil {
		return err
	}
	return l.addStage(consumer.Config{Name: "replays", Group: l.cfg.Prefix + ".replays",
		Topics: []string{topics.Name(l.cfg.Prefix, topics.RoleReplays)}, Handler: runner})
}

// maxBody is the largest body of a delivery: the rest of a record is headers.
func (l *Line) maxBody() int { return int(topics.MaxMessageBytes(l.cfg)) - recordRoom }

// recordRoom is what a delivery's record takes besides its body.
const recordRoom = 32 << 10

// eventTopics lists the topics of the sources.
func (l *Line) eventTopics(ctx context.Context) ([]string, error) {
	listed, err := kadm.NewClient(l.control).ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the topics of the sources: %w", err)
	}
	return slices.DeleteFunc(listed.Names(), func(name string) bool { return l.cfg.SourceOf(name) == nil }), nil
}

// covering returns what reports whether one of the patterns covers an event type,
// by the very index that matching uses.
func covering(patterns []string) func(eventType string) bool {
	x := match.New()
	x.Put("", &match.Endpoint{ID: "e"}, patterns, false)
	return func(eventType string) bool { return len(x.Lookup(nil, "", eventType)) > 0 }
}

// wanting returns what reports whether a subscription wants an event, and whether
// its filter could not decide: then it doesn't.
func wanting(patterns []string, expression string) func(e *webhook.Event) (wanted, undecided bool) {
	covered := covering(patterns)
	if expression == "" {
		return func(e *webhook.Event) (bool, bool) { return covered(e.Type), false }
	}
	program := filter.New(expression)
	return func(e *webhook.Event) (bool, bool) {
		if !covered(e.Type) {
			return false, false
		}
		var event filter.Event
		event.Reset(e)
		wanted, trouble := program.Wants(&event)
		return wanted, trouble != ""
	}
}

// keptSubscriptions bounds how many subscriptions are kept ready.
const keptSubscriptions = 64

// replayRegistry is the registry as replay.Registry.
type replayRegistry struct {
	follower *registry.Follower
	store    *registry.Store
	save     func(ctx context.Context, key string, value []byte) error

	mu sync.Mutex
	// subscribed are the subscriptions of the endpoints that are replayed to.
	subscribed map[string]subscribed
}

// subscribed is a subscription that is ready to be asked.
type subscribed struct {
	of     *webhook.Endpoint
	wanted func(e *webhook.Event) (wanted, undecided bool)
}

// subscription returns that of an endpoint as it is now.
func (r *replayRegistry) subscription(ep *webhook.Endpoint) subscribed {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.subscribed[ep.ID]
	if !ok || !sameState(s.of, ep) {
		if len(r.subscribed) >= keptSubscriptions {
			clear(r.subscribed) // most are of replays that ended
		}
		s = subscribed{ep, wanting(ep.Events, ep.Filter)}
		r.subscribed[ep.ID] = s
	}
	return s
}

// WaitCurrent implements replay.Registry.
func (r *replayRegistry) WaitCurrent(ctx context.Context) error { return r.follower.WaitCurrent(ctx) }

// Version implements replay.Registry.
func (r *replayRegistry) Version() webhook.RegistryVersion { return r.follower.Version() }

// Replay implements replay.Registry.
func (r *replayRegistry) Replay(key string) (*webhook.Replay, bool) {
	return recordOf[webhook.Replay](r.store, registry.KindReplay, key)
}

// Progress implements replay.Registry.
func (r *replayRegistry) Progress(key string) (*webhook.ReplayProgress, bool) {
	return recordOf[webhook.ReplayProgress](r.store, registry.KindProgress, key)
}

// recordOf reads a record of the registry; one that can't be read counts as none.
func recordOf[T any](store *registry.Store, kind, id string) (*T, bool) {
	value, ok := store.Raw(kind, id)
	if !ok {
		return nil, false
	}
	v := new(T)
	return v, json.Unmarshal(value, v) == nil
}

// Save implements replay.Registry.
func (r *replayRegistry) Save(ctx context.Context, key string, p *webhook.ReplayProgress) error {
	value, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encoding a replay's progress: %w", err)
	}
	return r.save(ctx, registry.Key(registry.KindProgress, key), value)
}

// Target implements replay.Registry.
func (r *replayRegistry) Target(id string) (replay.Target, bool) {
	ep, ok := r.store.Get(id)
	if !ok {
		return replay.Target{}, false
	}
	breaker, known := r.store.Breaker(id)
	to := replay.Target{Contract: ep.Contract, Trickle: known && breaker.State == breakerOpen}
	switch {
	case ep.Disabled:
		to.Held = "the endpoint is disabled"
	case ep.Paused:
		to.Held = "the endpoint is paused"
	case r.store.Suspended(ep.Tenant):
		to.Held = "the tenant is suspended"
	case pausesOf(r.store).has(ep.Tenant):
		to.Held = "deliveries are paused"
	}
	to.Matches = func(e *webhook.Event) bool {
		wanted, _ := r.subscription(ep).wanted(e)
		return wanted
	}
	return to, true
}

// replayLine is the topic of deliveries as replay.Line.
type replayLine struct {
	producer consumer.Producer
	adm      *kadm.Client
	group    string // of dispatch
	topic    string

	mu    sync.Mutex
	at    map[string]int32 // partition by endpoint ID, as the producer chose it
	asOf  time.Time
	known kadm.OffsetResponses
}

// commitsFor is how long fetched commits are good for several replays.
const commitsFor = 150 * time.Millisecond

func newReplayLine(l *Line) *replayLine {
	return &replayLine{producer: l.producer, adm: kadm.NewClient(l.control), group: l.cfg.Prefix + ".dispatch",
		topic: topics.Name(l.cfg.Prefix, topics.RoleDeliveries), at: make(map[string]int32)}
}

// deliveryRecord is a delivery as a record of a topic.
func deliveryRecord(topic string, d *webhook.Delivery) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(d.EndpointID), Value: d.Body,
		Headers: webhook.AppendDeliveryHeaders(make([]kgo.RecordHeader, 0, 24), d)}
}

// Put implements replay.Line.
func (r *replayLine) Put(ctx context.Context, ds []*webhook.Delivery) ([]int64, error) {
	records, err := produceAll(ctx, r.producer, r.topic, ds)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, rec := range records {
		offsets[i] = rec.Offset
		r.at[string(rec.Key)] = rec.Partition
	}
	return offsets, nil
}

// produceAll produces deliveries and waits for all acknowledgements. The context
// only ends the waiting: what was given to an idempotent producer can't be taken
// back.
func produceAll(ctx context.Context, producer consumer.Producer, topic string, ds []*webhook.Delivery) ([]*kgo.Record, error) {
	acked := make(chan error, len(ds))
	records := make([]*kgo.Record, len(ds))
	for i, d := range ds {
		records[i] = deliveryRecord(topic, d)
		producer.Produce(context.WithoutCancel(ctx), records[i], func(_ *kgo.Record, err error) { acked <- err })
	}
	var errs []error
	for range ds {
		select {
		case err := <-acked:
			errs = append(errs, err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return records, errors.Join(errs...)
}

// Finished implements replay.Line.
func (r *replayLine) Finished(ctx context.Context, endpointID string) (func(int64) bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.asOf) > commitsFor {
		offsets, err := r.adm.FetchOffsets(ctx, r.group)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return nil, fmt.Errorf("fetching the commits of group %s: %w", r.group, err)
		}
		r.known, r.asOf = offsets, time.Now()
	}
	commit, ok := r.known.Lookup(r.topic, r.at[endpointID])
	if !ok || commit.Err != nil || commit.At < 0 {
		return func(int64) bool { return false }, nil
	}
	// Metadata that isn't ours says nothing.
	_, runs, _ := watermark.DecodeMetadata(commit.Metadata, commit.At)
	return func(offset int64) bool {
		if offset < commit.At {
			return true
		}
		i := sort.Search(len(runs), func(i int) bool { return runs[i].To > offset })
		return i < len(runs) && runs[i].From <= offset
	}, nil
}
