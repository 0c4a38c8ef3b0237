package breaker

import "sync"

// Change is a breaker's way from one state to another. Several changes between
// two calls of [Set.Changes] are one, from the first state to the last; From
// and To are then equal if it came back to where it was, as one that opened
// again after its probes failed.
type Change struct {
	Key      string
	From, To State
}

// notes holds the changes that nobody has taken yet, one for each endpoint at
// most, so that it is bounded by the number of breakers.
type notes struct {
	mu    sync.Mutex
	list  []Change
	index map[string]int // position in list
	wake  chan struct{}
}

// add is gobreaker's OnStateChange. It runs under the breaker's mutex, so it must
// neither block nor call a breaker.
func (n *notes) add(key string, from, to State) {
	n.mu.Lock()
	if i, ok := n.index[key]; ok {
		n.list[i].To = to
	} else {
		if n.index == nil {
			n.index = make(map[string]int)
		}
		n.index[key] = len(n.list)
		n.list = append(n.list, Change{key, from, to})
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// Changes takes the changes since the last call, in the order in which the
// endpoints first changed. A breaker goes from open to half-open when it is
// next asked (Allow, State or Sweep), not by time alone.
func (s *Set) Changes() []Change {
	s.notes.mu.Lock()
	defer s.notes.mu.Unlock()
	list := s.notes.list
	s.notes.list = nil
	clear(s.notes.index)
	return list
}

// Changed receives a value after something has changed: call Changes then. One
// value may stand for many changes. It is never closed.
func (s *Set) Changed() <-chan struct{} { return s.notes.wake }
