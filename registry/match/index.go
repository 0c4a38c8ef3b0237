package match

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"unique"

	"posthorn/registry/filter"
)

// Endpoint is what the index yields. It is never changed after
// [Index.Put], so a reader may keep it as long as it likes.
type Endpoint struct {
	// ID orders the endpoints of a tenant.
	ID string
	// Contract names how a delivery's body is built: a matcher needs nothing
	// else of an endpoint.
	Contract string
	// Filter decides which events of a subscribed type are wanted; nil: all.
	Filter *filter.Program
	// patterns are those it is stored under, joined by line feeds, so that
	// replacing and deleting need no help from the caller. Interned, since
	// most endpoints share their list with many others.
	patterns unique.Handle[string]
	// off keeps a disabled endpoint out of the trie.
	off bool
}

// Patterns returns the subscribed patterns; nil means every type.
func (e *Endpoint) Patterns() []string {
	if e.patterns == (unique.Handle[string]{}) || e.patterns.Value() == "" {
		return nil
	}
	return strings.Split(e.patterns.Value(), "\n")
}

// Disabled reports whether the endpoint was put as one that doesn't match.
func (e *Endpoint) Disabled() bool { return e.off }

// shardCount spreads the tenants over locks, so that a reader that copies a
// hundred thousand matches holds up a writer of one tenant in 64 only.
const shardCount = 64

// Index holds the endpoints of all tenants. All methods may be called at the
// same time; a reader sees a replaced endpoint either as it was or as it is,
// never twice or not at all.
type Index struct {
	seed   maphash.Seed
	shards [shardCount]shard
}

type shard struct {
	mu        sync.RWMutex
	tenants   map[string]*tenant
	suspended map[string]struct{} // nil as long as there are none
	_         [24]byte            // a cache line each
}

// tenant holds its subscriptions either in few or, once there are more than
// maxFlat, in the trie.
type tenant struct {
	few  flat
	trie *node
	all  set // every endpoint, the disabled ones too
}

// New returns an empty index.
func New() *Index {
	x := &Index{seed: maphash.MakeSeed()}
	for i := range x.shards {
		x.shards[i].tenants = make(map[string]*tenant)
	}
	return x
}

func (x *Index) shard(tenant string) *shard {
	return &x.shards[maphash.String(x.seed, tenant)%shardCount]
}

// Put adds an endpoint to a tenant, or replaces the one with the same ID. No
// patterns mean every type. A disabled endpoint is listed but never matched.
// The index keeps e, and sets its unexported fields; the caller must not
// change it afterwards. Patterns are taken as they are, see [ValidatePattern].
func (x *Index) Put(tenantID string, e *Endpoint, patterns []string, disabled bool) {
	e.patterns = unique.Make(strings.Join(patterns, "\n"))
	e.off = disabled
	s := x.shard(tenantID)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[tenantID]
	if t == nil {
		t = new(tenant)
		s.tenants[strings.Clone(tenantID)] = t
	} else if old := t.all.get(e.ID); old != nil {
		t.unlink(old)
	}
	t.all.put(e)
	if !disabled {
		t.link(x.seed, e)
	}
}

// Delete removes an endpoint; an unknown one is no error.
func (x *Index) Delete(tenantID, id string) {
	s := x.shard(tenantID)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tenants[tenantID]
	if t == nil {
		return
	}
	old := t.all.get(id)
	if old == nil {
		return
	}
	t.unlink(old)
	if t.all.remove(id); t.all.empty() {
		delete(s.tenants, tenantID)
	}
}

func (t *tenant) link(seed maphash.Seed, e *Endpoint) {
	if t.trie == nil {
		if t.few.insert(seed, e); len(t.few) <= maxFlat {
			return
		}
		// It stays a trie from here on: going back and forth at the border
		// would rebuild it with every change.
		t.trie = new(node)
		for _, s := range t.few {
			t.trie.insert(s.pattern.Value(), s.endpoint)
		}
		t.few = nil
		return
	}
	for p := range e.stored() {
		t.trie.insert(p, e)
	}
}

func (t *tenant) unlink(e *Endpoint) {
	switch {
	case e.off:
	case t.trie == nil:
		t.few.remove(e.ID)
	default:
		for p := range e.stored() {
			t.trie.remove(p, e.ID, true)
		}
	}
}

// stored gives the patterns in the trie: "*" where there are none.
func (e *Endpoint) stored() func(yield func(string) bool) {
	if v := e.patterns.Value(); v != "" {
		return strings.SplitSeq(v, "\n")
	}
	return slices.Values(everything)
}

var everything = []string{wildFirst}

// Lookup appends to dst the tenant's endpoints that are subscribed to the
// type, in the order of their IDs, each once. It allocates only where dst is
// too small.
func (x *Index) Lookup(dst []*Endpoint, tenantID, eventType string) []*Endpoint {
	return x.MatchRange(dst, tenantID, eventType, "", "")
}

// MatchRange is [Index.Lookup] for the endpoints with IDs from first to last,
// both included; an empty bound is none. A fan-out task is such a range, and
// ranges stay valid while endpoints come and go.
func (x *Index) MatchRange(dst []*Endpoint, tenantID, eventType, first, last string) []*Endpoint {
	s := x.shard(tenantID)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tenants[tenantID]
	if t == nil {
		return dst
	}
	if _, off := s.suspended[tenantID]; off {
		return dst
	}
	if t.trie == nil {
		return t.few.match(dst, x.seed, eventType, first, last)
	}
	var h hits
	t.trie.collect(eventType, true, &h)
	if h.n == 0 {
		return dst
	}
	return merge(dst, h.sets(), first, last)
}

// Suspend keeps all endpoints of a tenant from matching, those to come too, or
// lets them match again. They are listed and counted all the same.
func (x *Index) Suspend(tenantID string, suspended bool) {
	s := x.shard(tenantID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !suspended {
		delete(s.suspended, tenantID)
		return
	}
	if s.suspended == nil {
		s.suspended = make(map[string]struct{})
	}
	s.suspended[strings.Clone(tenantID)] = struct{}{}
}

// Suspended reports what [Index.Suspend] was last told.
func (x *Index) Suspended(tenantID string) bool {
	s := x.shard(tenantID)
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, off := s.suspended[tenantID]
	return off
}

// List appends up to limit of the tenant's endpoints with IDs above after,
// the disabled ones too.
func (x *Index) List(dst []*Endpoint, tenantID, after string, limit int) []*Endpoint {
	s := x.shard(tenantID)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tenants[tenantID]
	if t == nil {
		return dst
	}
	for c := t.all.from(after); limit > 0 && c.peek() != nil; c.next() {
		if e := c.peek(); e.ID != after {
			dst = append(dst, e)
			limit--
		}
	}
	return dst
}

// Count returns how many endpoints the tenant has, the disabled ones included.
func (x *Index) Count(tenantID string) int {
	s := x.shard(tenantID)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tenants[tenantID]; t != nil {
		return t.all.len()
	}
	return 0
}

// Tenants returns how many tenants have endpoints.
func (x *Index) Tenants() int {
	n := 0
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		n += len(s.tenants)
		s.mu.RUnlock()
	}
	return n
}
