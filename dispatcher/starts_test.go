package dispatcher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"posthorn/dispatcher/send"
	"posthorn/webhook"
)

func startOf(endpoint string, i int) *job {
	return &job{d: &webhook.Delivery{ID: fmt.Sprint(endpoint, "/", i), EndpointID: endpoint}}
}

func TestEveryStartComesOnceInOrderAndNoMoreAreYoungThanMayBe(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		most := 1 + r.IntN(5)
		s := newStarts(most)
		now := time.Unix(0, 0)
		var offered, started int
		last := make(map[string]int)        // of each endpoint, the job that started last
		running := make(map[*job]time.Time) // since when
		next := make(map[string]int)
		took := func(ready []*job) {
			for _, j := range ready {
				started++
				var i int
				if _, err := fmt.Sscanf(j.d.ID, j.d.EndpointID+"/%d", &i); err != nil {
					t.Fatal(err)
				}
				if i != last[j.d.EndpointID] {
					t.Fatalf("seed %d: %s starts, %d is next", seed, j.d.ID, last[j.d.EndpointID])
				}
				last[j.d.EndpointID]++
				running[j] = now
			}
			young := 0
			for _, since := range running {
				if now.Sub(since) < youngFor {
					young++
				}
			}
			if young > most {
				t.Fatalf("seed %d: %d are young, %d may be", seed, young, most)
			}
			if waiting := offered - started; waiting > 0 && young < most {
				t.Fatalf("seed %d: %d wait while %d are young of %d that may be", seed, waiting, young, most)
			}
		}
		for range 300 {
			switch r.IntN(3) {
			case 0:
				e := fmt.Sprint("e", r.IntN(4))
				offered++
				j := startOf(e, next[e])
				next[e]++
				took(s.offer(now, j, nil))
			case 1:
				for j := range running {
					delete(running, j)
					took(s.ended(now, j, nil))
					break
				}
			default:
				now = now.Add(time.Duration(r.IntN(30)) * time.Millisecond)
				if at, ok := s.next(); ok && at.Before(now) {
					now = at // whoever runs it comes in time
				}
				took(s.due(now, nil))
			}
		}
		for range 1000 {
			at, ok := s.next()
			if !ok {
				break
			}
			now = later(at, now)
			took(s.due(now, nil))
		}
		if offered != started {
			t.Fatalf("seed %d: %d offered, %d started", seed, offered, started)
		}
		for j := range running {
			s.ended(now, j, nil)
		}
		if s.n != 0 || len(s.young) != 0 || len(s.waiting) != 0 || len(s.turns) != 0 {
			t.Fatalf("seed %d: nothing runs, and kept are %+v", seed, s)
		}
	}
}

func TestAnEndpointWithManyStartsDelaysAnotherByOne(t *testing.T) {
	s := newStarts(1)
	now := time.Unix(0, 0)
	running := s.offer(now, startOf("many", 0), nil)
	for i := range 100 {
		if ready := s.offer(now, startOf("many", i+1), nil); len(ready) > 0 {
			t.Fatal("started beside one that is young")
		}
	}
	s.offer(now, startOf("one", 0), nil)
	running = s.ended(now, running[0], nil)
	running = s.ended(now, running[0], nil)
	if len(running) != 1 || running[0].d.EndpointID != "one" {
		t.Errorf("after one more of many starts %+v", running[0].d)
	}
}

// Far more endpoints hang than may be young: they are started at the pace at
// which they grow old, and a healthy one has its turn among them.
func TestReceiversThatHangHoldNoStart(t *testing.T) {
	const hanging = 50
	dispatching(t, nil, func(b *bench) {
		b.starts.most = 2
		b.answer = func(ctx context.Context, endpoint string, _ int) send.Result {
			if endpoint != "healthy" {
				return timeout(ctx)
			}
			return status(200)
		}
		b.endpoint("healthy")
		begun := time.Now()
		for i := range hanging {
			id := fmt.Sprint("e", i)
			b.endpoint(id)
			b.take(newLease(), b.delivery("x", id))
		}
		tickets := b.take(newLease(), b.delivery("x", "healthy"))
		time.Sleep(youngFor * (hanging/2 + 1))
		b.mu.Lock()
		n := len(b.posts)
		b.mu.Unlock()
		if n != hanging+1 {
			t.Errorf("%d of %d POSTs began", n, hanging+1)
		}
		if tickets[0].times.Load() != 1 {
			t.Errorf("after %v the healthy one's isn't finished", time.Since(begun))
		}
	})
}

func TestWhatWaitsForAStartIsLeftToTheNextOwnerOnceItDrains(t *testing.T) {
	dispatching(t, nil, func(b *bench) {
		b.starts.most = 1
		b.answer = func(ctx context.Context, _ string, _ int) send.Result { return after(ctx, time.Second, status(200)) }
		var tickets []*done
		for i := range 5 {
			id := fmt.Sprint("e", i)
			b.endpoint(id)
			tickets = append(tickets, b.take(newLease(), b.delivery("x", id))...)
		}
		time.Sleep(youngFor + youngFor/2) // the second has begun, the third waits
		within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		b.Drain(within)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.posts) != 2 || len(b.settled) != 2 {
			t.Errorf("%d POSTs, %d settlements, want the two that had begun", len(b.posts), len(b.settled))
		}
		for i, ticket := range tickets {
			if want := int32(min(1, max(0, 2-i))); ticket.times.Load() != want {
				t.Errorf("delivery %d is done %d times, want %d", i, ticket.times.Load(), want)
			}
		}
	})
}
