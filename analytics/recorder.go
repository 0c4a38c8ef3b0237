// Package analytics keeps the ledger: every settlement becomes one record on
// the attempts topic.
package analytics

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// Producer produces to Kafka. *kgo.Client is one.
type Producer interface {
	Produce(ctx context.Context, r *kgo.Record, promise func(*kgo.Record, error))
}

// Recorder writes settlements to the attempts topic. It is safe for concurrent
// use.
type Recorder struct {
	producer Producer
	topic    string
}

// NewRecorder makes a recorder for that topic.
func NewRecorder(p Producer, topic string) *Recorder { return &Recorder{producer: p, topic: topic} }

// Record produces the settlement; done is called once, when Kafka has
// acknowledged it or never will. The record can't be taken back, so no context
// is asked for.
func (r *Recorder) Record(s *webhook.Settlement, done func(error)) {
	value := s.AppendJSON(make([]byte, 0, 1<<10))
	rec := &kgo.Record{Topic: r.topic, Key: []byte(s.EndpointID), Value: value}
	r.producer.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
		if err != nil {
			err = fmt.Errorf("recording settlement: %w", err)
		}
		done(err)
	})
}
