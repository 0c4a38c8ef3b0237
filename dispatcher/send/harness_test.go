package send

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/dispatcher/safedial"
	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// retryAll is a contract that retries every failure but 410.
var retryAll = RetryableFunc(func(status int) bool { return status != http.StatusGone })

func loopbackGuard(t testing.TB) *safedial.Guard {
	t.Helper()
	g, err := safedial.NewGuard(safedial.Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AnyPort: true})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// newClient may dial loopback; change adapts its configuration.
func newClient(t testing.TB, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{Guard: loopbackGuard(t), Timeout: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func mustURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func post(t testing.TB, c *Client, raw string) Result {
	t.Helper()
	return c.Do(context.Background(), &Request{URL: mustURL(t, raw), Body: []byte(`{"a":1}`)})
}

func wantReason(t *testing.T, r Result, want webhook.Reason) Outcome {
	t.Helper()
	out := Classify(r, retryAll)
	if out.Reason != want {
		t.Errorf("reason %q, want %q (status %d, %v)", out.Reason, want, r.Status, r.Err)
	}
	return out
}

// rawServer speaks whatever serve writes, one goroutine for each connection.
type rawServer struct {
	url   string
	addr  string
	conns atomic.Int64
	posts atomic.Int64
}

func newRawServer(t testing.TB, serve func(s *rawServer, conn net.Conn, br *bufio.Reader)) *rawServer {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, serve)
}

func serveOn(t testing.TB, ln net.Listener, serve func(s *rawServer, conn net.Conn, br *bufio.Reader)) *rawServer {
	s := &rawServer{url: "http://" + ln.Addr().String() + "/hook", addr: ln.Addr().String()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				serve(s, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

// readPost reads one whole request; false at the end of the connection.
func (s *rawServer) readPost(br *bufio.Reader) (*http.Request, bool) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, false
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, false
	}
	s.posts.Add(1)
	return req, true
}

// answering serves the same bytes to every request of a connection.
func answering(answer string) func(*rawServer, net.Conn, *bufio.Reader) {
	return func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		for {
			if _, ok := s.readPost(br); !ok {
				return
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	}
}

// flood writes chunk until the client hangs up, and says so on done.
func flood(conn net.Conn, chunk string, done chan<- struct{}) {
	for {
		if _, err := io.WriteString(conn, chunk); err != nil {
			done <- struct{}{}
			return
		}
	}
}

// inMemory is a Config.Dial whose connections end in serve; for virtual time.
// Call it in the bubble: its goroutines are waited for at the test's end.
func inMemory(t *testing.T, serve func(conn net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		wg.Go(func() {
			defer server.Close()
			serve(server)
		})
		return client, nil
	}
}

var errNever = errors.New("must not be dialled")
