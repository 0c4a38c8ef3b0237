// Package sink is the receiver of the benchmarks: an HTTP/1.1 server on any
// number of loopback ports that does no more than a receiver has to, so that
// what is measured is the sender. It verifies every signature, counts unique
// events and repeats per port, notes how long each event took, and misbehaves
// as it is told.
package sink

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Behaviour is how a port answers. The zero value answers 200 at once.
type Behaviour struct {
	Status int           // 0: 200
	Delay  time.Duration // before the answer
	Hang   bool          // never answers; the connection stays open
	Reset  bool          // closes the connection with a reset once the request is read
	Refuse bool          // the port doesn't listen
	// PerSecond bounds how many requests are answered a second; those above
	// wait for their turn. 0: no bound.
	PerSecond float64
}

// Sink is a set of ports.
type Sink struct {
	verify func(id, timestamp, signature, body []byte) bool
	ports  []*port
	conns  sync.WaitGroup
	began  time.Time

	delivered atomic.Int64 // first arrivals of all ports
	posts     atomic.Int64 // requests of all ports
	countOnly atomic.Bool  // events aren't told apart
	bad       atomic.Int64 // signatures that didn't verify
}

type port struct {
	sink  *Sink
	addr  string
	mu    sync.Mutex
	lis   net.Listener
	open  map[net.Conn]struct{}
	does  atomic.Pointer[Behaviour]
	turn  time.Time // when the next answer may be given, with PerSecond
	posts int64
	seen  []uint64 // bit n: event n has arrived
	times []Arrival
}

// Arrival is the first receipt of an event.
type Arrival struct {
	At   time.Duration // since the sink began or was last [Sink.Reset]
	Took time.Duration // from its production
}

// New listens on n ports of 127.0.0.1. Each port's requests are verified with
// the Standard Webhooks signature of that secret, the raw key.
func New(n int, key []byte) (*Sink, error) {
	s := &Sink{verify: verifier(key), began: time.Now()}
	for range n {
		p := &port{sink: s, open: make(map[net.Conn]struct{})}
		p.does.Store(&Behaviour{})
		if err := p.listen("127.0.0.1:0"); err != nil {
			s.Close()
			return nil, err
		}
		s.ports = append(s.ports, p)
	}
	return s, nil
}

func (p *port) listen(addr string) error {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening for deliveries: %w", err)
	}
	p.lis, p.addr = lis, lis.Addr().String()
	p.sink.conns.Go(func() { p.accept(lis) })
	return nil
}

func (p *port) accept(lis net.Listener) {
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.open[conn] = struct{}{}
		p.mu.Unlock()
		p.sink.conns.Go(func() {
			p.serve(conn)
			_ = conn.Close()
			p.mu.Lock()
			delete(p.open, conn)
			p.mu.Unlock()
		})
	}
}

// URL returns where to POST for port i.
func (s *Sink) URL(i int) string { return "http://" + s.ports[i].addr + "/hook" }

// Behave changes how port i answers, from its next request on.
func (s *Sink) Behave(i int, b Behaviour) error {
	p := s.ports[i]
	p.does.Store(&b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.Refuse && p.lis != nil {
		_ = p.lis.Close()
		p.lis = nil
		for c := range p.open {
			_ = c.Close()
		}
	}
	if !b.Refuse && p.lis == nil {
		return p.listen(p.addr)
	}
	return nil
}

// Delivered returns how many events have arrived at their ports, repeats not
// counted.
func (s *Sink) Delivered() int64 { return s.delivered.Load() }

// CountPosts has the sink count requests alone: where one event goes to many
// endpoints of a port, each is a first arrival.
func (s *Sink) CountPosts() { s.posts.Store(0); s.countOnly.Store(true) }

// Posts returns how many requests have arrived since [Sink.CountPosts].
func (s *Sink) Posts() int64 { return s.posts.Load() }

// Bad returns how many signatures didn't verify.
func (s *Sink) Bad() int64 { return s.bad.Load() }

// Conns returns how many connections are open.
func (s *Sink) Conns() (n int) {
	for _, p := range s.ports {
		p.mu.Lock()
		n += len(p.open)
		p.mu.Unlock()
	}
	return n
}

// Count returns how many different events port i has received and how many
// requests beyond those.
func (s *Sink) Count(i int) (unique, repeats int64) {
	p := s.ports[i]
	p.mu.Lock()
	defer p.mu.Unlock()
	unique = int64(len(p.times))
	return unique, p.posts - unique
}

// Reset forgets what has arrived.
func (s *Sink) Reset() {
	s.began = time.Now()
	s.delivered.Store(0)
	for _, p := range s.ports {
		p.mu.Lock()
		p.posts, p.seen, p.times = 0, nil, nil
		p.mu.Unlock()
	}
}

// Arrivals returns the arrivals at the ports that want says, by time.
func (s *Sink) Arrivals(want func(port int) bool) []Arrival {
	var all []Arrival
	for i, p := range s.ports {
		if want == nil || want(i) {
			p.mu.Lock()
			all = append(all, p.times...)
			p.mu.Unlock()
		}
	}
	slices.SortFunc(all, func(a, b Arrival) int { return int(a.At - b.At) })
	return all
}

// Close ends all connections.
func (s *Sink) Close() {
	for _, p := range s.ports {
		p.mu.Lock()
		if p.lis != nil {
			_ = p.lis.Close()
			p.lis = nil
		}
		for c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
	}
	s.conns.Wait()
}

// arrived notes a request; false for a repeat.
func (p *port) arrived(n int64, producedAt, now time.Time) {
	if p.sink.countOnly.Load() {
		p.sink.posts.Add(1)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.posts++
	word, bit := n/64, uint64(1)<<(n%64)
	for int64(len(p.seen)) <= word {
		p.seen = append(p.seen, make([]uint64, max(64, len(p.seen)))...)
	}
	if p.seen[word]&bit != 0 {
		return
	}
	p.seen[word] |= bit
	p.times = append(p.times, Arrival{now.Sub(p.sink.began), now.Sub(producedAt)})
	p.sink.delivered.Add(1)
}

// turnAt returns when a request that came now may be answered.
func (p *port) turnAt(now time.Time, perSecond float64) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn.Before(now) {
		p.turn = now
	}
	at := p.turn
	p.turn = p.turn.Add(time.Duration(float64(time.Second) / perSecond))
	return at
}
