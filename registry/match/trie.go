package match

import (
	"slices"
	"strings"
	"unique"
)

// node is one token of a tenant's patterns. Tokens are interned: platforms
// have hundreds of event types, and a million endpoints that subscribe to them.
type node struct {
	token unique.Handle[string]
	kids  []node // in the order of their tokens
	// ends holds the endpoints with a pattern that ends here.
	ends *set
	// rest holds those whose pattern ends here in "*": any further segments.
	rest *set
}

func (n *node) kid(token string) (int, bool) {
	return slices.BinarySearchFunc(n.kids, token, func(k node, token string) int {
		return strings.Compare(k.token.Value(), token)
	})
}

// insert adds an endpoint under a pattern.
func (n *node) insert(pattern string, e *Endpoint) {
	star := false
	for rest, more, first := pattern, true, true; more; first = false {
		var token string
		token, rest, more = cut(rest, first)
		token, star, _ = wildcard(token)
		i, found := n.kid(token)
		if !found {
			n.kids = slices.Insert(n.kids, i, node{token: unique.Make(token)})
		}
		n = &n.kids[i]
	}
	at := &n.ends
	if star {
		at = &n.rest
	}
	if *at == nil {
		*at = new(set)
	}
	(*at).put(e)
}

// remove takes an endpoint from under a pattern, and prunes what is left
// without endpoints.
func (n *node) remove(pattern, id string, first bool) {
	token, rest, more := cut(pattern, first)
	token, star, _ := wildcard(token)
	i, found := n.kid(token)
	if !found {
		return
	}
	k := &n.kids[i]
	if more {
		k.remove(rest, id, false)
	} else {
		at := &k.ends
		if star {
			at = &k.rest
		}
		if *at != nil {
			if (*at).remove(id); (*at).empty() {
				*at = nil
			}
		}
	}
	if len(k.kids) == 0 && k.ends == nil && k.rest == nil {
		n.kids = slices.Delete(n.kids, i, i+1)
	}
}

// hits collects the sets that a lookup came across. It lives on the caller's
// stack; only a type that meets more than 16 patterns of a tenant allocates.
type hits struct {
	few  [16]*set
	n    int
	many []*set
}

func (h *hits) add(s *set) {
	if s == nil {
		return
	}
	if h.n < len(h.few) {
		h.few[h.n] = s
	} else {
		if h.n == len(h.few) {
			h.many = append(h.many[:0], h.few[:]...)
		}
		h.many = append(h.many, s)
	}
	h.n++
}

func (h *hits) sets() []*set {
	if h.n <= len(h.few) {
		return h.few[:h.n]
	}
	return h.many
}

// collect finds the sets that match what is left of a type.
func (n *node) collect(rest string, first bool, h *hits) {
	token, rest, more := cut(rest, first)
	wild := wildFirst
	if !first {
		wild = wildDot
		if token[0] == '/' {
			wild = wildSlash
		}
	}
	// The "*" of a type is a literal, but it shares its token with wildcards:
	// visiting the node once is enough.
	if token != wild {
		if i, found := n.kid(token); found {
			n.kids[i].reached(rest, more, h)
		}
	}
	if i, found := n.kid(wild); found {
		h.add(n.kids[i].rest)
		n.kids[i].reached(rest, more, h)
	}
}

func (n *node) reached(rest string, more bool, h *hits) {
	if !more {
		h.add(n.ends)
		return
	}
	if len(n.kids) > 0 {
		n.collect(rest, false, h)
	}
}
