//go:build integration

package integration

import (
	"posthorn/webhook"
)

// judge holds the laws that bind a line whose process was killed: crashes are
// the kills in their order, and at last the end of the run.
//
//   - Only what was expected was POSTed.
//   - No delivery's first dispatch (n = 0, deferrals = 0) came from two offsets
//     of the deliveries topic.
//   - POSTs beyond one per attempt ≤ the sum over the crashes of what was in
//     flight or settled and not committed, times the attempts left. A healthy
//     endpoint's delivery has one left, that of a hanging one as many as any
//     had.
func (s *stream) judge(crashes []crash) {
	s.t.Helper()
	entries := s.ledger.upTo(crashes[len(crashes)-1].ends)

	s.receiver.each(func(id string, seen received) {
		if _, ok := s.expected[id]; !ok {
			s.t.Errorf("delivery %s to endpoint %d was not expected", id, seen.endpoint)
		}
	})
	s.firstDispatches(entries)

	attempts := make(map[attempt]int)
	var distinct, settled, most [2]int64
	parks := 0
	for _, e := range entries {
		if e.kind != webhook.KindAttempt {
			parks++
			continue
		}
		c := s.classOf(&e)
		if attempts[e.attempt]++; attempts[e.attempt] == 1 {
			distinct[c]++
		}
		settled[c]++
		most[c] = max(most[c], int64(e.n)+1)
	}
	most[healthy] = 1

	var lost, open [2]int64 // over all crashes: POSTs without a settlement, and settlements not committed
	var before [2]int64     // POSTs without a settlement at the crash before
	var repeats, leftOut float64
	longest := 0
	for k, c := range crashes {
		repeats += c.metrics["posthorn_repeats_dropped_total"]
		leftOut += c.metrics[`posthorn_commit_left_out_total{stage="dispatch"}`]
		for _, p := range c.committed {
			longest = max(longest, p.metadata)
		}
		if k == len(crashes)-1 {
			break
		}
		without := c.begun
		uncommitted := make(map[webhook.Position]int)
		for i := range entries {
			e := &entries[i]
			if !e.before(c.ends) {
				continue
			}
			if e.kind == webhook.KindAttempt {
				without[s.classOf(e)]--
			}
			if !c.committed[e.record.Partition].done(e.record.Offset) {
				uncommitted[e.record] = s.classOf(e)
			}
		}
		var more [2]int64
		for _, class := range uncommitted {
			more[class]++
		}
		for class := range without {
			lost[class] += max(without[class]-before[class], 0)
			open[class] += more[class]
		}
		m := c.metrics
		s.t.Logf("crash %2d: in flight by the process's metrics %.0f; without settlement: %d healthy, %d hanging; settled and not committed: %d healthy, %d hanging; since its start: %.0f repeats dropped, %.0f commits in %.1f s, %.0f finished offsets left out",
			k+1, m["posthorn_in_flight"], without[healthy]-before[healthy], without[sick]-before[sick], more[healthy], more[sick],
			m["posthorn_repeats_dropped_total"], m[`posthorn_commit_duration_seconds_count{stage="dispatch"}`],
			m[`posthorn_commit_duration_seconds_sum{stage="dispatch"}`], m[`posthorn_commit_left_out_total{stage="dispatch"}`])
		before = without
	}

	end := crashes[len(crashes)-1]
	for class, name := range [2]string{"healthy", "hanging"} {
		extra := end.begun[class] - distinct[class]
		bound := (lost[class] + open[class]) * most[class]
		s.t.Logf("%s: %d POSTs, %d settled, %d attempts; POSTs beyond one per attempt: %d, bound %d = (%d in flight + %d settled, not committed) × %d",
			name, end.begun[class], settled[class], distinct[class], extra, bound, lost[class], open[class], most[class])
		if extra > bound {
			s.t.Errorf("%s: %d POSTs beyond one per attempt, more than the bound of %d", name, extra, bound)
		}
	}
	s.t.Logf("%d deliveries expected, %d delivered, %d dead; %d settlements without a POST; %.0f repeats dropped; longest commit metadata %d characters; %.0f finished offsets left out",
		len(s.expected), len(s.ledger.delivered), len(s.ledger.dead), parks, repeats, longest, leftOut)
}

func (s *stream) classOf(e *entry) int { return s.receiver.class(s.expected[e.id]) }

// firstDispatches looks for deliveries that were dispatched from two places.
func (s *stream) firstDispatches(entries []entry) {
	s.t.Helper()
	type run struct {
		id  string
		run int64
	}
	from := make(map[run]webhook.Position)
	twice := 0
	for _, e := range entries {
		if e.n != 0 || e.deferrals != 0 {
			continue
		}
		r := run{e.id, e.run}
		if at, ok := from[r]; ok && at != e.record {
			if twice++; twice <= 5 {
				s.t.Errorf("delivery %s was first dispatched from %v and from %v", e.id, at, e.record)
			}
		}
		from[r] = e.record
	}
	s.t.Logf("%d deliveries first dispatched, %d of them from two places", len(from), twice)
}
