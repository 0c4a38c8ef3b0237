//go:build integration

package integration

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receiver is where all endpoints of a test are: endpoint i has the path /i.
// It counts what arrives and misbehaves as told.
type receiver struct {
	url  string
	took func(post) // nil: nobody asks

	begun     [2]atomic.Int64 // POSTs that arrived at healthy and at hanging endpoints
	delivered atomic.Int64    // deliveries that were answered with success while the sender still listened

	hanging  map[int]bool // never changed once traffic flows
	released chan struct{}
	once     sync.Once
	answer   func(endpoint int, id string, nth int) (status int, delay time.Duration) // nil: 200 at once

	mu     sync.Mutex
	posts  map[string]*received
	mark   int64
	marked chan struct{} // closed when that many are delivered
}

// The classes of endpoints.
const (
	healthy = iota
	sick
)

func (r *receiver) class(endpoint int) int {
	if r.hanging[endpoint] {
		return sick
	}
	return healthy
}

// reaches returns a channel that is closed when n deliveries are made.
func (r *receiver) reaches(n int64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan struct{})
	if r.delivered.Load() >= n {
		close(ch)
		return ch
	}
	r.mark, r.marked = n, ch
	return ch
}

// post is one POST as it arrived.
type post struct {
	endpoint int
	id       string
	header   http.Header
	body     []byte
	at       time.Time
}

// received is what is known of one delivery.
type received struct {
	endpoint        int
	posts, answered int
	succeeded       int
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{url: "http://" + ln.Addr().String(), hanging: make(map[int]bool),
		released: make(chan struct{}), posts: make(map[string]*received)}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return r
}

// release ends the hanging.
func (r *receiver) release() { r.once.Do(func() { close(r.released) }) }

// ServeHTTP implements [http.Handler].
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // its sender is gone
	}
	endpoint, err := strconv.Atoi(req.URL.Path[1:])
	if err != nil {
		http.NotFound(w, req)
		return
	}
	id := req.Header.Get("Webhook-Id")
	r.begun[r.class(endpoint)].Add(1)
	r.mu.Lock()
	seen := r.posts[id]
	if seen == nil {
		seen = &received{endpoint: endpoint}
		r.posts[id] = seen
	}
	seen.posts++
	nth := seen.posts
	r.mu.Unlock()
	if r.took != nil {
		r.took(post{endpoint, id, req.Header, body, at})
	}

	status, delay := http.StatusOK, time.Duration(0)
	if r.answer != nil {
		status, delay = r.answer(endpoint, id, nth)
	}
	if r.hanging[endpoint] {
		select {
		case <-req.Context().Done():
			return
		case <-r.released:
		}
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-req.Context().Done():
			return
		case <-timer.C:
		}
	}
	w.WriteHeader(status)
	if req.Context().Err() != nil || http.NewResponseController(w).Flush() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seen.answered++
	if status/100 != 2 {
		return
	}
	if seen.succeeded++; seen.succeeded == 1 && r.delivered.Add(1) >= r.mark && r.marked != nil {
		close(r.marked)
		r.marked = nil
	}
}

// each calls f for every delivery that arrived.
func (r *receiver) each(f func(id string, seen received)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, seen := range r.posts {
		f(id, *seen)
	}
}
