package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// ListenConfig says where [Listen] receives and how it tells of it.
type ListenConfig struct {
	Receiver ReceiverConfig
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// JSON writes one object a line in place of a text for people.
	JSON bool
	// Quiet writes only the address and the summary.
	Quiet bool
}

// stopTimeout bounds how long a stopping receiver waits for answers under way.
const stopTimeout = 2 * time.Second

// Listen receives deliveries on loopback until ctx ends, writes each to out,
// and a summary at the end.
func Listen(ctx context.Context, c ListenConfig, out io.Writer) error {
	if c.Port < 0 || c.Port > 65535 {
		return usagef("--port %d: want 0 to 65535", c.Port)
	}
	p := &printer{out: out, json: c.JSON, quiet: c.Quiet}
	rc, err := NewReceiver(c.Receiver, p.received)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	p.listening("http://" + l.Addr().String())

	// Requests end with ctx too: a hanging one would hold the shutdown up.
	srv := &http.Server{
		Handler:           rc,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err = <-served:
	case <-ctx.Done():
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if srv.Shutdown(sctx) != nil {
			_ = srv.Close() // what is left was asked to end and hasn't
		}
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, p.summary(rc.Counts()))
}

// printer writes what a receiver got, one request at a time.
type printer struct {
	mu    sync.Mutex
	out   io.Writer
	json  bool
	quiet bool
	err   error // the first failure to write
}

func (p *printer) write(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.out.Write(b); err != nil && p.err == nil {
		p.err = fmt.Errorf("writing output: %w", err)
	}
}

func (p *printer) listening(url string) {
	if p.json {
		p.line(map[string]any{"listening": url})
		return
	}
	p.write([]byte("listening on " + url + " (Ctrl-C ends)\n"))
}

func (p *printer) summary(c ReceiverCounts) error {
	if p.json {
		p.line(map[string]any{"requests": c.Requests, "deliveries": c.Deliveries, "verified": c.Verified, "unverified": c.Unverified, "refused": c.Refused})
	} else {
		p.write(fmt.Appendf(nil, "requests=%d deliveries=%d verified=%d unverified=%d refused=%d\n",
			c.Requests, c.Deliveries, c.Verified, c.Unverified, c.Refused))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *printer) line(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = fmt.Appendf(nil, `{"error":%q}`, err.Error())
	}
	p.write(append(printableJSON(b), '\n'))
}

// receivedJSON is one line of --json.
type receivedJSON struct {
	At        string            `json:"at"`
	N         int               `json:"n"`
	Try       int               `json:"try"`
	ID        string            `json:"id"`
	Type      string            `json:"type,omitempty"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Headers   map[string]string `json:"headers"`
	Bytes     int               `json:"bytes"`
	Signature Signature         `json:"signature"`
	Scheme    string            `json:"scheme,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Status    int               `json:"status"`
	Body      string            `json:"body"`
}

func (p *printer) received(r *Received) {
	if p.quiet {
		return
	}
	if !p.json {
		p.write([]byte(r.text()))
		return
	}
	headers := make(map[string]string, len(r.Header))
	for k, v := range r.Header {
		headers[k] = strings.Join(v, ", ")
	}
	p.line(receivedJSON{
		At: r.At.UTC().Format(time.RFC3339Nano), N: r.N, Try: r.Try, ID: r.ID, Type: r.Type,
		Method: r.Method, Path: r.Path, Headers: headers, Bytes: len(r.Body),
		Signature: r.Signature, Scheme: r.Scheme, Reason: r.Reason, Status: r.Status, Body: string(r.Body),
	})
}

// shownBody is how much of a body is shown to people, in bytes.
const shownBody = 2000

// text tells of a request as a person would like to read it: what, of which
// delivery, whether it is genuine, how it is answered, and the body.
func (r *Received) text() string {
	var b strings.Builder
	kind := r.Type
	if kind == "" {
		kind = r.Method + " " + r.Path
	}
	fmt.Fprintf(&b, "%s  %s  %s", r.At.Format("15:04:05.000"), kind, r.ID)
	if r.Try > 1 {
		fmt.Fprintf(&b, "  try %d", r.Try)
	}
	fmt.Fprintf(&b, "  %d bytes\n", len(r.Body))
	b.WriteString("  signature " + string(r.Signature))
	if r.Scheme != "" {
		b.WriteString(" (" + r.Scheme + ")")
	}
	if r.Reason != "" {
		b.WriteString(": " + r.Reason)
	}
	if r.Status == 0 {
		b.WriteString("; not answered\n")
	} else {
		fmt.Fprintf(&b, "; answered %d %s\n", r.Status, http.StatusText(r.Status))
	}
	for line := range strings.Lines(shownText(r.Body)) {
		b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
	return printable(b.String())
}

// shownText lays a body out for people: JSON indented, other text as it is, what
// is neither not at all.
func shownText(body []byte) string {
	var indented bytes.Buffer
	text := body
	if len(body) <= 4*shownBody && json.Indent(&indented, body, "", "  ") == nil {
		text = indented.Bytes()
	} else if !utf8.Valid(body) {
		return "(not text)"
	}
	if len(text) <= shownBody {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:shownBody]), "") + "\n… (shortened; --json shows all)"
}
