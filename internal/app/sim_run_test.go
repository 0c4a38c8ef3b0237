package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/webhook"
)

const simContract = "quick"

// sim is one run under way.
type sim struct {
	w     *world
	plan  *simPlan
	began time.Time

	slots       []*simSlot
	acceptReset bool

	mu       sync.Mutex
	lives    []*simLife
	diary    []string
	broken   []string
	hits     []*simHit
	sent     []simSent
	history  map[string][]simState
	crashes  []simWindow
	commits  []simCommit
	faults   []*kfake.FaultHandle
	versions map[string]int64
}

// simSlot is a place for a process; its lives follow one another, and may
// overlap when an earlier one doesn't know that it is over.
type simSlot struct {
	roles Roles
	life  *simLife // nil while none should run
}

type simLife struct {
	client string // the Kafka client ID, which member IDs begin with
	kafka  *simNet
	http   *cuttable
	stop   context.CancelFunc
	ended  chan struct{}
}

// simHit is a POST as the receiver saw it.
type simHit struct {
	at, end time.Time // end: zero while it is being answered
	id      string
	path    string
	status  int
}

// simSent is an event that was acknowledged between two times.
type simSent struct {
	id, kind string
	at       time.Time // before it was produced
}

// simState is what an endpoint was from a time on; one that is gone or
// disabled wants nothing.
type simState struct {
	from     time.Time // when the record was acknowledged
	to       time.Time // when the next one was begun to be written; zero: never
	patterns []string
	live     bool
}

// simWindow is the time in which something may have been done that a crash, or
// what amounts to one, forgot.
type simWindow struct {
	from, to time.Time
	what     string
}

// simCommit is a commit that a member of the dispatchers asked for.
type simCommit struct {
	at        time.Time
	partition int32
	offset    int64
	metadata  string
}

func newSim(w *world, p *simPlan) *sim {
	s := &sim{w: w, plan: p, began: time.Now(), history: make(map[string][]simState), versions: make(map[string]int64)}
	for _, roles := range p.slots {
		s.slots = append(s.slots, &simSlot{roles: roles})
	}
	s.receive()
	w.broker.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req := r.(*kmsg.OffsetCommitRequest)
		if req.Group != "posthorn.dispatch" {
			return nil, nil, false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, t := range req.Topics {
			for _, p := range t.Partitions {
				c := simCommit{at: time.Now(), partition: p.Partition, offset: p.Offset}
				if p.Metadata != nil {
					c.metadata = *p.Metadata
				}
				s.commits = append(s.commits, c)
			}
		}
		return nil, nil, false
	})
	w.t.Cleanup(func() { // after a failure the bubble has to empty all the same
		s.mu.Lock()
		lives := s.lives
		s.mu.Unlock()
		for _, l := range lives {
			l.kafka.Cut()
			l.http.Cut()
			l.stop()
		}
	})
	return s
}

func (s *sim) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.diary = append(s.diary, fmt.Sprintf("%8v  ", time.Since(s.began).Truncate(time.Millisecond))+fmt.Sprintf(format, args...))
}

// receive answers all POSTs as the plan has the receivers feel.
func (s *sim) receive() {
	ln, err := s.w.net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		s.w.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var body [256]byte
		for { // read to the end, or the server never sees the sender go away
			if _, err := r.Body.Read(body[:]); err != nil {
				break
			}
		}
		h := &simHit{at: time.Now(), id: r.Header.Get("Webhook-Id"), path: r.URL.Path[1:], status: 200}
		s.mu.Lock()
		s.hits = append(s.hits, h)
		s.mu.Unlock()
		wait := s.plan.latency[h.path]
		for _, m := range s.plan.receivers[h.path] {
			if since := h.at.Sub(s.began); since >= m.from && since < m.to {
				if m.after > 0 {
					rw.Header().Set("Retry-After", strconv.Itoa(int(m.after/time.Second)))
				}
				if h.status = m.status; m.status == 0 {
					wait = time.Hour
				}
			}
		}
		select {
		case <-time.After(wait):
			rw.WriteHeader(h.status)
		case <-r.Context().Done():
		}
		s.mu.Lock()
		h.end = time.Now()
		s.mu.Unlock()
	})}
	go func() { _ = srv.Serve(ln) }()
	s.w.t.Cleanup(func() { _ = srv.Close() })
}

// register writes an endpoint, or changes it.
func (s *sim) register(name string, patterns []string, disabled bool) {
	s.versions[name]++
	e := &webhook.Endpoint{ID: webhook.EndpointPrefix + name, Tenant: "acme", URL: "http://hooks.example.com:8080/" + name,
		Events: patterns, Contract: simContract, CreatedAt: s.began, UpdatedAt: time.Now(), Version: s.versions[name], Disabled: disabled}
	s.was(name, func() { s.w.put(e) }, simState{patterns: patterns, live: !disabled})
}

// remove deletes an endpoint.
func (s *sim) remove(name string) {
	s.was(name, func() {
		s.w.produce(&kgo.Record{Topic: "posthorn.registry", Key: []byte("endpoint/" + webhook.EndpointPrefix + name)})
	}, simState{})
}

func (s *sim) was(name string, write func(), next simState) {
	hs := s.history[name]
	if len(hs) > 0 {
		hs[len(hs)-1].to = time.Now()
	}
	write()
	next.from = time.Now()
	s.history[name] = append(hs, next)
}

func (s *sim) send(id, kind string) {
	s.sent = append(s.sent, simSent{id, kind, time.Now()})
	s.w.event(id, kind)
}

// revive starts a process where none should be running.
func (s *sim) revive(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[i].life == nil {
		s.live(s.slots[i])
	}
}

// live starts a slot's next life; s.mu is held. A process that ends by itself is
// started again, as its supervisor would.
func (s *sim) live(slot *simSlot) {
	ctx, stop := context.WithCancel(context.Background())
	l := &simLife{client: fmt.Sprintf("life%d", len(s.lives)), kafka: newSimNet(s.w.broker.DialContext), stop: stop, ended: make(chan struct{}),
		http: &cuttable{open: make(map[net.Conn]struct{}), dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.w.net.DialContext(ctx, network, "localhost:8080")
		}}}
	slot.life = l
	s.lives = append(s.lives, l)
	opts := Options{Config: s.w.cfg, Roles: slot.roles, Log: s.w.log, NoAdmin: true, Dial: l.http.Dial, AcceptReset: s.acceptReset,
		Kafka: []kgo.Opt{kgo.Dialer(l.kafka.Dial), kgo.ClientID(l.client)}}
	if os.Getenv("POSTHORN_KGO_LOG") != "" {
		n := len(s.lives)
		opts.Kafka = append(opts.Kafka, kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelInfo, func() string { return fmt.Sprintf("KGO %v life %d ", time.Since(s.began), n) })))
	}
	go func() {
		defer close(l.ended)
		err := Run(ctx, opts)
		time.AfterFunc(simSession, func() { s.expire(l) })
		s.note("a process with %v ended: %v", slot.roles, err)
		if ctx.Err() != nil {
			return
		}
		s.crash(s.committed(), time.Now(), "a process ended by itself")
		time.Sleep(500 * time.Millisecond)
		s.mu.Lock()
		defer s.mu.Unlock()
		if slot.life == l {
			s.live(slot)
		}
	}()
}

// ledger reads the settlements, with the times at which they were produced.
func (s *sim) ledger() (ss []simSettlement) {
	for _, r := range s.w.read("posthorn.attempts") {
		x := simSettlement{at: r.Timestamp}
		if err := json.Unmarshal(r.Value, &x.Settlement); err != nil {
			s.w.t.Fatal(err)
		}
		ss = append(ss, x)
	}
	return ss
}

type simSettlement struct {
	webhook.Settlement
	at time.Time
}
