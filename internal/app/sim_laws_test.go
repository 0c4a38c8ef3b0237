package app

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"posthorn/consumer/watermark"
	"posthorn/webhook"
)

// The laws, as they begin the complaints.
const (
	lawNone   = "lost: "
	lawWanted = "unwanted: "
	lawOnce   = "dispatched twice: "
	lawBound  = "POSTed again without a cause: "
	lawLedger = "ledger: "
	lawEarly  = "early: "
	lawCommit = "commit: "
	lawLive   = "stuck: "
)

func (s *sim) breaks(law, format string, args ...any) {
	s.broken = append(s.broken, law+fmt.Sprintf(format, args...))
}

// simRun is one run of one delivery, as the topics have it.
type simRun struct {
	id      string
	records []simRecord
	settled []simSettlement
	hits    []*simHit
	dead    int
}

type simRecord struct {
	*webhook.Delivery
	partition int32
	offset    int64
}

// check holds what the topics and the receivers have against the laws.
func (s *sim) check() []string {
	runs := make(map[string]*simRun)
	run := func(id string) *simRun {
		if runs[id] == nil {
			runs[id] = &simRun{id: id}
		}
		return runs[id]
	}
	parts := make(map[int32][]simRecord)
	for _, r := range s.w.read("posthorn.deliveries") {
		d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
		if err != nil {
			s.breaks(lawLedger, "%s/%d/%d: %v", r.Topic, r.Partition, r.Offset, err)
			continue
		}
		rec := simRecord{d, r.Partition, r.Offset}
		run(d.ID).records = append(run(d.ID).records, rec)
		parts[r.Partition] = append(parts[r.Partition], rec)
	}
	ledger := s.ledger()
	for _, x := range ledger {
		run(x.DeliveryID).settled = append(run(x.DeliveryID).settled, x)
	}
	for _, r := range s.w.read("posthorn.dead") {
		d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
		if err != nil {
			s.breaks(lawLedger, "%s/%d/%d: %v", r.Topic, r.Partition, r.Offset, err)
			continue
		}
		run(d.ID).dead++
	}
	for _, h := range s.hits {
		run(h.id).hits = append(run(h.id).hits, h)
	}
	if n := len(s.w.read("posthorn.invalid")); n > 0 {
		s.breaks(lawNone, "%d records went to posthorn.invalid", n)
	}
	s.checkSubscriptions(runs)
	ids := make([]string, 0, len(runs))
	for id := range runs {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, id := range ids {
		r := runs[id]
		s.checkOnce(r)
		s.checkBound(r)
		s.checkEnd(r)
		s.checkEarly(r)
	}
	s.checkCommits(parts, ledger)
	return s.broken
}

// checkSubscriptions holds guarantee 1: what was subscribed for certain arrives
// or is dead, what wasn't is never delivered.
func (s *sim) checkSubscriptions(runs map[string]*simRun) {
	for _, e := range s.sent {
		for name, history := range s.history {
			id := webhook.DeliveryID("shop", e.id, webhook.EndpointPrefix+name)
			always, never := s.subscribed(history, e)
			r := runs[id]
			switch {
			case always && r == nil:
				s.breaks(lawNone, "event %s (%s, at %v) was never delivered to endpoint %s", e.id, e.kind, e.at.Sub(s.began), name)
			case always && !r.delivered() && r.dead == 0:
				s.breaks(lawNone, "event %s to endpoint %s is neither delivered nor dead: %s", e.id, name, s.story(r))
			case never && r != nil && s.sentOnce(e.id):
				s.breaks(lawWanted, "event %s (%s) to endpoint %s: %s", e.id, e.kind, name, s.story(r))
			}
		}
	}
}

func (s *sim) sentOnce(id string) bool {
	n := 0
	for _, e := range s.sent {
		if e.id == id {
			n++
		}
	}
	return n == 1
}

// subscribed says whether an endpoint wanted an event whenever it may have been
// matched, or never did: from the event on, seen by a registry that is at most a
// second old.
func (s *sim) subscribed(history []simState, e simSent) (always, never bool) {
	always, never = true, true
	oldest := e.at.Add(-time.Second)
	covered := false
	for _, h := range history {
		if !h.to.IsZero() && h.to.Before(oldest) {
			continue // over before the event could be matched
		}
		covered = covered || !h.from.After(oldest)
		if h.live && wants(h.patterns, e.kind) {
			never = false
		} else {
			always = false
		}
	}
	return always && covered, never
}

// wants is matching for the patterns that the simulation has.
func wants(patterns []string, kind string) bool {
	for _, p := range patterns {
		prefix, star := strings.CutSuffix(p, "*")
		if p == kind || star && strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return len(patterns) == 0
}

func (r *simRun) delivered() bool {
	for _, x := range r.settled {
		if x.Outcome == webhook.OutcomeDelivered {
			return true
		}
	}
	return false
}

// checkOnce holds the dropping of repeats: a delivery is dispatched for the
// first time from one place only.
func (s *sim) checkOnce(r *simRun) {
	places := make(map[webhook.Position]bool)
	for _, x := range r.settled {
		if x.Kind == webhook.KindAttempt && x.Run == 0 && x.N == 0 && x.Deferrals == 0 {
			places[x.Record] = true
		}
	}
	if len(places) > 1 {
		s.breaks(lawOnce, "%s", s.story(r))
	}
}

// checkBound holds guarantee 2 for each delivery: it is POSTed again only where
// a crash forgot a POST of it that was in flight or not committed, and then at
// most as often as it has attempts.
func (s *sim) checkBound(r *simRun) {
	attempts := make(map[int]bool)
	for _, x := range r.settled {
		if x.Kind == webhook.KindAttempt {
			attempts[x.N] = true
		}
	}
	again := len(r.hits) - len(attempts)
	if again <= 0 {
		return
	}
	causes := 0
	for _, c := range s.crashes {
		touched := false
		for _, h := range r.hits {
			touched = touched || !h.at.After(c.to) && (h.end.IsZero() || !h.end.Before(c.from))
		}
		for _, x := range r.settled {
			touched = touched || x.Kind != webhook.KindAttempt && !x.StartedAt.After(c.to) && !x.StartedAt.Before(c.from)
		}
		if touched {
			causes++
		}
	}
	if again > causes*simAttempts {
		s.breaks(lawBound, "%d POSTs beyond one per attempt, for %d crashes: %s", again, causes, s.story(r))
	}
}

// checkEnd holds guarantee 7: the ledger has an end for every delivery, and a
// dead one had all its attempts.
func (s *sim) checkEnd(r *simRun) {
	if len(r.records) == 0 {
		s.breaks(lawLedger, "%s has settlements or POSTs, but no record", r.id)
		return
	}
	final, dead := false, false
	steps := make(map[int]bool)
	for _, x := range r.settled {
		dead = dead || x.Kind == webhook.KindDead || x.Outcome == webhook.OutcomeDead
		final = final || dead || x.Kind == webhook.KindDiscard || x.Outcome == webhook.OutcomeDelivered
		if x.Kind == webhook.KindAttempt && x.Outcome != webhook.OutcomeCut {
			steps[x.Step] = true
		}
	}
	switch {
	case !final:
		s.breaks(lawLedger, "no end: %s", s.story(r))
	case dead && len(steps) < simAttempts:
		s.breaks(lawLedger, "dead after %d attempts: %s", len(steps), s.story(r))
	case dead && r.dead == 0 && !r.delivered(): // a dead letter that failed may have been worked on again
		s.breaks(lawLedger, "dead, but no dead letter: %s", s.story(r))
	}
}

// checkEarly holds guarantee 6: no attempt before its record allows it, and the
// settlement names the record that it settles.
func (s *sim) checkEarly(r *simRun) {
	for _, x := range r.settled {
		var rec *simRecord
		for i := range r.records {
			if r.records[i].partition == x.Record.Partition && r.records[i].offset == x.Record.Offset {
				rec = &r.records[i]
			}
		}
		switch {
		case rec == nil || rec.N != x.N || rec.Deferrals != x.Deferrals || rec.Step != x.Step || rec.Run != x.Run:
			s.breaks(lawLedger, "the settlement of n=%d deferrals=%d doesn't name its record: %s", x.N, x.Deferrals, s.story(r))
		case x.Kind == webhook.KindAttempt && x.StartedAt.Before(rec.NotBefore):
			s.breaks(lawEarly, "n=%d at %v, not before %v: %s", x.N, x.StartedAt.Sub(s.began), rec.NotBefore.Sub(s.began), s.story(r))
		}
	}
}

// checkCommits holds the watermark: whatever a commit calls finished was
// settled by then, or was a repeat of an earlier record.
func (s *sim) checkCommits(parts map[int32][]simRecord, ledger []simSettlement) {
	settled := make(map[webhook.Position]time.Time)
	for _, x := range ledger {
		at, known := settled[x.Record]
		if !known || x.at.Before(at) {
			settled[x.Record] = x.at
		}
	}
	repeat := make(map[webhook.Position]bool)
	for p, rs := range parts {
		seen := make(map[webhook.Identity]bool)
		for _, r := range rs {
			repeat[webhook.Position{Topic: "posthorn.deliveries", Partition: p, Offset: r.offset}] = seen[r.Identity()]
			seen[r.Identity()] = true
		}
	}
	for _, c := range s.commits {
		_, finished, err := watermark.DecodeMetadata(c.metadata, c.offset)
		if err != nil {
			s.breaks(lawCommit, "partition %d at %d: %v", c.partition, c.offset, err)
			continue
		}
		done := func(offset int64) bool {
			for _, r := range finished {
				if offset >= r.From && offset < r.To {
					return true
				}
			}
			return offset < c.offset
		}
		for _, r := range parts[c.partition] {
			at := webhook.Position{Topic: "posthorn.deliveries", Partition: c.partition, Offset: r.offset}
			if !done(r.offset) || repeat[at] {
				continue
			}
			if when, ok := settled[at]; !ok || when.After(c.at) {
				s.breaks(lawCommit, "at %v partition %d is committed to %d with %v finished above, but %d isn't settled",
					c.at.Sub(s.began), c.partition, c.offset, finished, r.offset)
				return // the others follow from it
			}
		}
	}
}

// story tells a delivery's life.
func (s *sim) story(r *simRun) string {
	if r == nil {
		return "nothing is known of it"
	}
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	for _, d := range r.records {
		lines = append(lines, line{d.MatchedAt, fmt.Sprintf("record %d/%d: n=%d step=%d deferrals=%d not before %v, matched then", d.partition, d.offset, d.N, d.Step, d.Deferrals, s.since(d.NotBefore))})
	}
	for _, x := range r.settled {
		lines = append(lines, line{x.StartedAt, fmt.Sprintf("settled %d/%d: n=%d step=%d deferrals=%d %s %s %s, next %v", x.Record.Partition, x.Record.Offset, x.N, x.Step, x.Deferrals, x.Kind, x.Outcome, x.Reason, s.since(x.NextAt))})
	}
	for _, h := range r.hits {
		lines = append(lines, line{h.at, fmt.Sprintf("POST answered %d at %v", h.status, s.since(h.end))})
	}
	sort.SliceStable(lines, func(i, j int) bool { return lines[i].at.Before(lines[j].at) })
	text := r.id
	if len(r.records) > 0 {
		text += fmt.Sprintf(" (event %s to %s)", r.records[0].EventID, r.records[0].EndpointID)
	}
	for _, l := range lines {
		text += fmt.Sprintf("\n      %8v  %s", s.since(l.at), l.text)
	}
	return text
}

func (s *sim) since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return t.Sub(s.began).Truncate(time.Millisecond)
}
