package retrytopics

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// Producer is the part of [*kgo.Client] that the package produces with. The
// promise is called exactly once for each record.
//
// An endpoint's records must lie in the same partition of the deliveries topic
// and of every tier, or they would change owners on the way. The topics have
// equal partition counts and the record key is the endpoint's ID, so every
// partitioner that is a function of key and count alone does that: kgo's
// default does (murmur2 over the key). The client must not be given a sticky,
// round-robin or topic-dependent one.
type Producer interface {
	Produce(ctx context.Context, r *kgo.Record, promise func(*kgo.Record, error))
}

// DeliveriesTopic is the topic of deliveries that their owners work on, such as
// "posthorn.deliveries".
func DeliveriesTopic(prefix string) string { return prefix + ".deliveries" }

// DeadTopic is the topic of deliveries that ended without success.
func DeadTopic(prefix string) string { return prefix + ".dead" }

// RetryTopic is the topic of one tier, such as "posthorn.retry.15m".
func RetryTopic(prefix string, tier time.Duration) string {
	return prefix + ".retry." + TierName(tier)
}

// ToDeliveries is the target's name for the deliveries topic where a tier's
// would be its [TierName]; it is a metric label.
const ToDeliveries = "deliveries"

// Publisher produces deliveries to the tiers, the deliveries topic and the
// dead letters. It is safe for concurrent use.
type Publisher struct {
	producer   Producer
	ladder     Ladder
	deliveries target
	dead       string
	tiers      map[time.Duration]target
}

type target struct{ topic, name string }

// NewPublisher returns a publisher to the topics under prefix ("posthorn").
func NewPublisher(producer Producer, ladder Ladder, prefix string) (*Publisher, error) {
	switch {
	case producer == nil:
		return nil, errors.New("building retry publisher: no producer given")
	case len(ladder.tiers) == 0:
		return nil, errors.New("building retry publisher: the ladder has no tier")
	case prefix == "" || strings.HasSuffix(prefix, "."):
		return nil, errors.New("building retry publisher: the topic prefix must not be empty or end in a dot; for instance \"posthorn\"")
	}
	p := &Publisher{
		producer:   producer,
		ladder:     ladder,
		deliveries: target{DeliveriesTopic(prefix), ToDeliveries},
		dead:       DeadTopic(prefix),
		tiers:      make(map[time.Duration]target, len(ladder.tiers)),
	}
	for _, d := range ladder.tiers {
		p.tiers[d] = target{RetryTopic(prefix, d), TierName(d)}
	}
	return p, nil
}

// Put produces a delivery that is due at d.NotBefore: to the largest tier that
// is not longer than the wait from now, or to the deliveries topic when the
// wait is shorter than all of them (or over). A delivery that has to leave its
// owner whatever its wait needs a NotBefore of now + [Ladder.Smallest] or more.
//
// done is called once, with nil when Kafka has acked the record; it runs on
// the producer's goroutine and must not block. The delivery may not be changed
// until then. Put blocks while the producer's buffer is full. There is no
// context: a produce that is given up halfway may or may not have happened.
func (p *Publisher) Put(d *webhook.Delivery, now time.Time, done func(error)) {
	p.put(d, now, now, func(_ string, err error) { done(err) })
}

// put is Put with the wait counted from base. done is told the target's name.
func (p *Publisher) put(d *webhook.Delivery, base, now time.Time, done func(to string, err error)) {
	to := p.deliveries
	timestamp := now // the memory of repeats goes by these timestamps, so they aren't put back
	if tier, at, ok := p.ladder.plan(d.NotBefore, base); ok {
		to, timestamp = p.tiers[tier], at
	}
	r := &kgo.Record{
		Topic:     to.topic,
		Key:       []byte(d.EndpointID),
		Value:     d.Body,
		Headers:   webhook.AppendDeliveryHeaders(make([]kgo.RecordHeader, 0, 24), d),
		Timestamp: timestamp,
	}
	p.producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) { done(to.name, err) })
}

// Dead produces a delivery to the dead letters, with the reason and the last
// HTTP status (0 where there was no answer) as headers beside the delivery's
// own. done is called as in [Publisher.Put].
func (p *Publisher) Dead(d *webhook.Delivery, reason webhook.Reason, status int, done func(error)) {
	headers := append(webhook.AppendDeliveryHeaders(make([]kgo.RecordHeader, 0, 24), d), kgo.RecordHeader{Key: webhook.HeaderReason, Value: []byte(reason)})
	if status != 0 {
		headers = append(headers, kgo.RecordHeader{Key: webhook.HeaderStatus, Value: strconv.AppendInt(nil, int64(status), 10)})
	}
	r := &kgo.Record{Topic: p.dead, Key: []byte(d.EndpointID), Value: d.Body, Headers: headers}
	p.producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) { done(err) })
}
