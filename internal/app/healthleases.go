package app

import (
	"time"

	"posthorn/registry/lifecycle"
)

// healthHandedOver bounds the records that a handover leaves behind: the producer
// drops what is too much for it.
const healthHandedOver = 20_000

// lease is an assignment of a partition of deliveries to this process.
type lease interface {
	// Ended reports whether it is over for good.
	Ended() bool
	// Live reports whether nobody else can have the partition yet.
	Live(now time.Time) bool
}

// took learns that deliveries of a partition are ours to make.
func (h *health) took(partition int32, l lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leases[partition] = l
}

// fails reports whether an occurrence of failing goes on, as far as this process
// knows: not if it ended, or if another owns the endpoint.
func (h *health) fails(id string, since time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.endpoints[id]
	return e != nil && !e.lease.Ended() && e.state.FailingSince.Equal(since)
}

// released forgets the endpoints of partitions that are given up, since what
// becomes of them from now on is another's to see. What is not recorded yet is
// recorded for whoever comes next, unless that may have begun already.
func (h *health) released(now time.Time, partitions map[int32]lease) {
	type left struct {
		id    string
		state lifecycle.State
	}
	var due, other []left // what it is judged by comes first
	h.mu.Lock()
	for p, l := range partitions {
		if h.leases[p] == l {
			delete(h.leases, p)
		}
	}
	for id, e := range h.endpoints {
		if partitions[e.partition] != e.lease {
			continue
		}
		delete(h.endpoints, id)
		switch {
		case e.state == e.sent, !e.lease.Live(now):
		case !e.state.FailingSince.Equal(e.sent.FailingSince):
			due = append(due, left{id, e.state})
		default:
			other = append(other, left{id, e.state})
		}
	}
	h.mu.Unlock()
	due = append(due, other...)
	for _, d := range due[:min(len(due), healthHandedOver)] {
		h.record(d.id, d.state)
	}
}
