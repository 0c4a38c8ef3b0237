package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/dispatcher/breaker"
	"posthorn/internal/topics"
	"posthorn/registry"
)

// learner writes what the line finds out about endpoints to the registry, in
// the background: an endpoint's latest state wins over those not written yet.
type learner struct {
	put func(ctx context.Context, key string, value []byte) error
	log *slog.Logger

	mu      sync.Mutex
	pending map[string]registry.BreakerState
	opened  map[string]time.Time // when the breakers that aren't closed were opened
	more    chan struct{}
}

func newLearner(put func(context.Context, string, []byte) error, log *slog.Logger) *learner {
	return &learner{put: put, log: log, pending: make(map[string]registry.BreakerState),
		opened: make(map[string]time.Time), more: make(chan struct{}, 1)}
}

// breaker notes a breaker's new state.
func (l *learner) breaker(endpointID string, to breaker.State) {
	now := time.Now().UTC()
	l.mu.Lock()
	switch to {
	case breaker.Open:
		if _, known := l.opened[endpointID]; !known {
			l.opened[endpointID] = now
		}
	case breaker.Closed:
		delete(l.opened, endpointID)
	}
	l.pending[endpointID] = registry.BreakerState{State: stateName(to), Since: now, OpenedAt: l.opened[endpointID]}
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
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

// run writes until ctx ends, and then what is left, for a moment.
func (l *learner) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			l.flush(last)
			return
		case <-l.more:
			l.flush(ctx)
		}
	}
}

func (l *learner) flush(ctx context.Context) {
	l.mu.Lock()
	batch := l.pending
	l.pending = make(map[string]registry.BreakerState)
	l.mu.Unlock()
	for id, state := range batch {
		key, value, err := state.Record(id)
		if err == nil {
			err = l.put(ctx, key, value)
		}
		if err != nil && ctx.Err() == nil {
			l.log.Warn("recording a breaker's state", "endpoint", id, "error", err)
		}
	}
}

// recordLearned writes a record of what the system itself found out; no
// change by a user ever writes its keys.
func (l *Line) recordLearned(ctx context.Context, key string, value []byte) error {
	r := &kgo.Record{Topic: topics.Name(l.cfg.Prefix, topics.RoleRegistry), Key: []byte(key), Value: value}
	return l.producer.ProduceSync(ctx, r).FirstErr()
}
