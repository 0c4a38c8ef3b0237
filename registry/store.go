package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"posthorn/registry/match"
	"posthorn/webhook"
)

// ErrBadRecord is wrapped by the errors of [Store.Apply].
var ErrBadRecord = errors.New("bad registry record")

// Store is the registry's state in memory. All methods may be called at the
// same time. What it returns belongs to the caller.
type Store struct {
	index *match.Index
	bad   atomic.Int64

	mu        sync.RWMutex
	endpoints btree.Map[string, *row]
	contracts map[string]string
	filters   filters
	raw       map[string]*table // by kind
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		index:     match.New(),
		contracts: make(map[string]string),
		filters:   make(filters),
		raw:       make(map[string]*table),
	}
}

// Apply takes in one record; a nil value removes its key. Records of a kind
// that the store has no table for are kept as they are. The error says what
// was wrong with a record that was left out: it is counted, the key's earlier
// state stays, and the caller goes on with the next.
func (s *Store) Apply(key, value []byte) error { return s.apply(readChange(key, value)) }

// change is a record, read as far as it goes without the store's state: that is
// most of the work, and can be done for many at a time.
type change struct {
	kind, id string
	value    []byte // of records that are kept as they are
	endpoint *webhook.Endpoint
	packed   string // the endpoint's
	tenant   webhook.Tenant
	err      error
}

func readChange(key, value []byte) (c change) {
	if c.kind, c.id, c.err = SplitKey(string(key)); c.err != nil {
		return c
	}
	c.value = value
	if value == nil {
		return c
	}
	switch c.kind {
	case KindEndpoint:
		if c.endpoint, c.err = decodeEndpoint(c.id, value); c.err == nil {
			c.packed = pack(c.endpoint)
		}
	case KindTenant:
		if err := json.Unmarshal(value, &c.tenant); err != nil {
			c.err = fmt.Errorf("tenant %.60q: %w", c.id, err)
		}
	}
	return c
}

func (s *Store) apply(c change) error {
	if c.err != nil {
		s.bad.Add(1)
		return fmt.Errorf("%w: %w", ErrBadRecord, c.err)
	}
	switch c.kind {
	case KindEndpoint:
		s.applyEndpoint(&c)
	case KindTenant: // kept as it is, and the index informed of who is suspended
		s.applyRaw(c.kind, c.id, c.value)
		s.index.Suspend(c.id, c.tenant.Suspended)
	default:
		s.applyRaw(c.kind, c.id, c.value)
	}
	return nil
}

func (s *Store) applyEndpoint(c *change) {
	// The index changes under the same lock: two writers of one ID must leave
	// both tables with the same one's work.
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ep := c.id, c.endpoint
	old, _ := s.endpoints.Get(id)
	if old != nil {
		// A replaced one goes too: its key in the map is part of the old row,
		// and would keep that alive.
		s.endpoints.Delete(id)
		s.filters.release(old.Filter)
		if ep == nil || ep.Tenant != old.tenant.Value() {
			s.index.Delete(old.tenant.Value(), id)
		}
	}
	if ep == nil {
		return
	}
	r := newRow(ep, c.packed, s.contract(ep.Contract), s.filters.use(ep.Filter))
	s.endpoints.Set(r.ID, r)
	s.index.Put(ep.Tenant, &r.Endpoint, ep.Events, ep.Disabled)
}

// contract gives the one copy of a contract's name. There are only as many
// names as contracts were ever configured.
func (s *Store) contract(name string) string {
	if _, ok := s.contracts[name]; !ok {
		s.contracts[name] = name
	}
	return s.contracts[name]
}

// decodeEndpoint reads an endpoint's record and checks what the tables rely
// on. The rules for registrations are not repeated: they may become stricter
// without making what is registered disappear.
func decodeEndpoint(id string, value []byte) (*webhook.Endpoint, error) {
	ep := new(webhook.Endpoint)
	if err := json.Unmarshal(value, ep); err != nil {
		return nil, fmt.Errorf("endpoint %.60q: %w", id, err)
	}
	switch {
	case ep.ID != id:
		return nil, fmt.Errorf("endpoint %.60q: its record says ID %.60q", id, ep.ID)
	case ep.Tenant == "":
		return nil, fmt.Errorf("endpoint %.60q: it has no tenant", id)
	case ep.URL == "":
		return nil, fmt.Errorf("endpoint %.60q: it has no URL", id)
	}
	for _, p := range ep.Events {
		if err := match.ValidatePattern(p); err != nil {
			return nil, fmt.Errorf("endpoint %.60q: %w", id, err)
		}
	}
	return ep, nil
}

// Suspended reports whether a tenant's events are matched to nothing.
func (s *Store) Suspended(tenant string) bool { return s.index.Suspended(tenant) }

func (s *Store) applyRaw(kind, id string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.raw[kind]
	if t == nil {
		if value == nil {
			return
		}
		t = new(table)
		s.raw[kind] = t
	}
	if value == nil {
		if t.Delete(id); t.Len() == 0 {
			delete(s.raw, kind)
		}
		return
	}
	t.Set(strings.Clone(id), append(make([]byte, 0, len(value)), value...))
}

// Has reports whether an endpoint is registered.
func (s *Store) Has(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.endpoints.Get(id)
	return ok
}

// Get returns an endpoint.
func (s *Store) Get(id string) (*webhook.Endpoint, bool) {
	s.mu.RLock()
	r, _ := s.endpoints.Get(id)
	s.mu.RUnlock()
	if r == nil {
		return nil, false
	}
	return r.unpack(), true
}

// List returns up to limit of a tenant's endpoints in the order of their IDs,
// beginning above after, and the cursor of the next page: "" at the end.
func (s *Store) List(tenant, after string, limit int) (page []*webhook.Endpoint, next string) {
	if limit <= 0 {
		return nil, after
	}
	found := s.index.List(nil, tenant, after, limit+1)
	if len(found) > limit {
		found = found[:limit]
		next = found[limit-1].ID
	}
	for _, e := range found {
		// One that was deleted since it was listed is left out.
		if ep, ok := s.Get(e.ID); ok && ep.Tenant == tenant {
			page = append(page, ep)
		}
	}
	return page, next
}

// ListAll is [Store.List] over all tenants.
func (s *Store) ListAll(after string, limit int) (page []*webhook.Endpoint, next string) {
	if limit <= 0 {
		return nil, after
	}
	rows := make([]*row, 0, limit+1)
	s.mu.RLock()
	s.endpoints.Ascend(after, func(id string, r *row) bool {
		if id != after {
			rows = append(rows, r)
		}
		return len(rows) <= limit
	})
	s.mu.RUnlock()
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].ID
	}
	for _, r := range rows {
		page = append(page, r.unpack())
	}
	return page, next
}

// Count returns how many endpoints a tenant has, the disabled ones included.
func (s *Store) Count(tenant string) int { return s.index.Count(tenant) }

// Len returns how many endpoints there are.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.endpoints.Len()
}

// Bad returns how many records were left out as unreadable.
func (s *Store) Bad() int64 { return s.bad.Load() }

// Lookup is [match.Index.Lookup] over the enabled endpoints.
func (s *Store) Lookup(dst []*match.Endpoint, tenant, eventType string) []*match.Endpoint {
	return s.index.Lookup(dst, tenant, eventType)
}

// MatchRange is [match.Index.MatchRange] over the enabled endpoints.
func (s *Store) MatchRange(dst []*match.Endpoint, tenant, eventType, first, last string) []*match.Endpoint {
	return s.index.MatchRange(dst, tenant, eventType, first, last)
}

// Breaker returns what was last recorded of an endpoint's breaker. A record
// that can't be read counts as none.
func (s *Store) Breaker(endpointID string) (BreakerState, bool) {
	value, ok := s.Raw(KindBreaker, endpointID)
	if !ok {
		return BreakerState{}, false
	}
	var b BreakerState
	if json.Unmarshal(value, &b) != nil {
		return BreakerState{}, false
	}
	return b, true
}

// Raw returns the value of a record that isn't an endpoint's. It must not be
// written to.
func (s *Store) Raw(kind, id string) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.raw[kind]
	if t == nil {
		return nil, false
	}
	return t.Get(id)
}

// IDs returns the IDs of a kind's records, in no order.
func (s *Store) IDs(kind string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	if kind == KindEndpoint {
		return s.endpoints.Keys()
	}
	if t := s.raw[kind]; t != nil {
		out = t.Keys()
	}
	return out
}

// retain removes every record whose key is not wanted and returns those keys.
func (s *Store) retain(wanted func(key string) bool) (gone []string) {
	s.mu.RLock()
	s.endpoints.Scan(func(id string, _ *row) bool {
		if key := Key(KindEndpoint, id); !wanted(key) {
			gone = append(gone, key)
		}
		return true
	})
	for kind, t := range s.raw {
		t.Scan(func(id string, _ []byte) bool {
			if key := Key(kind, id); !wanted(key) {
				gone = append(gone, key)
			}
			return true
		})
	}
	s.mu.RUnlock()
	for _, key := range gone {
		_ = s.Apply([]byte(key), nil) // a tombstone of a key that splits can't be bad
	}
	return gone
}
