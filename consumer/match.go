package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"posthorn/webhook"
)

// Subscriber is an endpoint that an event matched, and the contract that its
// body is built by.
type Subscriber struct {
	EndpointID string
	Contract   string
}

// Subscriptions is the registry as matching sees it.
type Subscriptions interface {
	// WaitCurrent blocks while the registry may be behind its topic.
	WaitCurrent(ctx context.Context) error
	// Match appends the subscribers of an event type whose endpoint IDs lie
	// between first and last (both included; empty: no bound), in ID order,
	// and returns the registry's version.
	Match(dst []Subscriber, tenant, eventType, first, last string) ([]Subscriber, webhook.RegistryVersion)
}

// Bodies builds what is POSTed.
type Bodies interface {
	Body(contract string, e *webhook.Event) (body []byte, contentType string, err error)
}

// Rejection says why a record can't be delivered.
type Rejection struct {
	Reason string // a closed set: a metric label
	Detail string
}

// Events reads records of event topics.
type Events interface {
	// Read returns the part of an event that the record stands for, or why it
	// is none. A whole event has no First and Last.
	Read(r *kgo.Record) (*webhook.Task, *Rejection)
	// Invalid builds the record for the topic of invalid events.
	Invalid(r *kgo.Record, why *Rejection) *kgo.Record
}

// Producer produces to Kafka. *kgo.Client is one.
type Producer interface {
	Produce(ctx context.Context, r *kgo.Record, promise func(*kgo.Record, error))
}

// MatchObserver is told what matching sees, for metrics and traces.
type MatchObserver interface {
	// Matching begins an event; the function it returns ends it.
	Matching(e *webhook.Event) (end func(matched, tasks int))
	Invalid(reason string)
}

// MatcherConfig configures a [Matcher].
type MatcherConfig struct {
	Events        Events
	Subscriptions Subscriptions
	Bodies        Bodies
	Producer      Producer
	Observer      MatchObserver
	Log           *slog.Logger
	// Deliveries and Fanout are the topics to produce to.
	Deliveries, Fanout string
	// TaskSize is the most endpoints that are matched in one go; an event with
	// more becomes tasks of that size.
	TaskSize int
	// MaxRecord is the largest record that the topics take, in bytes.
	MaxRecord int
	// QueueBytes bounds what is read but not matched yet, InFlightBytes what
	// is produced but not acknowledged.
	QueueBytes, InFlightBytes int64
}

// recordOverhead is what a delivery costs besides its body: about twenty
// headers, and the producer's bookkeeping.
const recordOverhead = 1 << 10

// Matcher turns events into deliveries. It is the [Handler] of the matching
// stage and of the stage that reads fan-out tasks. Each lease has a goroutine
// of its own, so that a large fan-out delays only its own partition; what is in
// flight is bounded over all of them, first come, first served.
type Matcher struct {
	cfg      MatcherConfig
	inFlight *semaphore.Weighted

	mu      sync.Mutex
	room    *sync.Cond
	queued  int64
	workers map[*Lease]*matchWorker
}

// NewMatcher makes a matcher.
func NewMatcher(cfg MatcherConfig) *Matcher {
	m := &Matcher{cfg: cfg, inFlight: semaphore.NewWeighted(cfg.InFlightBytes), workers: make(map[*Lease]*matchWorker)}
	m.room = sync.NewCond(&m.mu)
	return m
}

// matchWorker matches the events of one lease, one after the other.
type matchWorker struct {
	m      *Matcher
	lease  *Lease
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	mailbox []*Work
	over    bool          // nobody looks into the mailbox any more
	more    chan struct{} // holds a token while the mailbox may hold work

	acks   sync.WaitGroup // produced, not acknowledged
	subs   []Subscriber   // reused from event to event
	bodies map[string]builtBody
}

type builtBody struct {
	body        []byte
	contentType string
	id          [16]byte
	err         error
}

// Take implements [Handler].
func (m *Matcher) Take(l *Lease, work []*Work) {
	m.mu.Lock()
	w := m.workers[l]
	if w == nil {
		w = &matchWorker{m: m, lease: l, more: make(chan struct{}, 1), ended: make(chan struct{}), bodies: make(map[string]builtBody)}
		w.ctx, w.cancel = context.WithCancel(context.Background())
		m.workers[l] = w
		go w.run()
	}
	var bytes int64
	for _, k := range work {
		bytes += workSize(k)
	}
	m.queued += bytes
	m.mu.Unlock()
	w.mu.Lock()
	over := w.over
	if !over {
		w.mailbox = append(w.mailbox, work...)
	}
	w.mu.Unlock()
	if over { // it failed a moment ago: the partition will be read again
		m.dequeued(bytes)
		return
	}
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func workSize(k *Work) int64 { return int64(recordSize(k.Record)) + recordOverhead }

// Room implements [Handler].
func (m *Matcher) Room(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.room.Broadcast()
	})
	defer stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.queued >= m.cfg.QueueBytes && ctx.Err() == nil {
		m.room.Wait()
	}
	return ctx.Err()
}

func (m *Matcher) dequeued(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queued -= bytes
	m.room.Broadcast()
}

// Crowded implements [Handler]; matching finishes in order, so its commits
// have no holes to speak of.
func (m *Matcher) Crowded(*Lease, float64) {}

// Release implements [Handler].
func (m *Matcher) Release(ctx context.Context, ls []*Lease) {
	var ws []*matchWorker
	m.mu.Lock()
	for _, l := range ls {
		if w := m.workers[l]; w != nil {
			ws = append(ws, w)
			delete(m.workers, l)
		}
	}
	m.mu.Unlock()
	stopWorkers(ctx, ws)
}

// Drain implements [Handler]. What is queued is left to the next owner.
func (m *Matcher) Drain(ctx context.Context) {
	var ws []*matchWorker
	m.mu.Lock()
	for _, w := range m.workers {
		ws = append(ws, w)
	}
	m.mu.Unlock()
	stopWorkers(ctx, ws)
}

// stopWorkers ends the workers and waits for their acknowledgements until ctx
// ends.
func stopWorkers(ctx context.Context, ws []*matchWorker) {
	for _, w := range ws {
		w.cancel()
	}
	for _, w := range ws {
		<-w.ended
		acked := make(chan struct{})
		go func() { w.acks.Wait(); close(acked) }()
		select {
		case <-acked:
		case <-ctx.Done():
		}
	}
}

func (w *matchWorker) run() {
	defer close(w.ended)
	defer func() {
		w.mu.Lock()
		left := w.mailbox
		w.mailbox, w.over = nil, true
		w.mu.Unlock()
		var bytes int64
		for _, k := range left {
			bytes += workSize(k)
		}
		w.m.dequeued(bytes)
	}()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-w.more:
		}
		w.mu.Lock()
		batch := w.mailbox
		w.mailbox = nil
		w.mu.Unlock()
		for i, k := range batch {
			if err := w.handle(k); err != nil {
				if w.ctx.Err() == nil {
					w.lease.Fail(err)
				}
				var bytes int64
				for _, k := range batch[i:] {
					bytes += workSize(k)
				}
				w.m.dequeued(bytes)
				return
			}
			w.m.dequeued(workSize(k))
		}
	}
}

// duty counts what one record led to; the record is done when all of it is
// acknowledged.
type duty struct {
	work *Work
	left atomic.Int64
}

func (d *duty) done() {
	if d.left.Add(-1) == 0 {
		d.work.Done()
	}
}

// produce counts the record to the duty. The semaphore's weight is held by the
// caller and given back with the acknowledgement. The context is never
// cancelled: a record that was given to an idempotent producer can't be taken
// back.
func (w *matchWorker) produce(d *duty, r *kgo.Record, weight int64) {
	d.left.Add(1)
	w.acks.Add(1)
	w.m.cfg.Producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
		w.m.inFlight.Release(weight)
		if err != nil {
			w.lease.Fail(fmt.Errorf("producing to %s: %w", r.Topic, err))
		} else {
			d.done()
		}
		w.acks.Done()
	})
}

// handle matches one record. An error means that it couldn't be finished here
// and now; bad input is none.
func (w *matchWorker) handle(k *Work) error {
	d := &duty{work: k}
	d.left.Store(1)
	task, why := w.m.cfg.Events.Read(k.Record)
	if why != nil {
		if err := w.reject(d, why); err != nil {
			return err
		}
		d.done()
		return nil
	}
	if err := w.m.cfg.Subscriptions.WaitCurrent(w.ctx); err != nil {
		return fmt.Errorf("waiting for the registry: %w", err)
	}
	end := w.m.cfg.Observer.Matching(task.Event)
	var version webhook.RegistryVersion
	w.subs, version = w.m.cfg.Subscriptions.Match(w.subs[:0], task.Event.Tenant, task.Event.Type, task.First, task.Last)
	tasks := 0
	var err error
	if task.First == "" && len(w.subs) > w.m.cfg.TaskSize {
		tasks, err = w.split(d, task.Event)
		end(len(w.subs), tasks)
	} else {
		err = w.deliver(d, task.Event, version)
		end(len(w.subs), 0)
	}
	if err != nil {
		return err
	}
	d.done()
	return nil
}

func (w *matchWorker) reject(d *duty, why *Rejection) error {
	w.m.cfg.Observer.Invalid(why.Reason)
	r := w.m.cfg.Events.Invalid(d.work.Record, why)
	weight := w.m.weight(len(r.Value))
	if err := w.m.inFlight.Acquire(w.ctx, weight); err != nil {
		return fmt.Errorf("rejecting an event: %w", err)
	}
	w.produce(d, r, weight)
	return nil
}

func (m *Matcher) weight(value int) int64 {
	return min(int64(value)+recordOverhead, m.cfg.InFlightBytes)
}

// split turns an event into tasks, each a range of endpoint IDs. Where the
// ranges are cut depends on the registry, so a repeat may cut elsewhere: the
// deliveries that come of it are the same, and are dropped as repeats.
func (w *matchWorker) split(d *duty, e *webhook.Event) (tasks int, err error) {
	size := w.m.cfg.TaskSize
	for from := 0; from < len(w.subs); from += size {
		to := min(from+size, len(w.subs))
		t := webhook.Task{Event: e, First: w.subs[from].EndpointID, Last: w.subs[to-1].EndpointID}
		r := &kgo.Record{
			Topic: w.m.cfg.Fanout,
			// The range is in the key, so that an event's tasks spread over
			// the partitions.
			Key:     []byte(e.Position.String() + "/" + strconv.Itoa(tasks)),
			Value:   e.Data,
			Headers: recordHeaders(t.AppendHeaders(nil)),
		}
		if size := recordSize(r); size > w.m.cfg.MaxRecord {
			return tasks, w.tooLarge(d, r.Topic, size)
		}
		weight := w.m.weight(len(r.Value))
		if err := w.m.inFlight.Acquire(w.ctx, weight); err != nil {
			return tasks, fmt.Errorf("producing a fan-out task: %w", err)
		}
		w.produce(d, r, weight)
		tasks++
	}
	return tasks, nil
}

func (w *matchWorker) tooLarge(d *duty, topic string, size int) error {
	return w.reject(d, &Rejection{Reason: "oversize", Detail: fmt.Sprintf("a record of %d bytes for %s is larger than the topic takes, %d", size, topic, w.m.cfg.MaxRecord)})
}

// deliver produces a delivery for each subscriber. The body is built once for
// each contract, and its bytes are shared.
func (w *matchWorker) deliver(d *duty, e *webhook.Event, version webhook.RegistryVersion) error {
	clear(w.bodies)
	defer clear(w.bodies)
	matchedAt := time.Now()
	for _, sub := range w.subs {
		built, ok := w.bodies[sub.Contract]
		if !ok {
			built.body, built.contentType, built.err = w.m.cfg.Bodies.Body(sub.Contract, e)
			built.id = webhook.BodyID(built.body)
			w.bodies[sub.Contract] = built
			if built.err != nil {
				why := &Rejection{Reason: "contract", Detail: fmt.Sprintf("contract %s: %v", sub.Contract, built.err)}
				if err := w.reject(d, why); err != nil {
					return err
				}
			}
		}
		if built.err != nil {
			continue
		}
		v := webhook.Delivery{
			ID: webhook.DeliveryID(e.Source, e.ID, sub.EndpointID), Origin: webhook.OriginMatch,
			EventID: e.ID, EventSource: e.Source, EventType: e.Type, Tenant: e.Tenant,
			EndpointID: sub.EndpointID, Contract: sub.Contract, ContentType: built.contentType,
			BegunAt: e.Timestamp, MatchedAt: matchedAt, BodyID: built.id, Source: e.Position, Registry: version,
			Traceparent: e.Traceparent, Tracestate: e.Tracestate, Body: built.body,
		}
		r := &kgo.Record{
			Topic: w.m.cfg.Deliveries, Key: []byte(v.EndpointID), Value: v.Body,
			Headers: recordHeaders(v.AppendHeaders(make([]webhook.Header, 0, 24))),
		}
		if size := recordSize(r); size > w.m.cfg.MaxRecord {
			if err := w.tooLarge(d, r.Topic, size); err != nil {
				return err
			}
			continue
		}
		weight := w.m.weight(len(r.Value))
		if err := w.m.inFlight.Acquire(w.ctx, weight); err != nil {
			return fmt.Errorf("producing a delivery: %w", err)
		}
		w.produce(d, r, weight)
	}
	return nil
}

func recordHeaders(hs []webhook.Header) []kgo.RecordHeader {
	out := make([]kgo.RecordHeader, len(hs))
	for i, h := range hs {
		out[i] = kgo.RecordHeader(h)
	}
	return out
}

// recordSize is at least what the record takes in a batch (Kafka message
// format v2: varint lengths of at most 5 bytes each).
func recordSize(r *kgo.Record) int {
	n := 64 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

var _ Handler = (*Matcher)(nil)
