package watermark

import (
	"maps"
	"slices"
	"time"
)

// Memory remembers the identities of a partition's latest records, so that a
// repeat is known as one. What it remembers reaches back, from the watermark,
// over a window of the partition's own timestamps and a least number of
// records, whichever is more.
//
// It reaches back from the watermark and not from the reading position, because
// a successor starts from the watermark and must find the very repeats that
// this owner dropped. It belongs to the goroutine that reads the partition.
type Memory[ID comparable] struct {
	window time.Duration
	least  int64
	// ring holds what was noted, in offset order, from first on; what is
	// forgotten is cut off in bulk so that the slice does not grow for ever.
	ring  []noted[ID]
	first int
	last  map[ID]int64 // identity → its latest offset
}

type noted[ID comparable] struct {
	id     ID
	offset int64
	at     int64 // Unix milliseconds, never less than its predecessor's
}

// NewMemory makes an empty memory of at least that many records and that
// window.
func NewMemory[ID comparable](window time.Duration, least int) *Memory[ID] {
	return &Memory[ID]{window: window, least: int64(least), last: make(map[ID]int64)}
}

// Note remembers a record and reports whether its identity was known. A repeat
// is remembered at its own place, so that a chain of repeats stays one.
func (m *Memory[ID]) Note(id ID, offset int64, at time.Time) (repeat bool) {
	ms := at.UnixMilli()
	if n := len(m.ring); n > m.first {
		// Producers' clocks differ; a running maximum keeps the window monotone.
		ms = max(ms, m.ring[n-1].at)
	}
	_, repeat = m.last[id]
	m.last[id] = offset
	m.ring = append(m.ring, noted[ID]{id, offset, ms})
	return repeat
}

// Forget drops what lies further back from the watermark than the memory
// reaches, and returns the offset from which a successor at that watermark has
// to read: the oldest that is remembered, or the watermark itself.
func (m *Memory[ID]) Forget(watermark int64) (readFrom int64) {
	rest := m.ring[m.first:]
	if len(rest) == 0 {
		return watermark
	}
	// The timestamp at the watermark: that of the last record below it.
	n := below(rest, watermark)
	if n > 0 {
		horizon := rest[n-1].at - m.window.Milliseconds()
		for m.first < len(m.ring) {
			e := m.ring[m.first]
			if e.at >= horizon || e.offset >= watermark-m.least {
				break
			}
			if m.last[e.id] == e.offset {
				delete(m.last, e.id)
			}
			m.first++
		}
	}
	if m.first > 1024 && m.first > len(m.ring)/2 {
		m.compact()
	}
	return min(m.ring[m.first].offset, watermark)
}

// compact gives back what a burst has taken: a map never shrinks by itself.
func (m *Memory[ID]) compact() {
	rest := m.ring[m.first:]
	m.first = 0
	if cap(m.ring) < 4*len(rest)+4096 {
		m.ring = append(m.ring[:0], rest...)
		return
	}
	m.ring = slices.Clone(rest)
	last := make(map[ID]int64, len(rest))
	maps.Copy(last, m.last)
	m.last = last
}

// below returns how many entries lie below the offset.
func below[ID comparable](ring []noted[ID], offset int64) int {
	lo, hi := 0, len(ring)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if ring[mid].offset < offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// Len returns how many records are remembered.
func (m *Memory[ID]) Len() int { return len(m.ring) - m.first }
