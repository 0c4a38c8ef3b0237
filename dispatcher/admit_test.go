package dispatcher

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

func TestNobodyToDeliverToIsADiscard(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("off")
		b.mu.Lock()
		e := b.endpoints["off"]
		e.Disabled = true
		b.endpoints["off"] = e
		b.mu.Unlock()
		tickets := b.take(newLease(), b.delivery("1", "off"), b.delivery("2", "deleted"))
		time.Sleep(time.Second)
		ss := b.settlements(webhook.KindDiscard)
		if len(ss) != 2 || ss[0].Reason != webhook.ReasonEndpointDisabled || ss[1].Reason != webhook.ReasonEndpointDeleted {
			t.Errorf("settled %+v", ss)
		}
		if len(b.postsTo("")) != 0 || len(b.putBack()) != 0 || len(b.graves()) != 0 || finished(tickets) != 2 {
			t.Errorf("%d POSTs, %d finished", len(b.postsTo("")), finished(tickets))
		}
	})
}

func TestAnEndpointDisabledStopsAtOnceAlsoForWhatIsQueued(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Second, status(200)) })
		tickets := b.take(newLease(), b.many(50, "e")...)
		time.Sleep(1500 * time.Millisecond)
		before := len(b.postsTo("e"))
		b.mu.Lock()
		e := b.endpoints["e"]
		e.Disabled = true
		b.endpoints["e"] = e
		b.mu.Unlock()
		time.Sleep(time.Minute)
		if n := len(b.postsTo("e")); n != before {
			t.Errorf("%d POSTs began after the endpoint was disabled", n-before)
		}
		if n := len(b.settlements(webhook.KindDiscard)); n != 50-before || finished(tickets) != 50 {
			t.Errorf("%d discarded, %d finished; want %d and 50", n, finished(tickets), 50-before)
		}
	})
}

func TestAPurgeDiscardsWhatIsQueuedAtOnceHoweverOldItIs(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Hour, status(200)) })
		old := b.many(20, "e")
		for _, d := range old {
			d.MatchedAt = d.MatchedAt.Add(-2 * time.Hour)
		}
		tickets := b.take(newLease(), old...)
		time.Sleep(time.Second)
		posts := len(b.postsTo("e"))
		b.mu.Lock()
		e := b.endpoints["e"]
		e.PurgeBefore, e.Purged = time.Now().Add(-time.Hour), time.Now()
		b.endpoints["e"] = e
		b.mu.Unlock()
		b.EndpointChanged("e")
		synctest.Wait()
		ss := b.settlements(webhook.KindDiscard)
		if posts == 0 || posts == 20 || len(ss) != 20-posts || ss[0].Reason != webhook.ReasonPurged || finished(tickets) != len(ss) {
			t.Errorf("%d of 20 under way, %d discarded at once: %+v", posts, len(ss), ss)
		}
	})
}

func TestARaisedLimitCountsAtOnceAlsoForWhatIsQueued(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		limit := func(rate float64) {
			b.mu.Lock()
			defer b.mu.Unlock()
			e := b.endpoints["e"]
			e.RateLimit = rate
			b.endpoints["e"] = e
		}
		limit(0.06) // one is queued for its turn, 16 s away
		b.take(newLease(), b.many(2, "e")...)
		time.Sleep(2 * time.Second)
		if n := len(b.postsTo("e")); n != 1 {
			t.Fatalf("%d POSTs within the old limit, want 1", n)
		}
		limit(100)
		b.EndpointChanged("e")
		time.Sleep(100 * time.Millisecond)
		if n := len(b.postsTo("e")); n != 2 {
			t.Errorf("%d POSTs after the limit was raised, want both", n)
		}
	})
}

func TestTheTimeInALaneIsNoWaitForTheLine(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("limited")
		b.endpoint("slow")
		b.mu.Lock()
		e := b.endpoints["limited"]
		e.RateLimit = 2
		b.endpoints["limited"] = e
		b.mu.Unlock()
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result {
			return after(ctx, time.Second, status(200))
		})
		var ds []*webhook.Delivery
		for _, d := range append(b.many(10, "limited"), b.many(100, "slow")...) {
			d.MatchedAt = time.Now().Add(-3 * time.Millisecond)
			ds = append(ds, d)
		}
		b.take(newLease(), ds...)
		time.Sleep(time.Minute)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.waited) < 20 || len(b.waited) != len(b.posts) {
			t.Fatalf("%d waits of %d POSTs", len(b.waited), len(b.posts))
		}
		for _, w := range b.waited {
			if w != 3*time.Millisecond {
				t.Errorf("a wait of %v, want the 3 ms from its match", w)
			}
		}
	})
}

func TestTooOldIsDeadAsExpiredWithoutAPost(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		old := b.delivery("old", "e")
		old.MatchedAt = time.Now().Add(-24*time.Hour - time.Second)
		unknown := b.delivery("unknown", "e")
		unknown.Contract = "removed"
		fresh := b.delivery("fresh", "e")
		fresh.MatchedAt = time.Now().Add(-24*time.Hour + time.Second)
		tickets := b.take(newLease(), old, unknown, fresh)
		time.Sleep(time.Second)
		g := b.graves()
		if len(g) != 2 || g[0].reason != webhook.ReasonExpired || g[1].reason != webhook.ReasonUnknownContract || g[0].status != 0 {
			t.Fatalf("dead %+v", g)
		}
		if ss := b.settlements(webhook.KindDead); len(ss) != 2 || ss[0].Reason != webhook.ReasonExpired {
			t.Errorf("settled %+v", ss)
		}
		if posts := b.postsTo("e"); len(posts) != 1 || posts[0].body != "fresh" || finished(tickets) != 3 {
			t.Errorf("%d POSTs, %d finished", len(posts), finished(tickets))
		}
	})
}

func TestADeliveryMatchedByANewerRegistryWaitsForIt(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("known")
		ahead := b.delivery("1", "new")
		ahead.Registry.Offset = 7
		tickets := b.take(newLease(), ahead, b.delivery("2", "known"))
		time.Sleep(5 * time.Second)
		if len(b.postsTo("known")) != 1 || len(b.settlements("")) != 1 {
			t.Fatalf("settled %+v; want only the delivery to the endpoint that is known", b.settlements(""))
		}
		b.endpoint("new")
		b.advance(7)
		time.Sleep(time.Second)
		if len(b.postsTo("new")) != 1 || finished(tickets) != 2 {
			t.Error("not delivered once the registry had come that far")
		}
	})
}

// However long the registry can't be followed, and however much is read
// meanwhile: it is asked by one goroutine of a lease.
func TestALeaseWaitsForTheRegistryOnce(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		l, other := newLease(), newLease()
		var tickets []*done
		take := func(l Lease, n int, version int64) {
			ds := b.many(n, "e")
			for _, d := range ds {
				d.Registry.Offset = version
			}
			tickets = append(tickets, b.take(l, ds...)...)
			time.Sleep(100 * time.Millisecond)
		}
		for i := range int64(100) {
			take(l, 2, 901+i)
		}
		take(other, 2, 5)
		if _, most := b.waiting(); most != 2 {
			t.Errorf("%d waited for the registry at once, want one of each lease", most)
		}
		b.advance(5)
		time.Sleep(time.Second)
		if n := len(b.postsTo("e")); n != 2 {
			t.Errorf("%d POSTs at version 5, want 2", n)
		}
		b.advance(950)
		time.Sleep(time.Second)
		if n := len(b.postsTo("e")); n != 2+2*50 {
			t.Errorf("%d POSTs at version 950, want 102: those that it has reached, not the rest", n)
		}
		take(l, 1, 2000)
		b.advance(1000)
		time.Sleep(time.Second)
		if _, most := b.waiting(); finished(tickets) != 202 || most != 2 {
			t.Errorf("%d of 202 finished, %d waited at once", finished(tickets), most)
		}
		b.release(0, l)
		time.Sleep(time.Second)
		if now, _ := b.waiting(); heldBytes(b) != 0 || now != 0 {
			t.Errorf("%d bytes are held and %d wait after the lease ended", heldBytes(b), now)
		}
	})
}

func TestAZombiePostsNothingAndGoesOnWhenItIsAliveAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*hold, bool)
	}{
		{"no commit was answered for five seconds", func(h *hold, blocked bool) { h.live.Store(!blocked) }},
		{"too much is uncommitted", func(h *hold, blocked bool) { h.crowded.Store(blocked) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dispatching(t, nil, func(b *bench) {
				b.endpoint("e")
				l, healthy := newLease(), newLease()
				c.set(l, true)
				tickets := b.take(l, b.many(10, "e")...)
				others := b.take(healthy, b.delivery("other", "e"))
				time.Sleep(10 * time.Second)
				if n := len(b.postsTo("e")); n != 1 || finished(others) != 1 {
					t.Errorf("%d POSTs, want only the one of the healthy lease", n)
				}
				c.set(l, false)
				time.Sleep(time.Second)
				if n := len(b.postsTo("e")); n != 11 || finished(tickets) != 10 {
					t.Errorf("%d POSTs and %d finished after it came back, want 11 and 10", n, finished(tickets))
				}
			})
		})
	}
}

func TestTheByteBudgetStopsPollsUntilWorkIsDone(t *testing.T) {
	dispatching(t, func(c *Config) { c.ByteBudget = 10 * jobOverhead }, func(b *bench) {
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Second, status(200)) })
		oneEach := func(l Lease, n int) { // in flight: what waits gives way sooner
			for i := range n {
				name := fmt.Sprint("slow", i)
				b.endpoint(name)
				b.take(l, b.delivery(name, name))
			}
		}
		if err := b.Room(b.t.Context()); err != nil {
			t.Fatal(err)
		}
		oneEach(newLease(), 10)
		begun := time.Now()
		if err := b.Room(b.t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(begun); waited < time.Second || waited > 3*time.Second {
			t.Errorf("room after %v, want when the first were done", waited)
		}
		l := newLease()
		oneEach(l, 20)
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Millisecond)
		defer cancel()
		if b.Room(ctx) == nil {
			t.Error("room, with twice the budget held")
		}
		b.release(0, l)
		if err := b.Room(b.t.Context()); err != nil {
			t.Errorf("no room after the lease that held it all was released: %v", err)
		}
	})
}

func TestASlowLaneDoesNotKeepTheByteBudget(t *testing.T) {
	dispatching(t, func(c *Config) { c.ByteBudget = 40 * jobOverhead }, func(b *bench) {
		b.endpoint("slow")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, 4*time.Second, status(200)) })
		b.take(newLease(), b.many(30, "slow")...) // its pace is measured while they wait
		time.Sleep(9 * time.Second)
		for range 5 {
			b.take(newLease(), b.many(30, "slow")...)
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Millisecond)
		defer cancel()
		if err := b.Room(ctx); err != nil {
			t.Error("a lane that needs minutes for its queue keeps the others from being read")
		}
	})
}

// A newcomer's flood leaves the others room, whatever becomes of it.
func TestALaneOfUnknownPaceTakesAShareOfTheByteBudget(t *testing.T) {
	dispatching(t, func(c *Config) { c.ByteBudget = 640 * jobOverhead }, func(b *bench) {
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, 4*time.Second, status(500)) })
		for i := range 50 {
			name := fmt.Sprint("new", i)
			b.endpoint(name)
			b.take(newLease(), b.many(50, name)...)
			synctest.Wait() // what is put back gives its bytes back
			if s := laneOf(b, name); s.InFlight == 0 || s.Queued > 10 || i < 10 && s.Queued < 5 {
				t.Fatalf("%+v: want a 64th of the budget queued, 10 at most", s)
			}
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		if err := b.Room(ctx); err != nil {
			t.Error("fifty newcomers keep everybody from being read")
		}
	})
}

func TestWhatWaitsOnTimersTakesAShareOfTheByteBudgetAlone(t *testing.T) {
	dispatching(t, func(c *Config) { c.ByteBudget = 640 * jobOverhead }, func(b *bench) {
		hold := func(endpoint string) {
			b.endpoint(endpoint)
			ds := b.many(100, endpoint)
			for _, d := range ds {
				d.NotBefore = time.Now().Add(4 * time.Second)
			}
			b.take(newLease(), ds...)
		}
		hold("one")
		if _, held := b.Stats(); held < 5 || held > 10 {
			t.Errorf("%d of one endpoint held, want a 64th of the budget, 10 at most", held)
		}
		for i := range 20 {
			hold(fmt.Sprint("other", i))
		}
		if _, held := b.Stats(); held > 80 {
			t.Errorf("%d held, want an eighth of the budget, 80 at most", held)
		}
		if err := b.Room(b.t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestTheTenThousandAndFirstHeldDeliveryGoesToTheSmallestTier(t *testing.T) {
	dispatching(t, func(c *Config) { c.ByteBudget = 1 << 30 }, func(b *bench) {
		b.endpoint("e")
		ds := b.many(holdsPerLease+5, "e")
		for _, d := range ds {
			d.NotBefore = time.Now().Add(4 * time.Second)
		}
		l, other := newLease(), newLease()
		b.take(l, ds...)
		third := b.delivery("other", "e")
		third.NotBefore = time.Now().Add(4 * time.Second)
		b.take(other, third)
		if _, held := b.Stats(); held != holdsPerLease+1 {
			t.Errorf("%d held, want %d of the one lease and 1 of the other", held, holdsPerLease)
		}
		puts := b.putBack()
		if len(puts) != 5 {
			t.Fatalf("%d put back, want 5", len(puts))
		}
		for _, p := range puts {
			if wait := p.NotBefore.Sub(p.at); wait < 5*time.Second || p.N != 0 || p.Step != 0 || p.Deferrals != 1 {
				t.Errorf("put back for %v with n %d, step %d, deferrals %d", wait, p.N, p.Step, p.Deferrals)
			}
		}
		for _, s := range b.settlements(webhook.KindPark) {
			if s.Reason != webhook.ReasonHoldsFull {
				t.Errorf("parked for %q", s.Reason)
			}
		}
	})
}

// Back sooner, it would come straight to the owner that had no room for it.
func TestWhateverIsPutBackWaitsTheSmallestTierAtLeast(t *testing.T) {
	short := func(c *Config) {
		c.SmallestTier = 20 * time.Second
		c.Parks = []time.Duration{time.Second}
		c.ByteBudget = 64 * 10 * jobOverhead // ten of one endpoint are held
		c.Lanes.QueueRecords = 3
	}
	dispatching(t, short, func(b *bench) {
		for _, e := range []string{"early", "full", "hangs", "sick"} {
			b.endpoint(e)
		}
		b.setAnswer(func(ctx context.Context, e string, _ int) send.Result {
			if e == "sick" {
				return status(503)
			}
			return timeout(ctx)
		})
		early := b.many(15, "early")
		for _, d := range early {
			d.NotBefore = time.Now().Add(4 * time.Second)
		}
		l := newLease()
		b.take(l, early...)
		b.take(l, b.many(10, "full")...)
		b.take(l, b.many(6, "hangs")...)
		for _, d := range b.many(12, "sick") { // the tenth failure opens the breaker
			b.take(l, d)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(7 * time.Second)
		b.release(0, l)
		why := make(map[webhook.Reason]int)
		for _, s := range b.settlements("") {
			if s.Kind == webhook.KindPark || s.Outcome == webhook.OutcomeCut {
				why[s.Reason]++
				if wait := s.NextAt.Sub(s.StartedAt); wait < 20*time.Second {
					t.Errorf("put back as %s for %v", s.Reason, wait)
				}
			}
		}
		for _, r := range []webhook.Reason{webhook.ReasonHoldsFull, webhook.ReasonLaneFull, webhook.ReasonLaneStalled, webhook.ReasonBreakerOpen, webhook.ReasonCut} {
			if why[r] == 0 {
				t.Errorf("nothing was put back as %s: %v", r, why)
			}
		}
		for _, p := range b.putBack() {
			if wait := p.NotBefore.Sub(p.at); wait < 20*time.Second {
				t.Errorf("put back %v before it is due", wait)
			}
		}
	})
}

func TestNothingHeldIsSentEarly(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		begun := time.Now()
		var ds []*webhook.Delivery
		for i, d := range b.many(40, "e") {
			d.NotBefore = begun.Add(time.Duration((i*7)%40) * 100 * time.Millisecond)
			d.EventID = d.NotBefore.Sub(begun).String()
			d.Body = []byte(d.EventID)
			ds = append(ds, d)
		}
		b.take(newLease(), ds...)
		time.Sleep(10 * time.Second)
		posts := b.postsTo("e")
		if len(posts) != 40 {
			t.Fatalf("%d POSTs", len(posts))
		}
		for _, p := range posts {
			due, err := time.ParseDuration(p.body)
			if err != nil {
				t.Fatal(err)
			}
			if at := p.at.Sub(begun); at < due || at > due+10*time.Millisecond {
				t.Errorf("due after %v, sent after %v", due, at)
			}
		}
	})
}

func TestABreakerThatOpensParksItsQueueAndSpendsNoAttempt(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("sick")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result {
			return after(ctx, 100*time.Millisecond, status(503))
		})
		tickets := b.take(newLease(), b.many(100, "sick")...)
		time.Sleep(20 * time.Second)
		attempts, parks := b.settlements(webhook.KindAttempt), b.settlements(webhook.KindPark)
		if len(attempts) < 10 || len(attempts) > 14 || len(attempts)+len(parks) != 100 {
			t.Fatalf("%d attempts and %d parks, want about ten and the rest", len(attempts), len(parks))
		}
		if len(b.postsTo("sick")) != len(attempts) || finished(tickets) != 100 {
			t.Errorf("%d POSTs, %d finished", len(b.postsTo("sick")), finished(tickets))
		}
		parked := 0
		for _, p := range b.putBack() {
			if p.N == 0 {
				parked++
				if p.Step != 0 || p.Deferrals != 1 || p.NotBefore.Sub(p.at) != time.Minute {
					t.Errorf("parked with step %d, deferrals %d, for %v", p.Step, p.Deferrals, p.NotBefore.Sub(p.at))
				}
			}
		}
		if parked != len(parks) {
			t.Errorf("%d parked, %d recorded", parked, len(parks))
		}
		b.mu.Lock()
		changes := append([]breaker.State{}, b.changes...)
		b.mu.Unlock()
		if len(changes) != 1 || changes[0] != breaker.Open {
			t.Errorf("changes told: %v", changes)
		}
		if s := laneOf(b, "sick"); s.Width != 1 || s.Queued != 0 {
			t.Errorf("the lane is %d wide with %d queued", s.Width, s.Queued)
		}
	})
}

func TestParksGrowUpTheTiersAndStayAtTheLast(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("sick")
		b.setAnswer(func(context.Context, string, int) send.Result { return status(503) })
		b.take(newLease(), b.many(12, "sick")...) // opens the breaker
		time.Sleep(time.Second)
		for deferrals, want := range []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
			before := len(b.putBack())
			d := b.delivery("again", "sick")
			d.Deferrals, d.N, d.Step = deferrals, 2, 1
			b.take(newLease(), d)
			time.Sleep(time.Millisecond)
			puts := b.putBack()[before:]
			if len(puts) != 1 || puts[0].NotBefore.Sub(puts[0].at) != want || puts[0].N != 2 || puts[0].Step != 1 || puts[0].Deferrals != deferrals+1 {
				t.Errorf("after %d deferrals: %+v, want a park of %v", deferrals, puts, want)
			}
		}
	})
}

func TestAnOwnerThatFindsTheBreakerOpenBeginsWithOneProbe(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		b.mu.Lock()
		e := b.endpoints["e"]
		e.BreakerOpen = true
		b.endpoints["e"] = e
		b.mu.Unlock()
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Second, status(200)) })
		b.take(newLease(), b.many(30, "e")...)
		time.Sleep(500 * time.Millisecond)
		if n := len(b.postsTo("e")); n != 1 {
			t.Errorf("%d POSTs at once, want one probe", n)
		}
		time.Sleep(20 * time.Second)
		if n := len(b.postsTo("e")); n != 30 {
			t.Errorf("%d POSTs in the end: the lane didn't widen", n)
		}
	})
}

func TestAHangingLaneParksItsQueue(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("hangs")
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return timeout(ctx) })
		begun := time.Now()
		tickets := b.take(newLease(), b.many(20, "hangs")...)
		time.Sleep(6 * time.Second)
		parks := b.settlements(webhook.KindPark)
		if len(parks) != 16 {
			t.Fatalf("%d parked after 6 s of silence, want the 16 that were queued", len(parks))
		}
		for _, s := range parks {
			if s.Reason != webhook.ReasonLaneStalled || s.N != 0 || s.NextAt.Sub(begun) < time.Minute {
				t.Errorf("parked for %q, n %d, next after %v", s.Reason, s.N, s.NextAt.Sub(begun))
			}
		}
		if finished(tickets) != 16 {
			t.Errorf("%d finished", finished(tickets))
		}
	})
}

// What an endpoint that turned slow had queued goes back to its turn: in its queue
// it would hold the watermark for as long as the endpoint needs for all of it.
func TestAnEndpointThatSlowsDownGivesItsQueueUp(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.endpoint("e")
		b.mu.Lock()
		e := b.endpoints["e"]
		e.MaxInFlight = 1
		b.endpoints["e"] = e
		b.mu.Unlock()
		b.setAnswer(func(ctx context.Context, _ string, n int) send.Result {
			if n < 10 {
				return after(ctx, 10*time.Millisecond, status(200))
			}
			return after(ctx, 4*time.Second, status(200))
		})
		tickets := b.take(newLease(), b.many(300, "e")...)
		time.Sleep(90 * time.Second)
		if s := laneOf(b, "e"); s.Queued > 10 {
			t.Errorf("%d are queued that need 4 s each", s.Queued)
		}
		parks := b.settlements(webhook.KindPark)
		if len(parks) < 200 || finished(tickets) < 285 {
			t.Errorf("%d put back, %d of 300 finished", len(parks), finished(tickets))
		}
		for _, s := range parks {
			if s.Reason != webhook.ReasonLaneFull {
				t.Fatalf("put back as %s", s.Reason)
			}
		}
	})
}

func TestACrowdedPartitionPutsTheLargestQueuesBack(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		names := []string{"a", "b", "c", "d", "e", "f"}
		l, other := newLease(), newLease()
		b.setAnswer(func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Minute, status(200)) })
		for i, name := range names {
			b.endpoint(name)
			b.take(l, b.many(4+10*(i+1), name)...)
		}
		b.take(other, b.delivery("other's", "f"))
		time.Sleep(time.Millisecond)
		b.Crowded(l, 0.9)
		time.Sleep(time.Millisecond)
		gone := make(map[string]int)
		for _, s := range b.settlements(webhook.KindPark) {
			if s.Reason != webhook.ReasonCrowded {
				t.Errorf("parked for %q", s.Reason)
			}
			gone[s.EndpointID]++
		}
		if len(gone) != crowdedLanes || gone["f"] != 60 || gone["c"] != 30 {
			t.Errorf("gave up %v, want the four largest queues of that lease", gone)
		}
		if s := laneOf(b, "f"); s.Queued != 1 {
			t.Errorf("%d queued, want the other lease's one", s.Queued)
		}
	})
}
