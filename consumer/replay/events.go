package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer"
	"posthorn/consumer/eventlog"
	"posthorn/webhook"
)

const (
	// fetchBytes is how much of a log is read at a time; a batch at least, which
	// may be a megabyte.
	fetchBytes = 64 << 10
	// partSize is how many records are looked at in one go: while a batch is, a
	// processor isn't there for what is live.
	partSize = 32
)

// EventsConfig is what [OpenEvents] works on.
type EventsConfig struct {
	Log    *eventlog.Log
	Events consumer.Events
	Bodies consumer.Bodies
	// Topics are those of the sources.
	Topics func(ctx context.Context) ([]string, error)
	// Covering returns what reports whether one of the patterns covers an event
	// type; it is asked for every event.
	Covering func(patterns []string) func(eventType string) bool
	// MaxRecord is the largest body that the line takes, in bytes.
	MaxRecord int
}

// events is a stretch of the event topics as a [Source].
type events struct {
	cfg    *EventsConfig
	replay *webhook.Replay
	wanted func(eventType string) bool
	read   eventlog.Walk // up to where Next has returned what there is
	passed eventlog.Walk
	// fetched is what was fetched of the stretch from and not looked at yet; the
	// stretch goes on at then.
	fetched []*kgo.Record
	from    int
	then    int64
}

// OpenEvents finds where the events of a replay lie, or goes on where its
// progress says.
func OpenEvents(ctx context.Context, cfg *EventsConfig, r *webhook.Replay, at *webhook.ReplayProgress) (Source, error) {
	e := &events{cfg: cfg, replay: r, wanted: func(string) bool { return true }}
	if len(r.Events) > 0 {
		e.wanted = cfg.Covering(r.Events)
	}
	if at != nil {
		if err := json.Unmarshal(at.Position, &e.passed); err != nil {
			return nil, fmt.Errorf("%w: reading its position: %w", ErrNever, err)
		}
	} else {
		topics, err := cfg.Topics(ctx)
		if err != nil {
			return nil, err
		}
		if e.passed, err = cfg.Log.Stretches(ctx, topics, r.Since, r.Until); err != nil {
			return nil, err
		}
	}
	e.Rewind()
	return e, nil
}

// Next implements [Source]: what was fetched is looked at in small parts.
func (e *events) Next(ctx context.Context, to Target) (Batch, error) {
	if len(e.fetched) == 0 {
		if e.from = e.read.Next(); e.from < 0 {
			return Batch{Finished: true}, nil
		}
		var err error
		if e.fetched, e.then, err = e.cfg.fetch(ctx, e.read, e.from, fetchBytes); err != nil {
			return Batch{}, err
		}
	}
	part := e.fetched[:min(partSize, len(e.fetched))]
	e.fetched = e.fetched[len(part):]
	end := e.read[e.from].To
	b := Batch{Scanned: len(part)}
	next, last := e.then, time.Time{}
	for _, r := range part {
		last = r.Timestamp
		if len(e.fetched) > 0 {
			next = r.Offset + 1
		}
		if !within(r, end, e.replay.Since, e.replay.Until) {
			continue
		}
		if item, ok := e.item(r, to); ok {
			item.place, item.next = e.from, r.Offset+1
			b.Items = append(b.Items, item)
		}
	}
	e.read.Read(e.from, next, last)
	if e.read[e.from].Finished() {
		e.fetched = nil
	}
	return b, nil
}

// fetch reads on in a stretch of a walk, and returns where it goes on behind what
// was read; reading that is up to the caller. What the log no longer holds is
// skipped.
func (cfg *EventsConfig) fetch(ctx context.Context, walk eventlog.Walk, i int, atMost int32) (records []*kgo.Record, next int64, err error) {
	s := walk[i]
	records, next, err = cfg.Log.Fetch(ctx, s.Topic, s.Partition, s.At, atMost)
	if gone, ok := errors.AsType[*eventlog.OutOfRangeError](err); ok {
		walk.Skip(i, gone.LogStart)
		return nil, walk[i].At, nil
	}
	return records, next, err
}

// within reports whether a record is of a stretch that ends at an offset, and has
// a timestamp in [since, until).
func within(r *kgo.Record, end int64, since, until time.Time) bool {
	return r.Offset < end && !r.Timestamp.Before(since) && r.Timestamp.Before(until)
}

// item makes a delivery of a record, if it is an event that the endpoint is
// subscribed to.
func (e *events) item(r *kgo.Record, to Target) (Item, bool) {
	task, why := e.cfg.Events.Read(r)
	if why != nil {
		return Item{}, false // it went to the topic of invalid events in its time
	}
	ev := task.Event
	if ev.Tenant != e.replay.Tenant || !e.wanted(ev.Type) || !to.Matches(ev) {
		return Item{}, false
	}
	body, contentType, err := e.cfg.Bodies.Body(to.Contract, ev)
	if err != nil || len(body) > e.cfg.MaxRecord {
		return Item{Skip: true}, true
	}
	return Item{Delivery: webhook.Delivery{
		ID:      webhook.DeliveryID(ev.Source, ev.ID, e.replay.EndpointID),
		EventID: ev.ID, EventSource: ev.Source, EventType: ev.Type,
		Contract: to.Contract, ContentType: contentType, BodyID: webhook.BodyID(body), Source: ev.Position,
		Traceparent: ev.Traceparent, Tracestate: ev.Tracestate, Body: body,
	}}, true
}

// Passed implements [Source].
func (e *events) Passed(i Item) { e.passed.Read(i.place, i.next, time.Time{}) }

// PassedAll implements [Source].
func (e *events) PassedAll() { e.passed = e.read.Clone() }

// Rewind implements [Source].
func (e *events) Rewind() { e.read, e.fetched = e.passed.Clone(), nil }

// Tell implements [Source].
func (e *events) Tell(p *webhook.ReplayProgress) (err error) {
	p.Total, p.Finished, p.Lost = e.passed.Progress()
	if p.Position, err = json.Marshal(e.passed); err != nil {
		return fmt.Errorf("encoding a replay's position: %w", err)
	}
	return nil
}
