package lanes

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// auditor holds what a set must keep true whatever is asked of it: each item
// offered leaves exactly once, counters match what they count, limits hold.
type auditor struct {
	t      *testing.T
	s      *Set[int]
	now    time.Time
	kept   map[int]string // queued: the key
	out    map[int]string // in flight
	began  map[int]time.Time
	issued int
	start  []int
	taken  []int
}

func (a *auditor) started(from string, items []int) {
	for _, id := range items {
		key, ok := a.kept[id]
		if !ok {
			a.t.Fatalf("%s started item %d, which is not queued", from, id)
		}
		delete(a.kept, id)
		a.out[id], a.began[id] = key, a.now
	}
}

func (a *auditor) removed(from string, items []int) {
	for _, id := range items {
		if _, ok := a.kept[id]; !ok {
			a.t.Fatalf("%s removed item %d, which is not queued", from, id)
		}
		delete(a.kept, id)
	}
}

func (a *auditor) offer(key string, size int, o Options) {
	id := a.issued
	a.issued++
	switch d := a.s.Offer(a.now, key, id, size, o); d.Verdict {
	case Start:
		a.out[id], a.began[id] = key, a.now
	case Queued:
		a.kept[id] = key
	case Spill:
		if d.After < a.s.cfg.MinTurn || d.After > a.s.cfg.MaxTurn {
			a.t.Fatalf("turn of %v", d.After)
		}
	case Park:
	default:
		a.t.Fatalf("verdict %v", d.Verdict)
	}
}

func (a *auditor) finish(id int, r Result) {
	key := a.out[id]
	latency := a.now.Sub(a.began[id])
	delete(a.out, id)
	delete(a.began, id)
	a.start = a.s.Finish(a.now, key, r, latency, a.start[:0])
	a.started("Finish", a.start)
}

// step does one thing, chosen by three bytes.
func (a *auditor) step(op, x, y byte) {
	key := fmt.Sprint("k", x%11)
	switch op % 16 {
	case 0, 1, 2, 3, 4, 5:
		a.offer(key, int(y), Options{Returning: y%3 == 0, Rate: float64(x % 3 * 5), MaxWidth: int(y % 4)})
	case 6, 7, 8, 9, 10:
		best, pick := -1, int(x)
		for id := range a.out { // the pick-th oldest, so that it doesn't depend on map order
			if older := a.rank(id); older == pick%len(a.out) {
				best = id
				break
			}
		}
		if best >= 0 {
			a.finish(best, Result(1+y%3))
		}
	case 11:
		a.now = a.now.Add(time.Duration(x) * time.Duration(y) * time.Millisecond)
	case 12:
		a.start = a.s.Due(a.now, a.start[:0])
		a.started("Due", a.start)
	case 13:
		for _, key := range a.s.Stalled(a.now, nil) {
			a.taken = a.s.Shed(key, a.taken[:0])
			if len(a.taken) == 0 {
				a.t.Fatalf("%s was stalled with nothing queued", key)
			}
			a.removed("Shed", a.taken)
		}
		for _, key := range a.s.Overlong(a.now, nil) {
			a.taken = a.s.Trim(a.now, key, a.taken[:0])
			if len(a.taken) == 0 {
				a.t.Fatalf("%s was overlong, and nothing of it was taken", key)
			}
			a.removed("Trim", a.taken)
		}
	case 14:
		switch y % 5 {
		case 0:
			a.taken = a.s.Remove(func(id int) bool { return id%5 == int(x%5) }, a.taken[:0])
		case 1:
			a.taken = a.s.RemoveKey(key, a.taken[:0])
		case 2:
			a.taken = a.s.Shed(key, a.taken[:0])
		case 4:
			a.taken = a.s.Trim(a.now, key, a.taken[:0])
		case 3:
			a.taken = a.s.RemoveFrom(key, func(id int) bool { return id%2 == 0 }, a.taken[:0])
		}
		a.removed("Remove", a.taken)
	case 15:
		switch y % 3 {
		case 0:
			a.s.Narrow(a.now, key)
		case 1:
			a.s.Turn(a.now, key)
		case 2:
			a.s.Limits(a.now, key, float64(y%5), int(x%3))
		}
	}
	a.audit()
}

func (a *auditor) rank(id int) int {
	n := 0
	for other := range a.out {
		if other < id {
			n++
		}
	}
	return n
}

func (a *auditor) audit() {
	s, st := a.s, a.s.Stats()
	if st.InFlight != len(a.out) || st.Queued != len(a.kept) {
		a.t.Fatalf("%+v, but %d in flight and %d queued", st, len(a.out), len(a.kept))
	}
	if st.InFlight > s.cfg.MaxInFlight {
		a.t.Fatalf("%+v over the cap", st)
	}
	looked := never
	for l := s.backlogged.head; l != nil; l = l.links[roleQueued].next {
		if l.lookAt < looked {
			a.t.Fatalf("lane %s is to be looked at before the one ahead of it", l.key)
		}
		looked = l.lookAt
	}
	var byClass [classes]int
	inFlight, queued, bytes, idle := 0, 0, 0, 0
	for key, l := range s.lanes {
		if l.key != key || l.class != l.classify() {
			a.t.Fatalf("lane %q is filed as %q, class %d, want %d", l.key, key, l.class, l.classify())
		}
		byClass[l.class] += l.inFlight()
		inFlight += l.inFlight()
		queued += l.queue.n
		bytes += l.queue.bytes
		if l.width.width < 1 || l.width.width > float64(l.width.max) || l.out.early < 0 || l.out.late < 0 {
			a.t.Fatalf("lane %s: width %v, out %+v", key, l.width.width, l.out)
		}
		if l.queue.n == 0 && l.inFlight() == 0 {
			idle++
		}
		if l.queue.n > 0 && l.inFlight() < l.effectiveWidth() && l.links[roleTurn].in == nil && l.alarms[timerDue].place == 0 {
			a.t.Fatalf("lane %s could start but waits for nothing", key)
		}
	}
	if byClass != s.byClass || inFlight != st.InFlight || queued != st.Queued || bytes != st.QueuedBytes || idle != st.Idle {
		a.t.Fatalf("counted %v, %d, %d, %d, %d idle, but the set has %v, %+v", byClass, inFlight, queued, bytes, idle, s.byClass, st)
	}
}

// drain finishes everything and expects the set to hand out all that it kept.
func (a *auditor) drain() {
	for range 10_000_000 {
		if len(a.out) == 0 && len(a.kept) == 0 {
			return
		}
		if len(a.out) == 0 {
			due, ok := a.s.NextDue()
			if !ok {
				a.t.Fatalf("nothing in flight, nothing due, and %d queued", len(a.kept))
			}
			if due.After(a.now) {
				a.now = due
			}
			a.start = a.s.Due(a.now, a.start[:0])
			a.started("Due", a.start)
			continue
		}
		a.now = a.now.Add(time.Millisecond) // what is due is left for later
		a.finish(slices.Min(slices.Collect(maps.Keys(a.out))), OK)
		a.audit()
	}
	a.t.Fatal("does not end")
}

func newAuditor(t *testing.T) *auditor {
	return &auditor{t: t, now: time.Unix(0, 0), kept: map[int]string{}, out: map[int]string{}, began: map[int]time.Time{},
		s: must(t, Config{MaxInFlight: 24, QueueRecords: 20, QueueBytes: 2000, IdleLanes: 5, IdleFor: time.Minute})}
}

func FuzzEveryItemLeavesExactlyOnce(f *testing.F) {
	f.Add([]byte{0, 1, 2, 6, 0, 0, 11, 200, 200, 13, 0, 0})
	f.Add([]byte("020020700+00020")) // a rate lifted while something waited for it
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		seed := make([]byte, 900)
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		a := newAuditor(t)
		for ; len(ops) >= 3 && a.issued < 2000; ops = ops[3:] {
			a.step(ops[0], ops[1], ops[2])
		}
		a.drain()
	})
}

func TestEveryItemLeavesExactlyOnce(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		a := newAuditor(t)
		for range 3000 {
			a.step(byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()))
		}
		a.drain()
	}
}
