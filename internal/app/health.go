package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"posthorn/contract"
	"posthorn/registry"
	"posthorn/registry/lifecycle"
	"posthorn/webhook"
)

const (
	// healthEvery is how often what changed of an endpoint's health is recorded, if
	// it didn't begin or cease to fail, nor had its first event after a quiet day;
	// healthIdle is how long one is remembered that nothing is heard of, and that is
	// well.
	healthEvery, healthIdle = time.Hour, 10 * time.Minute
	// healthFailing is how long an endpoint fails before that is recorded: one that
	// takes every other request would have a record written each second.
	healthFailing = time.Minute
	// healthLooked and healthSaved bound what one look does, each second: a new day
	// changes all endpoints at once.
	healthLooked, healthSaved = 20_000, 2_000
)

// health remembers how the endpoints are whose deliveries this process makes,
// records it under "health/ID", and raises a notice when one has gone half or
// three quarters of the way to being disabled, or all of it.
type health struct {
	policy    lifecycle.Policy
	contracts contract.Set
	store     *registry.Store
	send      func(key string, value []byte)
	// events is the topic of our own events: how their deliveries fare is no
	// news, or they would make more of them.
	events string
	// raise takes a notice, false if there is no room for it now.
	raise func(notice) bool
	log   *slog.Logger

	mu        sync.Mutex
	leases    map[int32]lease // of the partitions that are ours
	endpoints map[string]*endpointHealth
	urgent    []string // IDs of those whose changes don't wait for their hour
}

// endpointHealth is what is remembered of one endpoint.
type endpointHealth struct {
	partition int32     // of its deliveries
	lease     lease     // under which it is ours
	active    time.Time // since when what it does counts
	state     lifecycle.State
	sent      lifecycle.State // as we recorded it last
	noticed   int             // percent that a notice was raised for
	changed   bool            // since it was recorded
	urgent    bool            // it is in the list of those
	saved     time.Time
	seen      time.Time
}

// settled learns from a settlement. It is called for each and doesn't block.
func (h *health) settled(s *webhook.Settlement) {
	if s.Source.Topic == h.events || s.Origin == webhook.OriginTest {
		return
	}
	now := time.Now()
	o := observationOf(s)
	matched := s.Run == 0 && s.Origin == webhook.OriginMatch
	if o == lifecycle.Nothing && !matched {
		return
	}
	h.mu.Lock()
	e := h.of(s.EndpointID, s.Record.Partition, now)
	if e == nil {
		h.mu.Unlock()
		return
	}
	before := e.state
	e.seen = now
	e.state = e.state.After(o, now, e.active)
	if matched {
		e.state = e.state.Seen(s.MatchedAt)
	}
	if e.state != before {
		e.changed = true
		// It began to fail, or is well again.
		turned := !e.state.FailingSince.Equal(before.FailingSince)
		if turned {
			e.noticed = 0
		}
		// An event after a quiet day keeps it from being taken for inactive.
		quiet := e.state.LastEvent.Sub(before.LastEvent) > 24*time.Hour && h.mayBeInactive(s.Contract)
		if (turned || quiet) && !e.urgent {
			e.urgent = true
			h.urgent = append(h.urgent, s.EndpointID)
		}
	}
	var n notice
	if o == lifecycle.Failed || o == lifecycle.Exhausted {
		if j := h.policy.Judge(e.state, now); j.Percent > e.noticed {
			n = notice{endpointID: s.EndpointID, percent: j.Percent, reason: webhook.DisabledReason(j.Cause), state: e.state, at: now}
			e.noticed = j.Percent
		}
	}
	state := e.state
	h.mu.Unlock()
	if s.Kind == webhook.KindAttempt && s.Status != 0 && h.gone(s) {
		n = notice{endpointID: s.EndpointID, percent: 100, reason: webhook.DisabledGone, state: state, at: s.StartedAt}
	}
	if n.percent > 0 && !h.raise(n) {
		h.mu.Lock()
		e.noticed = 0 // the next failure raises it again
		h.mu.Unlock()
	}
}

// observationOf reads a settlement. What we cut short, refuse to dial or can't
// build or sign says nothing about the receiver.
func observationOf(s *webhook.Settlement) lifecycle.Observation {
	switch {
	case s.Kind == webhook.KindPark && s.Reason == webhook.ReasonPaused:
		return lifecycle.Waited
	case s.Kind != webhook.KindAttempt, s.Reason == webhook.ReasonRequest, s.Reason == webhook.ReasonAddressDenied:
		return lifecycle.Nothing
	}
	switch s.Outcome {
	case webhook.OutcomeDelivered:
		return lifecycle.Delivered
	case webhook.OutcomeRetry:
		return lifecycle.Failed
	case webhook.OutcomeDead:
		return lifecycle.Exhausted
	case webhook.OutcomeCut:
	}
	return lifecycle.Nothing
}

func (h *health) mayBeInactive(contract string) bool {
	c, ok := h.contracts.Get(contract)
	return ok && c.InactiveAfter() > 0
}

func (h *health) gone(s *webhook.Settlement) bool {
	c, ok := h.contracts.Get(s.Contract)
	return ok && c.Gone(s.Status)
}

// of returns what is remembered of an endpoint, nil for one that the registry
// doesn't know and for a POST that ended when its partition was given up already:
// what we think of the endpoint must not outlive what its owner learns. The lock is
// held.
func (h *health) of(id string, partition int32, now time.Time) *endpointHealth {
	l := h.leases[partition]
	if l == nil || l.Ended() {
		return nil
	}
	e := h.endpoints[id]
	if e == nil || e.lease != l {
		ep, ok := h.store.Get(id)
		if !ok {
			return nil
		}
		e = &endpointHealth{partition: partition, lease: l, active: activeSince(ep), saved: now}
		e.sent = healthOf(h.store.Raw(registry.KindHealth, id))
		e.state = e.sent.Since(e.active)
		h.endpoints[id] = e
	}
	return e
}

// healthOf reads a record "health/ID"; one that isn't there or can't be read
// says nothing.
func healthOf(value []byte, ok bool) (s lifecycle.State) {
	if ok && json.Unmarshal(value, &s) != nil {
		return lifecycle.State{}
	}
	return s
}

// activeSince is since when what an endpoint does counts.
func activeSince(ep *webhook.Endpoint) time.Time {
	if ep.EnabledAt.After(ep.CreatedAt) {
		return ep.EnabledAt
	}
	return ep.CreatedAt
}

// recorded notes that the state is recorded now, and returns it.
func (e *endpointHealth) recorded(now time.Time) lifecycle.State {
	e.changed, e.saved, e.sent = false, now, e.state
	return e.state
}

// wavers reports whether it fails for too short a time for that to be told.
func (e *endpointHealth) wavers(now time.Time) bool {
	return !e.state.FailingSince.IsZero() && now.Sub(e.state.FailingSince) < healthFailing
}

// tells reports whether the state says something that the record doesn't, and
// that its successor would judge by.
func (e *endpointHealth) tells() bool {
	return !e.state.FailingSince.Equal(e.sent.FailingSince) || !e.state.LastEvent.Equal(e.sent.LastEvent)
}

func (h *health) record(id string, s lifecycle.State) {
	value, err := json.Marshal(s)
	if err != nil {
		h.log.Warn("recording an endpoint's health", "endpoint", id, "error", err)
		return
	}
	h.send(registry.Key(registry.KindHealth, id), value)
}

// changed forgets an endpoint that was changed, and one whose health another
// process has recorded: it owned the endpoint meanwhile.
func (h *health) changed(kind, id string) {
	if kind != registry.KindEndpoint && kind != registry.KindHealth {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.endpoints[id]
	if e == nil {
		return
	}
	if kind == registry.KindHealth && healthOf(h.store.Raw(kind, id)) == e.sent {
		return
	}
	ep, ok := h.store.Get(id)
	if !ok || kind == registry.KindHealth {
		delete(h.endpoints, id)
		return
	}
	e.active = activeSince(ep)
	if was := e.state; was.Since(e.active) != was { // enabled again: a new beginning
		e.state, e.noticed, e.changed = was.Since(e.active), 0, true
	}
}

// run records what changed, bit by bit, until ctx ends. The rest is recorded when
// the partitions are given up.
func (h *health) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.look(time.Now())
		}
	}
}

func (h *health) look(now time.Time) {
	due, most := make(map[string]lifecycle.State), healthLooked
	h.mu.Lock()
	h.urgent = slices.DeleteFunc(h.urgent, func(id string) bool {
		e := h.endpoints[id]
		switch {
		case e == nil, !e.changed, e.lease.Ended():
		case len(due) >= healthSaved, e.wavers(now):
			return false
		case e.tells():
			due[id] = e.recorded(now)
		}
		if e != nil {
			e.urgent = false
		}
		return true
	})
	for id, e := range h.endpoints {
		switch {
		case e.lease.Ended():
			delete(h.endpoints, id)
		case e.changed && now.Sub(e.saved) >= healthEvery && len(due) < healthSaved:
			due[id] = e.recorded(now)
		case !e.changed && e.state.FailingSince.IsZero() && now.Sub(e.seen) > healthIdle:
			delete(h.endpoints, id)
		}
		if most--; most <= 0 {
			break
		}
	}
	h.mu.Unlock()
	for id, s := range due {
		h.record(id, s)
	}
}
