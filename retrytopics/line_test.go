package retrytopics

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// read consumes one tier as a stage runtime would and feeds it to a reader,
// honouring pause and resume.
func (b *broker) read(r *Reader, opts ...kgo.Opt) map[int32]*lease {
	topic := RetryTopic(prefix, r.cfg.Tier)
	cl := b.client(append(opts, kgo.ConsumeTopics(topic))...)
	leases := make(map[int32]*lease)
	for p := range int32(partitions) {
		one := map[string][]int32{topic: {p}}
		leases[p] = &lease{onPause: func(paused bool) {
			if paused {
				cl.PauseFetchPartitions(one)
			} else {
				cl.ResumeFetchPartitions(one)
			}
		}}
	}
	b.consume(cl, func(p int32, records []*kgo.Record) {
		recs := make([]Parked, len(records))
		for i, rec := range records {
			recs[i] = Parked{decode(rec), rec.Timestamp, len(rec.Value) + 400, new(ticket)}
		}
		r.Take(leases[p], recs)
	})
	return leases
}

// consume polls until the test ends.
func (b *broker) consume(cl *kgo.Client, each func(partition int32, records []*kgo.Record)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachPartition(func(f kgo.FetchTopicPartition) {
				if len(f.Records) > 0 {
					each(f.Partition, f.Records)
				}
			})
		}
	})
	b.t.Cleanup(func() { cancel(); wg.Wait() })
}

// arrivals notes when each delivery reaches the deliveries topic.
type arrivals struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (b *broker) arrivals() *arrivals {
	a := &arrivals{at: make(map[string]time.Time)}
	b.consume(b.client(kgo.ConsumeTopics(DeliveriesTopic(prefix))), func(_ int32, records []*kgo.Record) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, r := range records {
			a.at[decode(r).ID] = time.Now()
		}
	})
	return a
}

func (a *arrivals) snapshot() map[string]time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.at)
}

// The whole ladder on real clients: never early, less than a second late, by
// the fewest hops.
func TestEveryWaitArrivesOnTimeByTheExpectedHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		out := &produced{Client: b.client()}
		pub := must(NewPublisher(out, DefaultLadder(), prefix))
		for _, tier := range DefaultLadder().Tiers() {
			b.read(running(t, Config{Tier: tier, Publisher: pub}))
		}
		got := b.arrivals()
		time.Sleep(time.Second) // the clients are up

		type wait struct {
			d     *webhook.Delivery
			after time.Duration
			hops  string
		}
		var waits []wait
		for i, c := range []struct {
			after time.Duration
			hops  string
		}{
			{0, "deliveries"},
			{4 * time.Second, "deliveries"},
			{5 * time.Second, "retry.5s deliveries"},
			{60 * time.Second, "retry.1m deliveries"},
			{61 * time.Second, "retry.1m deliveries"},
			{90 * time.Second, "retry.1m" + strings.Repeat(" retry.5s", 6) + " deliveries"},
			{120 * time.Second, "retry.1m retry.1m deliveries"},
			{5 * time.Minute, "retry.5m deliveries"},
			{15 * time.Minute, "retry.15m deliveries"},
			{21 * time.Minute, "retry.15m retry.5m retry.1m deliveries"},
		} {
			// The first sets out exactly, the second as a real caller does: its
			// clock has gone on a little when it publishes.
			for j, lag := range []time.Duration{0, 3*time.Millisecond + 7*time.Microsecond} {
				w := wait{delivery(2*i+j, time.Now().Add(c.after)), c.after, c.hops}
				time.Sleep(lag)
				pub.Put(w.d, time.Now(), func(err error) {
					if err != nil {
						t.Errorf("publishing: %v", err)
					}
				})
				waits = append(waits, w)
				time.Sleep(217 * time.Millisecond)
			}
		}
		time.Sleep(22 * time.Minute)

		arrived := got.snapshot()
		for _, w := range waits {
			at, ok := arrived[w.d.ID]
			if !ok {
				t.Errorf("a wait of %v never arrived", w.after)
				continue
			}
			if hops := strings.Join(out.topics(w.d.ID), " "); hops != w.hops {
				t.Errorf("a wait of %v went by %s, want %s", w.after, hops, w.hops)
			}
			// The owner holds what arrives before not_before, so only a rest
			// shorter than the smallest tier may be left.
			if early := w.d.NotBefore.Sub(at); early >= DefaultLadder().Smallest() {
				t.Errorf("a wait of %v arrived %v early", w.after, early)
			}
			if w.after%(5*time.Second) == 0 && at.Before(w.d.NotBefore.Truncate(time.Millisecond)) {
				t.Errorf("a wait of %v arrived %v early", w.after, w.d.NotBefore.Sub(at))
			}
			if late := at.Sub(w.d.NotBefore); late >= time.Second {
				t.Errorf("a wait of %v arrived %v late", w.after, late)
			}
		}
	})
}

func TestAReaderThatWasDownForAnHourDrainsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		out := &produced{Client: b.client()}
		pub := must(NewPublisher(out, DefaultLadder(), prefix))
		got := b.arrivals()
		const n = 3000
		for i := range n {
			pub.Put(delivery(i, time.Now().Add(15*time.Minute)), time.Now(), func(error) {})
		}
		time.Sleep(time.Hour)
		if early := len(got.snapshot()); early != 0 {
			t.Fatalf("%d arrived without a reader", early)
		}
		up := time.Now()
		b.read(running(t, Config{Tier: 15 * time.Minute, Publisher: pub, HeldBytes: 64 << 10}))
		time.Sleep(time.Minute)
		arrived := slices.Collect(maps.Values(got.snapshot()))
		if len(arrived) != n {
			t.Fatalf("%d of %d arrived", len(arrived), n)
		}
		// Virtual time passes only while everybody waits: for the clients to
		// come up, and for a long poll (250 ms) to end before a resumed
		// partition is fetched.
		if took := slices.MaxFunc(arrived, time.Time.Compare).Sub(up); took > 20*time.Second {
			t.Errorf("draining took %v", took)
		}
	})
}

// Held bytes stay bounded by the limit and one fetch, and nothing is late for
// it: what was paused is fetched again before it is due.
func TestHeldBytesAreBoundedAndRefilledBeforeTheHeadIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		out := &produced{Client: b.client()}
		pub := must(NewPublisher(out, DefaultLadder(), prefix))
		var mu sync.Mutex
		var late, most time.Duration
		var held int
		var r *Reader
		r = running(t, Config{Tier: time.Minute, Publisher: pub, HeldBytes: 16 << 10, Late: func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			late, held = max(late, d), max(held, r.Stats().Bytes)
			most++
		}})
		const fetch = 8 << 10
		leases := b.read(r, kgo.FetchMaxPartitionBytes(fetch))
		got := b.arrivals()
		time.Sleep(time.Second)
		// One partition, ten records a second over three minutes.
		const n = 1800
		for i := range n {
			d := delivery(i, time.Now().Add(time.Minute))
			d.EndpointID = "ep_same"
			pub.Put(d, time.Now(), func(error) {})
			time.Sleep(100 * time.Millisecond)
			if bytes := r.Stats().Bytes; bytes > 16<<10+2*fetch {
				t.Fatalf("%d bytes are held", bytes)
			}
		}
		time.Sleep(2 * time.Minute)
		if len(got.snapshot()) != n || int(most) != n {
			t.Fatalf("%d of %d arrived, %d moved", len(got.snapshot()), n, most)
		}
		if late >= time.Second {
			t.Errorf("a record was %v late", late)
		}
		var flows []bool
		for _, l := range leases {
			flows = append(flows, l.flows()...)
		}
		if len(flows) < 4 || len(flows)%2 != 0 {
			t.Fatalf("pauses and resumes: %v; want some, each pause resumed", flows)
		}
		for i, paused := range flows {
			if paused != (i%2 == 0) {
				t.Fatalf("pauses and resumes don't alternate: %v", flows)
			}
		}
	})
}
