package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"posthorn/contract"
	"posthorn/dispatcher"
	"posthorn/dispatcher/lanes"
	"posthorn/internal/config"
	"posthorn/internal/telemetry"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/registry/lifecycle"
)

func (l *Line) buildContracts(context.Context) (err error) {
	l.contracts, err = checkContracts(l.cfg)
	return err
}

// Check reports what is wrong with a configuration that shows only together
// with its contracts. [Run] refuses the same.
func Check(cfg *config.Config) error {
	_, err := checkContracts(cfg)
	return err
}

// checkContracts reads the contracts and holds the configuration against them.
func checkContracts(cfg *config.Config) (contract.Set, error) {
	set := contract.Builtin()
	if dir := cfg.ContractsDir; dir != "" {
		var err error
		if set, err = contract.LoadDir(os.DirFS(dir)); err != nil {
			return set, fmt.Errorf("reading contracts_dir %s: %w", dir, err)
		}
	}
	var errs []error
	for _, name := range set.Names() {
		c, _ := set.Get(name)
		if shipped, ok := contract.Builtin().Get(name); ok && shipped == c {
			continue // there for everyone, and perhaps used by nobody
		}
		line, _ := c.Schedule()
		var total time.Duration
		for _, wait := range line {
			total += wait
		}
		if total > cfg.Delivery.MaxAge {
			errs = append(errs, fmt.Errorf("contract %s: its schedule adds up to %s, longer than delivery.max_age of %s: the last attempts would never happen; shorten it or raise max_age",
				name, config.FormatDuration(total), config.FormatDuration(cfg.Delivery.MaxAge)))
		}
	}
	// The window has to hold the longest request, and the part of it that is
	// forgotten at a time (a twelfth).
	longest := longestTimeout(set)
	if need := longest * 12 / 11; cfg.Breaker.Window < need {
		errs = append(errs, fmt.Errorf("breaker.window is %s, want %s or more: the longest timeout of a contract is %s, and what takes as long would never count",
			config.FormatDuration(cfg.Breaker.Window), config.FormatDuration((need+time.Second).Truncate(time.Second)), config.FormatDuration(longest)))
	}
	return set, errors.Join(errs...)
}

// buildRegistry makes the follower, which starts once everything that wants to
// hear of changes is there.
func (l *Line) buildRegistry(context.Context) error {
	if l.opts.Roles.Has(RoleDispatch) || l.opts.Roles.Has(RoleAPI) {
		if l.cfg.Registry.KeysetFile == "" {
			return errors.New("registry.keyset_file is required for the roles dispatch and api: make one with \"posthorn keyset create\"")
		}
		var err error
		if l.keyset, err = registry.OpenKeyset(l.cfg.Registry.KeysetFile); err != nil {
			return err
		}
		if exposed := registry.KeysetExposed(l.cfg.Registry.KeysetFile); exposed != "" {
			l.log.Warn("the keyset isn't its owner's alone", "problem", exposed)
		}
	}
	l.clock = registry.NewClock(l.opts.Clock)
	var err error
	l.follower, err = registry.NewFollower(registry.FollowerConfig{
		Topic: topics.Name(l.cfg.Prefix, topics.RoleRegistry), Opts: l.clients, Logger: l.log,
		OnChange: func(kind, id string) {
			for _, f := range l.onChange {
				f(kind, id)
			}
		},
		Clock: l.clock, OnSkew: l.skewed,
		Count: l.incident,
	})
	if err != nil {
		return err
	}
	l.store = l.follower.Store()
	return nil
}

// registryWriter returns the one writer of the process.
func (l *Line) registryWriter() (*registry.Writer, error) {
	if l.writer != nil {
		return l.writer, nil
	}
	writer, err := registry.NewWriter(registry.WriterConfig{Topic: topics.Name(l.cfg.Prefix, topics.RoleRegistry),
		Opts: l.clients, Follower: l.follower, Logger: l.log, Count: l.incident})
	if err != nil {
		return nil, err
	}
	l.undo.add("registry writer", 5*time.Second, func(context.Context) error { writer.Close(); return nil })
	l.writer = writer
	return writer, nil
}

// buildHealth makes what remembers how endpoints fare, and what disables those
// that have failed for too long.
func (l *Line) buildHealth() (*health, error) {
	writer, err := l.registryWriter()
	if err != nil {
		return nil, err
	}
	events := topics.Name(l.cfg.Prefix, topics.RoleEvents)
	ns := &notices{writer: writer, store: l.store, contracts: l.contracts, events: events, audit: topics.Name(l.cfg.Prefix, topics.RoleAudit),
		count: l.metrics.Notice, log: l.log, waiting: make(chan notice, noticesWaiting)}
	h := &health{
		policy:    lifecycle.Policy{FailingFor: l.cfg.Lifecycle.FailingFor, Exhausted: l.cfg.Lifecycle.Exhausted},
		contracts: l.contracts, store: l.store, send: l.learn.send, events: events, raise: ns.raise, log: l.log,
		leases: make(map[int32]lease), endpoints: make(map[string]*endpointHealth),
	}
	ns.fails = h.fails
	l.onChange = append(l.onChange, h.changed)
	l.goBackground(h.run)
	l.goBackground(ns.run)
	l.goBackground(ns.watchInactive)
	return h, nil
}

// startRegistry reads the registry to its end.
func (l *Line) startRegistry(ctx context.Context) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.undo.add("registry", 5*time.Second, func(context.Context) error {
		stop()
		l.follower.Wait()
		return nil
	})
	// Start follows until its context ends, so a start that is called off ends
	// it through the same one.
	defer context.AfterFunc(ctx, stop)()
	begun := time.Now()
	if err := l.follower.Start(following); err != nil {
		return fmt.Errorf("reading the registry: %w", err)
	}
	l.log.Info("registry read", "endpoints", l.store.Len(), "took", time.Since(begun).Round(time.Millisecond))
	l.metrics.OnGather(func() {
		l.metrics.RegistryPosition.Set(float64(l.follower.Version().Offset))
		current := 0.0
		if l.follower.Current(time.Now()) {
			current = 1
		}
		l.metrics.RegistryCurrent.Set(current)
	})
	l.ready("registry", func() error {
		switch {
		case !l.follower.Ready():
			return errors.New("the registry is being read")
		case !l.follower.Current(time.Now()):
			return errors.New("the registry can't be followed: its broker doesn't answer, so nothing is matched")
		}
		return nil
	})
	return nil
}

// ready registers a check of readiness.
func (l *Line) ready(name string, check func() error) {
	if l.admin != nil {
		l.admin.Ready(name, check)
	}
}

func (l *Line) buildAdmin(ctx context.Context) error {
	if l.opts.NoAdmin {
		return nil
	}
	admin, err := telemetry.NewAdmin(telemetry.AdminConfig{Addr: l.cfg.HTTP.Listen, Metrics: l.metrics, Pprof: l.cfg.HTTP.Pprof, Logger: l.log})
	if err != nil {
		return err
	}
	if err := admin.Listen(ctx); err != nil {
		return err
	}
	l.admin = admin
	admin.Warn("clock", l.clockWarning)
	admin.Ready("start", func() error {
		if !l.started.Load() {
			return errors.New("still starting")
		}
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve() }()
	l.undo.add("admin port", 3*time.Second, func(ctx context.Context) error {
		err := admin.Shutdown(ctx)
		return errors.Join(err, <-ended)
	})
	return nil
}

// sampleDispatcher sets the gauges of what is cheaper to ask for than to keep
// up to date.
func (l *Line) sampleDispatcher(d *dispatcher.Dispatcher) {
	var s lanes.Stats
	var held int
	s, held = d.Stats()
	l.metrics.InFlight.Set(float64(s.InFlight))
	l.metrics.QueuedRecords.Set(float64(s.Queued))
	l.metrics.QueuedBytes.Set(float64(s.QueuedBytes))
	l.metrics.Held.Set(float64(held))
	for state, n := range map[string]int{"idle": s.Idle, "backlogged": s.Backlogged, "stalled": s.Stalled,
		"waiting": s.Waiting, "rate_limited": s.RateLimited} {
		l.metrics.Lanes(state).Set(float64(n))
	}
}
