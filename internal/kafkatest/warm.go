package kafkatest

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	warmTopic   = "kafkatest.warm"
	warmRecords = 5000
)

// Warm exercises the broker so that what a test times is not the JVM's first
// seconds: single produces, a transaction, a group that reads it all and
// commits, on a scratch topic that is deleted after.
func (b *Broker) Warm(ctx context.Context) error {
	if err := b.warm(ctx); err != nil {
		return fmt.Errorf("warming up the broker: %w", err)
	}
	return nil
}

func (b *Broker) warm(ctx context.Context) error {
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(b.addr),
		kgo.ProducerLinger(0),
		kgo.TransactionalID(warmTopic),
		kgo.ConsumerGroup(warmTopic),
		kgo.ConsumeTopics(warmTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if resp, err := adm.CreateTopic(ctx, 4, 1, nil, warmTopic); err != nil {
		return fmt.Errorf("creating topic: %w", err)
	} else if resp.Err != nil {
		return fmt.Errorf("creating topic: %w", resp.Err)
	}
	const rounds = 10
	for range rounds {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		var once sync.Once
		var failed error
		for range warmRecords / rounds {
			cl.Produce(ctx, &kgo.Record{Topic: warmTopic, Value: make([]byte, 512)}, func(_ *kgo.Record, err error) {
				if err != nil {
					once.Do(func() { failed = err })
				}
			})
		}
		if err := cl.Flush(ctx); err != nil {
			return err
		}
		if failed != nil {
			return fmt.Errorf("producing: %w", failed)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("committing transaction: %w", err)
		}
	}
	for n := 0; n < warmRecords; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return fmt.Errorf("consuming: %w", err)
		}
		n += fs.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("committing offsets: %w", err)
	}
	if err := cl.LeaveGroupContext(ctx); err != nil {
		return fmt.Errorf("leaving group: %w", err)
	}
	if _, err := adm.DeleteGroup(ctx, warmTopic); err != nil {
		return fmt.Errorf("deleting group: %w", err)
	}
	if _, err := adm.DeleteTopics(ctx, warmTopic); err != nil {
		return fmt.Errorf("deleting topic: %w", err)
	}
	return nil
}
