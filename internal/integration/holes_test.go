//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"posthorn/internal/kafkatest"
	"posthorn/webhook"
)

// One request that hangs at the bottom of a partition keeps nothing above it
// from being committed: after kill -9 it alone is POSTed again.
func TestOfManyDeliveriesAboveAHangOnlyTheHangIsRepeated(t *testing.T) {
	broker := kafkatest.Shared(t) // by itself: it needs the machine
	const (
		above = 200_000
		wide  = 50 // endpoints per event
		each  = above / wide
		lead  = 20 // events ahead of what was delivered
	)
	kind := func(endpoint int) string {
		if endpoint == 0 {
			return "hang"
		}
		return "ok"
	}
	// A request that hangs for longer than a time-out may be is one that is tried
	// again in process: its record stays unfinished all the while.
	s := newStream(t, broker.Addrs(), setup{prefix: "bottom", partitions: 1, timeout: "120s",
		retry: "{schedule: [], immediate: {retries: 5, initial: 1ms, multiplier: 1, jitter: 0, total: 10m}}"}, 1+wide, kind, func(e int) bool { return e == 0 })
	p := s.world.run()
	s.begin(1, 1000, func(int) string { return "hang" })
	s.allProduced()
	s.arrives(sick, 1)
	begun := time.Now()
	// Steadily, as fast as it goes: out of a deep backlog lanes that work would
	// have to spill, for its holes fill the metadata too.
	s.world.mayProduce = func(i int) bool { return int64(i-lead)*wide < s.receiver.delivered.Load() }
	s.begin(each, 4000, func(int) string { return "ok" })
	s.allProduced()
	s.world.mayProduce = nil
	s.ledger.waitFor(3*time.Minute, "all but the hang", func() bool { return len(s.ledger.delivered) == above })
	t.Logf("%d deliveries above a hang in %v", above, time.Since(begun).Round(time.Millisecond))

	// All of it is finished: within moments it is committed.
	m := p.metrics()
	t.Logf("%.0f commits; %.0f finished offsets found no room in one", m[`posthorn_commit_duration_seconds_count{stage="dispatch"}`],
		m[`posthorn_commit_left_out_total{stage="dispatch"}`])
	end := s.world.ends(s.world.prefix + ".deliveries")[0]
	at := s.committed(func(c progress) bool {
		return c.watermark == 0 && len(c.finished) == 1 && c.finished[0].To == end
	})
	t.Logf("the commit is at offset %d and has %d characters of metadata for %d runs", at.watermark, at.metadata, len(at.finished))
	if at.metadata > 100 {
		t.Errorf("%d characters for one hole, want 100 or fewer", at.metadata)
	}
	p.kill()
	hung := s.receiver.begun[sick].Load()
	s.world.run()
	s.arrives(sick, hung+1)
	// What comes after the rest of the partition was read: by then a repeat
	// would have come too.
	s.begin(1, 1000, func(int) string { return "ok" })
	s.allProduced()
	s.ledger.waitFor(time.Minute, "a last event", func() bool { return len(s.ledger.delivered) == above+wide })
	reasons := make(map[string]int)
	var attempts [2]map[attempt]bool
	attempts[healthy], attempts[sick] = make(map[attempt]bool), make(map[attempt]bool)
	for _, e := range s.ledger.upTo(s.world.ends(s.world.prefix + ".attempts")) {
		if e.kind == webhook.KindAttempt { // one that failed for a reason of its own is followed by another
			attempts[s.classOf(&e)][e.attempt] = true
		}
		reasons[string(e.kind)+" "+string(e.reason)]++
	}
	t.Logf("settlements: %v", reasons)
	again := s.receiver.begun[healthy].Load() - int64(len(attempts[healthy]))
	t.Logf("%d POSTs, %d of them again; the hang was POSTed %d times", s.receiver.begun[healthy].Load(), again, s.receiver.begun[sick].Load())
	// Of the hang there are two POSTs without a settlement: the one that the kill
	// cut and the one that hangs now.
	if hangs := s.receiver.begun[sick].Load() - int64(len(attempts[sick])); again != 0 || hangs != 2 {
		t.Errorf("%d POSTs were made again of what was finished, want none; the hang has %d POSTs without a settlement, want 2", again, hangs)
	}
}

// Ten hanging endpoints whose deliveries lie scattered among others make more
// holes than the metadata can hold. It commits all the same, and what is POSTed
// again after kill -9 stays within the bound.
func TestMoreHolesThanTheMetadataHoldsStopNoCommit(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	const (
		hanging = 10
		others  = 30
		events  = 12_000
	)
	kind := func(i int) string {
		if i%2 == 0 {
			return fmt.Sprintf("hang.%d", i/2%hanging)
		}
		return fmt.Sprintf("ok.%d", i/2%others)
	}
	s := newStream(t, broker.Addrs(), setup{prefix: "holes", partitions: 1, timeout: "20s", schedule: "2s, 4s, 8s" + repeat(", 8s", 20)},
		hanging+others, func(e int) string {
			if e < hanging {
				return fmt.Sprintf("hang.%d", e)
			}
			return fmt.Sprintf("ok.%d", e-hanging)
		}, func(e int) bool { return e < hanging })
	// All there is comes at once.
	s.begin(events, 1e9, kind)
	s.allProduced()
	s.produced <- nil // for finish
	p := s.world.run()
	s.reach(events / 2 * 8 / 10)
	crashes := []crash{s.kill(p)}
	s.receiver.release()
	last := s.restart(crashes)
	crashes = append(crashes, s.finish(last, s.complete))
	s.judge(crashes)
	m := crashes[0].metrics
	if m[`posthorn_commit_duration_seconds_count{stage="dispatch"}`] == 0 {
		t.Error("nothing was committed")
	}
}

// arrives waits until n POSTs arrived at a class of endpoints.
func (s *stream) arrives(class int, n int64) {
	s.t.Helper()
	poll(s.t, time.Minute, fmt.Sprintf("POST %d to endpoints of class %d", n, class), func() bool { return s.receiver.begun[class].Load() >= n })
}

// committed waits until the commit of partition 0 is so, and returns it.
func (s *stream) committed(so func(progress) bool) (c progress) {
	s.t.Helper()
	poll(s.t, 30*time.Second, "the commit", func() bool { c = s.world.committed()[0]; return so(c) })
	return c
}

// poll waits for what nobody tells of.
func poll(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: not within %v", what, within)
		}
	}
}
