package retrytopics

import (
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// received collects what is in all topics.
func (b *broker) received() func() []*kgo.Record {
	var mu sync.Mutex
	var records []*kgo.Record
	b.consume(b.client(kgo.ConsumeTopics("^posthorn\\."), kgo.ConsumeRegex()), func(_ int32, rs []*kgo.Record) {
		mu.Lock()
		defer mu.Unlock()
		records = append(records, rs...)
	})
	return func() []*kgo.Record {
		mu.Lock()
		defer mu.Unlock()
		return append([]*kgo.Record(nil), records...)
	}
}

func TestADeliveryIsUnchangedByPutAndItsWaitCountsFromNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		pub := must(NewPublisher(b.client(), DefaultLadder(), prefix))
		got := b.received()
		now := time.Now()
		d := delivery(1, now.Add(time.Minute))
		var acked atomic.Int32
		pub.Put(d, now, func(err error) {
			if err != nil {
				t.Errorf("publishing: %v", err)
			}
			acked.Add(1)
		})
		time.Sleep(5 * time.Second)
		if acked.Load() != 1 || len(got()) != 1 {
			t.Fatalf("acked %d times, %d records; want one of each", acked.Load(), len(got()))
		}
		r := got()[0]
		if r.Topic != "posthorn.retry.1m" || !r.Timestamp.Equal(now) || string(r.Key) != d.EndpointID {
			t.Errorf("record in %s from %v with key %s", r.Topic, r.Timestamp.Sub(now), r.Key)
		}
		back := decode(r)
		for _, at := range []*time.Time{&back.NotBefore, &back.BegunAt, &back.MatchedAt} {
			*at = at.In(d.BegunAt.Location())
		}
		if !back.NotBefore.Equal(d.NotBefore) {
			t.Errorf("not_before is %v off", back.NotBefore.Sub(d.NotBefore))
		}
		back.NotBefore, back.BegunAt, back.MatchedAt = d.NotBefore, d.BegunAt, d.MatchedAt
		if !reflect.DeepEqual(back, d) {
			t.Errorf("the delivery came back as\n%+v, not\n%+v", back, d)
		}
	})
}

func TestAnEndpointStaysInItsPartitionOnEveryTier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		pub := must(NewPublisher(b.client(), DefaultLadder(), prefix))
		got := b.received()
		waits := append(DefaultLadder().Tiers(), 0)
		for i := range 20 {
			for _, wait := range waits {
				pub.Put(delivery(i, time.Now().Add(wait)), time.Now(), func(error) {})
			}
		}
		time.Sleep(5 * time.Second)
		home, seen := make(map[string]int32), make(map[string]bool)
		for _, r := range got() {
			if p, ok := home[string(r.Key)]; ok && p != r.Partition {
				t.Errorf("%s is in partition %d of %s and in %d elsewhere", r.Key, r.Partition, r.Topic, p)
			}
			home[string(r.Key)] = r.Partition
			seen[r.Topic] = true
		}
		if len(got()) != 20*len(waits) || len(seen) != len(waits) {
			t.Errorf("%d records in %d topics", len(got()), len(seen))
		}
	})
}

func TestTheDeadCarryTheirReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		pub := must(NewPublisher(b.client(), DefaultLadder(), prefix))
		got := b.received()
		for i, status := range []int{503, 0} {
			pub.Dead(delivery(i, time.Time{}), webhook.ReasonExhausted, status, func(err error) {
				if err != nil {
					t.Errorf("publishing: %v", err)
				}
			})
		}
		time.Sleep(5 * time.Second)
		if len(got()) != 2 {
			t.Fatalf("%d records", len(got()))
		}
		for _, r := range got() {
			headers := make(map[string]string)
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			status, has := headers[webhook.HeaderStatus]
			d := decode(r)
			if r.Topic != "posthorn.dead" || headers[webhook.HeaderReason] != "exhausted" || has != (d.EventID == "0") || has && status != "503" {
				t.Errorf("%s has headers %v", r.Topic, headers)
			}
		}
	})
}

func TestPublisherErrorsSayWhatIsMissing(t *testing.T) {
	for want, build := range map[string]func() (*Publisher, error){
		"no producer": func() (*Publisher, error) { return NewPublisher(nil, DefaultLadder(), prefix) },
		"no tier":     func() (*Publisher, error) { return NewPublisher(discard{}, Ladder{}, prefix) },
		"prefix":      func() (*Publisher, error) { return NewPublisher(discard{}, DefaultLadder(), "posthorn.") },
	} {
		if _, err := build(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}
