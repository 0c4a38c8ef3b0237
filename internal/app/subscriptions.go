package app

import (
	"context"
	"fmt"
	"sync"

	"posthorn/consumer"
	"posthorn/contract"
	"posthorn/registry"
	"posthorn/registry/match"
	"posthorn/webhook"
)

// subscriptions is the registry as consumer.Subscriptions.
type subscriptions struct {
	follower *registry.Follower
	store    *registry.Store
	scratch  sync.Pool // of *[]*match.Endpoint
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
		dst = append(dst, consumer.Subscriber{EndpointID: e.ID, Contract: e.Contract})
	}
	clear(*found)
	s.scratch.Put(found)
	return dst, version
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
