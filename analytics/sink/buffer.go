package sink

import (
	"bytes"
	"time"
)

// buffer holds what was read of one assignment of a partition and isn't
// inserted yet. It knows neither Kafka nor ClickHouse, and has no lock.
type buffer struct {
	next int64 // all below is inserted
	read int64 // all below was read
	plan *plan // the batch under way, or what an earlier owner had planned
	// planned says that the plan is known to be committed.
	planned bool

	items []*item // by offset
	bytes int64
	since time.Time // when the oldest item, or skipped offset, was read
	// bodies are those that items of this buffer share.
	bodies map[[16]byte][]byte
}

func newBuffer(at int64, p *plan) *buffer {
	return &buffer{next: at, read: at, plan: p, planned: p != nil, bodies: make(map[[16]byte][]byte)}
}

// add takes the record at an offset in; nil stands for one that leads to no
// row. What was read already is passed over. It returns the bytes that the
// buffer grew by.
func (b *buffer) add(offset int64, it *item, now time.Time) int64 {
	if offset < b.read {
		return 0
	}
	if b.read == b.next {
		b.since = now
	}
	b.read = offset + 1
	if it == nil {
		return 0
	}
	if d := it.delivery; d != nil {
		// One copy of a body serves its whole fan-out. It is a copy, since the
		// record's own is a part of a fetched batch.
		body, ok := b.bodies[d.BodyID]
		if !ok {
			body = bytes.Clone(d.Body)
			b.bodies[d.BodyID] = body
			it.bytes += int64(len(body))
		}
		d.Body = body
	}
	b.items = append(b.items, it)
	b.bytes += it.bytes
	return it.bytes
}

// limits of a batch. A batch has at least one record.
type limits struct {
	rows  int
	bytes int64
}

// full reports whether a batch is there that waiting would not make larger.
func (b *buffer) full(l limits) bool {
	if b.plan != nil {
		return b.read > b.plan.last
	}
	return len(b.items) >= l.rows || b.bytes >= l.bytes
}

// waiting reports whether there is something to insert, or to commit.
func (b *buffer) waiting() bool {
	if b.plan != nil {
		return b.read > b.plan.last
	}
	return b.read > b.next
}

// cut plans the next batch, if none is planned, and returns its items. The same
// plan always has the same items, whoever cuts it.
func (b *buffer) cut(l limits) []*item {
	if b.plan == nil {
		last, rows, size := b.read-1, 0, int64(0)
		for _, it := range b.items {
			if rows++; rows > l.rows || (size > 0 && size+it.bytes > l.bytes) {
				last = it.offset - 1
				break
			}
			size += it.bytes
		}
		b.plan, b.planned = &plan{b.next, last}, false
	}
	n := 0
	for n < len(b.items) && b.items[n].offset <= b.plan.last {
		n++
	}
	return b.items[:n]
}

// inserted lets the planned batch go. It returns the bytes that are free.
func (b *buffer) inserted(now time.Time) (freed int64) {
	n := len(b.cut(limits{}))
	for i := range n {
		freed += b.items[i].bytes
		b.items[i] = nil
	}
	b.items = b.items[n:]
	if len(b.items) == 0 {
		b.items = nil // the array goes as well
	}
	b.next = b.plan.last + 1
	b.read = max(b.read, b.next)
	b.plan, b.planned = nil, false
	b.bytes -= freed
	b.since = now
	clear(b.bodies)
	for _, it := range b.items {
		if it.delivery != nil {
			b.bodies[it.delivery.BodyID] = it.delivery.Body
		}
	}
	return freed
}
