package send

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"posthorn/dispatcher/safedial"
	"posthorn/webhook"
)

// Request is one POST to make.
type Request struct {
	// URL is where to; parse it once per endpoint with [Client.ParseURL]. It
	// is only read.
	URL *url.URL
	// Header is sent as it is, see [AddCustom]. It is only read.
	Header http.Header
	// Body is the bytes to POST. They may be read for a moment after Do has
	// returned: never write to them.
	Body []byte
	// Timeout ends the attempt unless the answer's headers have arrived by
	// then; 0 means the client's.
	Timeout time.Duration
	// MinTLS is the lowest TLS version to speak to an https receiver:
	// tls.VersionTLS12, which 0 means too, or tls.VersionTLS13. A connection
	// that was made for less is never used, so nothing is sent over it.
	MinTLS uint16
}

// Result is what happened, without judgement; see [Classify].
type Result struct {
	// Status is the HTTP status, 0 when no complete answer header came.
	Status int
	// Err says why there was no status; nil when there is one. Its chain holds
	// a [*RequestError], [*safedial.DeniedError], [ErrTimeout] or what net and
	// net/http returned. Its text may name internal addresses: show
	// [Outcome.Detail] to people.
	Err error
	// Cut is set when the caller's context was cancelled before there was a
	// status: nothing conclusive is known.
	Cut bool
	// Stage is how far the attempt came.
	Stage Stage

	StartedAt time.Time
	// Duration is until the answer was read or the attempt had failed.
	Duration time.Duration
	Phases   webhook.Phases
	// Reused reports that an open connection was used.
	Reused bool
	// Response is the first 500 characters of the answer's body: valid UTF-8
	// without NUL, U+FFFD in place of anything else.
	Response string
	// RetryAt is the time that the answer's Retry-After asks to wait for, at
	// most [MaxRetryAfter] ahead and never before the answer's arrival; zero
	// when it asks nothing, or in a 2xx.
	RetryAt time.Time
}

// ErrTimeout is in the chain of Result.Err when time ran out before there was
// a status.
var ErrTimeout = errors.New("timed out")

// RequestError says that a request can't be made at all; nothing was sent.
// Whoever can't build or sign one may use it in a [Result] too.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return "building request: " + e.Err.Error() }

// Unwrap returns what was wrong.
func (e *RequestError) Unwrap() error { return e.Err }

// Client POSTs. It is safe for concurrent use; one serves a whole process.
type Client struct {
	direct *direct // HTTP/1.1; nil with HTTP2
	// transport is net/http's, which negotiates the protocol; TLS 1.2 and up.
	transport *http.Transport
	// tls13 is a second one because the version belongs to a connection and a
	// Transport's connections serve whatever request comes next.
	tls13   *http.Transport
	guard   *safedial.Guard
	timeout time.Duration
}

// New builds a client; the error is the configuration's.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring HTTP client: %w", err)
	}
	cfg = cfg.withDefaults()
	c := &Client{guard: cfg.Guard, timeout: cfg.Timeout}
	if cfg.HTTP2 {
		c.transport, c.tls13 = cfg.transport(tls.VersionTLS12), cfg.transport(tls.VersionTLS13)
	} else {
		c.direct = newDirect(cfg)
	}
	return c, nil
}

// Close closes the idle connections. Requests under way go on, and their
// connections close after them.
func (c *Client) Close() {
	if c.direct != nil {
		c.direct.idle.close()
		return
	}
	c.transport.CloseIdleConnections()
	c.tls13.CloseIdleConnections()
}

// ParseURL parses an endpoint's URL and checks it against the policy, once per
// endpoint. The error is a [*RequestError] that doesn't show the URL.
func (c *Client) ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// A *url.Error quotes the whole URL, and some keep secrets in it.
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err
		}
		return nil, &RequestError{fmt.Errorf("parsing url: %w", err)}
	}
	if err := c.guard.CheckURL(u); err != nil {
		return nil, &RequestError{err}
	}
	return u, nil
}

// Do makes the POST and waits for what comes of it. Cancelling ctx cuts it
// short (Result.Cut); a deadline of ctx counts as a timeout. Do never panics
// over an answer and never waits longer than the timeout plus one second.
func (c *Client) Do(ctx context.Context, req *Request) Result {
	a := newAttempt()
	if err := c.check(req); err != nil {
		return Result{Err: &RequestError{err}, Stage: StageStart, StartedAt: a.started}
	}
	timeout := req.Timeout
	if timeout <= 0 {
		timeout = c.timeout
	}
	if c.direct != nil {
		return c.doDirect(ctx, req, a, a.started.Add(timeout))
	}
	return c.doTransport(ctx, req, a, timeout)
}

// doDirect is Do over our own HTTP/1.1 connections.
func (c *Client) doDirect(ctx context.Context, req *Request, a *attempt, deadline time.Time) Result {
	if at, ok := ctx.Deadline(); ok && at.Before(deadline) {
		deadline = at
	}
	ans, err := c.direct.post(ctx, req, a, deadline)
	now := time.Now()
	res := a.result(now)
	if err != nil {
		// Whichever ended the exchange first is its cause; a shutdown just
		// after a timeout doesn't make it inconclusive.
		_, unbuilt := errors.AsType[*RequestError](err)
		switch timeout := isTimeout(err) || errors.Is(err, context.DeadlineExceeded); {
		case unbuilt:
			res.Err = err
		case timeout && !now.Before(deadline):
			res.Err = timeoutOf(&res)
		case ctx.Err() != nil:
			res.cut(err)
		default:
			res.Err = fmt.Errorf("posting: while %s: %w", res.Stage, err)
		}
		return res
	}
	if malformedStatus(ans.status, &res) {
		return res
	}
	res.Status, res.Response = ans.status, ans.response
	if ans.status < 200 || ans.status > 299 {
		res.RetryAt = parseRetryAfter(ans.retryAfter, ans.arrived)
	}
	return res
}

func timeoutOf(r *Result) error {
	return fmt.Errorf("posting: %w after %v while %s", ErrTimeout, r.Duration.Round(time.Millisecond), r.Stage)
}

func (r *Result) cut(err error) {
	r.Cut = true
	r.Err = fmt.Errorf("posting: cut while %s: %w", r.Stage, err)
}

// malformedStatus makes a failure of what is no status: one has three digits
// and begins at 100 (RFC 9110 section 15); to net/http "000", "-00" and, over
// HTTP/2, any number are one as well.
func malformedStatus(status int, res *Result) bool {
	if status >= 100 && status <= 999 {
		return false
	}
	res.Stage = StageAnswer
	res.Err = fmt.Errorf("posting: while %s: malformed HTTP status %d", res.Stage, status)
	return true
}

// doTransport is Do by net/http's Transport.
func (c *Client) doTransport(ctx context.Context, req *Request, a *attempt, timeout time.Duration) Result {
	// One context for the whole exchange: the timer first stands for the
	// timeout, then, once the status has decided, for the body's second.
	// (A deadline couldn't be moved.)
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(ErrTimeout) })
	defer timer.Stop()

	// RoundTrip rather than http.Client: what can't follow redirects won't,
	// and its errors don't quote the URL.
	transport := c.transport
	if req.MinTLS == tls.VersionTLS13 && req.URL.Scheme == "https" {
		transport = c.tls13
	}
	resp, err := transport.RoundTrip(c.httpRequest(a.withTrace(own), req, a))
	if err != nil {
		res := a.result(time.Now())
		switch {
		case errors.Is(context.Cause(own), ErrTimeout) || errors.Is(ctx.Err(), context.DeadlineExceeded):
			res.Err = timeoutOf(&res)
		case ctx.Err() != nil:
			res.cut(err)
		default:
			res.Err = fmt.Errorf("posting: while %s: %w", res.Stage, err)
		}
		return res
	}
	defer resp.Body.Close()
	if res := a.result(time.Now()); malformedStatus(resp.StatusCode, &res) {
		return res
	}
	arrived := time.Now()
	timer.Reset(bodyGrace)
	response, _ := readAnswer(resp)
	res := a.result(time.Now())
	res.Status = resp.StatusCode
	res.Response = response
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		res.RetryAt = parseRetryAfter(resp.Header.Get("Retry-After"), arrived)
	}
	return res
}

// check refuses what net/http would refuse later, re-POST, or send in clear.
func (c *Client) check(req *Request) error {
	switch u := req.URL; {
	case u == nil || u.Host == "":
		return errors.New("the URL names no host")
	case u.Scheme == "http" && c.guard.HTTPSOnly():
		return errors.New("the URL's scheme is http; only https is allowed")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("the URL's scheme is %.20q; use https or http", u.Scheme)
	}
	if v := req.MinTLS; v != 0 && v != tls.VersionTLS12 && v != tls.VersionTLS13 {
		return fmt.Errorf("the lowest TLS version is %s; use 1.2 or 1.3", tls.VersionName(v))
	}
	for name, values := range req.Header {
		if isReplayHeader(name) {
			return fmt.Errorf("header %s would make net/http send the POST again by itself", name)
		}
		for _, value := range values {
			if err := checkSyntax(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Client) httpRequest(ctx context.Context, req *Request, a *attempt) *http.Request {
	header := req.Header
	if header == nil {
		header = http.Header{}
	}
	hr := &http.Request{
		Method:        http.MethodPost,
		URL:           req.URL,
		Header:        header,
		ContentLength: int64(len(req.Body)),
		Body:          http.NoBody,
	}
	if len(req.Body) > 0 {
		// net/http knows by its type that this body is in memory; ahead of a
		// type of ours it would send the headers in a packet of their own.
		hr.Body = io.NopCloser(bytes.NewReader(req.Body))
		hr.GetBody = func() (io.ReadCloser, error) {
			if a.begun.Load() > 1 {
				return nil, errors.New("the server refused the stream again")
			}
			return io.NopCloser(bytes.NewReader(req.Body)), nil
		}
	}
	return hr.WithContext(ctx)
}
