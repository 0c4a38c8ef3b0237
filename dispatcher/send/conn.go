package send

import (
	"bufio"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// conn is a connection to a receiver that carries one exchange at a time, by
// the goroutine that makes it: no other goroutine reads or writes, which is
// what makes it cost half of what net/http's Transport does.
type conn struct {
	net.Conn
	route     route
	idleSince time.Time
	place     *list.Element // in the pool
}

func (c *conn) close() { _ = c.Conn.Close() }

// readers read answers. An idle connection has none: 2,000 of them would keep
// 8 MiB.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// errHeaderTooLarge ends an answer whose headers don't.
var errHeaderTooLarge = fmt.Errorf("the answer's headers exceed %d bytes", maxAnswerHeader)

// headerLimit is a connection that ends when more than the header's bytes were
// read of it; left is raised when the header is over.
type headerLimit struct {
	net.Conn
	left int
}

func (l *headerLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errHeaderTooLarge
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// direct is the HTTP/1.1 client behind [Client.Do].
type direct struct {
	dial     func(context.Context, string, string) (net.Conn, error)
	tls      *tls.Config
	tlsAfter time.Duration
	idle     *pool
}

func newDirect(cfg Config) *direct {
	return &direct{dial: cfg.dialer(), tlsAfter: cfg.TLSTimeout, idle: newPool(cfg), tls: cfg.tls(tls.VersionTLS12, "http/1.1")}
}

// answered is what came of an exchange that got a status.
type answered struct {
	status     int
	retryAfter string
	arrived    time.Time // of the headers
	response   string
}

// errUnsent means that a reused connection was dead before anything of the
// request was written: another one may be tried.
var errUnsent = errors.New("the connection was closed while idle")

// errUnread means that the answer, or the end, came before the request was sent.
var errUnread = errors.New("the request was not read")

// post makes one exchange before the deadline. Cancelling ctx ends it.
func (d *direct) post(ctx context.Context, req *Request, a *attempt, deadline time.Time) (answered, error) {
	if err := ctx.Err(); err != nil {
		return answered{}, err
	}
	r, err := routeOf(req.URL, max(req.MinTLS, tls.VersionTLS12))
	if err != nil {
		return answered{}, &RequestError{err}
	}
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	head, err := appendHead((*buf)[:0], req)
	if err != nil {
		return answered{}, &RequestError{err}
	}
	var body []byte // what isn't in head
	if len(req.Body) <= inline {
		head = append(head, req.Body...)
	} else {
		body = req.Body
	}
	*buf = head[:0]
	for {
		c := d.idle.take(r)
		reused := c != nil
		if reused && !alive(c.Conn) {
			c.close()
			continue
		}
		if !reused {
			if c, err = d.connect(ctx, r, a, deadline); err != nil {
				return answered{}, err
			}
		}
		a.reused.Store(reused)
		a.ready.Store(a.now())
		ans, keep, err := d.exchange(ctx, c, head, body, a, deadline)
		if keep {
			d.idle.put(c)
		} else {
			c.close()
		}
		if reused && errors.Is(err, errUnsent) && ctx.Err() == nil {
			continue
		}
		return ans, err
	}
}

// connect opens a connection and speaks TLS on it where the route says so.
func (d *direct) connect(ctx context.Context, r route, a *attempt, deadline time.Time) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := d.dial(httptrace.WithClientTrace(ctx, a.dialTrace()), "tcp", r.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, route: r}
	if !r.https {
		return c, nil
	}
	host, _, _ := net.SplitHostPort(r.addr)
	cfg := d.tls.Clone()
	cfg.ServerName, cfg.MinVersion = host, r.minTLS
	secure := tls.Client(raw, cfg)
	handshake, stop := context.WithTimeout(ctx, d.tlsAfter)
	defer stop()
	a.mark(&a.tlsStart)
	if err := secure.HandshakeContext(handshake); err != nil {
		_ = raw.Close()
		if ctx.Err() == nil && handshake.Err() != nil {
			err = handshakeTimeoutError{}
		}
		return nil, err
	}
	a.mark(&a.tlsDone)
	c.Conn = secure
	return c, nil
}

// handshakeTimeoutError is a timeout (net.Error) of its own length.
type handshakeTimeoutError struct{}

func (handshakeTimeoutError) Error() string   { return "TLS handshake timeout" }
func (handshakeTimeoutError) Timeout() bool   { return true }
func (handshakeTimeoutError) Temporary() bool { return true }

// aMoment is how long what a receiver has just read may take to be known as
// sent on this side.
const aMoment = 50 * time.Millisecond

// past is a deadline that has passed, whatever the clock says.
var past = time.Unix(1, 0)

// exchange writes the request and reads the answer; keep reports whether the
// connection can carry another.
func (d *direct) exchange(ctx context.Context, c *conn, head, body []byte, a *attempt, deadline time.Time) (ans answered, keep bool, err error) {
	_ = c.SetDeadline(deadline) // an error shows in the next read or write
	cutShort := context.AfterFunc(ctx, func() { _ = c.SetDeadline(past) })
	// Once that has begun, the connection's deadlines are no longer ours.
	defer func() { keep = cutShort() && keep }()

	br := readers.Get().(*bufio.Reader)
	limit := &headerLimit{Conn: c.Conn, left: maxAnswerHeader}
	br.Reset(limit)
	defer func() {
		keep = keep && br.Buffered() == 0 // more than was asked for: out of step
		br.Reset(nil)
		readers.Put(br)
	}()

	// wrote returns what became of the writing, which is given that long to end
	// before it is ended. It is called on every way out: what is written belongs
	// to another request soon after.
	wrote := func(time.Duration) error { return nil }
	if body == nil {
		if err := a.write(c, head); err != nil {
			return ans, false, err
		}
	} else {
		// A large body may be answered before it was read, and never be read.
		done := make(chan error, 1)
		go func() {
			err := a.write(c, head, body)
			done <- err
			if err != nil { // nothing will be answered, unless it has been
				_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			}
		}()
		wrote = func(within time.Duration) error {
			moment := time.NewTimer(within)
			defer moment.Stop()
			select {
			case err := <-done:
				return err
			case <-moment.C:
			}
			c.close()
			if err := <-done; err == nil {
				return nil
			}
			return errUnread
		}
	}
	_, err = br.Peek(1)
	if err == nil {
		a.mark(&a.first)
		if p, ok := readPlain(br); ok && p.head+p.length <= br.Buffered() {
			ans = answered{status: p.status, retryAfter: p.retryAfter, arrived: time.Now()}
			all, _ := br.Peek(p.head + p.length)
			ans.response = clean(all[p.head:min(len(all), p.head+keepBytes)], maxResponseChars)
			_, _ = br.Discard(len(all))
			return ans, wrote(aMoment) == nil && !p.close, nil
		}
	}
	var resp *http.Response
	if err == nil {
		resp, err = readHead(br) //nolint:bodyclose // closing reads the rest, however long; the connection is closed instead
	}
	if err != nil {
		if werr := wrote(0); werr != nil && werr != errUnread && a.first.Load() == 0 { //nolint:errorlint // never wrapped
			err = werr
		}
		return ans, false, err
	}
	ans = answered{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), arrived: time.Now()}
	if ans.status < 100 || ans.status > 999 { // no status at all
		_ = wrote(0)
		return ans, false, nil
	}
	// The status has decided: what is left has its own second.
	limit.left = maxAnswerBody + maxAnswerHeader // chunk sizes and trailers have no other bound
	_ = c.SetReadDeadline(ans.arrived.Add(bodyGrace))
	if ctx.Err() != nil {
		_ = c.SetReadDeadline(past)
	}
	var complete bool
	ans.response, complete = readAnswer(resp)
	sent := wrote(aMoment) == nil
	return ans, complete && sent && !resp.Close && resp.StatusCode != http.StatusSwitchingProtocols, nil
}

// write sends the request. errUnsent says that none of it left.
func (a *attempt) write(c *conn, parts ...[]byte) error {
	var n int64
	var err error
	if len(parts) == 1 {
		var once int
		once, err = c.Write(parts[0])
		n = int64(once)
	} else {
		buffers := net.Buffers(parts)
		n, err = buffers.WriteTo(c.Conn)
	}
	if err != nil {
		if n == 0 && a.reused.Load() && !isTimeout(err) {
			return fmt.Errorf("%w: %w", errUnsent, err)
		}
		return err
	}
	a.mark(&a.sent)
	return nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// readHead reads the header of the final answer; interim ones (RFC 9110
// section 15.2) are skipped and share its bound.
func readHead(br *bufio.Reader) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(br, postRequest)
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, err
			}
			return nil, fmt.Errorf("reading the answer's headers: %w", err)
		}
		if resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

// postRequest tells the answers' reader what they answer.
var postRequest = &http.Request{Method: http.MethodPost}
