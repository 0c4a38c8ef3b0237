package retrytopics

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// acking is a producer that acks at once, on another goroutine: what remains
// is the reader's own cost.
type acking chan func(*kgo.Record, error)

func (a acking) Produce(_ context.Context, _ *kgo.Record, promise func(*kgo.Record, error)) {
	a <- promise
}

// BenchmarkDrain moves a million records that all fell due while the reader
// was down, from 32 partitions.
func BenchmarkDrain(b *testing.B) {
	b.Run("reader", func(b *testing.B) {
		out := make(acking, 4096)
		go func() {
			for promise := range out {
				promise(nil, nil)
			}
		}()
		defer close(out)
		drain(b, out)
	})
	// With a real client and a broker over loopback.
	b.Run("kfake", func(b *testing.B) {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(32, DeliveriesTopic(prefix)))
		if err != nil {
			b.Fatal(err)
		}
		defer cluster.Close()
		cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ProducerLinger(0),
			kgo.ProducerBatchCompression(kgo.SnappyCompression()))
		if err != nil {
			b.Fatal(err)
		}
		defer cl.Close()
		drain(b, cl)
	})
}

type counting chan struct{}

func (c counting) Done() { c <- struct{}{} }

func drain(b *testing.B, out Producer) {
	const records, parts, fetch = 1_000_000, 32, 500
	pub := must(NewPublisher(out, DefaultLadder(), prefix))
	r := running(b, Config{Tier: time.Minute, Publisher: pub})
	at := time.Now().Add(-time.Hour)
	var leases [parts]*lease
	var batch [parts][]Parked
	done := make(counting, records)
	for p := range leases {
		leases[p] = new(lease)
		for i := range fetch {
			d := delivery(p*fetch+i, at)
			batch[p] = append(batch[p], Parked{d, at, 600, done})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		taken, acked := 0, 0
		for ; taken < records; taken += fetch {
			r.Take(leases[taken/fetch%parts], batch[taken/fetch%parts])
			for ; taken-acked > parts*fetch; acked++ { // as much as a runtime would hold
				<-done
			}
		}
		for ; acked < records; acked++ {
			<-done
		}
	}
	b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
}
