package match

import (
	"slices"
	"strings"
)

// chunkSize bounds one chunk of a [set]: inserting moves at most this many
// pointers (8 KiB), where one flat slice would make loading a tenant with n
// endpoints in random order cost n²/2 moves.
const chunkSize = 1024

// set is a collection of endpoints in the order of their IDs, each once.
// Every chunk is non-empty, and all its IDs are below those of the next.
type set struct {
	chunks [][]*Endpoint
}

func byID(e *Endpoint, id string) int { return strings.Compare(e.ID, id) }

// seek gives the place of the first endpoint whose ID is not below id.
func (s *set) seek(id string) (chunk, at int, found bool) {
	chunk, _ = slices.BinarySearchFunc(s.chunks, id, func(c []*Endpoint, id string) int {
		return strings.Compare(c[len(c)-1].ID, id)
	})
	if chunk == len(s.chunks) {
		return chunk, 0, false
	}
	at, found = slices.BinarySearchFunc(s.chunks[chunk], id, byID)
	return chunk, at, found
}

func (s *set) get(id string) *Endpoint {
	if c, i, found := s.seek(id); found {
		return s.chunks[c][i]
	}
	return nil
}

// put adds an endpoint, or replaces the one with the same ID.
func (s *set) put(e *Endpoint) {
	c, i, found := s.seek(e.ID)
	if found {
		s.chunks[c][i] = e
		return
	}
	if c == len(s.chunks) {
		if c == 0 {
			s.chunks = [][]*Endpoint{{e}}
			return
		}
		c--
		i = len(s.chunks[c])
	}
	if len(s.chunks[c]) == chunkSize {
		// IDs mostly arrive in ascending order: the last chunk then stays
		// full, and a new one begins behind it.
		at := chunkSize / 2
		if c == len(s.chunks)-1 && i == chunkSize {
			at = chunkSize
		}
		upper := slices.Clone(s.chunks[c][at:])
		clear(s.chunks[c][at:])
		s.chunks[c] = s.chunks[c][:at]
		s.chunks = slices.Insert(s.chunks, c+1, upper)
		if i >= at {
			c, i = c+1, i-at
		}
	}
	s.chunks[c] = slices.Insert(s.chunks[c], i, e)
}

func (s *set) remove(id string) {
	c, i, found := s.seek(id)
	if !found {
		return
	}
	s.chunks[c] = slices.Delete(s.chunks[c], i, i+1)
	if len(s.chunks[c]) == 0 {
		s.chunks = slices.Delete(s.chunks, c, c+1)
	}
}

func (s *set) empty() bool { return len(s.chunks) == 0 }

func (s *set) len() int {
	n := 0
	for _, c := range s.chunks {
		n += len(c)
	}
	return n
}

// cursor reads a set upwards. A zero cursor is at its end.
type cursor struct {
	chunks [][]*Endpoint
	at     int
}

// from gives a cursor at the first endpoint whose ID is not below id.
func (s *set) from(id string) cursor {
	if id == "" {
		return cursor{s.chunks, 0}
	}
	c, i, _ := s.seek(id)
	return cursor{s.chunks[c:], i}
}

func (c *cursor) peek() *Endpoint {
	if len(c.chunks) == 0 {
		return nil
	}
	return c.chunks[0][c.at]
}

func (c *cursor) next() {
	if c.at++; c.at == len(c.chunks[0]) {
		c.chunks, c.at = c.chunks[1:], 0
	}
}

// appendTo appends all from the cursor up to the ID last ("" for no end).
func (c *cursor) appendTo(dst []*Endpoint, last string) []*Endpoint {
	for len(c.chunks) > 0 {
		chunk := c.chunks[0][c.at:]
		if last != "" && chunk[len(chunk)-1].ID > last {
			end, found := slices.BinarySearchFunc(chunk, last, byID)
			if found {
				end++
			}
			return append(dst, chunk[:end]...)
		}
		dst = append(dst, chunk...)
		c.chunks, c.at = c.chunks[1:], 0
	}
	return dst
}

// merge appends the union of sets in ID order, each endpoint once, for IDs
// from first to last ("" for no bound). Sets of one tenant hold the same
// pointer for the same ID.
func merge(dst []*Endpoint, sets []*set, first, last string) []*Endpoint {
	if len(sets) == 1 {
		c := sets[0].from(first)
		return c.appendTo(dst, last)
	}
	// A linear scan for the least costs one comparison per set and endpoint;
	// beyond a few sets sorting is cheaper.
	const maxCursors = 8
	if len(sets) > maxCursors {
		start := len(dst)
		for _, s := range sets {
			c := s.from(first)
			dst = c.appendTo(dst, last)
		}
		slices.SortFunc(dst[start:], func(a, b *Endpoint) int { return strings.Compare(a.ID, b.ID) })
		return dst[:start+len(slices.Compact(dst[start:]))]
	}
	var cursors [maxCursors]cursor
	for i, s := range sets {
		cursors[i] = s.from(first)
	}
	for {
		var least *Endpoint
		for i := range sets {
			if e := cursors[i].peek(); e != nil && (least == nil || e.ID < least.ID) {
				least = e
			}
		}
		if least == nil || last != "" && least.ID > last {
			return dst
		}
		dst = append(dst, least)
		for i := range sets {
			if cursors[i].peek() == least {
				cursors[i].next()
			}
		}
	}
}
