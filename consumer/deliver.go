package consumer

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// duty counts what one record led to; the record is done when all of it is
// acknowledged.
type duty struct {
	work *Work
	left atomic.Int64
}

func (d *duty) done() {
	if d.left.Add(-1) == 0 {
		d.work.Done()
	}
}

// produce counts the record to the duty. The semaphore's weight is held by the
// caller and given back with the acknowledgement. The context is never
// cancelled: a record that was given to an idempotent producer can't be taken
// back.
func (w *matchWorker) produce(d *duty, r *kgo.Record, weight int64) {
	d.left.Add(1)
	w.acks.Add(1)
	w.m.cfg.Producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
		w.m.inFlight.Release(weight)
		if err != nil {
			w.lease.Fail(fmt.Errorf("producing to %s: %w", r.Topic, err))
		} else {
			d.done()
		}
		w.acks.Done()
	})
}

// handle matches one record. An error means that it couldn't be finished here
// and now; bad input is none.
func (w *matchWorker) handle(k *Work) error {
	d := &duty{work: k}
	d.left.Store(1)
	task, why := w.m.cfg.Events.Read(k.Record)
	if why != nil {
		if err := w.reject(d, why); err != nil {
			return err
		}
		d.done()
		return nil
	}
	if err := w.m.cfg.Subscriptions.WaitCurrent(w.ctx); err != nil {
		return fmt.Errorf("waiting for the registry: %w", err)
	}
	end := w.m.cfg.Observer.Matching(task.Event)
	var version webhook.RegistryVersion
	w.subs, version = w.m.cfg.Subscriptions.Match(w.subs[:0], task.Event.Tenant, task.Event.Type, task.First, task.Last)
	tasks := 0
	var err error
	if task.First == "" && len(w.subs) > w.m.cfg.TaskSize {
		tasks, err = w.split(d, task.Event)
		end(len(w.subs), tasks)
	} else {
		w.subs = w.m.cfg.Subscriptions.Wanted(w.subs, task.Event)
		err = w.deliver(d, task.Event, version)
		end(len(w.subs), 0)
	}
	if err != nil {
		return err
	}
	d.done()
	return nil
}

func (w *matchWorker) reject(d *duty, why *Rejection) error {
	w.m.cfg.Observer.Invalid(why.Reason)
	r := w.m.cfg.Events.Invalid(d.work.Record, why)
	weight := w.m.weight(len(r.Value))
	if err := w.m.inFlight.Acquire(w.ctx, weight); err != nil {
		return fmt.Errorf("rejecting an event: %w", err)
	}
	w.produce(d, r, weight)
	return nil
}

func (m *Matcher) weight(value int) int64 {
	return min(int64(value)+recordOverhead, m.cfg.InFlightBytes)
}

// split turns an event into tasks, each a range of endpoint IDs. Where the
// ranges are cut depends on the registry, so a repeat may cut elsewhere: the
// deliveries that come of it are the same, and are dropped as repeats.
func (w *matchWorker) split(d *duty, e *webhook.Event) (tasks int, err error) {
	size := w.m.cfg.TaskSize
	for from := 0; from < len(w.subs); from += size {
		to := min(from+size, len(w.subs))
		t := webhook.Task{Event: e, First: w.subs[from].EndpointID, Last: w.subs[to-1].EndpointID}
		r := &kgo.Record{
			Topic: w.m.cfg.Fanout,
			// The range is in the key, so that an event's tasks spread over
			// the partitions.
			Key:     []byte(e.Position.String() + "/" + strconv.Itoa(tasks)),
			Value:   e.Data,
			Headers: webhook.HeadersAs[kgo.RecordHeader](t.AppendHeaders(nil)),
		}
		if size := recordSize(r); size > w.m.cfg.MaxRecord {
			return tasks, w.tooLarge(d, r.Topic, size)
		}
		weight := w.m.weight(len(r.Value))
		if err := w.m.inFlight.Acquire(w.ctx, weight); err != nil {
			return tasks, fmt.Errorf("producing a fan-out task: %w", err)
		}
		w.produce(d, r, weight)
		tasks++
	}
	return tasks, nil
}

func (w *matchWorker) tooLarge(d *duty, topic string, size int) error {
	return w.reject(d, &Rejection{Reason: "oversize", Detail: fmt.Sprintf("a record of %d bytes for %s is larger than the topic takes, %d", size, topic, w.m.cfg.MaxRecord)})
}

// deliver produces a delivery for each subscriber. The body is built once for
// each contract, and its bytes are shared.
func (w *matchWorker) deliver(d *duty, e *webhook.Event, version webhook.RegistryVersion) error {
	clear(w.bodies)
	defer clear(w.bodies)
	matchedAt := time.Now()
	for _, sub := range w.subs {
		built, ok := w.bodies[sub.Contract]
		if !ok {
			built.body, built.contentType, built.err = w.m.cfg.Bodies.Body(sub.Contract, e)
			built.id = webhook.BodyID(built.body)
			w.bodies[sub.Contract] = built
			if built.err != nil {
				why := &Rejection{Reason: "contract", Detail: fmt.Sprintf("contract %s: %v", sub.Contract, built.err)}
				if err := w.reject(d, why); err != nil {
					return err
				}
			}
		}
		if built.err != nil {
			continue
		}
		v := webhook.Delivery{
			ID: webhook.DeliveryID(e.Source, e.ID, sub.EndpointID), Origin: webhook.OriginMatch,
			EventID: e.ID, EventSource: e.Source, EventType: e.Type, Tenant: e.Tenant,
			EndpointID: sub.EndpointID, Contract: sub.Contract, ContentType: built.contentType,
			BegunAt: e.Timestamp, MatchedAt: matchedAt, BodyID: built.id, Source: e.Position, Registry: version,
			Traceparent: e.Traceparent, Tracestate: e.Tracestate, Body: built.body,
		}
		r := &kgo.Record{
			Topic: w.m.cfg.Deliveries, Key: []byte(v.EndpointID), Value: v.Body,
			Headers: webhook.AppendDeliveryHeaders(make([]kgo.RecordHeader, 0, 24), &v),
		}
		if size := recordSize(r); size > w.m.cfg.MaxRecord {
			if err := w.tooLarge(d, r.Topic, size); err != nil {
				return err
			}
			continue
		}
		weight := w.m.weight(len(r.Value))
		if err := w.m.inFlight.Acquire(w.ctx, weight); err != nil {
			return fmt.Errorf("producing a delivery: %w", err)
		}
		w.produce(d, r, weight)
	}
	return nil
}

// recordSize is at least what the record takes in a batch (Kafka message
// format v2: varint lengths of at most 5 bytes each).
func recordSize(r *kgo.Record) int {
	n := 64 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}
