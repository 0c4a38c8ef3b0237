package app

import (
	"context"
	"errors"
	"fmt"

	"posthorn/api"
	"posthorn/consumer"
	"posthorn/consumer/eventlog"
	"posthorn/consumer/replay"
	"posthorn/internal/topics"
	"posthorn/webhook"
)

// Bounds of a dry run.
const (
	dryRunRecords = 200_000
	dryRunBytes   = 64 << 20
	maxSample     = 16 << 10 // of a payload that is shown
)

// apiLine is the line as api.Line.
type apiLine struct {
	bodies   bodies
	producer consumer.Producer
	topic    string
	maxBody  int
	version  func() webhook.RegistryVersion
	rebuild  func(ctx context.Context, at webhook.Position) (*webhook.Event, error)
	events   replay.EventsConfig
}

func (l *Line) newAPILine() (*apiLine, error) {
	events, err := newSourceEvents(l.cfg)
	if err != nil {
		return nil, err
	}
	log := eventlog.New(l.control)
	return &apiLine{
		bodies: bodies{l.contracts}, producer: l.producer, topic: topics.Name(l.cfg.Prefix, topics.RoleDeliveries), maxBody: l.maxBody(),
		version: l.follower.Version, rebuild: l.rebuilder(log, events),
		events: replay.EventsConfig{Log: log, Events: events, Topics: l.eventTopics},
	}, nil
}

// Body implements api.Line.
func (a *apiLine) Body(contract string, e *webhook.Event) ([]byte, string, error) {
	return a.bodies.Body(contract, e)
}

// Event implements api.Line.
func (a *apiLine) Event(ctx context.Context, tenant string, d *api.DeliveryDetail) (*webhook.Event, error) {
	if d.Source == nil {
		return nil, fmt.Errorf("%w: it was none of a topic", api.ErrEventGone)
	}
	e, err := a.rebuild(ctx, webhook.Position{Topic: d.Source.Topic, Partition: d.Source.Partition, Offset: d.Source.Offset})
	if errors.Is(err, errEventGone) {
		return nil, fmt.Errorf("%w: %w", api.ErrEventGone, err)
	}
	if err != nil {
		return nil, err
	}
	if !isEvent(e, tenant, d.EventType, d.EventSource, d.EventID) {
		return nil, fmt.Errorf("%w: another event lies at its place", api.ErrEventGone)
	}
	return e, nil
}

// Put implements api.Line.
func (a *apiLine) Put(ctx context.Context, d *webhook.Delivery) error {
	if len(d.Body) > a.maxBody {
		return api.ErrTooLarge
	}
	d.BodyID, d.Registry = webhook.BodyID(d.Body), a.version()
	_, err := produceAll(ctx, a.producer, a.topic, []*webhook.Delivery{d})
	return err
}

// DryRun implements api.Line.
func (a *apiLine) DryRun(ctx context.Context, q api.DryRunQuery) (*api.DryRun, error) {
	wants := wanting(q.Events, q.Filter)
	undecided := int64(0)
	t, err := replay.DryRun(ctx, &a.events, q.Tenant, func(e *webhook.Event) bool {
		wanted, trouble := wants(e)
		if trouble {
			undecided++
		}
		return wanted
	}, q.Since, q.Until, replay.Bounds{Records: dryRunRecords, Bytes: dryRunBytes, Samples: q.Samples})
	if err != nil {
		return nil, err
	}
	out := &api.DryRun{Matched: t.Matched, Undecided: undecided, Scanned: t.Scanned, Bytes: t.Bytes, Cut: t.Cut, Types: []api.DryRunType{}, Samples: []api.DryRunEvent{}}
	if t.Cut != replay.CutNone {
		until := t.Until.UTC()
		if until.Before(q.Since) {
			until = q.Since.UTC()
		}
		out.ScannedUntil = &until
	}
	for _, n := range t.Types {
		out.Types = append(out.Types, api.DryRunType{Type: n.Type, Events: n.Events})
	}
	for _, e := range t.Samples {
		sample := api.DryRunEvent{ID: e.ID, Source: e.Source, Type: e.Type, Time: e.Time, DataEncoding: "utf-8",
			Position: api.SourcePosition{Topic: e.Position.Topic, Partition: e.Position.Partition, Offset: e.Position.Offset}}
		if len(e.Data) <= maxSample {
			var data string
			data, sample.DataEncoding = api.EncodePayload(e.Data)
			sample.Data = &data
		}
		out.Samples = append(out.Samples, sample)
	}
	return out, nil
}
