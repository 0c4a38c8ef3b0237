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

// ledger reads the settlements from their topic.
type ledger struct {
	client *kgo.Client
	stop   context.CancelFunc
	ended  chan struct{}
	failed chan error // what it could not get over, once
}

// followLedger tells the score of every settlement from the first one on.
func followLedger(broker string, score *score) (*ledger, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ClientID("demo-ledger"),
		kgo.ConsumeTopics(config.Default().Prefix+".attempts"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(250*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("connecting to Kafka: %w", err)
	}
	l := &ledger{client: client, ended: make(chan struct{}), failed: make(chan error, 1)}
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

func (l *ledger) read(ctx context.Context, score *score) error {
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

func (l *ledger) close() {
	l.stop()
	<-l.ended
	l.client.Close()
}
