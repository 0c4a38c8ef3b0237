package lanes

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The simulation drives a Set as a dispatcher would, in virtual time: jobs
// arrive, are POSTed to receivers with a capacity and a latency, spilled ones
// return at their turn and parked ones after a minute.

type job struct {
	id                            int
	key                           string
	arrived, offered, began, done time.Duration
	spills, parks                 int
	starts                        int
	ok                            bool
}

// receiver answers a POST that begins at now with a latency and a result.
type receiver func(now time.Duration, rng *rand.Rand) (time.Duration, Result)

func answers(latency time.Duration) receiver {
	return func(time.Duration, *rand.Rand) (time.Duration, Result) { return latency, OK }
}

func hangs(timeout time.Duration) receiver {
	return func(time.Duration, *rand.Rand) (time.Duration, Result) { return timeout, Failed }
}

func fails(latency time.Duration) receiver {
	return func(time.Duration, *rand.Rand) (time.Duration, Result) { return latency, Failed }
}

func constant(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

func exponential(mean time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return time.Duration(r.ExpFloat64() * float64(mean)) }
}

// queues serves n at a time and makes the rest wait inside, up to a time-out.
func queues(n int, service func(*rand.Rand) time.Duration) receiver {
	free := make([]time.Duration, n)
	return func(now time.Duration, rng *rand.Rand) (time.Duration, Result) {
		i := 0
		for j := range free {
			if free[j] < free[i] {
				i = j
			}
		}
		free[i] = max(free[i], now) + service(rng)
		if wait := free[i] - now; wait <= 15*time.Second {
			return wait, OK
		}
		return 15 * time.Second, Failed
	}
}

// refuses serves n at a time and answers 503 to the rest at once.
func refuses(n int, service func(*rand.Rand) time.Duration) receiver {
	var ends []time.Duration
	return func(now time.Duration, rng *rand.Rand) (time.Duration, Result) {
		ends = slices.DeleteFunc(ends, func(e time.Duration) bool { return e <= now })
		if len(ends) >= n {
			return 2 * time.Millisecond, Failed
		}
		d := service(rng)
		ends = append(ends, now+d)
		return d, OK
	}
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

type sim struct {
	t         *testing.T
	set       *Set[*job]
	cfg       Config
	rng       *rand.Rand
	epoch     time.Time
	now       time.Duration
	queue     events
	seq       int
	receivers map[string]receiver
	options   map[string]Options
	onStart   func(*job)
	onDone    func(*job, Result)
	timer     time.Duration // when the due timer is armed for; 0 is not
	late      time.Duration // how late the due timer fires
	kept      time.Duration // the longest that one was queued
	jobs      []*job
	start     []*job
}

func newSim(t *testing.T, c Config) *sim {
	t.Helper()
	set, err := New[*job](c)
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{
		t: t, set: set, cfg: c.withDefaults(), rng: rand.New(rand.NewPCG(1, 2)),
		epoch:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		receivers: map[string]receiver{}, options: map[string]Options{},
		onStart: func(*job) {}, onDone: func(*job, Result) {},
	}
	s.set.at(s.epoch)
	s.after(time.Second, s.sweep)
	return s
}

func (s *sim) clock() time.Time { return s.epoch.Add(s.now) }

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, event{s.now + d, s.seq, do})
}

// until runs the simulation up to a time.
func (s *sim) until(end time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= end {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.do()
	}
	s.now = end
}

// arrive offers n jobs to the key, the first now, one every gap.
func (s *sim) arrive(key string, n int, gap time.Duration) {
	for i := range n {
		s.after(time.Duration(i)*gap, func() {
			j := &job{id: len(s.jobs), key: key, arrived: s.now}
			s.jobs = append(s.jobs, j)
			s.offer(j, false)
		})
	}
}

func (s *sim) offer(j *job, returning bool) {
	o := s.options[j.key]
	o.Returning = returning
	j.offered = s.now
	d := s.set.Offer(s.clock(), j.key, j, 1000, o)
	switch d.Verdict {
	case Start:
		s.post(j)
		s.check(j)
	case Spill:
		if d.After < s.cfg.MinTurn || d.After > s.cfg.MaxTurn {
			s.t.Fatalf("spilled for %v, want within [%v, %v]", d.After, s.cfg.MinTurn, s.cfg.MaxTurn)
		}
		j.spills++
		s.after(d.After, func() { s.offer(j, true) })
	case Park:
		s.park(j)
	}
	s.arm()
}

func (s *sim) park(j *job) {
	j.parks++
	s.after(time.Minute, func() { s.offer(j, true) })
}

func (s *sim) post(j *job) {
	j.began = s.now
	j.starts++
	s.kept = max(s.kept, s.now-j.offered)
	s.onStart(j)
	latency, result := s.receivers[j.key](s.now, s.rng)
	s.after(latency, func() {
		j.done, j.ok = s.now, result == OK
		s.onDone(j, result)
		s.started(s.set.Finish(s.clock(), j.key, result, latency, s.start[:0]))
	})
}

func (s *sim) started(start []*job) {
	s.start = start
	for _, j := range start {
		s.post(j)
	}
	for _, j := range start {
		s.check(j)
	}
	s.arm()
}

// check holds the limits after a start, as no lane's class changes between one
// and the end of the call that made it.
func (s *sim) check(j *job) {
	st := s.set.Stats()
	if st.InFlight > s.cfg.MaxInFlight {
		s.t.Fatalf("%v: %d in flight, cap %d", s.now, st.InFlight, s.cfg.MaxInFlight)
	}
	lane, _ := s.set.Lane(j.key)
	if lane.Sick && st.SickInFlight > s.set.sickCap {
		s.t.Fatalf("%v: a sick lane got a slot at %d sick in flight, share %d", s.now, st.SickInFlight, s.set.sickCap)
	}
	if s.set.lanes[j.key].class != trusted && st.SickInFlight+st.UnprovenInFlight > s.set.suspectCap {
		s.t.Fatalf("%v: a suspect lane got a slot at %d sick and %d unproven in flight, share %d",
			s.now, st.SickInFlight, st.UnprovenInFlight, s.set.suspectCap)
	}
}

func (s *sim) arm() {
	due, ok := s.set.NextDue()
	if !ok {
		return
	}
	at := max(due.Sub(s.epoch), s.now)
	if s.timer != 0 && s.timer <= at {
		return
	}
	s.timer = at
	s.after(at-s.now+s.late, func() {
		if s.timer == at {
			s.timer = 0
		}
		s.started(s.set.Due(s.clock(), s.start[:0]))
	})
}

// sweep parks what stalled lanes hold, and puts back what others would hold for
// too long, once a second.
func (s *sim) sweep() {
	for _, key := range s.set.Stalled(s.clock(), nil) {
		for _, j := range s.set.Shed(key, nil) {
			s.park(j)
		}
	}
	for _, key := range s.set.Overlong(s.clock(), nil) {
		for _, j := range s.set.Trim(s.clock(), key, nil) {
			j.spills++
			s.kept = max(s.kept, s.now-j.offered)
			s.after(s.set.Turn(s.clock(), key), func() { s.offer(j, true) })
		}
	}
	s.after(time.Second, s.sweep)
}

// waits returns the quantile of how long the jobs that pick selects waited
// between their arrival and their first POST; those still waiting count up to now.
func (s *sim) waits(quantile float64, pick func(*job) bool) time.Duration {
	var all []time.Duration
	for _, j := range s.jobs {
		if !pick(j) {
			continue
		}
		if j.starts == 0 {
			all = append(all, s.now-j.arrived)
		} else {
			all = append(all, j.began-j.arrived)
		}
	}
	if len(all) == 0 {
		s.t.Fatal("no such job")
	}
	slices.Sort(all)
	return all[min(int(quantile*float64(len(all))), len(all)-1)]
}

func name(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }
