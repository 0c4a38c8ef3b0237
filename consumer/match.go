package consumer

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"posthorn/webhook"
)

// Subscriber is an endpoint that an event matched, and the contract that its
// body is built by.
type Subscriber struct {
	EndpointID string
	Contract   string
	// Filter is what [Subscriptions.Wanted] decides by; nil for a subscriber that
	// wants every event of its types.
	Filter any
}

// Subscriptions is the registry as matching sees it.
type Subscriptions interface {
	// WaitCurrent blocks while the registry may be behind its topic.
	WaitCurrent(ctx context.Context) error
	// Match appends the subscribers of an event type whose endpoint IDs lie
	// between first and last (both included; empty: no bound), in ID order,
	// and returns the registry's version.
	Match(dst []Subscriber, tenant, eventType, first, last string) ([]Subscriber, webhook.RegistryVersion)
	// Wanted removes the subscribers whose filters don't want the event, in
	// place. It is called for no more than a task's at a time.
	Wanted(subs []Subscriber, e *webhook.Event) []Subscriber
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

var _ Handler = (*Matcher)(nil)
