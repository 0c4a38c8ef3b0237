package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/webhook"
)

// settlements reads them from their topic.
type settlements struct {
	client *kgo.Client
	stop   context.CancelFunc
	ended  chan struct{}
	failed chan error // what it could not get over, once
}

// followSettlements tells the score of every settlement from the first one on.
func followSettlements(broker string, score *score) (*settlements, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ClientID("demo-ledger"),
		kgo.ConsumeTopics(config.Default().Prefix+".attempts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(250*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	l := &settlements{client: client, ended: make(chan struct{}), failed: make(chan error, 1)}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	go func() {
		defer close(l.ended)
		if err := l.read(ctx, score); err != nil {
			l.failed <- fmt.Errorf("reading the ledger: %w", err)
		}
	}()
	return l, nil
}

func (l *settlements) read(ctx context.Context, score *score) error {
	for {
		fetches := l.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var errs []error
		fetches.EachError(func(topic string, partition int32, err error) {
			errs = append(errs, fmt.Errorf("%s/%d: %w", topic, partition, err))
		})
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
		for r := range fetches.RecordsAll() {
			s := new(webhook.Settlement)
			if err := json.Unmarshal(r.Value, s); err != nil {
				return err
			}
			score.settled(s)
		}
	}
}

func (l *settlements) close() {
	l.stop()
	<-l.ended
	l.client.Close()
}
