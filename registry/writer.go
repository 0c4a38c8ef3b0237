package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrUnknownOutcome means that a change may or may not have been made: the
// answer to its commit got lost, and so did all tries to find out.
var ErrUnknownOutcome = errors.New("outcome of the registry change is unknown")

// ErrUnavailable means that a change was not made because Kafka, or the lock
// that rivals kept taking, could not be had in time.
var ErrUnavailable = errors.New("registry can't be written now")

// WriterConfig is what a [Writer] needs.
type WriterConfig struct {
	// Topic is the registry's topic, and the transactional ID that is the lock.
	Topic string
	// Opts are passed to the Kafka clients: seed brokers, TLS, SASL, dialer.
	Opts []kgo.Opt
	// Follower reads the same topic and is started.
	Follower *Follower
	// Check is asked about every change under the lock; nil allows all.
	Check CheckFunc
	// Patience bounds the tries for one transaction; 30 s if it is 0.
	Patience time.Duration
	// Logger is slog.Default() if it is nil.
	Logger *slog.Logger
	// Count is called for every incident.
	Count func(Incident)
}

// Validate reports what is missing.
func (c *WriterConfig) Validate() error {
	switch {
	case c.Topic == "":
		return errors.New("registry writer: the topic's name is missing")
	case c.Follower == nil:
		return errors.New("registry writer: the follower is missing")
	case c.Follower.cfg.Topic != c.Topic:
		return fmt.Errorf("registry writer: it would write %s but follow %s", c.Topic, c.Follower.cfg.Topic)
	case c.Patience < 0:
		return errors.New("registry writer: patience must not be negative")
	}
	return nil
}

// Writer makes the changes that users ask for, under one lock over all
// processes: Kafka lets only the latest producer with the topic's transactional
// ID commit. A transaction (1) makes sure of being that producer, (2) reads
// the registry to its stable end, (3) decides, (4) writes and commits. Whoever
// takes the lock between (1) and (4) makes the commit fail, and the whole is
// done again from what the rival has written.
//
// One goroutine does it for a process; changes that arrive meanwhile share the
// next transaction.
type Writer struct {
	cfg      WriterConfig
	log      *slog.Logger
	requests chan *request
	stop     chan struct{}
	stopOnce sync.Once
	done     chan struct{}

	lock lock // of the writing goroutine alone
}

// request is one call of Update.
type request struct {
	ctx  context.Context
	fn   func(*Tx) error
	err  error // what fn said in the last try
	done chan error

	mu    sync.Mutex
	given error // set when the caller has given up
}

// run calls fn, unless the caller has returned and owns again what fn refers to.
func (r *request) run(tx *Tx) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.given != nil {
		return r.given
	}
	return r.fn(tx)
}

func (r *request) giveUp() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given = r.ctx.Err()
	return r.given
}

// maxBatch bounds the changes of one transaction, so that one fenced try
// doesn't repeat too much.
const maxBatch = 200

// NewWriter starts a writer. Nothing is asked of Kafka before the first change.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	w := &Writer{
		cfg: cfg, log: cfg.Logger,
		requests: make(chan *request, maxBatch),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	w.lock = lock{cfg: &w.cfg, log: w.log}
	go w.run()
	return w, nil
}

// Close ends the writer after the transaction it is at; changes that wait get
// [ErrStopped].
func (w *Writer) Close() {
	w.stopOnce.Do(func() { close(w.stop) })
	<-w.done
}

// Update makes a change under the write lock. fn reads and writes through tx;
// an error of fn drops its changes and is returned as it is. fn may be called
// several times, since it is called again when a rival was faster: it must
// have no effects but on tx and on what it hands back.
//
// Update returns when the change is committed and this process's store has it.
// If ctx ends earlier the change may still be made, but fn isn't called any more.
func (w *Writer) Update(ctx context.Context, fn func(tx *Tx) error) error {
	r := &request{ctx: ctx, fn: fn, done: make(chan error, 1)}
	select {
	case w.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.done:
		return ErrStopped
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return r.giveUp()
	case <-w.done:
		// The answer may have come just before the end.
		select {
		case err := <-r.done:
			return err
		default:
			return ErrStopped
		}
	}
}

func (w *Writer) run() {
	defer close(w.done)
	defer w.lock.drop()
	for {
		select {
		case <-w.stop:
			return
		case first := <-w.requests:
			if batch := w.gather(first); len(batch) > 0 {
				w.lock.commit(w.stop, batch)
			}
		}
	}
}

// gather takes the changes that wait already; no time is spent on waiting for more.
func (w *Writer) gather(first *request) []*request {
	var batch []*request
	for r := first; ; {
		if err := r.ctx.Err(); err != nil {
			r.done <- err // nobody waits any more
		} else {
			batch = append(batch, r)
		}
		if len(batch) == maxBatch {
			return batch
		}
		select {
		case r = <-w.requests:
		default:
			return batch
		}
	}
}
