package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"posthorn/dispatcher/breaker"
	"posthorn/internal/topics"
	"posthorn/registry"
)

// learner writes what the line finds out about endpoints to the registry.
type learner struct {
	send func(key string, value []byte)
	log  *slog.Logger
	// exists reports whether the registry has an endpoint.
	exists func(endpointID string) bool

	mu     sync.Mutex
	opened map[string]time.Time // when the breakers that aren't closed were opened
}

// changed forgets an endpoint that was deleted.
func (l *learner) changed(kind, id string) {
	if kind == registry.KindEndpoint && !l.exists(id) {
		l.mu.Lock()
		delete(l.opened, id)
		l.mu.Unlock()
	}
}

// breaker records a breaker's new state.
func (l *learner) breaker(endpointID string, to breaker.State) {
	now := time.Now().UTC()
	l.mu.Lock()
	// Asked with the lock held: an endpoint that is deleted right now either
	// isn't there any more, or is forgotten by changed after this.
	if !l.exists(endpointID) {
		delete(l.opened, endpointID)
		l.mu.Unlock()
		return
	}
	switch to {
	case breaker.Open:
		if _, known := l.opened[endpointID]; !known {
			l.opened[endpointID] = now
		}
	case breaker.Closed:
		delete(l.opened, endpointID)
	}
	state := registry.BreakerState{State: stateName(to), Since: now, OpenedAt: l.opened[endpointID]}
	l.mu.Unlock()
	key, value, err := state.Record(endpointID)
	if err != nil {
		l.log.Warn("recording a breaker's state", "endpoint", endpointID, "error", err)
		return
	}
	l.send(key, value)
}

func stateName(s breaker.State) string {
	switch s {
	case breaker.Open:
		return breakerOpen
	case breaker.HalfOpen:
		return "half_open"
	}
	return "closed"
}

func (l *Line) buildLearned(context.Context) error {
	learned, err := registry.NewLearned(registry.LearnedConfig{Topic: topics.Name(l.cfg.Prefix, topics.RoleRegistry),
		Opts: l.clients, Logger: l.log, Clock: l.clock, Count: l.incident})
	if err != nil {
		return err
	}
	l.undo.add("registry records", 5*time.Second, learned.Close)
	l.learned = learned
	l.learn = &learner{send: learned.Send, log: l.log, opened: make(map[string]time.Time),
		exists: l.store.Has}
	l.onChange = append(l.onChange, l.learn.changed)
	l.goBackground(func(ctx context.Context) { l.beat(ctx, learned) })
	return nil
}

func (l *Line) incident(i registry.Incident) { l.metrics.Incident(string(i)) }
