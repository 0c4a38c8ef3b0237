package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

const (
	commitEvery = 100 * time.Millisecond
	// idleCommit repeats a commit on an idle member: its answer is the proof
	// of membership that the zombie guard asks for.
	idleCommit = time.Second
	// zombieAfter is how long a member may act on its last answered commit.
	zombieAfter       = 5 * time.Second
	heartbeatInterval = time.Second
	lateCommit        = time.Second
	// uncommittedLimit bounds the repeats of a crash while commits are late.
	uncommittedLimit = 1000
	// restartAtFirst and restartAtMost bound the wait before a failed partition is
	// read again; it doubles while nothing gets finished.
	restartAtFirst = time.Second
	restartAtMost  = time.Minute
	// commitWithin bounds one commit: a handover waits for the one under way.
	commitWithin = 5 * time.Second
	// releaseWithin bounds how long a handover waits for what is in flight: it
	// must not wait for the sickest endpoint.
	releaseWithin = 2 * time.Second
	// crowdedAt is the fill of the commit metadata from which the handler is
	// asked to give up the work that keeps holes open.
	crowdedAt = 0.5
	// pauseAt and resumeAt bound how far a partition is read ahead of what is
	// finished: what a commit has no room for is repeated after a crash. The
	// work that hangs is given up from crowdedAt on, so what is left moves, and
	// a pause is short.
	pauseAt, resumeAt = 0.9, 0.5
)

// MinSessionTimeout is the least session timeout. A member that was cut off or
// suspended acts on its last commit for five seconds, counted from before it was
// sent. Its last sign of life at the broker is that commit or a heartbeat of a
// second before; so within six seconds it has stopped before its partitions are
// given away. Kafka's own default bounds are 6 s and 30 min
// (group.min.session.timeout.ms, group.max.session.timeout.ms).
const MinSessionTimeout = zombieAfter + heartbeatInterval

// defaultSessionTimeout is a Stage's without a setting.
const defaultSessionTimeout = 10 * time.Second

// Handler does a stage's work.
type Handler interface {
	// Take gets new work of one lease, in offset order, in the goroutine that
	// polls; rebalances wait for it, so it only hands over. The slice is the
	// handler's.
	Take(l *Lease, work []*Work)
	// Crowded asks to give up unstarted work of a lease (by putting it back
	// elsewhere) because its commit metadata is that full (1 = the limit).
	Crowded(l *Lease, full float64)
	// Release ends leases: unstarted work is dropped without Done, what is in
	// flight is waited for until ctx ends and then cut. It returns when
	// nothing of the leases runs any more.
	Release(ctx context.Context, ls []*Lease)
	// Drain finishes what is in flight, at most until ctx ends, and starts
	// nothing new. It is the first step of a shutdown.
	Drain(ctx context.Context)
	// Room blocks while the handler holds as much as it may; it is asked
	// before each poll, and returns only the error of ctx.
	Room(ctx context.Context) error
}

// Observer is told what the stage sees, for metrics. Methods must not block.
type Observer interface {
	Assigned(partitions int)
	Repeat(topic string)
	Committed(took time.Duration, leases int)
	CommitFailed(err error)
	// Holes tells what a partition's commit metadata holds: how many runs, how
	// full that makes it, and how many finished offsets found no room.
	Holes(runs int, full float64, leftOut int64)
	Failed(topic string, partition int32)
	Lost(topic string, partition int32, records int64)
}

// Config of a [Stage].
type Config struct {
	// Name is the stage's, for logs and metrics.
	Name string
	// Group is the consumer group.
	Group string
	// Topics to read; with Regex each is a regular expression.
	Topics []string
	Regex  bool
	// Exclude are regular expressions of topics that Topics must not match;
	// only with Regex.
	Exclude []string
	// Client options: seed brokers, TLS, SASL, dialer.
	Client []kgo.Opt
	// SessionTimeout is how long the group waits for a sign of life before it
	// gives a member's partitions to others; 0 means 10 s. It is 6 s at least:
	// see [MinSessionTimeout].
	SessionTimeout time.Duration
	// DedupWindow switches the dropping of repeats on: records are known again
	// for that window of the partition's timestamps and for 10,000 records.
	DedupWindow time.Duration
	// PollRecords bounds the records of one poll; 0 means 2,000.
	PollRecords int
	// DrainWithin bounds a shutdown's wait for what is in flight.
	DrainWithin time.Duration
	// Starts is where partitions begin that have no commit; those that aren't
	// in it begin at their first record.
	Starts map[string]map[int32]int64
	// AcceptLoss goes on where a committed offset has fallen out of the log.
	AcceptLoss bool
	// RefuseForeign halts a partition whose commit isn't ours: someone reset
	// the group by hand. Otherwise such a commit has no holes.
	RefuseForeign bool
	Handler       Handler
	Observer      Observer
	Log           *slog.Logger
}

// Validate reports what is missing.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("stage %q: %s is required", c.Name, what))
		}
	}
	need(c.Name != "", "Name")
	need(c.Group != "", "Group")
	need(len(c.Topics) > 0, "Topics")
	need(c.Handler != nil, "Handler")
	need(c.Observer != nil, "Observer")
	need(c.Log != nil, "Log")
	need(c.DrainWithin > 0, "DrainWithin")
	if c.SessionTimeout != 0 && c.SessionTimeout < MinSessionTimeout {
		errs = append(errs, fmt.Errorf("stage %q: a session timeout of %v is shorter than %v: a member cut off would act on partitions that are another's", c.Name, c.SessionTimeout, MinSessionTimeout))
	}
	return errors.Join(errs...)
}

// dedupLeast is the least number of records whose repeats are known.
const dedupLeast = 10_000

// Stage runs one consumer group member.
type Stage struct {
	cfg    Config
	log    *slog.Logger
	client *kgo.Client
	adm    *kadm.Client
	wakeCh chan struct{}
	// started is closed once client is set: a kgo client joins its group, and
	// so calls back, before its constructor has returned.
	started chan struct{}

	mu      sync.Mutex
	leases  map[partition]*Lease
	fetched map[partition]commit // read by OnOffsetsFetched, used by the takeover
	halted  map[partition]error  // partitions that need a person
	// locating are questions for where a log lies; each is bounded.
	locating sync.WaitGroup
	joined   bool // the group has let us in once
	// crowding is set while the handler is asked to give work up.
	crowding atomic.Bool
	// restarts counts a partition's failures in a row.
	restarts map[partition]int

	committing chan struct{}             // holds a token while a commit is under way: one at a time
	answeredAt atomic.Pointer[time.Time] // of the last commit that was answered well
}

type partition struct {
	topic string
	id    int32
}

func (s *Stage) answered(at time.Time) { s.answeredAt.Store(&at) }

// sinceAnswer is how long ago a commit was last answered well, by the clock
// that is further ahead: the monotonic one stands still while a machine is
// suspended, the other may be set back.
func (s *Stage) sinceAnswer(now time.Time) time.Duration {
	at := *s.answeredAt.Load()
	return max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
}

// NewStage makes a member of the group; it joins with [Stage.Run].
func NewStage(cfg Config) (*Stage, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.PollRecords == 0 {
		cfg.PollRecords = 2000
	}
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = defaultSessionTimeout
	}
	return &Stage{
		cfg: cfg, log: cfg.Log, wakeCh: make(chan struct{}, 1), started: make(chan struct{}), committing: make(chan struct{}, 1),
		restarts: make(map[partition]int),
		leases:   make(map[partition]*Lease), fetched: make(map[partition]commit), halted: make(map[partition]error),
	}, nil
}

func (s *Stage) options() []kgo.Opt {
	opts := append([]kgo.Opt{}, s.cfg.Client...)
	if s.cfg.Regex {
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeExcludeTopics(s.cfg.Exclude...))
	}
	return append(opts,
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(s.cfg.Topics...),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.BlockRebalanceOnPoll(),
		kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(250*time.Millisecond),
		kgo.MaxDecompressBatchBytes(64<<20),
		// What is fetched is bounded compressed, and the fan-out of one body
		// shrinks fifty-fold: 4 MiB may be 200. Kafka returns one batch at
		// least, however large.
		kgo.FetchMaxPartitionBytes(64<<10),
		kgo.FetchMaxBytes(4<<20),
		kgo.HeartbeatInterval(heartbeatInterval),
		kgo.SessionTimeout(s.cfg.SessionTimeout),
		kgo.RebalanceTimeout(20*time.Second),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), // what the log lost is told, never skipped over
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnOffsetsFetched(s.offsetsFetched),
		kgo.AdjustFetchOffsetsFn(s.takeOver),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	)
}

// Run joins the group and works until ctx ends; then it stops reading, drains,
// commits and leaves. The error is nil after an orderly stop.
func (s *Stage) Run(ctx context.Context) error {
	client, err := kgo.NewClient(s.options()...)
	if err != nil {
		return fmt.Errorf("starting stage %s: %w", s.cfg.Name, err)
	}
	s.client, s.adm = client, kadm.NewClient(client)
	s.answered(time.Now())
	close(s.started)

	committing, stopCommitting := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.commitLoop(committing) })

	err = s.pollLoop(ctx)

	// Commits go on while the handler drains, so that what finishes counts.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainWithin)
	s.cfg.Handler.Drain(drain)
	cancel()
	stopCommitting()
	wg.Wait()
	// Leaving revokes everything: the last commit happens there.
	client.CloseAllowingRebalance()
	s.locating.Wait()
	return err
}

func (s *Stage) wake() {
	select {
	case s.wakeCh <- struct{}{}:
	default:
	}
}

func (s *Stage) pollLoop(ctx context.Context) error {
	for {
		woken := s.interruptible(ctx, func(ctx context.Context) { _ = s.cfg.Handler.Room(ctx) })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is an orderly stop
		}
		var fetches kgo.Fetches
		if woken {
			// There may be no room: someone needs this goroutine, perhaps to
			// make room by restarting a partition. A poll whose context is
			// over takes nothing, but keeps rebalances away.
			over, cancel := context.WithCancel(ctx)
			cancel()
			fetches = s.client.PollRecords(over, 1)
		} else {
			s.interruptible(ctx, func(ctx context.Context) { fetches = s.client.PollRecords(ctx, s.cfg.PollRecords) })
		}
		if ctx.Err() != nil {
			s.client.AllowRebalance()
			return nil //nolint:nilerr // the end of ctx is an orderly stop
		}
		if fetches.IsClientClosed() {
			return fmt.Errorf("polling in stage %s: the client was closed", s.cfg.Name)
		}
		s.admit(fetches)
		s.relocate()
		s.restartFailed()
		s.applyPauses()
		s.client.AllowRebalance()
	}
}

// interruptible waits for f, whose context ends when someone wakes the stage,
// and reports whether that was so.
func (s *Stage) interruptible(ctx context.Context, f func(context.Context)) bool {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	byWaking := make(chan bool, 1)
	go func() {
		select {
		case <-s.wakeCh:
			cancel()
			byWaking <- true
		case <-waiting.Done():
			byWaking <- false
		}
	}()
	f(waiting)
	cancel()
	return <-byWaking
}

func (s *Stage) admit(fetches kgo.Fetches) {
	fetches.EachError(func(topic string, p int32, err error) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return
		}
		s.fetchFailed(topic, p, err)
		s.log.Error("fetching", "stage", s.cfg.Name, "topic", topic, "partition", p, "error", err)
	})
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) == 0 {
			return
		}
		s.mu.Lock()
		l, halted := s.leases[partition{f.Topic, f.Partition}], s.halted[partition{f.Topic, f.Partition}]
		s.mu.Unlock()
		if l == nil || halted != nil || l.failure.Load() != nil || l.ended.Load() {
			return // restarted or taken over from its commit
		}
		work := l.sift(f.Records)
		l.next = f.Records[len(f.Records)-1].Offset + 1
		if len(work) > 0 {
			s.cfg.Handler.Take(l, work)
		}
	})
}

// sift notes identities, drops what is finished or a repeat, and tracks the
// rest.
func (l *Lease) sift(records []*kgo.Record) []*Work {
	work := make([]*Work, 0, len(records))
	now := time.Now()
	for _, r := range records {
		repeat := false
		if l.memory != nil {
			if id, ok := webhook.RecordIdentity(r.Headers); ok {
				at := r.Timestamp
				if at.After(now) {
					// A producer's clock is ahead. The window would stand
					// still until ours has caught up, and grow.
					at = now
				}
				repeat = l.memory.Note(id, r.Offset, at)
			}
		}
		if r.Offset < l.from {
			continue // read back only to know its repeats
		}
		ticket := l.tracker.Track(r.Offset)
		if ticket == nil {
			l.changes.Add(1)
			continue
		}
		// Each on its own: in a slab, one that waits would keep all alive.
		w := &Work{Record: r, lease: l, ticket: ticket}
		if repeat {
			l.stage.cfg.Observer.Repeat(l.Topic)
			ticket.Done()
			l.changes.Add(1)
			continue
		}
		work = append(work, w)
	}
	if l.memory != nil {
		l.readFrom.Store(l.memory.Forget(max(l.tracker.Watermark(), l.from)))
	}
	return work
}
