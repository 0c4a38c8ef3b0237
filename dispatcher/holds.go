package dispatcher

import (
	"container/heap"
	"time"
)

// holds keeps jobs until a time: deliveries that are not due yet, and
// immediate retries. A held job has no lane slot. It is a heap by time, each
// job knowing its place.
type holds []*job

func (h holds) Len() int           { return len(h) }
func (h holds) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h holds) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heldAt, h[j].heldAt = i+1, j+1
}

// Push implements heap.Interface.
func (h *holds) Push(x any) {
	j := x.(*job)
	*h = append(*h, j)
	j.heldAt = len(*h)
}

// Pop implements heap.Interface.
func (h *holds) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.heldAt = 0
	return j
}

func (h *holds) add(j *job, due time.Time) {
	j.due = due
	heap.Push(h, j)
}

func (h *holds) remove(j *job) {
	if j.heldAt > 0 {
		heap.Remove(h, j.heldAt-1)
	}
}

// due takes out what is due.
func (h *holds) takeDue(now time.Time, into []*job) []*job {
	for len(*h) > 0 && !(*h)[0].due.After(now) {
		into = append(into, heap.Pop(h).(*job))
	}
	return into
}

func (h holds) next() (time.Time, bool) {
	if len(h) == 0 {
		return time.Time{}, false
	}
	return h[0].due, true
}
