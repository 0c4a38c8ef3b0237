package retrytopics

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// bench is a reader of the 1m tier that the test hands records by hand; what
// it produces goes to a real broker.
type bench struct {
	*broker
	out *produced
	r   *Reader
}

func newBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	b := &bench{broker: newBroker(t)}
	b.out = &produced{Client: b.client()}
	cfg := Config{Tier: time.Minute, Publisher: must(NewPublisher(b.out, DefaultLadder(), prefix))}
	if change != nil {
		change(&cfg)
	}
	b.r = running(t, cfg)
	return b
}

func TestOnlyTheHeadOfAPartitionIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		start := time.Now()
		late, _ := parked(delivery(1, start), start)
		early, _ := parked(delivery(2, start), start.Add(-30*time.Second))
		other, _ := parked(delivery(3, start), start.Add(-20*time.Second))
		b.r.Take(new(lease), []Parked{late, early})
		b.r.Take(new(lease), []Parked{other})
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		if got := b.out.all(); len(got) != 1 || decode(got[0]).ID != other.Delivery.ID {
			t.Fatalf("%d records were moved before the head was due, want the other partition's alone", len(got))
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		got := b.out.all()
		if len(got) != 3 || decode(got[1]).ID != late.Delivery.ID || decode(got[2]).ID != early.Delivery.ID {
			t.Fatalf("%d records were moved, want all, in the partition's order", len(got))
		}
	})
}

func TestATicketIsDoneOnceAndOnlyWhenTheSuccessorIsAcked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		hold := make(chan struct{})
		b.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			b.cluster.KeepControl()
			b.cluster.SleepControl(func() { <-hold })
			return nil, nil, false
		})
		rec, tick := parked(delivery(1, time.Now()), time.Now())
		b.r.Take(new(lease), []Parked{rec})
		time.Sleep(time.Minute + 2*time.Second)
		synctest.Wait()
		if len(b.out.all()) != 1 || tick.done.Load() != 0 || b.r.Stats().InFlight != 1 {
			t.Fatalf("produced %d, done %d, %+v; want one in flight, not done", len(b.out.all()), tick.done.Load(), b.r.Stats())
		}
		close(hold)
		time.Sleep(time.Second)
		synctest.Wait()
		if tick.done.Load() != 1 || b.r.Stats() != (Stats{}) {
			t.Fatalf("done %d times, %+v; want once and nothing held", tick.done.Load(), b.r.Stats())
		}
	})
}

func TestNothingIsProducedForALeaseThatIsNotLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		lost, doubtful := new(lease), new(lease)
		rec1, tick1 := parked(delivery(1, time.Now()), time.Now())
		rec2, tick2 := parked(delivery(2, time.Now()), time.Now())
		b.r.Take(lost, []Parked{rec1})
		b.r.Take(doubtful, []Parked{rec2})
		lost.down.Store(true)
		doubtful.down.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(b.out.all()); n != 0 {
			t.Fatalf("%d records were produced for leases that are not live", n)
		}
		b.r.Release(lost)
		lost.down.Store(false)
		doubtful.down.Store(false) // the doubt is over
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(b.out.all()); n != 1 || tick1.done.Load() != 0 || tick2.done.Load() != 1 {
			t.Fatalf("produced %d, done %d and %d; want only the one whose lease is live again", n, tick1.done.Load(), tick2.done.Load())
		}
	})
}

// The assignment goes away while a burst of due records is being produced.
func TestALeaseLostBetweenDueAndProduceEndsTheBurst(t *testing.T) {
	for name, lose := range map[string]func(*bench, *lease){
		"not live": func(_ *bench, l *lease) { l.down.Store(true) },
		"released": func(b *bench, l *lease) { b.r.Release(l) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				l := new(lease)
				n := 0
				b.out.before = func(*kgo.Record) { // on Run's goroutine
					if n++; n == 3 {
						lose(b, l)
					}
				}
				var recs []Parked
				var ticks []*ticket
				for i := range 10 {
					rec, tick := parked(delivery(i, time.Now()), time.Now())
					recs, ticks = append(recs, rec), append(ticks, tick)
				}
				b.r.Take(l, recs)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if got := len(b.out.all()); got != 3 {
					t.Fatalf("%d records were produced, want the 3 before the lease was lost", got)
				}
				for i, tick := range ticks {
					if want := min(1, max(0, 3-i)); int(tick.done.Load()) != want {
						t.Errorf("ticket %d is done %d times, want %d", i, tick.done.Load(), want)
					}
				}
				if s := b.r.Stats(); s.InFlight != 0 {
					t.Errorf("%+v: places in flight weren't given back", s)
				}
			})
		})
	}
}

func TestAFailedProduceFailsTheLeaseOnceAndIsNeverDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		var refuse sync.Once
		b.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (resp kmsg.Response, _ error, handled bool) {
			refuse.Do(func() { resp, handled = refuseAll(req.(*kmsg.ProduceRequest)), true })
			return resp, nil, handled
		})
		l := new(lease)
		var recs []Parked
		var ticks []*ticket
		for i := range 5 {
			d := delivery(i, time.Now())
			d.EndpointID = "ep_same"
			rec, tick := parked(d, time.Now().Add(time.Duration(i-5)*time.Second))
			recs, ticks = append(recs, rec), append(ticks, tick)
		}
		b.r.Take(l, recs[:4])
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.r.Take(l, recs[4:]) // fetched before the runtime restarted the partition
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if f := l.failures(); len(f) != 1 || !strings.Contains(f[0].Error(), "from tier 1m to deliveries") {
			t.Fatalf("the lease failed with %v, want once, saying what could not be moved", f)
		}
		if got := len(b.out.all()); got != 1 {
			t.Errorf("%d records were produced, want none after the failure", got)
		}
		for i, tick := range ticks {
			if tick.done.Load() != 0 {
				t.Errorf("ticket %d is done", i)
			}
		}
		if n := len(b.r.parts[l].queue); n != 0 || b.r.Stats() != (Stats{}) {
			t.Errorf("%d records and %+v are held for a failed lease", n, b.r.Stats())
		}
		// The runtime restarts the partition.
		b.r.Release(l)
		b.r.Take(l, recs)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for i, tick := range ticks {
			if tick.done.Load() != 1 {
				t.Errorf("after the restart ticket %d is done %d times, want once", i, tick.done.Load())
			}
		}
	})
}

// refuseAll answers a produce request with an error that no client retries.
func refuseAll(req *kmsg.ProduceRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewProduceResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		for _, rp := range rt.Partitions {
			sp := kmsg.NewProduceResponseTopicPartition()
			sp.Partition, sp.ErrorCode = rp.Partition, 29 // TOPIC_AUTHORIZATION_FAILED
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// A record that is moved less than a second late counts its rest from when it
// was due; one that is later, from now.
func TestLatenessBelowASecondDoesNotAddUp(t *testing.T) {
	for _, c := range []struct {
		late time.Duration
		topic,
		base string
	}{
		{900 * time.Millisecond, "posthorn.retry.1m", "due"},
		{1500 * time.Millisecond, "posthorn.retry.5s", "now"},
	} {
		t.Run(c.late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil)
				start := time.Now()
				rec, _ := parked(delivery(1, start.Add(2*time.Minute)), start)
				l := new(lease)
				l.down.Store(true)
				b.r.Take(l, []Parked{rec})
				due := start.Add(time.Minute)
				time.Sleep(time.Minute + c.late - recheck/2)
				l.down.Store(false)
				time.Sleep(time.Second)
				synctest.Wait()
				got := b.out.all()
				if len(got) != 1 || got[0].Topic != c.topic {
					t.Fatalf("moved to %v, want %s", got, c.topic)
				}
				want := due
				if c.base == "now" {
					// Half a second short of a whole one: not rounded.
					want = due.Add(c.late)
				}
				if diff := got[0].Timestamp.Sub(want); diff != 0 {
					t.Errorf("the next wait counts from %v off %s", diff, c.base)
				}
			})
		})
	}
}

func TestARecordFromAClockAheadDoesNotWedgeItsPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		rec, tick := parked(delivery(1, time.Now().Add(time.Minute)), time.Now().Add(24*time.Hour))
		b.r.Take(new(lease), []Parked{rec})
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if tick.done.Load() != 1 {
			t.Error("a record stamped tomorrow was not moved after the tier's delay")
		}
	})
}

func TestHooksAreToldOfEachRecordMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		moved := make(map[string]int)
		var late []time.Duration
		b := newBench(t, func(c *Config) {
			c.Moved = func(to string) { mu.Lock(); moved[to]++; mu.Unlock() }
			c.Late = func(d time.Duration) { mu.Lock(); late = append(late, d); mu.Unlock() }
		})
		start := time.Now()
		var recs []Parked
		for i, rest := range []time.Duration{0, time.Second, 7 * time.Second, time.Hour} {
			rec, _ := parked(delivery(i, start.Add(time.Minute+rest)), start)
			recs = append(recs, rec)
		}
		b.r.Take(new(lease), recs)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := fmt.Sprint(moved); got != "map[15m:1 5s:1 deliveries:2]" {
			t.Errorf("moved %s", got)
		}
		for _, d := range late {
			if d < 0 || d >= time.Second {
				t.Errorf("late by %v", d)
			}
		}
	})
}

func TestConfigErrorsNameEveryMistake(t *testing.T) {
	pub := must(NewPublisher(discard{}, DefaultLadder(), prefix))
	_, err := NewReader(Config{Tier: time.Hour, Publisher: pub, HeldBytes: -1, InFlight: -1})
	for _, want := range []string{"tier 1h0m0s is not one of the ladder's", "held bytes -1", "in flight -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	if _, err := NewReader(Config{Tier: time.Minute}); err == nil {
		t.Error("a reader without a publisher was built")
	}
}

type discard struct{}

func (discard) Produce(_ context.Context, r *kgo.Record, promise func(*kgo.Record, error)) {
	promise(r, nil)
}
