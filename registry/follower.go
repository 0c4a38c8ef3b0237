package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// maxAge is how old an answer that showed the stable end may be while the
// registry still counts as current.
const maxAge = time.Second

// Incident names something that went wrong and that the line goes on after.
// The set is closed: it is a metric label.
type Incident string

// The incidents.
const (
	IncidentBadRecord      Incident = "bad_record"      // a record couldn't be read and was left out
	IncidentDataLoss       Incident = "data_loss"       // the topic lost what had been read; it is read anew
	IncidentRecreated      Incident = "topic_recreated" // the topic has another ID; it is read anew
	IncidentForeignVersion Incident = "foreign_version" // a version of another topic was asked for
	IncidentBeyondEnd      Incident = "beyond_end"      // a version beyond the stable end was asked for
	IncidentFenced         Incident = "fenced"          // another writer took the lock; tried again
	IncidentWriteFailed    Incident = "write_failed"    // a learned record wasn't written
)

// Errors of a follower.
var (
	// ErrTopic means that the registry's topic doesn't exist or has more than
	// one partition.
	ErrTopic = errors.New("registry topic is not usable")
	// ErrStopped means that the follower or writer has ended.
	ErrStopped = errors.New("registry is stopped")
	// errRestarted ends a wait for a position that a re-read made meaningless.
	errRestarted = errors.New("registry is being read anew")
)

// FollowerConfig is what a [Follower] needs.
type FollowerConfig struct {
	// Topic is the registry's topic, "<prefix>.registry".
	Topic string
	// Opts are passed to the Kafka client: seed brokers, TLS, SASL, dialer.
	Opts []kgo.Opt
	// Store takes in the records; a new one is made if it is nil.
	Store *Store
	// Logger is slog.Default() if it is nil.
	Logger *slog.Logger
	// OnChange is called for every record taken in (and for every key found
	// gone by a re-read), outside all locks and before the position moves past
	// it. So what it invalidates is gone before a version counts as reached.
	// It must not wait for the follower.
	OnChange func(kind, id string)
	// Clock is told of the heartbeats that are read back, and OnSkew is called
	// for each that says something, in the goroutine that reads. Both may be nil.
	Clock  *Clock
	OnSkew func(Skew)
	// Count is called for every incident.
	Count func(Incident)
}

// Validate reports what is missing.
func (c *FollowerConfig) Validate() error {
	if c.Topic == "" {
		return errors.New("registry follower: the topic's name is missing")
	}
	return nil
}

// Follower reads the registry's topic into a [Store] and says how far it is.
//
// It fetches by itself, without kgo's consumer: one answer then tells which
// records there are, where the stable end was and where to read next (past
// transaction markers and what compaction removed), so that position and
// freshness are facts of the same moment.
type Follower struct {
	cfg   FollowerConfig
	store *Store
	log   *slog.Logger
	cl    *kgo.Client
	done  chan struct{} // closed when following has ended

	mu      sync.Mutex
	at      place
	ready   bool          // the stable end was reached since the (re-)read began
	asOf    time.Time     // start of the last fetch whose answer showed us at the stable end
	changed chan struct{} // closed and renewed when anything above changes
	// strange are the versions that were given up on: those of other topics
	// with offset 0, which stands for all of theirs, and those beyond the end
	// of this one. Of these only the very offset: one absurd version must not
	// make every later one count as reached.
	strange map[webhook.RegistryVersion]struct{}
	watched *watch

	reader reader // of the following goroutine alone
}

// place is where the follower reads.
type place struct {
	topicID     [16]byte
	leader      int32 // -1 while it has to be looked up
	leaderEpoch int32
	position    int64 // the next offset to read
	end         int64 // the stable end as last seen
	// round counts the reads from the start: positions of different rounds
	// don't compare.
	round int
}

// watch notes whether a record at an offset was taken in. The writer sets it
// before a commit, to learn the outcome of one whose answer got lost.
type watch struct {
	topicID [16]byte
	offset  int64
	seen    bool
}

// NewFollower makes a follower that hasn't begun to read.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := &Follower{
		cfg: cfg, store: cfg.Store, log: cfg.Logger,
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		strange: make(map[webhook.RegistryVersion]struct{}),
		at:      place{leader: -1},
	}
	if f.store == nil {
		f.store = NewStore()
	}
	if f.log == nil {
		f.log = slog.Default()
	}
	f.log = f.log.With("topic", cfg.Topic)
	f.reader = reader{f: f, next: -1, lastEpoch: -1}
	return f, nil
}

// Store returns the store that the follower fills.
func (f *Follower) Store() *Store { return f.store }

// Start reads the topic to its stable end and returns, then follows it until
// ctx ends. It may be called once. A topic that is missing or has several
// partitions is an error; a broker that doesn't answer is waited for.
func (f *Follower) Start(ctx context.Context) error {
	cl, err := kgo.NewClient(f.cfg.Opts...)
	if err != nil {
		close(f.done)
		return fmt.Errorf("creating registry client: %w", err)
	}
	f.cl = cl
	failed := make(chan error, 1)
	go func() {
		defer close(f.done)
		defer cl.Close()
		f.follow(ctx, failed)
	}()
	for {
		f.mu.Lock()
		ready, changed := f.ready, f.changed
		f.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-f.done:
			select {
			case err := <-failed:
				return fmt.Errorf("reading registry: %w", err)
			default:
				return fmt.Errorf("reading registry: %w", ctx.Err())
			}
		}
	}
}

// Wait returns when following has ended, after the context of [Follower.Start]
// did. It must not be called before that.
func (f *Follower) Wait() { <-f.done }

// follow reads until ctx ends. Before the first bootstrap an unusable topic
// is reported; later it is waited for, since the state in memory still serves.
func (f *Follower) follow(ctx context.Context, failed chan<- error) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0))
	var unusable time.Time // since when the topic is unusable
	for ctx.Err() == nil {
		err := f.reader.step(ctx)
		if err == nil {
			pause.Reset()
			unusable = time.Time{}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, ErrTopic) {
			unusable = time.Time{}
		} else if unusable.IsZero() {
			unusable = time.Now()
		} else if !f.Ready() && time.Since(unusable) > 3*time.Second {
			// Brokers that have just started don't know all topics at once.
			failed <- err
			return
		}
		f.log.Warn("reading registry failed, trying again", "error", err)
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
		}
	}
}

// update changes what the mutex guards and wakes everyone who waits for it.
func (f *Follower) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Follower) count(i Incident) {
	if f.cfg.Count != nil {
		f.cfg.Count(i)
	}
}

// Version returns the topic's ID and the position: everything below it is in
// the store.
func (f *Follower) Version() webhook.RegistryVersion {
	f.mu.Lock()
	defer f.mu.Unlock()
	return webhook.RegistryVersion{TopicID: f.at.topicID, Offset: f.at.position}
}

// Lag returns how many offsets the position is behind the stable end, as far
// as that is known.
func (f *Follower) Lag() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(0, f.at.end-f.at.position)
}

// Ready reports whether the store is whole: read to the stable end once, and
// not being read anew after a loss.
func (f *Follower) Ready() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

// Current reports whether the store is whole and a fetch that began less than
// a second before now showed it at the stable end.
func (f *Follower) Current(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current(now)
}

func (f *Follower) current(now time.Time) bool { return f.ready && now.Sub(f.asOf) < maxAge }

// WaitCurrent waits until the registry is current. It fails when ctx ends or
// the follower has stopped.
func (f *Follower) WaitCurrent(ctx context.Context) error {
	return f.wait(ctx, func() (bool, error) { return f.current(time.Now()), nil })
}

// wait waits until a condition holds; it is called with the lock held.
func (f *Follower) wait(ctx context.Context, holds func() (bool, error)) error {
	for {
		f.mu.Lock()
		ok, err := holds()
		changed := f.changed
		f.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.done:
			return ErrStopped
		}
	}
}

// Reached reports whether everything that a version stood for is in the
// store: the position has passed it, or [Follower.WaitReached] has
// given up on it.
func (f *Follower) Reached(v webhook.RegistryVersion) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached(v)
}

func (f *Follower) reached(v webhook.RegistryVersion) bool {
	if !f.ready {
		return false
	}
	if v.TopicID == f.at.topicID {
		if f.at.position >= v.Offset {
			return true
		}
	} else {
		v.Offset = 0
	}
	_, given := f.strange[v]
	return given
}

// maxStrange bounds the memory of versions that were given up on; for one that
// was forgotten the end is asked for again.
const maxStrange = 1024

// WaitReached waits until the store holds what a version stood for. A version
// of another topic, or beyond the stable end, comes from a restored or
// mirrored cluster: it is counted, the topic is read to its end once, and that
// has to do.
func (f *Follower) WaitReached(ctx context.Context, v webhook.RegistryVersion) error {
	for {
		if f.Reached(v) {
			return nil
		}
		end, err := f.stableEnd(ctx)
		if err != nil {
			return fmt.Errorf("waiting for registry version %s: %w", v, err)
		}
		incident := Incident("")
		target := end.position
		switch {
		case end.topicID != v.TopicID:
			incident = IncidentForeignVersion
		case v.Offset > end.position:
			incident = IncidentBeyondEnd
		default:
			target = v.Offset
		}
		err = f.waitPosition(ctx, end.round, target)
		if errors.Is(err, errRestarted) {
			continue
		}
		if err != nil {
			return fmt.Errorf("waiting for registry version %s: %w", v, err)
		}
		if incident != "" {
			f.count(incident)
			f.log.Warn("registry version is not of this topic's log, went on at its end", "version", v.String(), "end", end.position, "incident", incident)
		}
		if incident == IncidentForeignVersion {
			v.Offset = 0
		}
		if incident != "" {
			f.update(func() {
				for old := range f.strange {
					if len(f.strange) < maxStrange {
						break
					}
					delete(f.strange, old)
				}
				f.strange[v] = struct{}{}
			})
		}
		return nil
	}
}

// waitPosition waits until a position of a round is passed.
func (f *Follower) waitPosition(ctx context.Context, round int, position int64) error {
	return f.wait(ctx, func() (bool, error) {
		if f.at.round != round {
			return false, errRestarted
		}
		return f.ready && f.at.position >= position, nil
	})
}

// readToEnd waits until the store holds everything that was committed when it
// was called.
func (f *Follower) readToEnd(ctx context.Context) error {
	for {
		end, err := f.stableEnd(ctx)
		if err != nil {
			return err
		}
		if err := f.waitPosition(ctx, end.round, end.position); !errors.Is(err, errRestarted) {
			return err
		}
	}
}
