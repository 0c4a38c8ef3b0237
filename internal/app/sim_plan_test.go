package app

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The shape of a simulated run, in virtual time.
const (
	simChaos    = 40 * time.Second // in which faults happen
	simEvents   = 24               // about
	simTier     = 2 * time.Second
	simPostFor  = 3 * time.Second // the timeout of the simulation's contract
	simAttempts = 3               // the first, and two of the schedule
)

// simPlan is what happens in one run. It follows from the seed alone; how the
// goroutines interleave under it doesn't.
type simPlan struct {
	seed     uint64
	slots    []Roles // the processes: what each plays, over all its lives
	taskSize int     // of a fan-out: above it an event is split
	steps    []simStep
	faultsAt []time.Duration
	// reset says that the group of the matchers is reset by hand, while they
	// are stopped, and how far back (of 1) each partition goes.
	reset     bool
	resetTo   float64
	receivers map[string][]simMood
	latency   map[string]time.Duration // of the receivers when they are well
}

// simStep is one thing that happens at a time after the start.
type simStep struct {
	at   time.Duration
	what string
	do   func(s *sim)
}

// simMood is how a receiver behaves for a while.
type simMood struct {
	from, to time.Duration
	status   int           // answered at once; 0 hangs until the sender gives up
	after    time.Duration // Retry-After, in whole seconds
}

var (
	simKinds    = []string{"order.created", "order.paid", "invoice.sent"}
	simPatterns = [][]string{nil, {"order.*"}, {"order.created"}, {"invoice.sent", "order.paid"}, {"*"}}
	simErrors   = []*kerr.Error{kerr.MessageTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut}
	simRefusals = []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.RequestTimedOut, kerr.UnknownServerError}
)

func newSimPlan(seed uint64) *simPlan {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	p := &simPlan{seed: seed, taskSize: 1000, receivers: make(map[string][]simMood), latency: make(map[string]time.Duration)}
	m, d, y := RoleMatch, RoleDispatch, RoleRetry
	layouts := [][]Roles{
		{{m, d, y}, {m, d, y}},
		{{m, d, y}, {d}, {m}},
		{{m}, {d, y}, {m, d}},
		{{m, y}, {d}, {d}},
		{{m}, {m, d}, {d, y}},
	}
	p.slots = layouts[r.IntN(len(layouts))]
	if r.IntN(3) == 0 {
		p.taskSize = 2
	}
	p.planEndpoints(r)
	p.planFaults(r)
	p.planEvents(r)
	p.reset = r.IntN(4) == 0
	p.resetTo = r.Float64()
	slices.SortStableFunc(p.steps, func(a, b simStep) int { return int(a.at - b.at) })
	return p
}

func (p *simPlan) add(at time.Duration, do func(*sim), format string, args ...any) {
	p.steps = append(p.steps, simStep{at: at, what: fmt.Sprintf(format, args...), do: do})
}

// within returns a time between two, in milliseconds.
func within(r *rand.Rand, from, to time.Duration) time.Duration {
	return (from + time.Duration(r.Int64N(int64(to-from)))).Truncate(time.Millisecond)
}

func (p *simPlan) planEndpoints(r *rand.Rand) {
	n := 3 + r.IntN(3)
	for i := range n {
		name := fmt.Sprintf("e%d", i)
		pattern := simPatterns[r.IntN(len(simPatterns))]
		var created time.Duration
		if i > 0 && r.IntN(4) == 0 {
			created = within(r, time.Second, simChaos)
		}
		p.add(created, func(s *sim) { s.register(name, pattern, false) }, "endpoint %s registers for %v", name, pattern)
		p.latency[name] = within(r, time.Millisecond, 400*time.Millisecond)
		if i > 0 && r.IntN(3) == 0 {
			at := created + within(r, 3*time.Second, simChaos)
			switch r.IntN(4) {
			case 0:
				p.add(at, func(s *sim) { s.remove(name) }, "endpoint %s is deleted", name)
			case 1:
				p.add(at, func(s *sim) { s.register(name, pattern, true) }, "endpoint %s is disabled", name)
			case 2:
				p.add(at, func(s *sim) { s.register(name, pattern, true) }, "endpoint %s is disabled", name)
				p.add(at+within(r, time.Second, 10*time.Second), func(s *sim) { s.register(name, pattern, false) }, "endpoint %s is enabled", name)
			default:
				other := simPatterns[r.IntN(len(simPatterns))]
				p.add(at, func(s *sim) { s.register(name, other, false) }, "endpoint %s changes to %v", name, other)
			}
		}
		for range r.IntN(3) { // bad times
			from := within(r, 0, simChaos)
			mood := simMood{from: from, to: from + within(r, 500*time.Millisecond, 9*time.Second)}
			switch r.IntN(4) {
			case 0: // hangs
			case 1:
				mood.status, mood.after = 429, time.Duration(1+r.IntN(4))*time.Second
			default:
				mood.status = 503
			}
			p.receivers[name] = append(p.receivers[name], mood)
		}
	}
}

// planEvents has events come in bursts, half of them where faults are.
func (p *simPlan) planEvents(r *rand.Rand) {
	for i := 0; i < simEvents; {
		at := within(r, 0, simChaos)
		if r.IntN(2) == 0 && len(p.faultsAt) > 0 {
			at = max(p.faultsAt[r.IntN(len(p.faultsAt))]+within(r, -time.Second, 500*time.Millisecond), 0)
		}
		for range 1 + r.IntN(4)*r.IntN(3) {
			id, kind := fmt.Sprintf("v%d", i), simKinds[r.IntN(len(simKinds))]
			p.add(at, func(s *sim) { s.send(id, kind) }, "event %s of type %s", id, kind)
			if r.IntN(10) == 0 {
				again := at + within(r, time.Millisecond, 8*time.Second)
				p.add(again, func(s *sim) { s.send(id, kind) }, "event %s of type %s, sent twice", id, kind)
			}
			i++
		}
	}
}

func (p *simPlan) planFaults(r *rand.Rand) {
	topics := []string{"posthorn.deliveries", "posthorn.deliveries", "posthorn.attempts", "posthorn.dead", "posthorn.retry.2s", "posthorn.fanout"}
	groups := []string{"posthorn.match", "posthorn.dispatch", "posthorn.dispatch", "posthorn.retry.2s", "posthorn.fanout"}
	for range 2 + r.IntN(4) {
		at, slot := within(r, 2*time.Second, simChaos), r.IntN(len(p.slots))
		p.faultsAt = append(p.faultsAt, at)
		for_ := within(r, 500*time.Millisecond, 18*time.Second)
		switch r.IntN(10) {
		case 0, 1, 2:
			back := at + within(r, 50*time.Millisecond, 8*time.Second)
			p.add(at, func(s *sim) { s.kill(slot) }, "process %d is killed", slot)
			p.add(back, func(s *sim) { s.revive(slot) }, "process %d is started", slot)
		case 3:
			back := at + within(r, 50*time.Millisecond, 5*time.Second)
			p.add(at, func(s *sim) { s.terminate(slot) }, "process %d is terminated", slot)
			p.add(back, func(s *sim) { s.revive(slot) }, "process %d is started", slot)
		case 4, 5, 6:
			mode := simModes[r.IntN(len(simModes))]
			p.add(at, func(s *sim) { s.disturb(slot, mode) }, "process %d becomes a zombie: %s", slot, mode)
			p.add(at+for_, func(s *sim) { s.undisturb(slot, mode) }, "process %d is let back: %s", slot, mode)
			if r.IntN(3) == 0 { // a zombie that is killed
				p.add(at+for_+within(r, time.Millisecond, 2*time.Second), func(s *sim) { s.kill(slot); s.revive(slot) }, "process %d is killed and started", slot)
			}
		case 7:
			topic, err := topics[r.IntN(len(topics))], simErrors[r.IntN(len(simErrors))]
			n := 1 + r.IntN(3)
			p.add(at, func(s *sim) { s.failProduce(topic, err, n) }, "%d produces to %s fail: %s", n, topic, err.Message)
		case 8:
			group, err := groups[r.IntN(len(groups))], simRefusals[r.IntN(len(simRefusals))]
			n := 1 + r.IntN(40)
			p.add(at, func(s *sim) { s.refuse(kmsg.OffsetCommit, group, err, n) }, "%d commits of %s are refused: %s", n, group, err.Message)
			if r.IntN(2) == 0 {
				soon := at + within(r, 100*time.Millisecond, 3*time.Second)
				p.add(soon, func(s *sim) { s.kill(slot); s.revive(slot) }, "process %d is killed and started", slot)
			}
		default:
			key := []kmsg.Key{kmsg.OffsetFetch, kmsg.ListOffsets, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat}[r.IntN(5)]
			group := groups[r.IntN(len(groups))]
			if key == kmsg.ListOffsets {
				group = ""
			}
			err := simRefusals[r.IntN(3)]
			n := 1 + r.IntN(5)
			p.add(at, func(s *sim) { s.refuse(key, group, err, n) }, "%d requests %s of %s are refused: %s", n, key.Name(), group, err.Message)
			p.add(at, func(s *sim) { s.kill(slot); s.revive(slot) }, "process %d is killed and started", slot)
		}
	}
}

// String lists what happens.
func (p *simPlan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: processes %v, task size %d\n", p.seed, p.slots, p.taskSize)
	for _, s := range p.steps {
		fmt.Fprintf(&b, "  %8v  %s\n", s.at, s.what)
	}
	for name, moods := range p.receivers {
		for _, m := range moods {
			what := "hangs"
			if m.status != 0 {
				what = fmt.Sprintf("answers %d, Retry-After %v", m.status, m.after)
			}
			fmt.Fprintf(&b, "  receiver %s %s from %v to %v\n", name, what, m.from, m.to)
		}
	}
	if p.reset {
		fmt.Fprintf(&b, "  then group posthorn.match is reset to %.2f of its commits\n", p.resetTo)
	}
	return b.String()
}
