// Package app is the composition root: the only place that knows every part
// of the line, wires them together by hand, starts them in order and stops them
// in the reverse order.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"posthorn/analytics"
	"posthorn/analytics/ledger"
	"posthorn/analytics/sink"
	"posthorn/consumer"
	"posthorn/consumer/replay"
	"posthorn/contract"
	"posthorn/dispatcher"
	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/lanes"
	"posthorn/dispatcher/safedial"
	"posthorn/dispatcher/send"
	"posthorn/internal/config"
	"posthorn/internal/telemetry"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/retrytopics"
	"posthorn/webhook"
)

// breakerOpen is how the registry writes the state of an open breaker.
const breakerOpen = "open"

// Options of a process.
type Options struct {
	Config *config.Config
	// Roles to play; none means all.
	Roles Roles
	// AcceptLoss goes on where committed offsets fell out of the log, and
	// AcceptReset where a source's group was reset by hand.
	AcceptLoss, AcceptReset bool
	Log                     *slog.Logger
	Version                 string
	// Kafka options besides those of the configuration; a dialer, in tests.
	Kafka []kgo.Opt
	// Dial replaces the dialer of deliveries and with it the dial guard; for
	// networks in memory.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolve replaces the look-up of names at registration.
	Resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Spans replaces the tracer that the environment configures.
	Spans *telemetry.Spans
	// Clock replaces the host's clock where it is compared with the broker's.
	Clock func() time.Time
	// NoAdmin opens no admin port; for tests in virtual time.
	NoAdmin bool
	// Started is called with the admin port's address once everything runs.
	Started func(admin string)
}

// Line is the line's parts in one process.
type Line struct {
	opts      Options
	cfg       *config.Config
	log       *slog.Logger
	metrics   *telemetry.Metrics
	spans     *telemetry.Spans
	admin     *telemetry.Admin
	undo      cleanups
	clients   []kgo.Opt
	contracts contract.Set

	control  *kgo.Client // for requests that are no stage's
	producer *kgo.Client // deliveries, retries, dead letters: no linger
	ledger   *kgo.Client // settlements: a little linger
	store    *registry.Store
	follower *registry.Follower
	keyset   *registry.Keyset
	clock    *registry.Clock
	skewSaid bool // whether the log's last word is that the clocks differ

	// background runs beside the stages and ends after them.
	background     errgroup.Group
	stopBackground context.CancelFunc
	backgroundCtx  context.Context
	stages         []*consumer.Stage
	sink           *sink.Sink     // nil without a ledger
	book           *ledger.Ledger // see openLedger
	malformed      *malformedSink
	learned        *registry.Learned
	writer         *registry.Writer // of changes under the lock; made when one is needed
	learn          *learner
	waits          *replay.Waits // of live deliveries
	started        atomic.Bool   // everything is built
	// onChange is told of registry records; it is complete before the
	// follower starts.
	onChange []func(kind, id string)
}

// Run plays the roles until ctx ends, then stops in an orderly way. The error
// is nil after that.
func Run(ctx context.Context, opts Options) error {
	paceCollector()
	l, err := build(ctx, opts)
	if err != nil {
		l.stopBackground()
		return errors.Join(err, l.background.Wait(), l.undo.run())
	}
	runErr := l.run(ctx)
	return errors.Join(runErr, l.undo.run())
}

// build starts everything but the stages.
func build(ctx context.Context, opts Options) (*Line, error) {
	if len(opts.Roles) == 0 {
		opts.Roles = AllRoles()
	}
	l := &Line{opts: opts, cfg: withOwnEvents(opts.Config), log: opts.Log, metrics: telemetry.NewMetrics(), spans: opts.Spans, waits: replay.NewWaits()}
	l.undo.log = opts.Log
	l.backgroundCtx, l.stopBackground = context.WithCancel(context.WithoutCancel(ctx))
	for _, step := range []func(context.Context) error{
		l.buildTracing, l.buildContracts, l.buildClients, l.checkTopics, l.buildRegistry, l.buildLearned, l.buildAdmin, l.buildStages, l.buildAnalytics, l.startRegistry, l.buildAPI,
	} {
		if err := step(ctx); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *Line) buildTracing(ctx context.Context) error {
	if l.spans != nil {
		return nil
	}
	spans, shutdown, err := telemetry.Tracing(ctx, "posthorn", l.opts.Version)
	if err != nil {
		return fmt.Errorf("setting up tracing: %w", err)
	}
	l.spans = spans
	l.undo.add("tracing", 5*time.Second, shutdown)
	return nil
}

func (l *Line) buildClients(context.Context) error {
	var err error
	if l.clients, err = clientOptions(l.cfg, l.opts.Kafka); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		into **kgo.Client
		opts []kgo.Opt
	}{
		{"control client", &l.control, nil},
		{"producer", &l.producer, producerOptions(l.cfg, 0)},
		{"ledger producer", &l.ledger, producerOptions(l.cfg, 5*time.Millisecond)},
	} {
		client, err := kgo.NewClient(append(append([]kgo.Opt{}, l.clients...), c.opts...)...)
		if err != nil {
			return fmt.Errorf("making the %s: %w", c.name, err)
		}
		*c.into = client
		l.undo.add(c.name, 10*time.Second, func(ctx context.Context) error {
			defer client.Close()
			return client.Flush(ctx)
		})
	}
	return nil
}

// checkTopics refuses to start on topics that would lose deliveries.
func (l *Line) checkTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	recorded, err := topics.Recorded(ctx, l.control, topics.Name(l.cfg.Prefix, topics.RoleRegistry))
	if err != nil {
		return fmt.Errorf("checking topics: %w", err)
	}
	problems, err := topics.Check(ctx, kadm.NewClient(l.control), topics.Plan(l.cfg), recorded)
	if err != nil {
		return fmt.Errorf("checking topics: %w", err)
	}
	for _, p := range problems {
		if !p.Refuses {
			l.log.Warn("topic differs from its plan", "topic", p.Topic, "problem", p.Text)
		}
	}
	return topics.Refusals(problems)
}

func (l *Line) buildStages(ctx context.Context) error {
	ladder, err := retrytopics.NewLadder(l.cfg.Delivery.Tiers...)
	if err != nil {
		return fmt.Errorf("reading delivery.tiers: %w", err)
	}
	publisher, err := retrytopics.NewPublisher(l.producer, ladder, l.cfg.Prefix)
	if err != nil {
		return fmt.Errorf("making the retry publisher: %w", err)
	}
	l.malformed = &malformedSink{producer: l.producer, invalid: topics.Name(l.cfg.Prefix, topics.RoleInvalid), observe: l.metrics.Invalid}
	if l.opts.Roles.Has(RoleMatch) {
		if err := l.buildMatch(ctx); err != nil {
			return err
		}
		if err := l.buildReplays(); err != nil {
			return err
		}
	}
	if l.opts.Roles.Has(RoleDispatch) {
		if err := l.buildDispatch(ladder, publisher); err != nil {
			return err
		}
	}
	if l.opts.Roles.Has(RoleRetry) {
		for _, tier := range ladder.Tiers() {
			if err := l.buildTier(tier, publisher); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Line) addStage(cfg consumer.Config) error {
	cfg.Client = l.clients
	cfg.AcceptLoss = l.opts.AcceptLoss
	cfg.DrainWithin = l.drainWithin()
	cfg.SessionTimeout = l.cfg.Kafka.SessionTimeout
	metrics := l.metrics.Stage(cfg.Name)
	cfg.Observer = &stageObserver{all: l.metrics, stage: metrics}
	cfg.Log = l.log
	s, err := consumer.NewStage(cfg)
	if err != nil {
		return fmt.Errorf("making stage %s: %w", cfg.Name, err)
	}
	l.metrics.OnGather(func() { metrics.UncommittedAge.Set(s.SinceAnswer().Seconds()) })
	l.stages = append(l.stages, s)
	l.ready("stage "+cfg.Name, s.Ready)
	return nil
}

// drainWithin is how long a shutdown waits for what is in flight: the longest
// timeout and five seconds, unless the configuration says otherwise.
func (l *Line) drainWithin() time.Duration {
	if d := l.cfg.Delivery.DrainTimeout; d > 0 {
		return d
	}
	return l.longestTimeout() + 5*time.Second
}

func (l *Line) longestTimeout() time.Duration { return longestTimeout(l.contracts) }

func longestTimeout(set contract.Set) (longest time.Duration) {
	for _, name := range set.Names() {
		c, _ := set.Get(name)
		longest = max(longest, c.Timeout())
	}
	return longest
}

func (l *Line) buildMatch(ctx context.Context) error {
	troubles := &filterTroubles{count: l.metrics.FilterTrouble, send: l.learn.send, log: l.log, exists: l.learn.exists, said: make(map[string]saidTrouble)}
	l.onChange = append(l.onChange, troubles.changed)
	subs := &subscriptions{follower: l.follower, store: l.store, trouble: troubles.note}
	matcher := func(events consumer.Events, inFlight int64) *consumer.Matcher {
		return consumer.NewMatcher(consumer.MatcherConfig{
			Events: events, Subscriptions: subs, Bodies: bodies{l.contracts}, Producer: l.producer,
			Observer:   &matchObserver{metrics: l.metrics, spans: l.spans, source: l.sourceName},
			Deliveries: topics.Name(l.cfg.Prefix, topics.RoleDeliveries), Fanout: topics.Name(l.cfg.Prefix, topics.RoleFanout),
			TaskSize: l.cfg.Fanout.TaskSize, MaxRecord: int(topics.MaxMessageBytes(l.cfg)),
			QueueBytes: 32 << 20, InFlightBytes: inFlight,
		})
	}
	if len(l.cfg.Sources) > 0 {
		events, err := newSourceEvents(l.cfg)
		if err != nil {
			return err
		}
		patterns, starts, err := l.sourceTopics(ctx)
		if err != nil {
			return err
		}
		err = l.addStage(consumer.Config{Name: "match", Group: l.cfg.Prefix + ".match", Topics: patterns, Regex: true, Exclude: l.notSources(), Starts: starts,
			RefuseForeign: !l.opts.AcceptReset, Handler: matcher(events, 32<<20)})
		if err != nil {
			return err
		}
	}
	// Fan-out tasks have a stage and a share of the producer of their own, so
	// that a trickle of events never waits for a fan-out of 100,000.
	return l.addStage(consumer.Config{Name: "fanout", Group: l.cfg.Prefix + ".fanout", Topics: []string{topics.Name(l.cfg.Prefix, topics.RoleFanout)},
		Handler: matcher(&fanoutEvents{invalid: topics.Name(l.cfg.Prefix, topics.RoleInvalid)}, 16<<20)})
}

func (l *Line) buildDispatch(ladder retrytopics.Ladder, publisher *retrytopics.Publisher) error {
	guard, err := safedial.NewGuard(safedial.Policy{
		AllowCIDRs: l.cfg.Delivery.AllowCIDR, DenyCIDRs: l.cfg.Delivery.DenyCIDR,
		AnyPort: l.cfg.Delivery.Ports.Any, AllowPorts: l.cfg.Delivery.Ports.List, HTTPSOnly: l.cfg.Delivery.HTTPSOnly,
	})
	if err != nil {
		return fmt.Errorf("making the dial guard: %w", err)
	}
	var proxy *url.URL
	if p := l.cfg.Delivery.Proxy.Reveal(); p != "" {
		if proxy, err = url.Parse(p); err != nil {
			return errors.New("reading delivery.proxy: not a URL")
		}
	}
	roots, err := trustedRoots(l.cfg.Delivery.CAFile)
	if err != nil {
		return err
	}
	client, err := send.New(send.Config{Guard: guard, HTTP2: l.cfg.Delivery.HTTP2, RootCAs: roots, Proxy: proxy, Dial: l.opts.Dial})
	if err != nil {
		return fmt.Errorf("making the HTTP client: %w", err)
	}
	l.undo.add("http client", time.Second, func(context.Context) error { client.Close(); return nil })
	dir := newDirectory(l.follower, l.store, l.keyset, l.contracts, client.ParseURL, l.log)
	l.onChange = append(l.onChange, dir.changed)

	health, err := l.buildHealth()
	if err != nil {
		return err
	}
	parks := l.cfg.Delivery.Schedule
	if len(parks) == 0 {
		parks = l.cfg.Delivery.Tiers
	}
	d, err := dispatcher.New(dispatcher.Config{
		Directory: dir, Sender: client, Retries: publisher,
		Recorder: analytics.NewRecorder(l.ledger, topics.Name(l.cfg.Prefix, topics.RoleAttempts)),
		Spans:    attemptSpans{l.spans},
		Observer: &dispatchObserver{metrics: l.metrics, health: health.settled, waits: l.waits, remember: l.learn.breaker},
		Log:      l.log,
		Lanes:    lanes.Config{MaxInFlight: l.cfg.Delivery.MaxInFlight},
		Breaker: breaker.Config{Window: l.cfg.Breaker.Window, MinRequests: l.cfg.Breaker.MinRequests,
			FailureRatio: l.cfg.Breaker.FailureRatio, OpenFor: l.cfg.Breaker.OpenFor},
		Schedule: l.cfg.Delivery.Schedule, Parks: parks, LongestTimeout: l.longestTimeout(),
		MaxAge: l.cfg.Delivery.MaxAge, SmallestTier: ladder.Smallest(), ByteBudget: int64(l.cfg.Delivery.ByteBudget),
	})
	if err != nil {
		return fmt.Errorf("making the dispatcher: %w", err)
	}
	l.goBackground(d.Run)
	l.onChange = append(l.onChange, func(kind, id string) {
		if kind == registry.KindEndpoint && l.follower.Ready() { // nothing is queued while it is read the first time
			go d.EndpointChanged(id) // it may produce, and the follower must not wait
		}
		if kind == registry.KindTenant && l.follower.Ready() && l.store.Suspended(id) {
			go l.endpointsChanged(d, id)
		}
		if kind == webhook.KindPause && l.follower.Ready() {
			go d.Paused()
		}
	})
	l.metrics.OnGather(func() { l.sampleDispatcher(d) })
	return l.addStage(consumer.Config{Name: "dispatch", Group: l.cfg.Prefix + ".dispatch",
		Topics: []string{topics.Name(l.cfg.Prefix, topics.RoleDeliveries)}, DedupWindow: l.cfg.Delivery.DedupWindow,
		Handler: &deliveryHandler{Dispatcher: d, malformed: l.malformed, health: health}})
}

// endpointsChanged has the dispatcher look again at all endpoints of a tenant.
func (l *Line) endpointsChanged(d *dispatcher.Dispatcher, tenant string) {
	const batch = 1000
	for after := ""; ; {
		page, next := l.store.List(tenant, after, batch)
		for _, ep := range page {
			d.EndpointChanged(ep.ID)
		}
		if after = next; after == "" {
			return
		}
	}
}

func (l *Line) buildTier(tier time.Duration, publisher *retrytopics.Publisher) error {
	name := retrytopics.TierName(tier)
	metrics := l.metrics.Tier(name)
	reader, err := retrytopics.NewReader(retrytopics.Config{Tier: tier, Publisher: publisher, Late: metrics.Late, Moved: metrics.Moved})
	if err != nil {
		return fmt.Errorf("making the due reader of %s: %w", name, err)
	}
	l.goBackground(reader.Run)
	topic := retrytopics.RetryTopic(l.cfg.Prefix, tier)
	return l.addStage(consumer.Config{Name: "retry." + name, Group: topics.RetryGroup(topic), Topics: []string{topic},
		Handler: &tierHandler{reader: reader, malformed: l.malformed, leases: make(map[*consumer.Lease]struct{})}})
}

// goBackground runs something beside the stages; it ends after them.
func (l *Line) goBackground(f func(context.Context)) {
	l.background.Go(func() error { f(l.backgroundCtx); return nil })
}

// run plays the stages until ctx ends or one fails.
func (l *Line) run(ctx context.Context) error {
	l.undo.add("background", 5*time.Second, func(context.Context) error {
		l.stopBackground()
		return l.background.Wait()
	})
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range l.stages {
		group.Go(func() error { return s.Run(ctx) })
	}
	if l.sink != nil {
		group.Go(func() error { return l.sink.Run(ctx) })
	}
	group.Go(func() error { <-ctx.Done(); return nil })
	admin := ""
	if l.admin != nil {
		admin = l.admin.Addr()
	}
	l.started.Store(true)
	l.log.Info("running", "roles", l.opts.Roles, "admin", admin)
	if l.opts.Started != nil {
		l.opts.Started(admin)
	}
	err := group.Wait()
	l.log.Info("stopped")
	return err
}
