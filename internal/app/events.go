package app

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer"
	"posthorn/consumer/source"
	"posthorn/internal/config"
	"posthorn/internal/topics"
	"posthorn/webhook"
)

// sourceEvents reads the topics of the configured sources.
type sourceEvents struct {
	cfg     *config.Config
	readers map[string]*source.Reader // by the source's name
	invalid string                    // topic
}

func newSourceEvents(cfg *config.Config) (*sourceEvents, error) {
	s := &sourceEvents{cfg: cfg, readers: make(map[string]*source.Reader), invalid: topics.Name(cfg.Prefix, topics.RoleInvalid)}
	for i := range cfg.Sources {
		c := &cfg.Sources[i]
		r, err := source.NewReader(source.Config{
			Format: source.Format(c.Format), MaxBytes: int(c.MaxSize),
			Mapping: source.Mapping{
				ID: field(c.ID), Type: field(c.Type), Tenant: field(c.Tenant),
				Time: field(c.Time), Subject: field(c.Subject), Source: field(c.EventSource),
				TimeForm: source.TimeForm(c.TimeForm), Data: c.Data,
			},
		})
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", c.Name, err)
		}
		s.readers[c.Name] = r
	}
	return s, nil
}

func field(m config.Mapping) source.Field {
	return source.Field{Header: m.Header, Pointer: m.Pointer, Attribute: m.Attribute, Constant: m.Constant}
}

// Read implements [consumer.Events].
func (s *sourceEvents) Read(r *kgo.Record) (*webhook.Task, *consumer.Rejection) {
	src := s.cfg.SourceOf(r.Topic)
	if src == nil {
		return nil, &consumer.Rejection{Reason: "source", Detail: "no source is configured for the topic"}
	}
	e, inv := s.readers[src.Name].Read(sourceRecord(r))
	if inv != nil {
		return nil, &consumer.Rejection{Reason: string(inv.Reason), Detail: inv.Detail}
	}
	return &webhook.Task{Event: e}, nil
}

// Invalid implements [consumer.Events].
func (s *sourceEvents) Invalid(r *kgo.Record, why *consumer.Rejection) *kgo.Record {
	return invalidRecord(s.invalid, r, why)
}

// fanoutEvents reads fan-out tasks.
type fanoutEvents struct {
	invalid string
}

// Read implements [consumer.Events].
func (f *fanoutEvents) Read(r *kgo.Record) (*webhook.Task, *consumer.Rejection) {
	t, err := webhook.DecodeTask(r.Value, r.Headers)
	if err != nil {
		return nil, malformed(err)
	}
	return t, nil
}

// Invalid implements [consumer.Events].
func (f *fanoutEvents) Invalid(r *kgo.Record, why *consumer.Rejection) *kgo.Record {
	return invalidRecord(f.invalid, r, why)
}

// malformed is the rejection of a record of our own topics that isn't one of
// ours.
func malformed(err error) *consumer.Rejection {
	if m, ok := errors.AsType[*webhook.MalformedError](err); ok {
		return &consumer.Rejection{Reason: "malformed", Detail: fmt.Sprintf("header %q: %s", m.Header, m.Detail)}
	}
	return &consumer.Rejection{Reason: "malformed", Detail: err.Error()}
}

func sourceRecord(r *kgo.Record) *source.Record {
	return &source.Record{
		Position:  webhook.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset},
		Timestamp: r.Timestamp, Key: r.Key, Value: r.Value,
		Headers: source.AppendHeaders(make([]webhook.Header, 0, len(r.Headers)), r.Headers),
	}
}

func invalidRecord(topic string, r *kgo.Record, why *consumer.Rejection) *kgo.Record {
	key, value, headers := source.InvalidRecord(sourceRecord(r), &source.Invalid{Reason: source.Reason(why.Reason), Detail: why.Detail})
	return &kgo.Record{Topic: topic, Key: key, Value: value, Headers: webhook.HeadersAs[kgo.RecordHeader](headers)}
}
