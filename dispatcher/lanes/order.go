package lanes

// list is a doubly linked list through the lanes themselves: membership costs
// no allocation, and leaving from the middle is constant time. A lane is in at
// most one list of each role.
type list[T any] struct {
	head, tail *lane[T]
	n          int
	role       role
}

// role is which of a lane's links a list runs through.
type role uint8

const (
	roleTurn    role = iota // a gate's ring, or the idle lanes: never both
	roleQueued              // lanes with something queued
	roleStalled             // hanging lanes with something queued
	roles
)

type link[T any] struct {
	prev, next *lane[T]
	in         *list[T]
}

func (l *list[T]) push(x *lane[T]) {
	k := &x.links[l.role]
	k.in, k.prev, k.next = l, l.tail, nil
	if l.tail == nil {
		l.head = x
	} else {
		l.tail.links[l.role].next = x
	}
	l.tail = x
	l.n++
}

// leave takes the lane out of the list of that role that it is in, if any.
func (x *lane[T]) leave(r role) {
	k := &x.links[r]
	l := k.in
	if l == nil {
		return
	}
	if k.prev == nil {
		l.head = k.next
	} else {
		k.prev.links[r].next = k.next
	}
	if k.next == nil {
		l.tail = k.prev
	} else {
		k.next.links[r].prev = k.prev
	}
	*k = link[T]{}
	l.n--
}

// join moves the lane to the end of l, unless it is in l already: then it keeps
// its place.
func (x *lane[T]) join(l *list[T]) {
	if x.links[l.role].in == l {
		return
	}
	x.leave(l.role)
	l.push(x)
}

// timers is a binary heap of lanes by an instant. A lane is in at most one place
// of each, which it knows, so that it can leave or move in O(log n).
type timers[T any] struct {
	heap []*lane[T]
	kind timer
}

type timer uint8

const (
	timerWatch timer = iota // when a lane with POSTs in flight is to be looked at
	timerDue                // when a rate-limited lane may start its next
	timerKinds
)

// alarm is a lane's place in a heap: 0 is none, otherwise 1 + index.
type alarm struct {
	at    instant
	place int
}

func (h *timers[T]) set(x *lane[T], at instant) {
	a := &x.alarms[h.kind]
	if a.place == 0 {
		h.heap = append(h.heap, x)
		a.place = len(h.heap)
	}
	a.at = at
	h.fix(a.place - 1)
}

func (h *timers[T]) clear(x *lane[T]) {
	i := x.alarms[h.kind].place - 1
	if i < 0 {
		return
	}
	last := len(h.heap) - 1
	moved := h.heap[last]
	h.heap[last] = nil
	h.heap = h.heap[:last]
	x.alarms[h.kind] = alarm{}
	if i < last {
		h.heap[i] = moved
		moved.alarms[h.kind].place = i + 1
		h.fix(i)
	}
}

// first returns the lane whose instant comes next, nil if there is none.
func (h *timers[T]) first() *lane[T] {
	if len(h.heap) == 0 {
		return nil
	}
	return h.heap[0]
}

func (h *timers[T]) fix(i int) {
	x := h.heap[i]
	at := x.alarms[h.kind].at
	for i > 0 {
		up := (i - 1) / 2
		if h.heap[up].alarms[h.kind].at <= at {
			break
		}
		h.place(h.heap[up], i)
		i = up
	}
	for {
		down := 2*i + 1
		if down >= len(h.heap) {
			break
		}
		if right := down + 1; right < len(h.heap) && h.heap[right].alarms[h.kind].at < h.heap[down].alarms[h.kind].at {
			down = right
		}
		if h.heap[down].alarms[h.kind].at >= at {
			break
		}
		h.place(h.heap[down], i)
		i = down
	}
	h.place(x, i)
}

func (h *timers[T]) place(x *lane[T], i int) {
	h.heap[i] = x
	x.alarms[h.kind].place = i + 1
}
