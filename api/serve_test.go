package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBodiesHaveAtMost64KiB(t *testing.T) {
	c := start(t)
	exact := plainBody + strings.Repeat(" ", maxBody-len(plainBody))
	c.do("POST", acme, exact).want(http.StatusCreated)
	c.do("POST", acme, exact+" ").want(http.StatusRequestEntityTooLarge)
	for path, method := range map[string]string{acme: "POST", acme + "/ep_1": "PATCH"} {
		// A reader of unknown length is sent in chunks.
		body := io.MultiReader(strings.NewReader(exact), strings.NewReader(exact))
		r, err := http.NewRequestWithContext(t.Context(), method, c.base+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp).want(http.StatusRequestEntityTooLarge)
	}
}

func TestBrokenFramingIsTheClientsFault(t *testing.T) {
	c := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"url\r\nnonsense\r\n", acme)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "POST", URL: pathURL(acme)})
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp).wantFields("body")
}

// pathURL is the URL of a request whose response is read by hand.
func pathURL(path string) *url.URL { return &url.URL{Path: path} }

// pipes is a listener in memory, whose connections and their deadlines keep to
// synctest's clock.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// inVirtualTime serves the API in a bubble and returns a connection to it.
func inVirtualTime(t *testing.T, store *memory) net.Conn {
	t.Helper()
	h, err := New(config(store, &contracts{}, &sealer{}, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(listener) })
	near, far := net.Pipe()
	listener.conns <- far
	t.Cleanup(func() { near.Close(); srv.Close(); serving.Wait() })
	return near
}

func post(conn net.Conn, body string, length int) {
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", acme, length, body)
}

func TestBodyThatDoesNotComeIsGivenUpAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := inVirtualTime(t, newMemory())
		begun := time.Now()
		post(conn, `{"url":`, 100)
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "POST", URL: pathURL(acme)})
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp).want(http.StatusRequestTimeout)
		if took := time.Since(begun); took != bodyTimeout {
			t.Errorf("after %s, want %s", took, bodyTimeout)
		}
	})
}

// Left on the connection, the deadline of the body would end the request that
// waits for the registry's lock.
func TestChangeMayTakeLongerThanItsBodyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		store.before = func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(bodyTimeout + 2*time.Second):
				return nil
			}
		}
		conn := inVirtualTime(t, store)
		post(conn, plainBody, len(plainBody))
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "POST", URL: pathURL(acme)})
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp).want(http.StatusCreated)
	})
}

func TestRegistryThatDoesNotAnswerIsGivenUpAfterTheRequestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory()
		store.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		conn := inVirtualTime(t, store)
		begun := time.Now()
		post(conn, plainBody, len(plainBody))
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "POST", URL: pathURL(acme)})
		if err != nil {
			t.Fatal(err)
		}
		a := read(t, resp).want(http.StatusServiceUnavailable)
		if took := time.Since(begun); took != 10*time.Second || a.Header.Get("Retry-After") != "1" {
			t.Errorf("after %s, headers %v", took, a.Header)
		}
	})
}

func TestUnavailableRegistryAsksToTryAgain(t *testing.T) {
	c := start(t)
	c.store.before = func(context.Context) error { return fmt.Errorf("%w: the lock is contended", ErrUnavailable) }
	if a := c.do("POST", acme, plainBody).want(http.StatusServiceUnavailable); a.Header.Get("Retry-After") == "" || strings.Contains(a.body, "contended") {
		t.Errorf("%v %s", a.Header, a.body)
	}
	c.do("GET", acme, "").want(http.StatusOK)
}

func TestPanicTakesOnlyItsOwnRequestAlong(t *testing.T) {
	c := start(t)
	c.store.before = func(context.Context) error { panic("oh") }
	c.do("POST", acme, plainBody).want(http.StatusInternalServerError)
	if !bytes.Contains(c.log.Bytes(), []byte("request panicked")) {
		t.Errorf("log %s", c.log)
	}
	c.do("GET", acme, "").want(http.StatusOK)
}

func TestConfigNamesAllThatIsMissing(t *testing.T) {
	_, err := New(Config{RequestTimeout: -1})
	if err == nil {
		t.Fatal("an empty configuration was accepted")
	}
	for _, name := range []string{"Endpoints", "Writer", "Contracts", "Sealer", "CheckEndpoint", "Covers", "NewEndpointID", "IdempotencyKey", "RequestTimeout"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s isn't named: %v", name, err)
		}
	}
}
