package watermark

import (
	"hash/maphash"
	"math"
	"sort"
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
//
// A record takes about 40 bytes with an identity of 16: at 10,000 records a second
// a window of a minute has 600,000 of them.
type Memory[ID comparable] struct {
	window time.Duration
	least  int64
	// chunks hold what was noted, in offset order, from first of the first chunk
	// on. They are numbered; base is the first one's number, which wraps around.
	chunks []*chunk[ID]
	first  int
	base   uint32
	latest int64 // the highest timestamp so far, in Unix milliseconds
	table  table
	seed   maphash.Seed
}

// chunk is records whose offsets and times lie within 2³² of the first one's.
type chunk[ID comparable] struct {
	offset int64
	at     int64 // Unix milliseconds
	notes  []note[ID]
}

type note[ID comparable] struct {
	id     ID
	offset uint32 // beyond the chunk's
	at     uint32 // never less than its predecessor's
}

const (
	chunkBits = 10
	// chunkNotes is one less than the places of a chunk, so that no place is
	// 2³²-1: the table has 0 for none, and places plus one.
	chunkNotes = 1<<chunkBits - 1
	chunkMask  = 1<<(32-chunkBits) - 1 // of chunks' numbers
)

// NewMemory makes an empty memory of at least that many records and that
// window.
func NewMemory[ID comparable](window time.Duration, least int) *Memory[ID] {
	return &Memory[ID]{window: window, least: int64(least), latest: math.MinInt64, seed: maphash.MakeSeed()}
}

// Note remembers a record and reports whether its identity was known. A repeat
// is remembered at its own place, so that a chain of repeats stays one.
func (m *Memory[ID]) Note(id ID, offset int64, at time.Time) (repeat bool) {
	// Producers' clocks differ; a running maximum keeps the window monotone.
	m.latest = max(m.latest, at.UnixMilli())
	tag := m.tag(id)
	slot, repeat := m.table.find(tag, func(place uint32) bool { return m.note(place).id == id })
	place := m.append(id, offset)
	if repeat {
		m.table.set(slot, place)
	} else {
		m.table.add(tag, place)
	}
	return repeat
}

// Forget drops what lies further back from the watermark than the memory
// reaches, and returns the offset from which a successor at that watermark has
// to read: the oldest that is remembered, or the watermark itself.
func (m *Memory[ID]) Forget(watermark int64) (readFrom int64) {
	if len(m.chunks) == 0 {
		return watermark
	}
	if at, ok := m.timeBelow(watermark); ok {
		horizon := at - m.window.Milliseconds()
		for len(m.chunks) > 0 {
			c := m.chunks[0]
			n := &c.notes[m.first]
			offset := c.offset + int64(n.offset)
			if c.at+int64(n.at) >= horizon || offset >= watermark-m.least {
				break
			}
			place := m.base<<chunkBits | uint32(m.first)
			if slot, ok := m.table.find(m.tag(n.id), func(p uint32) bool { return p == place }); ok { // else it came again
				m.table.remove(slot)
			}
			if m.first++; m.first == len(c.notes) {
				m.chunks[0] = nil
				m.chunks, m.first, m.base = m.chunks[1:], 0, (m.base+1)&chunkMask
			}
		}
	}
	if len(m.chunks) == 0 {
		return watermark
	}
	return min(m.chunks[0].offset+int64(m.chunks[0].notes[m.first].offset), watermark)
}

// timeBelow returns the timestamp at the watermark: that of the last record below
// it which is remembered.
func (m *Memory[ID]) timeBelow(watermark int64) (at int64, ok bool) {
	i := sort.Search(len(m.chunks), func(i int) bool { return m.chunks[i].offset >= watermark }) - 1
	if i < 0 {
		return 0, false
	}
	c := m.chunks[i]
	n := sort.Search(len(c.notes), func(n int) bool { return c.offset+int64(c.notes[n].offset) >= watermark }) - 1
	if i == 0 && n < m.first {
		return 0, false
	}
	return c.at + int64(c.notes[n].at), true
}

// append puts a record behind the others and returns its place.
func (m *Memory[ID]) append(id ID, offset int64) (place uint32) {
	var c *chunk[ID]
	if n := len(m.chunks); n > 0 {
		c = m.chunks[n-1]
	}
	if c == nil || len(c.notes) == chunkNotes || offset-c.offset > math.MaxUint32 || m.latest-c.at > math.MaxUint32 {
		c = &chunk[ID]{offset: offset, at: m.latest}
		if len(m.chunks) > 0 { // a partition with little in it shall take little
			c.notes = make([]note[ID], 0, chunkNotes)
		}
		m.chunks = append(m.chunks, c)
	}
	c.notes = append(c.notes, note[ID]{id, uint32(offset - c.offset), uint32(m.latest - c.at)})
	number := (m.base + uint32(len(m.chunks)-1)) & chunkMask
	return number<<chunkBits | uint32(len(c.notes)-1)
}

func (m *Memory[ID]) note(place uint32) *note[ID] {
	return &m.chunks[(place>>chunkBits-m.base)&chunkMask].notes[place&(1<<chunkBits-1)]
}

func (m *Memory[ID]) tag(id ID) uint32 { return uint32(maphash.Comparable(m.seed, id)) }

// Len returns how many records are remembered.
func (m *Memory[ID]) Len() int {
	n := -m.first
	for _, c := range m.chunks {
		n += len(c.notes)
	}
	return n
}

// table finds places by the tags of what lies there: a hash table with linear
// probing, whose slots have the tag in the upper and the place plus one in the lower
// half. Tags may be equal; who asks knows what lies where.
type table struct {
	slots []uint64 // a power of two
	n     int
}

// tableLeast is the least number of slots.
const tableLeast = 64

// find returns the slot of a place with that tag that is the one.
func (t *table) find(tag uint32, is func(place uint32) bool) (slot int, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	mask := len(t.slots) - 1
	for i := int(tag) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; uint32(s>>32) == tag && is(uint32(s)-1) {
			return i, true
		}
	}
	return 0, false
}

// set gives a slot another place, with the same tag.
func (t *table) set(slot int, place uint32) {
	t.slots[slot] = t.slots[slot]>>32<<32 | uint64(place+1)
}

func (t *table) add(tag, place uint32) {
	if 4*(t.n+1) > 3*len(t.slots) {
		t.resize(max(tableLeast, 2*len(t.slots)))
	}
	t.n++
	t.put(uint64(tag)<<32 | uint64(place+1))
}

func (t *table) put(s uint64) {
	mask := len(t.slots) - 1
	i := int(s>>32) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

func (t *table) resize(size int) {
	old := t.slots
	t.slots = make([]uint64, size)
	for _, s := range old {
		if s != 0 {
			t.put(s)
		}
	}
}

// remove empties a slot, and moves those behind it up that would not be found
// behind a gap.
func (t *table) remove(slot int) {
	mask := len(t.slots) - 1
	gap := slot
	for i := (slot + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		home := int(t.slots[i]>>32) & mask
		if (i-home)&mask >= (i-gap)&mask { // its home isn't between the gap and itself
			t.slots[gap] = t.slots[i]
			gap = i
		}
	}
	t.slots[gap] = 0
	if t.n--; len(t.slots) > tableLeast && t.n < len(t.slots)/8 { // after a burst
		t.resize(len(t.slots) / 2)
	}
}
