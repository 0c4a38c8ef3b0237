package match

import (
	"hash/maphash"
	"slices"
	"strings"
	"unique"
)

// maxFlat is how many subscriptions (pairs of endpoint and pattern) a tenant
// may have before it gets a trie. Below it one contiguous list is faster:
// with 100,000 tenants every pointer that a lookup follows is a miss of the
// caches, and a list of 64 costs less to read than the five to ten misses of a
// walk down a trie and into its sets.
const maxFlat = 64

// subscription is one endpoint under one pattern.
type subscription struct {
	// hash is that of the pattern if it is literal, so that the list can be
	// read without following the pointers of what doesn't match; 0 for one
	// with wildcards.
	hash     uint64
	pattern  unique.Handle[string]
	endpoint *Endpoint
}

// flat is a short list of subscriptions in the order of their endpoints' IDs.
type flat []subscription

func (f flat) place(id string) int {
	at, _ := slices.BinarySearchFunc(f, id, func(s subscription, id string) int {
		return strings.Compare(s.endpoint.ID, id)
	})
	return at
}

func (f *flat) insert(seed maphash.Seed, e *Endpoint) {
	at := f.place(e.ID)
	for p := range e.stored() {
		s := subscription{pattern: unique.Make(p), endpoint: e}
		if literal(p) {
			s.hash = hashOf(seed, p)
		}
		*f = slices.Insert(*f, at, s)
	}
}

func (f *flat) remove(id string) {
	at := f.place(id)
	end := at
	for end < len(*f) && (*f)[end].endpoint.ID == id {
		end++
	}
	*f = slices.Delete(*f, at, end)
}

// match appends the endpoints subscribed to a type with IDs between two bounds.
func (f flat) match(dst []*Endpoint, seed maphash.Seed, eventType, first, last string) []*Endpoint {
	hash := hashOf(seed, eventType)
	var found *Endpoint // the last one appended: its other patterns don't count
	for i := range f {
		s := &f[i]
		if s.hash != hash && s.hash != 0 || s.endpoint == found || !covers(s.pattern.Value(), eventType) {
			continue
		}
		if first != "" && s.endpoint.ID < first || last != "" && s.endpoint.ID > last {
			continue
		}
		found = s.endpoint
		dst = append(dst, found)
	}
	return dst
}

// hashOf is never 0, which stands for a pattern with wildcards.
func hashOf(seed maphash.Seed, s string) uint64 { return maphash.String(seed, s) | 1 }

// literal reports whether a pattern has no wildcards, so that it covers the
// one type that is spelled the same.
func literal(pattern string) bool {
	for rest, more, first := pattern, true, true; more; first = false {
		var token string
		token, rest, more = cut(rest, first)
		if _, _, wild := wildcard(token); wild {
			return false
		}
	}
	return true
}

// covers decides for one pattern what [node.collect] finds for all.
func covers(pattern, eventType string) bool {
	moreP, moreT := true, true
	for first := true; moreP; first = false {
		if !moreT {
			return false
		}
		var p, t string
		p, pattern, moreP = cut(pattern, first)
		t, eventType, moreT = cut(eventType, first)
		_, star, wild := wildcard(p)
		switch {
		case !wild && p != t, wild && !first && p[0] != t[0]:
			return false
		case star && !moreP:
			return true
		}
	}
	return !moreT
}
