package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"posthorn/internal/app"
)

// produce sends the events as a platform's service would: CloudEvents in the
// binary mode of the Kafka binding (1.0.2, section 3.2), keyed by what they are
// about. It returns when Kafka has acknowledged all.
func produce(ctx context.Context, broker string, score *score, perSecond float64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ClientID("demo-platform"), kgo.DefaultProduceTopic(app.DevTopic),
		kgo.ProducerLinger(0), // latency is measured from here
		kgo.RecordDeliveryTimeout(30*time.Second))
	if err != nil {
		return fmt.Errorf("connecting to Kafka: %w", err)
	}
	defer client.Close()
	limit := rate.NewLimiter(rate.Limit(perSecond), 1)
	var once sync.Once
	var failure error
	for _, e := range score.events {
		if err := limit.Wait(ctx); err != nil {
			return fmt.Errorf("producing events: %w", err)
		}
		now := time.Now()
		score.sent(e, now)
		client.Produce(ctx, e.record(now), func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failure = fmt.Errorf("producing event %s: %w", e.id, err) })
			}
		})
	}
	if err := client.Flush(ctx); err != nil { // every callback has returned after it
		return fmt.Errorf("waiting for acknowledgements: %w", err)
	}
	return failure
}

// record is the event as its producer writes it.
func (e *event) record(now time.Time) *kgo.Record {
	at := now.UTC().Format(time.RFC3339Nano)
	subject := e.kind.subject(e.number)
	r := &kgo.Record{Key: []byte(subject), Value: []byte(e.kind.data(e.number, at)), Timestamp: now}
	for _, h := range [][2]string{
		{"content-type", "application/json"}, {"ce_specversion", "1.0"}, {"ce_id", e.id}, {"ce_source", eventSource},
		{"ce_type", e.kind.name}, {"ce_time", at}, {"ce_subject", subject}, {"ce_tenant", e.kind.tenant},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	if x := e.kind.extension; x[0] != "" {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "ce_" + x[0], Value: []byte(x[1])})
	}
	return r
}
