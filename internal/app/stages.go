package app

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer"
	"posthorn/dispatcher"
	"posthorn/retrytopics"
	"posthorn/webhook"
)

// malformedSink moves records of our own topics that can't be read out of the
// way, so that they neither block a partition nor disappear.
type malformedSink struct {
	producer consumer.Producer
	invalid  string
	observe  func(reason string)
}

func (m *malformedSink) put(w *consumer.Work, err error) {
	why := malformed(err)
	m.observe(why.Reason)
	m.producer.Produce(context.Background(), invalidRecord(m.invalid, w.Record, why), func(_ *kgo.Record, err error) {
		if err != nil {
			w.Lease().Fail(err)
			return
		}
		w.Done()
	})
}

// deliveryHandler is the dispatcher as a [consumer.Handler].
type deliveryHandler struct {
	*dispatcher.Dispatcher
	malformed *malformedSink
	health    *health
}

// Take implements [consumer.Handler].
func (h *deliveryHandler) Take(l *consumer.Lease, work []*consumer.Work) {
	jobs := make([]dispatcher.Job, 0, len(work))
	var last []byte // the body before this one
	for _, w := range work {
		r := w.Record
		d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
		if err != nil {
			h.malformed.put(w, err)
			continue
		}
		// A delivery may wait for minutes. The body is a part of the fetched
		// batch, which would be kept whole for it. Those of a fan-out follow one
		// another, and are one body.
		if !bytes.Equal(d.Body, last) {
			last = bytes.Clone(d.Body)
		}
		d.Body = last
		w.Record = nil
		jobs = append(jobs, dispatcher.Job{Delivery: d, Ticket: w,
			Record: webhook.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}})
	}
	h.health.took(l.Partition, l)
	h.Dispatcher.Take(l, jobs)
}

// Crowded implements [consumer.Handler].
func (h *deliveryHandler) Crowded(l *consumer.Lease, full float64) { h.Dispatcher.Crowded(l, full) }

// Release implements [consumer.Handler].
func (h *deliveryHandler) Release(ctx context.Context, ls []*consumer.Lease) {
	leases := make([]dispatcher.Lease, len(ls))
	partitions := make(map[int32]lease, len(ls))
	for i, l := range ls {
		leases[i], partitions[l.Partition] = l, l
	}
	h.Dispatcher.Release(ctx, leases)
	h.health.released(time.Now(), partitions)
}

// tierHandler is a due reader as a [consumer.Handler].
type tierHandler struct {
	reader    *retrytopics.Reader
	malformed *malformedSink

	mu     sync.Mutex
	leases map[*consumer.Lease]struct{}
}

// Take implements [consumer.Handler].
func (h *tierHandler) Take(l *consumer.Lease, work []*consumer.Work) {
	h.mu.Lock()
	h.leases[l] = struct{}{}
	h.mu.Unlock()
	parked := make([]retrytopics.Parked, 0, len(work))
	for _, w := range work {
		r := w.Record
		d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
		if err != nil {
			h.malformed.put(w, err)
			continue
		}
		w.Record = nil
		parked = append(parked, retrytopics.Parked{Delivery: d, Timestamp: r.Timestamp, Size: recordWeight(r), Ticket: w})
	}
	h.reader.Take(l, parked)
}

func recordWeight(r *kgo.Record) int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// Crowded implements [consumer.Handler]: a FIFO has no holes to speak of.
func (h *tierHandler) Crowded(*consumer.Lease, float64) {}

// Release implements [consumer.Handler]. What is being produced may finish
// late; then the next owner moves it once more, and it is dropped as a repeat.
func (h *tierHandler) Release(_ context.Context, ls []*consumer.Lease) {
	for _, l := range ls {
		h.mu.Lock()
		delete(h.leases, l)
		h.mu.Unlock()
		h.reader.Release(l)
	}
}

// Drain implements [consumer.Handler].
func (h *tierHandler) Drain(ctx context.Context) {
	h.mu.Lock()
	ls := make([]*consumer.Lease, 0, len(h.leases))
	for l := range h.leases {
		ls = append(ls, l)
	}
	h.mu.Unlock()
	h.Release(ctx, ls)
}

// Room implements [consumer.Handler]: partitions are paused one by one.
func (h *tierHandler) Room(ctx context.Context) error { return ctx.Err() }

var (
	_ consumer.Handler = (*deliveryHandler)(nil)
	_ consumer.Handler = (*tierHandler)(nil)
)
