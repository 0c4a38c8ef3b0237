package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const (
	maxBody     = 64 << 10
	bodyTimeout = 5 * time.Second
)

// handler puts what holds for every route around the routes.
func (s *server) handler() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := &response{ResponseWriter: rw}
		defer s.recover(w, r)
		// A response may hold a secret, and what it says may change at any time.
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")

		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		if !s.servesHost(r.Host) {
			newProblem(http.StatusMisdirectedRequest,
				"The API isn't served under the request's Host: use localhost, a loopback address, or a name of http.allowed_hosts.").write(w)
			return
		}
		route, pattern := s.mux.Handler(r)
		if pattern == "" {
			unrouted(w, r, route)
			return
		}
		p := s.sameOrigin(r)
		if p == nil && !s.public[pattern] {
			// Before the body is read: nobody without a key makes us take in 64 KiB.
			var who Principal
			if who, p = s.authenticate(r.Header); p == nil {
				r = r.WithContext(withPrincipal(r.Context(), who))
				p = s.limit(who)
			}
		}
		if p == nil {
			p = readBody(w, r)
		}
		if p != nil {
			p.write(w)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// unrouted answers as the mux would, but with a Problem.
func unrouted(w http.ResponseWriter, r *http.Request, refusal http.Handler) {
	said := &verdict{header: http.Header{}}
	refusal.ServeHTTP(said, r)
	if said.status == http.StatusMethodNotAllowed {
		allowed := said.header.Get("Allow")
		w.Header().Set("Allow", allowed)
		newProblem(http.StatusMethodNotAllowed, "This resource has the methods %s.", allowed).write(w)
		return
	}
	newProblem(http.StatusNotFound, "There is no such resource; /openapi.json lists those that are.").write(w)
}

// readBody reads the whole body within its bounds before anything looks at it,
// and leaves the connection without a read deadline: net/http goes on reading
// while a handler runs, and would take one that passes for a client that has
// gone, cancelling the request in the middle of its change.
func readBody(w http.ResponseWriter, r *http.Request) *Problem {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	conn := http.NewResponseController(w)
	// Errors say that the connection has no deadlines; then it has no need.
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = conn.SetReadDeadline(time.Time{})
	if err == nil {
		if len(body) > 0 {
			if !declaredJSON(r.Header) {
				return newProblem(http.StatusUnsupportedMediaType, "%s", wantJSON)
			}
			r.Header.Set("Content-Type", "application/json") // in the one spelling that huma knows
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return nil
	}
	// The rest of the body can't be told from the next request.
	w.Header().Set("Connection", "close")
	var large *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, "The body has more than %d bytes.", maxBody)
	case errors.As(err, &timeout) && timeout.Timeout():
		return newProblem(http.StatusRequestTimeout, "The body did not arrive within %s.", bodyTimeout)
	}
	return invalid(FieldError{"body", "it ended early or is not framed as its headers say"})
}

// recover keeps a panic from taking more than its own request along.
func (s *server) recover(w *response, r *http.Request) {
	p := recover() //nolint:revive // this method is itself what handler defers
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // net/http's own way to cut a response short
	}
	if r.Context().Err() == nil {
		s.log.ErrorContext(r.Context(), "request panicked", "method", r.Method, "panic", p, "stack", string(debug.Stack()))
	}
	if w.begun {
		panic(http.ErrAbortHandler) // the client must not take half an answer for a whole one
	}
	newProblem(http.StatusInternalServerError, "Something went wrong here.").write(w)
}

func (p *Problem) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), p.header)
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client has gone if this fails
}

// writeTo is write for the framework's middleware.
func (p *Problem) writeTo(ctx huma.Context) {
	for name, values := range p.header {
		for _, v := range values {
			ctx.AppendHeader(name, v)
		}
	}
	ctx.SetHeader("Content-Type", problemType)
	ctx.SetStatus(p.Status)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(p) // the client has gone if this fails
}

// unmarshal reads JSON with errors that quote nothing of it.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not valid UTF-8")
	}
	err := json.Unmarshal(data, v)
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, &wrong):
		return fmt.Errorf("the value before byte %d is not one of type %s", wrong.Offset, wrong.Type)
	}
	return errors.New("it can't be read as JSON")
}

// response knows whether anything has been sent.
type response struct {
	http.ResponseWriter
	begun bool
}

func (w *response) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// verdict keeps a response's status and header and drops its body.
type verdict struct {
	header http.Header
	status int
}

func (v *verdict) Header() http.Header         { return v.header }
func (v *verdict) Write(b []byte) (int, error) { return len(b), nil }
func (v *verdict) WriteHeader(status int)      { v.status = status }
