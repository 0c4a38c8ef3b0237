//go:build integration

package integration

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/internal/kafkatest"
	"posthorn/webhook"
)

// calm is a stream for processes that are stopped in good order: endpoints
// take a moment, one in twenty answers some deliveries' first POST with 503 (so
// few that its breaker stays closed).
func calm(t *testing.T, brokers []string, c setup) *stream {
	t.Helper()
	c.timeout = "10s" // an answer must never come later than its sender waits
	c.schedule = "2s, 4s, 8s" + repeat(", 8s", 20)
	s := newStream(t, brokers, c, streamEndpoints, streamType, hangs)
	s.receiver.answer = func(endpoint int, id string, nth int) (int, time.Duration) {
		if nth == 1 && failsFirst(endpoint, id) {
			return http.StatusServiceUnavailable, 20 * time.Millisecond
		}
		return http.StatusOK, 20 * time.Millisecond
	}
	return s
}

func failsFirst(endpoint int, id string) bool {
	return endpoint%streamTypes == 11 && strings.ContainsAny(id[len(id)-2:len(id)-1], "abcdefg")
}

// onceAnswered holds that no attempt that was answered was POSTed again: each
// delivery got as many answers as its endpoint's behaviour calls for.
func (s *stream) onceAnswered(entries []entry) {
	s.t.Helper()
	again, posts := 0, 0
	s.receiver.each(func(id string, seen received) {
		want := 1
		if failsFirst(seen.endpoint, id) {
			want = 2
		}
		posts += seen.posts
		if s.receiver.hanging[seen.endpoint] && seen.succeeded == 1 {
			return // POSTs that were cut had no answer
		}
		if seen.answered != want || seen.succeeded != 1 {
			if again++; again <= 5 {
				s.t.Errorf("delivery %s to endpoint %d was answered %d times, %d with success; want %d and 1 (%d POSTs)",
					id, seen.endpoint, seen.answered, seen.succeeded, want, seen.posts)
			}
		}
	})
	attempts := make(map[attempt]int)
	cut, twice := 0, 0
	for _, e := range entries {
		if e.kind != webhook.KindAttempt {
			continue
		}
		if e.outcome == webhook.OutcomeCut {
			cut++
		}
		if attempts[e.attempt]++; attempts[e.attempt] == 2 {
			twice++
		}
	}
	if twice > 0 {
		s.t.Errorf("%d attempts were settled more than once", twice)
	}
	s.t.Logf("%d POSTs, %d attempts settled, %d of them cut short; %d answered more often than their endpoints should",
		posts, len(attempts), cut, again)
}

// succeeded reports whether a delivery was answered with success; the ledger
// is locked, the receiver is not.
func (s *stream) succeeded(id string, _ int) bool {
	s.receiver.mu.Lock()
	defer s.receiver.mu.Unlock()
	seen := s.receiver.posts[id]
	return seen != nil && seen.succeeded > 0
}

func TestTerminatedProcessesNeverRepeatAnAnsweredAttempt(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	s := calm(t, broker.Addrs(), setup{prefix: "terminate"})
	const events, times = 4000, 5
	s.begin(events, 200, eventType)
	step := events * matchesEach * 95 / 100 / (times + 1)
	// A drain that is too short for the hanging endpoints cuts their POSTs.
	t.Log("the line is terminated", times, "times")
	for k := range times {
		p := launch(t, []string{"POSTHORN_DELIVERY_DRAIN_TIMEOUT=1s"}, "run", "--config", s.world.config).started()
		s.reach(int64((k + 1) * step))
		p.terminate()
	}
	s.receiver.release()
	last := s.finish(s.world.run(), s.complete)
	entries := s.ledger.upTo(last.ends)
	s.firstDispatches(entries)
	s.onceAnswered(entries)
}

func TestProcessesThatShareThePartitionsLoseNothingWhenOneEnds(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	s := calm(t, broker.Addrs(), setup{prefix: "share", partitions: 8})
	s.receiver.release()
	const events = 3000
	one, two := s.world.run(), s.world.run()
	s.begin(events, 250, eventType)
	step := int64(events * matchesEach / 5)
	s.reach(step)
	for _, p := range []*process{one, two} {
		if n := p.metrics()[`posthorn_assigned_partitions{stage="dispatch"}`]; n != 4 {
			t.Logf("a process owns %v of 8 partitions", n)
		}
	}
	one.terminate()
	s.reach(2 * step)
	three := s.world.run() // takes a share from the one that is left
	s.reach(3 * step)
	two.kill()
	last := s.finish(three, s.complete)
	entries := s.ledger.upTo(last.ends)
	s.firstDispatches(entries)
	s.missing(s.succeeded)
	t.Logf("%d deliveries, %d settlements", len(s.expected), len(entries))
}

func TestABrokerThatRestartsDuringAStreamLosesNothing(t *testing.T) {
	kafkatest.Shared(t) // skips, or fails, where there can't be one
	t.Parallel()
	broker := kafkatest.Start(t)
	s := calm(t, broker.Addrs(), setup{prefix: "restart"})
	s.receiver.release()
	const events = 3000
	p := s.world.run()
	s.begin(events, 250, eventType)
	s.reach(int64(events * matchesEach / 4))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := broker.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	last := s.finish(p, s.complete)
	entries := s.ledger.upTo(last.ends)
	s.firstDispatches(entries)
	s.missing(s.succeeded)
	// A group whose coordinator went away may lose its members: then what was
	// not committed is read again. The uncommitted are limited, 1,000 of each
	// partition, and so are the POSTs in flight.
	attempts, twice := make(map[attempt]bool), 0
	for _, e := range entries {
		if e.kind == webhook.KindAttempt {
			if attempts[e.attempt] {
				twice++
			}
			attempts[e.attempt] = true
		}
	}
	const bound = 4*1000 + 4096
	t.Logf("%d attempts, %d settlements of an attempt settled before, bound %d", len(attempts), twice, bound)
	if twice > bound {
		t.Errorf("%d attempts were made again, more than the bound of %d", twice, bound)
	}
}
