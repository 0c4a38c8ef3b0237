package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/consumer"
	"posthorn/internal/config"
)

// refusals makes the broker refuse produces to a topic for good, as many as the
// result holds.
func (w *world) refusals(topic string) *atomic.Int32 {
	w.t.Helper()
	details, err := kadm.NewClient(w.client).ListTopics(context.Background(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	id := [16]byte(details[topic].ID)
	left := new(atomic.Int32)
	w.broker.ControlKey(int16(kmsg.Produce), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		w.broker.KeepControl()
		req := kreq.(*kmsg.ProduceRequest)
		for _, t := range req.Topics {
			if (t.Topic != topic && t.TopicID != id) || left.Load() <= 0 {
				continue
			}
			left.Add(-1)
			resp := req.ResponseKind().(*kmsg.ProduceResponse)
			for _, t := range req.Topics {
				rt := kmsg.NewProduceResponseTopic()
				rt.Topic, rt.TopicID = t.Topic, t.TopicID
				for _, p := range t.Partitions {
					rp := kmsg.NewProduceResponseTopicPartition()
					rp.Partition, rp.ErrorCode = p.Partition, kerr.MessageTooLarge.Code
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			return resp, nil, true
		}
		return nil, nil, false
	})
	return left
}

func TestARefusedProduceHasThePartitionReadAgainAlsoWhenTheBudgetIsFull(t *testing.T) {
	for _, topic := range []string{"posthorn.attempts", "posthorn.deliveries", "posthorn.retry.5s"} {
		t.Run(topic, func(t *testing.T) {
			small := func(c *config.Config) {
				onePartition(c)
				c.Delivery.ByteBudget = 64 * config.KiB
				c.Delivery.Schedule = []time.Duration{5 * time.Second, 10 * time.Second}
			}
			inVirtualTime(t, small, func(w *world) {
				came := newArrivals()
				w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
					if came.note(h) == 0 && len(h.body)%3 == 0 {
						h.status = 404 // again by the schedule, without a breaker's notice
					}
					pause(r, 500*time.Millisecond)
				})
				w.endpoint("e")
				refuse := w.refusals(topic)
				p := w.process()
				time.Sleep(5 * time.Second)
				for i := range 200 {
					w.event(fmt.Sprint(i), "order.created")
					if i == 100 {
						refuse.Store(1)
					}
				}
				time.Sleep(3 * time.Minute)
				if refuse.Load() != 0 {
					t.Error("nothing was refused: the case tests nothing")
				}
				if n := came.distinct("/e"); n != 200 {
					t.Errorf("%d of 200 came", n)
				}
				p.terminate()
				for _, group := range []string{"posthorn.dispatch", "posthorn.match"} {
					for _, c := range w.commits(group) {
						if c.Topic == "posthorn.deliveries" && c.At < 200 {
							t.Errorf("%s stands at %d", group, c.At)
						}
					}
				}
			})
		})
	}
}

// brokenRegistry is one that can't be waited for.
type brokenRegistry struct{ crowd }

func (brokenRegistry) WaitCurrent(context.Context) error { return errors.New("the registry is gone") }

// belated gives work to a matcher only after the lease has failed, as a poll may
// that was under way.
type belated struct {
	*consumer.Matcher
	takes atomic.Int32
}

func (b *belated) Take(l *consumer.Lease, work []*consumer.Work) {
	b.Matcher.Take(l, work[:1])
	for l.Live(time.Now()) {
		time.Sleep(10 * time.Millisecond)
	}
	b.Matcher.Take(l, work[1:])
	b.takes.Add(1)
}

func TestWorkThatComesAfterAFailureTakesNoRoom(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		var rs []*kgo.Record
		for i := range 10 {
			rs = append(rs, orderOf(fmt.Sprint(i), "order.created"))
		}
		w.produceAll(rs)
		// As much as two rounds may leave behind.
		h := &belated{Matcher: consumer.NewMatcher(consumer.MatcherConfig{Events: plainEvents{}, Subscriptions: brokenRegistry{}, Bodies: oneBody(nil),
			Producer: w.client, Observer: unobserved{}, Deliveries: "d", Fanout: "f", TaskSize: 1, MaxRecord: 1 << 20,
			QueueBytes: 12 << 10, InFlightBytes: 1 << 20})}
		s, err := consumer.NewStage(consumer.Config{Name: "match", Group: "g", Topics: []string{"orders"}, Client: w.broker.ClientOpts(),
			DrainWithin: time.Second, Handler: h, Observer: noObserver{}, Log: w.log})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(5 * time.Minute)
		if n := h.takes.Load(); n < 4 {
			t.Errorf("the partition was read %d times in five minutes", n)
		}
		room, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if err := h.Room(room); err != nil {
			t.Error("no room, though nothing is queued")
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
