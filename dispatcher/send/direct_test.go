package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/webhook"
)

func TestAConnectionThatWasClosedWhileIdleIsNoticedBeforeAnythingIsSent(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	once := func(closed chan<- struct{}) func(*rawServer, net.Conn, *bufio.Reader) {
		return func(s *rawServer, conn net.Conn, br *bufio.Reader) {
			s.readPost(br)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			conn.Close() // TLS says so first
			closed <- struct{}{}
		}
	}
	for _, scheme := range []string{"http", "https"} {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if scheme == "https" {
			ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
		}
		closed := make(chan struct{}, 10)
		s := serveOn(t, ln, once(closed))
		c := newClient(t, func(cfg *Config) {
			cfg.RootCAs = roots
			cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp4", s.addr)
			}
		})
		for range 5 {
			r := post(t, c, scheme+"://example.com/")
			wantReason(t, r, webhook.ReasonOK)
			if r.Reused {
				t.Errorf("%s: a closed connection is reported as used", scheme)
			}
			<-closed
		}
		if conns, posts := s.conns.Load(), s.posts.Load(); conns != 5 || posts != 5 {
			t.Errorf("%s: %d POSTs over %d connections", scheme, posts, conns)
		}
	}
}

func TestWhatAReceiverSendsUnaskedIsNoAnswerToTheNextRequest(t *testing.T) {
	sent := make(chan struct{}, 1)
	s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		for {
			if _, ok := s.readPost(br); !ok {
				return
			}
			io.WriteString(conn, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
			if s.posts.Load() == 1 {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				sent <- struct{}{}
			}
		}
	})
	c := newClient(t, nil)
	wantReason(t, post(t, c, s.url), webhook.ReasonStatus5xx)
	<-sent
	wantReason(t, post(t, c, s.url), webhook.ReasonStatus5xx)
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections: one that was out of step was used again", n)
	}
}

func TestALargeBodyMayBeAnsweredUnread(t *testing.T) {
	s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
		br.Peek(1 << 10)
		<-t.Context().Done() // neither reads on nor hangs up
	})
	c := newClient(t, nil)
	r := c.Do(t.Context(), &Request{URL: mustURL(t, s.url), Body: make([]byte, 32<<20)})
	if wantReason(t, r, webhook.ReasonStatus4xx); r.Status != 413 || r.Response != "big" {
		t.Errorf("%+v", r)
	}
	got := make(chan int, 1)
	s = newRawServer(t, func(_ *rawServer, conn net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			got <- len(bytes.Trim(body, "x"))
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	for range 3 { // a large body that is read leaves the connection usable
		wantReason(t, c.Do(t.Context(), &Request{URL: mustURL(t, s.url), Body: bytes.Repeat([]byte("x"), 200<<10)}), webhook.ReasonOK)
		if n := <-got; n != 0 {
			t.Errorf("%d bytes of the body are others", n)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections for three large bodies", n)
	}
}

func TestIdleConnectionsAreBoundedAndEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := &openConns{is: make(map[net.Conn]bool)}
		p := newPool(Config{MaxIdlePerHost: 3, MaxIdle: 5, IdleTimeout: time.Minute})
		add := func(addr string) *conn {
			client, server := net.Pipe()
			t.Cleanup(func() { server.Close() })
			c := &conn{Conn: &tracked{client, open}, route: route{addr: addr}}
			open.set(c.Conn, true)
			p.put(c)
			return c
		}
		oldest := add("a")
		time.Sleep(time.Second)
		for range 3 {
			add("a")
		}
		if open.len() != 3 {
			t.Errorf("%d connections to one host, want 3", open.len())
		}
		if !open.has(oldest.Conn) {
			t.Error("one that was idle was closed for one that comes back, where the host's bound was reached")
		}
		time.Sleep(time.Second)
		for range 3 {
			add("b")
		}
		if open.len() != 5 {
			t.Errorf("%d connections in all, want 5", open.len())
		}
		if open.has(oldest.Conn) {
			t.Error("the one that was idle for longest is still open")
		}
		latest := add("c")
		if got := p.take(route{addr: "c"}); got != latest || p.take(route{addr: "c"}) != nil {
			t.Error("what was put is not what is taken, or it is taken twice")
		}
		if p.take(route{addr: "a", https: true}) != nil {
			t.Error("a connection without TLS serves https")
		}
		latest.close()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if open.len() != 0 {
			t.Errorf("%d are open long after their time", open.len())
		}
		add("a")
		p.close()
		add("a")
		if open.len() != 0 {
			t.Errorf("%d are open after the end", open.len())
		}
	})
}

type openConns struct {
	mu sync.Mutex
	is map[net.Conn]bool
}

func (o *openConns) set(c net.Conn, open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.is[c] = open; !open {
		delete(o.is, c)
	}
}

func (o *openConns) has(c net.Conn) bool { o.mu.Lock(); defer o.mu.Unlock(); return o.is[c] }
func (o *openConns) len() int            { o.mu.Lock(); defer o.mu.Unlock(); return len(o.is) }

type tracked struct {
	net.Conn
	open *openConns
}

func (c *tracked) Close() error { c.open.set(c, false); return c.Conn.Close() }

// writing counts the writes that are under way.
type writing struct {
	net.Conn
	now *atomic.Int64
}

func (c *writing) Write(p []byte) (int, error) {
	c.now.Add(1)
	defer c.now.Add(-1)
	return c.Conn.Write(p)
}

func TestNothingOfARequestIsWrittenOnceItsAttemptIsOver(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig",
		"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n",
		"HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n",
		"not HTTP\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		var now atomic.Int64
		synctest.Test(t, func(t *testing.T) {
			c := newClient(t, func(cfg *Config) {
				dial := inMemory(t, func(conn net.Conn) {
					io.CopyN(io.Discard, conn, 1000)
					io.WriteString(conn, answer)
					<-t.Context().Done() // reads no more
				})
				cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					return &writing{conn, &now}, err
				}
			})
			c.Do(t.Context(), &Request{URL: mustURL(t, "http://x.test/"), Body: make([]byte, 1<<20), Timeout: 3 * time.Second})
			if n := now.Load(); n != 0 {
				t.Errorf("%.30q: %d writes are under way after the attempt", answer, n)
			}
		})
	}
}
