package lanes

// entry is a queued item, what it weighs in bytes, and since when it waits.
type entry[T any] struct {
	item  T
	size  int
	since instant
}

// queue is a first-in first-out ring that grows by doubling. It gives its
// memory back when it empties, so that a lane which once held thousands of
// records doesn't keep the room for them.
type queue[T any] struct {
	ring  []entry[T] // its length is 0 or a power of two
	head  int
	n     int
	bytes int
}

// keep is the ring that an empty queue holds on to.
const keep = 16

func (q *queue[T]) at(i int) *entry[T] { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *queue[T]) push(item T, size int, now instant) {
	if q.n == len(q.ring) {
		grown := make([]entry[T], max(4, 2*q.n))
		for i := range q.n {
			grown[i] = *q.at(i)
		}
		q.ring, q.head = grown, 0
	}
	q.n++
	*q.at(q.n - 1) = entry[T]{item, size, now}
	q.bytes += size
}

func (q *queue[T]) pop() (T, int) {
	e := q.at(0)
	item, size := e.item, e.size
	*e = entry[T]{} // don't keep what was handed out alive
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	q.bytes -= size
	q.trim()
	return item, size
}

func (q *queue[T]) trim() {
	if q.n == 0 {
		q.head = 0
		if len(q.ring) > keep {
			q.ring = nil
		}
	}
}

// cut removes all items but the first keep, and appends them to into, oldest
// first.
func (q *queue[T]) cut(keep int, into []T) []T {
	for i := keep; i < q.n; i++ {
		e := q.at(i)
		into = append(into, e.item)
		q.bytes -= e.size
		*e = entry[T]{}
	}
	q.n = min(q.n, keep)
	q.trim()
	return into
}

// take removes the items that pred picks (all of them if it is nil), keeps the
// order of the rest, and appends what was removed to into.
func (q *queue[T]) take(pred func(T) bool, into []T) []T {
	kept := 0
	for i := range q.n {
		e := *q.at(i)
		if pred == nil || pred(e.item) {
			into = append(into, e.item)
			q.bytes -= e.size
			continue
		}
		*q.at(kept) = e
		kept++
	}
	for i := kept; i < q.n; i++ {
		*q.at(i) = entry[T]{}
	}
	q.n = kept
	q.trim()
	return into
}
