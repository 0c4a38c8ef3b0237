package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/contract"
	"posthorn/dispatcher"
	"posthorn/dispatcher/send"
	"posthorn/registry"
	"posthorn/webhook"
)

// directory is registry and contracts as dispatcher.Directory. What it derives
// from an endpoint (the parsed URL, the opened secrets) is kept until the
// endpoint changes.
type directory struct {
	follower  *registry.Follower
	store     *registry.Store
	keyset    *registry.Keyset
	contracts contract.Set
	policies  map[string]*dispatcher.Contract
	parseURL  func(raw string) (*url.URL, error)
	log       *slog.Logger

	mu      sync.RWMutex
	targets map[string]*target
	// paused is the tenants that are paused, or everyone; nil while nobody is.
	paused atomic.Pointer[pauses]
}

// target is an endpoint, ready to be POSTed to.
type target struct {
	endpoint    *webhook.Endpoint
	url         *url.URL
	urlErr      error
	breakerOpen bool // an earlier owner left it so

	mu      sync.Mutex
	secrets map[string]openedSecrets // by contract; opened at the first attempt
}

type openedSecrets struct {
	live []liveSecret
	// again is when those that did not open are tried again; zero: all did.
	again time.Time
}

// openAgain is how long a secret that didn't open is left alone where others
// sign: the keyset may still be on its way to this process.
const openAgain = 10 * time.Second

type liveSecret struct {
	secret  contract.Secret
	expires time.Time // zero: current
}

func newDirectory(f *registry.Follower, s *registry.Store, k *registry.Keyset, cs contract.Set, parse func(string) (*url.URL, error), log *slog.Logger) *directory {
	d := &directory{follower: f, store: s, keyset: k, contracts: cs, parseURL: parse, log: log,
		policies: make(map[string]*dispatcher.Contract), targets: make(map[string]*target)}
	for _, name := range cs.Names() {
		c, _ := cs.Get(name)
		p := &dispatcher.Contract{Timeout: c.Timeout(), MinTLS: c.MinTLS(), Retryable: c.Retryable}
		if schedule, own := c.Schedule(); own {
			p.Schedule = append([]time.Duration{}, schedule...) // never nil: nil means the line's
		}
		if i := c.Immediate(); i != nil {
			p.Immediate = &dispatcher.Immediate{Tries: i.Retries, Initial: i.Initial, Multiplier: i.Multiplier, Jitter: i.Jitter, Within: i.Total}
		}
		d.policies[name] = p
	}
	return d
}

// changed forgets what was derived from an endpoint.
func (d *directory) changed(kind, id string) {
	if kind == webhook.KindPause {
		d.paused.Store(pausesOf(d.store))
	}
	if kind == registry.KindEndpoint || kind == registry.KindBreaker {
		d.mu.Lock()
		delete(d.targets, id)
		d.mu.Unlock()
	}
}

// Reached implements dispatcher.Directory.
func (d *directory) Reached(v webhook.RegistryVersion) bool { return d.follower.Reached(v) }

// WaitReached implements dispatcher.Directory.
func (d *directory) WaitReached(ctx context.Context, v webhook.RegistryVersion) error {
	return d.follower.WaitReached(ctx, v)
}

// Endpoint implements dispatcher.Directory.
func (d *directory) Endpoint(id string) (dispatcher.Endpoint, bool) {
	d.mu.RLock()
	t := d.targets[id]
	d.mu.RUnlock()
	if t == nil {
		e, ok := d.store.Get(id)
		if !ok {
			return dispatcher.Endpoint{}, false
		}
		breaker, known := d.store.Breaker(id)
		t = &target{endpoint: e, breakerOpen: known && breaker.State == breakerOpen}
		t.url, t.urlErr = d.parseURL(e.URL)
		if t.urlErr != nil {
			t.url = &url.URL{} // Sign says why
		}
		d.mu.Lock()
		// A change between Get and here would be overwritten: look again.
		if now, ok := d.store.Get(id); ok && sameState(now, e) {
			d.targets[id] = t
		}
		d.mu.Unlock()
	}
	e := t.endpoint
	out := dispatcher.Endpoint{URL: t.url, Suspended: d.store.Suspended(e.Tenant), RateLimit: e.RateLimit, MaxInFlight: e.MaxInFlight,
		PurgeBefore: e.PurgeBefore, Purged: e.Purged(), BreakerOpen: t.breakerOpen, Ref: t}
	switch {
	case e.Disabled && e.OnDisable == webhook.OnDisablePark:
		out.Parked = webhook.ReasonEndpointDisabled
	case e.Disabled:
		out.Disabled = true
	case e.Paused || d.paused.Load().has(e.Tenant):
		out.Parked = webhook.ReasonPaused
	}
	return out, true
}

// sameState reports whether two copies of an endpoint are of the same state.
// One that was deleted and made anew under its ID begins at version 1 again.
func sameState(a, b *webhook.Endpoint) bool {
	return a.Version == b.Version && a.CreatedAt.Equal(b.CreatedAt)
}

// Contract implements dispatcher.Directory.
func (d *directory) Contract(name string) (*dispatcher.Contract, bool) {
	c, ok := d.policies[name]
	return c, ok
}

// Sign implements dispatcher.Directory.
func (d *directory) Sign(v *webhook.Delivery, e dispatcher.Endpoint, at time.Time) (http.Header, error) {
	t, _ := e.Ref.(*target)
	if t.urlErr != nil {
		return nil, t.urlErr
	}
	c, ok := d.contracts.Get(v.Contract)
	if !ok {
		return nil, fmt.Errorf("contract %q is not known", v.Contract)
	}
	// Registration refuses it too, but the contract's file may have changed
	// since, and records may come from elsewhere.
	if c.HTTPSOnly() && t.url.Scheme != "https" {
		return nil, fmt.Errorf("contract %q delivers to https only, and the endpoint's URL is %s", c.Name(), t.url.Scheme)
	}
	secrets, err := d.secrets(t, c, at)
	if err != nil {
		return nil, err
	}
	h, err := c.Headers(v, at, secrets)
	if err != nil {
		return nil, err
	}
	if err := send.AddCustom(h, t.endpoint.Headers); err != nil {
		return nil, err
	}
	return h, nil
}

// secrets returns those that sign at a time, newest first. One of several that
// can't be opened doesn't keep the others from signing: a receiver takes a
// delivery that any of its secrets signed.
func (d *directory) secrets(t *target, c *contract.Contract, at time.Time) ([]contract.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	opened, ok := t.secrets[c.Name()]
	if !ok || !opened.again.IsZero() && !at.Before(opened.again) {
		opened = openedSecrets{}
		var errs []error
		for _, sealed := range t.endpoint.Secrets {
			if !sealed.Live(at) {
				continue
			}
			s, err := d.open(t.endpoint, c, sealed)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			opened.live = append(opened.live, liveSecret{s, sealed.ExpiresAt})
		}
		if len(opened.live) == 0 && len(errs) > 0 {
			return nil, errors.Join(errs...)
		}
		if len(errs) > 0 {
			opened.again = at.Add(openAgain)
			d.log.Warn("a secret doesn't sign, others do", "endpoint", t.endpoint.ID, "error", errors.Join(errs...))
		}
		if t.secrets == nil {
			t.secrets = make(map[string]openedSecrets)
		}
		t.secrets[c.Name()] = opened
	}
	live := make([]contract.Secret, 0, len(opened.live))
	for _, s := range opened.live {
		if s.expires.IsZero() || at.Before(s.expires) {
			live = append(live, s.secret)
		}
	}
	return live, nil
}

func (d *directory) open(e *webhook.Endpoint, c *contract.Contract, sealed webhook.SealedSecret) (contract.Secret, error) {
	text, err := d.keyset.Open(e, sealed)
	if err != nil {
		return contract.Secret{}, err
	}
	s, err := c.ParseSecret(text)
	if err != nil {
		return contract.Secret{}, fmt.Errorf("reading secret %s: %w", sealed.ID, err)
	}
	return s, nil
}
