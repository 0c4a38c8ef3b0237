package app

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"posthorn/consumer"
	"posthorn/contract"
	"posthorn/registry"
	"posthorn/registry/filter"
	"posthorn/registry/match"
	"posthorn/webhook"
)

// subscriptions is the registry as consumer.Subscriptions.
type subscriptions struct {
	follower *registry.Follower
	store    *registry.Store
	scratch  sync.Pool // of *[]*match.Endpoint
	// trouble is told of a filter that could not decide.
	trouble func(endpointID, expression string, why filter.Trouble)
}

// WaitCurrent implements consumer.Subscriptions.
func (s *subscriptions) WaitCurrent(ctx context.Context) error { return s.follower.WaitCurrent(ctx) }

// Match implements consumer.Subscriptions. The version is read after the match,
// so that it covers every endpoint that was found: a dispatcher that has reached
// it knows them all.
func (s *subscriptions) Match(dst []consumer.Subscriber, tenant, eventType, first, last string) ([]consumer.Subscriber, webhook.RegistryVersion) {
	found, _ := s.scratch.Get().(*[]*match.Endpoint)
	if found == nil {
		found = new([]*match.Endpoint)
	}
	if first == "" && last == "" {
		*found = s.store.Lookup((*found)[:0], tenant, eventType)
	} else {
		*found = s.store.MatchRange((*found)[:0], tenant, eventType, first, last)
	}
	version := s.follower.Version()
	for _, e := range *found {
		sub := consumer.Subscriber{EndpointID: e.ID, Contract: e.Contract}
		if e.Filter != nil {
			sub.Filter = e.Filter
		}
		dst = append(dst, sub)
	}
	clear(*found)
	s.scratch.Put(found)
	return dst, version
}

// Wanted implements consumer.Subscriptions.
func (s *subscriptions) Wanted(subs []consumer.Subscriber, e *webhook.Event) []consumer.Subscriber {
	filtered := func(sub consumer.Subscriber) bool { return sub.Filter != nil }
	if !slices.ContainsFunc(subs, filtered) {
		return subs
	}
	var event filter.Event
	event.Reset(e)
	return slices.DeleteFunc(subs, func(sub consumer.Subscriber) bool {
		program, ok := sub.Filter.(*filter.Program)
		if !ok {
			return false
		}
		wanted, trouble := program.Wants(&event)
		if trouble != "" {
			s.trouble(sub.EndpointID, program.Source(), trouble)
		}
		return !wanted
	})
}

// bodies is the contracts as consumer.Bodies.
type bodies struct{ contracts contract.Set }

// Body implements consumer.Bodies.
func (b bodies) Body(name string, e *webhook.Event) ([]byte, string, error) {
	c, ok := b.contracts.Get(name)
	if !ok {
		return nil, "", fmt.Errorf("contract %q is not known to this process: add its file to contracts_dir", name)
	}
	return c.Body(e)
}
