package dispatcher

import (
	"context"
	"fmt"
	"testing"
	"time"

	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

func TestAHandoverDropsWhatIsQueuedAndHeldWithoutFinishingIt(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("slow")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Second, status(200)) })
		l, other := newLease(), newLease()
		tickets := b.take(l, b.many(20, "slow")...)
		later := b.delivery("later", "slow")
		later.NotBefore = time.Now().Add(3 * time.Second)
		tickets = append(tickets, b.take(l, later)...)
		kept := b.take(other, b.delivery("kept", "slow"))
		time.Sleep(100 * time.Millisecond)
		if took := b.release(2*time.Second, l); took > time.Second {
			t.Errorf("the handover took %v, though all in flight ended within a second", took)
		}
		if n := finished(tickets); n != 4 {
			t.Errorf("%d finished, want the four that were in flight", n)
		}
		time.Sleep(time.Minute)
		if n := len(b.postsTo("slow")); n != 5 {
			t.Errorf("%d POSTs, want four and the one of the lease that stayed", n)
		}
		if finished(kept) != 1 {
			t.Error("the other lease's delivery was not finished")
		}
		if n := heldBytes(b); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
}

func TestWhatHangsIsCutAfterTwoSecondsAndSpendsNoStep(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("hangs")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return timeout(ctx) })
		l := newLease()
		d := b.delivery("e", "hangs")
		d.N, d.Step, d.Deferrals = 3, 2, 1
		tickets := b.take(l, d)
		time.Sleep(100 * time.Millisecond)
		if took := b.release(2*time.Second, l); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("the handover took %v, want two seconds", took)
		}
		ss := b.settlements("")
		if len(ss) != 1 || ss[0].Kind != webhook.KindAttempt || ss[0].Outcome != webhook.OutcomeCut || ss[0].Reason != webhook.ReasonCut {
			t.Fatalf("settled %+v", ss)
		}
		puts := b.putBack()
		if len(puts) != 1 || puts[0].N != 4 || puts[0].Step != 2 || puts[0].Deferrals != 1 {
			t.Fatalf("put back %+v, want n 4 at step 2", puts)
		}
		// At least the smallest tier, so that it leaves this owner.
		if wait := puts[0].NotBefore.Sub(puts[0].at); wait < 5*time.Second {
			t.Errorf("it comes back after %v", wait)
		}
		if finished(tickets) != 1 {
			t.Error("not finished, so the next owner would POST it as the same attempt")
		}
	})
}

func TestALostLeaseProducesNothingButTheRecordsOfItsAttempts(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		for _, e := range []string{"hangs", "fails", "gone"} {
			b.endpoint(e)
		}
		b.setAnswer(func(ctx context.Context, e string, _ int) send.Result {
			switch e {
			case "fails":
				return after(ctx, time.Second, status(503))
			case "gone":
				return after(ctx, time.Second, status(410))
			}
			return timeout(ctx)
		})
		l := newLease()
		tickets := b.take(l, b.delivery("1", "hangs"), b.delivery("2", "fails"), b.delivery("3", "gone"))
		time.Sleep(500 * time.Millisecond)
		l.ended.Store(true)
		time.Sleep(time.Second) // two answers come after the loss, before it is handled
		b.release(0, l)
		if n := len(b.settlements(webhook.KindAttempt)); n != 3 || len(b.settlements("")) != 3 {
			t.Errorf("%d attempts recorded, want the 3 that were made and nothing else", n)
		}
		if len(b.putBack()) != 0 || len(b.graves()) != 0 {
			t.Errorf("produced %v and %v for an assignment that is over", b.putBack(), b.graves())
		}
		_ = tickets // what they do is the closed tracker's affair
	})
}

func TestALostLeaseHandsNoImmediateRetryBack(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		b.setAnswer(func(context.Context, string, int) send.Result { return status(503) })
		l := newLease()
		tickets := b.take(l, b.bunjang("x", "e"))
		time.Sleep(10 * time.Millisecond)
		l.ended.Store(true)
		b.release(0, l)
		if len(b.putBack()) != 0 || finished(tickets) != 0 {
			t.Errorf("put back %v, %d finished", b.putBack(), finished(tickets))
		}
	})
}

func TestWhatKafkaRefusesFailsTheLeaseAndIsNeverDone(t *testing.T) {
	for _, c := range []struct {
		fails  string
		status int
	}{{"record", 200}, {"record", 503}, {"put", 503}, {"dead", 410}, {"record", 410}} {
		for _, contract := range []string{"standard", "bunjang"} {
			for _, inOrder := range []bool{false, true} {
				t.Run(fmt.Sprint(c.fails, " of ", c.status, " ", contract, " ", inOrder), func(t *testing.T) {
					dispatching(t, nil, func(b *bench) {
						b.endpoint("e")
						b.inOrder = inOrder
						b.setAnswer(func(context.Context, string, int) send.Result { return status(c.status) })
						b.fail = func(what string) error {
							if what == c.fails {
								return errKafka
							}
							return nil
						}
						l := newLease()
						d := b.delivery("x", "e")
						d.Contract = contract
						tickets := b.take(l, d)
						time.Sleep(100 * time.Millisecond)
						if contract == "bunjang" && c.fails == "put" {
							b.release(time.Second, l) // that is when it puts something back
						}
						if finished(tickets) != 0 {
							t.Error("done, though what it led to is not in Kafka")
						}
						if l.failures.Load() == 0 {
							t.Error("the lease goes on")
						}
						if b.release(time.Second, l); heldBytes(b) != 0 {
							t.Error("its bytes are still counted")
						}
					})
				})
			}
		}
	}
}

func TestADrainFinishesWhatIsInFlightAndStartsNothing(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("slow")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, 10*time.Second, status(200)) })
		l := newLease()
		tickets := b.take(l, b.many(10, "slow")...)
		time.Sleep(time.Second)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		b.Drain(ctx)
		if took := time.Since(begun); took != 9*time.Second {
			t.Errorf("the drain took %v, want until the last answer", took)
		}
		if n := finished(tickets); n != 4 || len(b.postsTo("slow")) != 4 {
			t.Errorf("%d finished of %d POSTs, want 4", n, len(b.postsTo("slow")))
		}
		b.take(newLease(), b.delivery("late", "slow")) // a partition that comes while draining
		time.Sleep(time.Second)
		if len(b.postsTo("slow")) != 4 {
			t.Error("a POST began after the drain")
		}
	})
}
