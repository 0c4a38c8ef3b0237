package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// commitWithin bounds one commit: a handover waits for the one under way.
	commitWithin = 5 * time.Second
	// insertWithin bounds one insert. One that was given up may come through
	// all the same: it is repeated with the same token.
	insertWithin = 2 * time.Minute
	// handoverWithin bounds how long a handover waits for an insert: the next
	// owner repeats it with the same token.
	handoverWithin = 2 * time.Second
	// Failed inserts are tried again after these times, longer each time.
	retryAtFirst = 250 * time.Millisecond
	retryAtMost  = 15 * time.Second
)

// Sink is one member of the group that fills the ledger.
type Sink struct {
	cfg    Config
	log    *slog.Logger
	client *kgo.Client
	adm    *kadm.Client
	// started is closed once client is set: a kgo client joins its group, and
	// so calls back, before its constructor has returned.
	started chan struct{}

	mu      sync.Mutex
	parts   map[tp]*part
	fetched map[tp]commit // read by offsetsFetched, used by takeOver
	halted  map[tp]error  // partitions that need a person
	bytes   int64         // of all buffers
	joined  bool
	begun   bool  // the progress of every partition has a row
	failing error // of the last insert, nil once one came through
	// busy is what the inserting goroutine works on; idle is closed when it
	// lets go of it.
	busy *part
	idle chan struct{}

	// committing holds a token while a commit is under way, so that none goes
	// out for a partition that has just been given away.
	committing chan struct{}
	changed    chan struct{} // something was read, or assigned
	room       chan struct{} // something was let go
}

type tp struct {
	topic     string
	partition int32
}

// part is one assignment of one partition.
type part struct {
	tp
	id  kadm.TopicID
	buf *buffer
	// ended parts are another member's: nothing is committed for them. Leaving
	// ones begin no further batch.
	ended, leaving bool
	// fresh parts begin where nothing is committed: nobody has read them, or
	// what was lost is accepted. That is committed soon, even if nothing comes.
	fresh   bool
	samples samples
	index   timeIndex // of a deliveries partition
}

// New makes a member of the group; it joins with [Sink.Run].
func New(cfg Config) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	return &Sink{
		cfg: cfg, log: cfg.Log, started: make(chan struct{}),
		parts: make(map[tp]*part), fetched: make(map[tp]commit), halted: make(map[tp]error),
		committing: make(chan struct{}, 1), changed: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}, nil
}

// Run joins the group and works until ctx ends; then it finishes the insert
// under way, commits and leaves. What is read and not inserted is read again by
// the next. The error is nil after an orderly stop.
func (s *Sink) Run(ctx context.Context) error {
	client, err := kgo.NewClient(s.options()...)
	if err != nil {
		return fmt.Errorf("starting the sink: %w", err)
	}
	s.client, s.adm = client, kadm.NewClient(client)
	close(s.started)

	// What records results outlives what takes in: an insert that has begun is
	// finished, and its commit too.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { s.insertLoop(ctx, working) })
	wg.Go(func() { s.progressLoop(ctx) })
	s.pollLoop(ctx)
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(2 * handoverWithin):
		stop()
		<-ended
	}
	client.CloseAllowingRebalance() // leaving revokes everything
	return nil
}

// Ready returns why records are not being taken in, or nil.
func (s *Sink) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.joined {
		return fmt.Errorf("the sink has not joined its group %s yet", s.cfg.Group)
	}
	for _, err := range s.halted {
		return err
	}
	return nil
}

// Failing returns the error of the last insert, or nil if it came through.
// Nothing is lost meanwhile: Kafka keeps what ClickHouse doesn't take.
func (s *Sink) Failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (s *Sink) pollLoop(ctx context.Context) {
	for s.awaitRoom(ctx) {
		fetches := s.client.PollRecords(ctx, 5000)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			s.client.AllowRebalance()
			return
		}
		fetches.EachError(func(topic string, p int32, err error) {
			if !s.lostBehind(tp{topic, p}, err) {
				s.log.Error("fetching for the ledger", "topic", topic, "partition", p, "error", err)
			}
		})
		fetches.EachPartition(func(f kgo.FetchTopicPartition) { s.take(tp{f.Topic, f.Partition}, f.Records) })
		s.client.AllowRebalance()
		signal(s.changed)
	}
}

// awaitRoom waits until the budget has room. It has, whatever is buffered, when
// nothing of that can be inserted: then more must be read to complete a batch
// that was planned before.
func (s *Sink) awaitRoom(ctx context.Context) bool {
	for {
		s.mu.Lock()
		full := s.bytes >= s.cfg.Budget
		if full {
			insertable := s.busy != nil
			for _, p := range s.parts {
				insertable = insertable || !p.leaving && p.buf.waiting()
			}
			full = insertable
		}
		s.mu.Unlock()
		if !full {
			return ctx.Err() == nil
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return false
		}
	}
}

// take reads records of one partition into its buffer.
func (s *Sink) take(id tp, records []*kgo.Record) {
	items := make([]*item, len(records))
	for i, r := range records { // outside the lock: this is most of the sink's work
		items[i] = s.read(r)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[id]
	if p == nil || s.halted[id] != nil {
		return
	}
	for i, r := range records {
		if id.topic == s.cfg.Deliveries {
			p.index.note(r.Offset, r.Timestamp)
		}
		s.bytes += p.buf.add(r.Offset, items[i], now)
	}
	s.tellBuffered()
}

func (s *Sink) read(r *kgo.Record) *item {
	read := readSettlement
	if r.Topic == s.cfg.Deliveries {
		read = readDelivery
	}
	it, err := read(r)
	if err != nil {
		return setAside(r, err)
	}
	return it
}

// tellBuffered tells the observer; s.mu is held.
func (s *Sink) tellBuffered() {
	rows := 0
	for _, p := range s.parts {
		rows += len(p.buf.items)
	}
	s.cfg.Observer.Buffered(rows, s.bytes)
}

// insertLoop inserts one batch after the other until ctx ends. What is under
// way then is cut only by the end of working.
func (s *Sink) insertLoop(ctx, working context.Context) {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(retryAtFirst), backoff.WithMaxInterval(retryAtMost), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		p, items, due := s.next(time.Now())
		if p == nil {
			s.commitFresh(working)
			sleep(ctx, due, s.changed)
			continue
		}
		err := s.work(working, p, items)
		s.done(err)
		if err != nil && !errors.Is(err, errLeft) {
			s.log.Warn("the ledger's batch did not come through and is tried again", "topic", p.topic, "partition", p.partition, "error", err)
			sleep(ctx, wait.NextBackOff(), nil)
			continue
		}
		wait.Reset()
	}
}

// commitFresh commits where parts begin. It is the inserting goroutine's, as all
// commits but a handover's are: so none overtakes a plan.
func (s *Sink) commitFresh(ctx context.Context) {
	s.mu.Lock()
	var fresh []*part
	for id, p := range s.parts {
		if p.fresh && p.buf.plan == nil && !p.leaving && s.halted[id] == nil {
			fresh = append(fresh, p)
		}
	}
	s.mu.Unlock()
	for _, p := range fresh {
		if err := s.commit(ctx, p, p.buf.next, nil); err != nil {
			s.log.Warn("committing where the ledger begins", "topic", p.topic, "partition", p.partition, "error", err)
			return // and again at the next occasion
		}
		s.mu.Lock()
		p.fresh = false
		s.mu.Unlock()
	}
}

func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// next chooses a partition whose batch is due, and cuts it: one that is full
// first, then the one that has gathered for longest beyond its time; with a full
// budget the largest. Without any it says how long to wait.
func (s *Sink) next(now time.Time) (*part, []*item, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := limits{s.cfg.MaxRows, s.cfg.MaxBytes}
	wait := time.Second
	var best, largest *part
	var most time.Duration
	for id, p := range s.parts {
		if p.leaving || s.halted[id] != nil || !p.buf.waiting() {
			continue
		}
		if largest == nil || p.buf.bytes > largest.buf.bytes {
			largest = p
		}
		late := now.Sub(p.buf.since) - s.cfg.gather(p.topic)
		if p.buf.full(l) {
			late += time.Hour
		}
		if late < 0 {
			wait = min(wait, -late)
		} else if best == nil || late > most {
			best, most = p, late
		}
	}
	if best == nil && s.bytes >= s.cfg.Budget {
		best = largest
	}
	if best == nil {
		return nil, nil, wait
	}
	s.busy, s.idle = best, make(chan struct{})
	return best, best.buf.cut(l), 0
}

// work makes one batch durable: the plan, what is no row, the rows, and the
// offset behind them.
func (s *Sink) work(ctx context.Context, p *part, items []*item) error {
	batch := p.buf.plan // the inserting goroutine's until the batch is done
	if !p.buf.planned && len(items) > 0 {
		if err := s.commit(ctx, p, batch.first, batch); err != nil {
			return fmt.Errorf("committing the plan %d-%d: %w", batch.first, batch.last, err)
		}
		s.mu.Lock()
		p.buf.planned = true
		s.mu.Unlock()
	}
	if err := s.putAside(ctx, items); err != nil {
		return err
	}
	begun := time.Now()
	within, cancel := context.WithTimeout(ctx, insertWithin)
	defer cancel()
	rows, err := insertBatch(within, s.cfg.Conn, s.cfg.Database, batch.token(p.topic, p.id, p.partition), items)
	if err != nil {
		s.cfg.Observer.Failed()
		return err
	}
	if len(items) > 0 {
		s.cfg.Observer.Inserted(rows, time.Since(begun))
	}

	s.mu.Lock()
	if p.ended { // and its bytes are no longer counted
		s.mu.Unlock()
		return nil
	}
	s.bytes -= p.buf.inserted(time.Now())
	leaving := p.leaving
	s.tellBuffered()
	s.mu.Unlock()
	signal(s.room)
	if leaving {
		return nil // the handover commits it
	}
	// Without this commit the batch would be cut and inserted again after a
	// crash, and dropped by its token.
	if err := s.commit(ctx, p, batch.last+1, nil); err != nil {
		s.log.Warn("committing what the ledger has", "topic", p.topic, "partition", p.partition, "error", err)
	}
	return nil
}

// done lets the partition go. That it was given away meanwhile is no failure.
func (s *Sink) done(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(err, errLeft) {
		s.failing = err
	}
	s.busy = nil
	close(s.idle)
}

// putAside puts what is no row on the topic of invalid records, and waits until
// it lies there.
func (s *Sink) putAside(ctx context.Context, items []*item) error {
	var waiting []*poison
	for _, it := range items {
		if it.poison != nil && !it.poison.aside {
			waiting = append(waiting, it.poison)
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	acks := make(chan error, len(waiting))
	for _, p := range waiting {
		s.cfg.Invalid(p.record, p.err, func(err error) { acks <- err })
	}
	var failed error
	for range waiting {
		select {
		case err := <-acks:
			if err != nil {
				failed = err
			}
		case <-ctx.Done():
			return fmt.Errorf("setting invalid records aside: %w", ctx.Err())
		}
	}
	if failed != nil {
		return fmt.Errorf("setting invalid records aside: %w", failed)
	}
	for _, p := range waiting {
		p.aside = true
	}
	return nil
}
