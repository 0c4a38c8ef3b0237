package dispatcher

import (
	"context"
	"testing"
	"time"

	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

func (b *bench) bunjang(event, endpoint string) *webhook.Delivery {
	d := b.delivery(event, endpoint)
	d.Contract = "bunjang"
	return d
}

func TestImmediateRetriesSettleEveryAttemptAndTheRecordOnce(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("sick")
		b.setAnswer(func(context.Context, string, int) send.Result { return status(503) })
		tickets := b.take(newLease(), b.bunjang("e", "sick"))
		time.Sleep(time.Minute)
		posts := b.postsTo("sick")
		if len(posts) != 4 {
			t.Fatalf("%d POSTs, want the first and three retries", len(posts))
		}
		for i, mid := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if gap := posts[i+1].at.Sub(posts[i].at); gap < mid/2 || gap > mid*3/2+10*time.Millisecond {
				t.Errorf("retry %d came after %v, want %v give or take half", i+1, gap, mid)
			}
		}
		ss := b.settlements("")
		if len(ss) != 4 {
			t.Fatalf("%d settlements, want one for each attempt", len(ss))
		}
		for i, s := range ss {
			if s.Kind != webhook.KindAttempt || s.N != i || s.Step != i || (i < 3) != (s.Outcome == webhook.OutcomeRetry) {
				t.Errorf("settlement %d: kind %s, n %d, step %d, outcome %s", i, s.Kind, s.N, s.Step, s.Outcome)
			}
		}
		g := b.graves()
		if len(g) != 1 || g[0].reason != webhook.ReasonExhausted || g[0].status != 503 || len(b.putBack()) != 0 {
			t.Errorf("dead %v, put back %v", g, b.putBack())
		}
		if finished(tickets) != 1 {
			t.Errorf("done %d times", finished(tickets))
		}
	})
}

func TestWaitingImmediateRetriesHoldNoLaneSlot(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		b.setAnswer(func(_ context.Context, _ string, n int) send.Result {
			if n < 4 { // as many as a new lane is wide
				return status(429)
			}
			return status(200)
		})
		l := newLease()
		begun := time.Now()
		b.take(l, b.bunjang("1", "e"), b.bunjang("2", "e"), b.bunjang("3", "e"), b.bunjang("4", "e"))
		time.Sleep(10 * time.Millisecond)
		if lane := laneOf(b, "e"); lane.InFlight != 0 {
			t.Errorf("%d in flight while all four wait", lane.InFlight)
		}
		b.take(l, b.delivery("5", "e"))
		time.Sleep(10 * time.Millisecond)
		if posts := b.postsTo("e"); len(posts) != 5 || posts[4].at.Sub(begun) > 100*time.Millisecond {
			t.Errorf("%d POSTs: another delivery waits for those that wait", len(posts))
		}
	})
}

func TestMoreWaitersThanAnEndpointMayHaveGoThroughTheTopics(t *testing.T) {
	dispatching(t, func(c *Config) { c.Breaker.MinRequests = 1000 }, func(b *bench) {
		b.endpoint("e")
		b.setAnswer(func(context.Context, string, int) send.Result { return status(503) })
		var ds []*webhook.Delivery
		for _, d := range b.many(100, "e") {
			d.Contract = "bunjang"
			ds = append(ds, d)
		}
		b.take(newLease(), ds...)
		time.Sleep(100 * time.Millisecond) // no retry is due yet
		_, held := b.Stats()
		if held != waitersPerEndpoint {
			t.Errorf("%d wait in the process, want %d", held, waitersPerEndpoint)
		}
		puts := b.putBack()
		if len(puts) != 100-waitersPerEndpoint {
			t.Fatalf("%d went through the topics, want %d", len(puts), 100-waitersPerEndpoint)
		}
		for _, p := range puts {
			if p.N != 1 || p.Step != 1 || p.NotBefore.Before(time.Now()) {
				t.Errorf("put back with n %d, step %d, due %v", p.N, p.Step, p.NotBefore)
			}
		}
	})
}

func TestAWaitingImmediateRetryIsHandedBackWithItsPlace(t *testing.T) {
	for _, how := range []string{"release", "drain"} {
		t.Run(how, func(t *testing.T) {
			dispatching(t, nil, func(b *bench) {
				b.endpoint("e")
				b.setAnswer(func(context.Context, string, int) send.Result { return status(503) })
				l := newLease()
				tickets := b.take(l, b.bunjang("x", "e"))
				time.Sleep(10 * time.Millisecond)
				due := b.settlements(webhook.KindAttempt)[0].NextAt
				if how == "release" {
					b.release(2*time.Second, l)
				} else {
					b.Drain(context.Background())
				}
				puts := b.putBack()
				if len(puts) != 1 || puts[0].N != 1 || puts[0].Step != 1 || puts[0].Deferrals != 1 || !puts[0].NotBefore.Equal(due) {
					t.Fatalf("handed back %+v, want n 1, step 1, due %v", puts, due)
				}
				ss := b.settlements("")
				if len(ss) != 2 || ss[1].Kind != webhook.KindPark || ss[1].Reason != webhook.ReasonHandover || ss[1].N != 1 {
					t.Errorf("settled %+v", ss)
				}
				if finished(tickets) != 1 {
					t.Errorf("done %d times", finished(tickets))
				}
				time.Sleep(time.Minute)
				if n := len(b.postsTo("e")); n != 1 {
					t.Errorf("%d POSTs, want none after the hand-back", n)
				}
			})
		})
	}
}
