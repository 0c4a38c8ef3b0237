//go:build integration

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/kafkatest"
	"posthorn/webhook"
)

// The stream of the crash tests: each event matches 5 of 100 endpoints, and 5
// of them, each of another type, hang.
const (
	streamEvents    = 20_000
	streamEndpoints = 100
	streamTypes     = 20
	matchesEach     = streamEndpoints / streamTypes
	kills           = 10
	// streamLead is how many events are ahead of what the healthy endpoints
	// have got, at most. Each kill costs the session timeout of a consumer
	// group: so there is a backlog for the next process to be killed over.
	streamLead = 3000
)

func streamType(endpoint int) string { return fmt.Sprintf("order.kind%02d", endpoint/matchesEach) }
func eventType(i int) string         { return fmt.Sprintf("order.kind%02d", i%streamTypes) }
func hangs(endpoint int) bool        { return endpoint%streamTypes == 7 }

// crash is what was so when a process was killed.
type crash struct {
	begun     [2]int64        // POSTs that the receiver had seen, by class
	ends      map[int32]int64 // of the ledger
	committed map[int32]progress
	metrics   map[string]float64 // of the process, a moment before
}

// A process that is killed ten times in the middle of everything loses
// nothing, dispatches nothing from two places, and POSTs again no more than
// what was in flight or not committed.
func TestKillsLoseNothingAndRepeatNoMoreThanTheBound(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	s := newStream(t, broker.Addrs(), setup{prefix: "kills", schedule: "2s, 4s, 8s" + repeat(", 8s", 20)}, streamEndpoints, streamType, hangs)
	crashes := s.killTenTimes()
	s.receiver.release()
	last := s.restart(crashes)
	crashes = append(crashes, s.finish(last, s.complete))

	s.missing(s.succeeded)
	s.judge(crashes)
}

// With endpoints that never come back, what was for them is dead as expired,
// and nothing is missing.
func TestWhatIsForEndpointsThatHangForEverExpiresAndNothingIsMissing(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	s := newStream(t, broker.Addrs(), setup{prefix: "expiry", maxAge: "60s", session: "6s", schedule: "2s, 4s, 8s" + repeat(", 8s", 5)}, streamEndpoints, streamType, hangs)
	crashes := s.killTenTimes()
	last := s.restart(crashes)
	crashes = append(crashes, s.finish(last, func() bool {
		// The dead letters alone say nothing of those that were delivered by
		// one process and died as a repeat of the next.
		return len(s.ledger.delivered)+len(s.ledger.dead) >= len(s.expected) && s.ended() == len(s.expected)
	}))
	s.judge(crashes)

	expired := 0
	s.missing(func(id string, endpoint int) bool {
		old := s.ledger.dead[id] == webhook.ReasonExpired
		if s.receiver.hanging[endpoint] {
			return old
		}
		// Ten kills are 60 s without an owner at the shortest session: what waits through more of
		// that than max_age, or is put back at each takeover, expires too.
		if old && !s.ledger.delivered[id] {
			expired++
			return true
		}
		return s.ledger.delivered[id]
	})
	t.Logf("%d deliveries to healthy endpoints expired too, between the kills and what was put back at each takeover", expired)
}

// complete and ended are asked with the ledger locked.
func (s *stream) complete() bool { return len(s.ledger.delivered) == len(s.expected) }

func (s *stream) ended() (n int) {
	for id := range s.expected {
		if _, dead := s.ledger.dead[id]; dead || s.ledger.delivered[id] {
			n++
		}
	}
	return n
}

func repeat(s string, n int) (out string) {
	for range n {
		out += s
	}
	return out
}

// stream is a stream of events under way.
type stream struct {
	t        *testing.T
	world    *world
	receiver *receiver
	ledger   *ledger
	kinds    map[string][]int // endpoints by the type they are subscribed to
	events   int              // begun so far
	expected map[string]int   // delivery ID → endpoint
	produced chan error
}

// newStream prepares the line for a stream to n endpoints, each subscribed to
// one type, of which some hang.
func newStream(t *testing.T, brokers []string, c setup, n int, kind func(endpoint int) string, hangs func(endpoint int) bool) *stream {
	t.Helper()
	s := &stream{kinds: make(map[string][]int), t: t, world: newWorld(t, brokers, c), receiver: newReceiver(t), expected: make(map[string]int), produced: make(chan error, 1)}
	for i := range n {
		s.kinds[kind(i)] = append(s.kinds[kind(i)], i)
		if hangs(i) {
			s.receiver.hanging[i] = true
		}
	}
	s.world.apply()
	s.world.register(s.receiver, n, kind, nil)
	s.ledger = s.world.follow()
	return s
}

// begin produces n events in the background, of the types that kind gives.
func (s *stream) begin(n int, perSecond float64, kind func(i int) string) {
	first := s.events
	s.events += n
	for i := range n {
		for _, e := range s.kinds[kind(i)] {
			s.expected[webhook.DeliveryID(eventSource, eventID(first+i), endpointID(e))] = e
		}
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	s.t.Cleanup(cancel)
	go func() {
		s.produced <- s.world.produce(ctx, n, perSecond, func(i int) *kgo.Record {
			return s.world.event(eventID(first+i), kind(i), fmt.Appendf(nil, `{"order":%d}`, first+i))
		})
	}()
}

func eventID(i int) string { return fmt.Sprintf("e%05d", i) }

// killTenTimes runs the line and kills it whenever a further eleventh of the
// healthy endpoints' deliveries is made, some more or less. It returns with
// no process running.
func (s *stream) killTenTimes() (crashes []crash) {
	s.t.Helper()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	s.t.Logf("seed of the moments of the kills: %d", seed)
	s.world.mayProduce = func(i int) bool { return int64(i-streamLead)*matchesEach*95/100 < s.receiver.delivered.Load() }
	s.begin(streamEvents, 1000, eventType)
	for k := range kills {
		p := s.restart(crashes)
		step := streamEvents * matchesEach * 95 / 100 / (kills + 1)
		s.reach(int64((k+1)*step - step/4 + random.IntN(step/2)))
		crashes = append(crashes, s.kill(p))
	}
	return crashes
}

// kill is kill -9, with a look at the metrics first.
func (s *stream) kill(p *process) crash {
	c := crash{metrics: p.metrics()}
	p.kill()
	for class := range c.begun {
		c.begun[class] = s.receiver.begun[class].Load()
	}
	return c
}

// restart runs the line again, and looks at what the one that was killed left
// behind: nobody has joined the groups yet, for the dead member is still in
// them, and what it had sent has long arrived.
func (s *stream) restart(crashes []crash) *process {
	s.t.Helper()
	p := s.world.run()
	if len(crashes) > 0 {
		c := &crashes[len(crashes)-1]
		c.ends, c.committed = s.world.ends(s.world.prefix+".attempts"), s.world.committed()
	}
	return p
}

func (s *stream) reach(delivered int64) {
	s.t.Helper()
	select {
	case <-s.receiver.reaches(delivered):
	case <-time.After(2 * time.Minute):
		s.t.Fatalf("%d deliveries were made after 2 minutes, want %d", s.receiver.delivered.Load(), delivered)
	}
}

// allProduced waits until the events of the last begin are acknowledged.
func (s *stream) allProduced() {
	s.t.Helper()
	select {
	case err := <-s.produced:
		if err != nil {
			s.t.Fatal(err)
		}
	case <-time.After(5 * time.Minute):
		s.t.Fatal("the events were not produced within 5 minutes")
	}
}

// finish waits for the end of the stream with the last process, and ends that
// in an orderly way. What it returns stands for the end of the run.
func (s *stream) finish(last *process, complete func() bool) crash {
	s.t.Helper()
	s.allProduced()
	s.ledger.waitFor(2*time.Minute, "the end of every delivery", complete)
	m := last.metrics()
	last.terminate()
	c := crash{metrics: m, ends: s.world.ends(s.world.prefix + ".attempts"), committed: s.world.committed()}
	for class := range c.begun {
		c.begun[class] = s.receiver.begun[class].Load()
	}
	return c
}
