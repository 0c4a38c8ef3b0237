package send

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"posthorn/webhook"
)

// Stage is how far an attempt came. Its text completes "failed while …".
type Stage string

// The stages, in order. On a reused connection the second to fourth don't
// happen.
const (
	StageStart   Stage = "starting"
	StageResolve Stage = "resolving the host name"
	StageConnect Stage = "connecting"
	StageTLS     Stage = "in the TLS handshake"
	StageSend    Stage = "sending the request"
	StageWait    Stage = "waiting for the answer"
	StageAnswer  Stage = "reading the answer"
)

// attempt watches one exchange. net/http calls the hooks from several
// goroutines, and those of a dial that lost a race still after Do has
// returned; hence the atomics, and hence no pooling.
type attempt struct {
	started time.Time
	begun   atomic.Int32 // how often headers were written
	reused  atomic.Bool

	// When things happened, in nanoseconds after started plus one; 0: not yet.
	dnsStart, dnsDone  atomic.Int64
	connStart, conn    atomic.Int64
	tlsStart, tlsDone  atomic.Int64
	ready, sent, first atomic.Int64
}

func newAttempt() *attempt { return &attempt{started: time.Now()} }

// dialTrace notes what dialling goes through.
func (a *attempt) dialTrace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { a.mark(&a.dnsStart) },
		DNSDone:      func(httptrace.DNSDoneInfo) { a.mark(&a.dnsDone) },
		ConnectStart: func(string, string) { a.mark(&a.connStart) },
		ConnectDone:  a.connectDone,
	}
}

// withTrace notes what an exchange through net/http goes through.
func (a *attempt) withTrace(ctx context.Context) context.Context {
	trace := a.dialTrace()
	trace.TLSHandshakeStart = func() { a.mark(&a.tlsStart) }
	trace.TLSHandshakeDone = a.tlsHandshakeDone
	trace.GotConn = a.gotConn
	trace.WroteHeaders = func() { a.begun.Add(1) }
	trace.WroteRequest = a.wroteRequest
	trace.GotFirstResponseByte = func() { a.mark(&a.first) }
	return httptrace.WithClientTrace(ctx, trace)
}

// now is in nanoseconds plus one, so that it is never 0.
func (a *attempt) now() int64 { return int64(time.Since(a.started)) + 1 }

// mark keeps the first time: several addresses may be tried at once.
func (a *attempt) mark(at *atomic.Int64) { at.CompareAndSwap(0, a.now()) }

func (a *attempt) connectDone(_, _ string, err error) {
	if err == nil {
		a.mark(&a.conn)
	}
}

func (a *attempt) tlsHandshakeDone(_ tls.ConnectionState, err error) {
	if err == nil {
		a.mark(&a.tlsDone)
	}
}

// gotConn may come twice, when the first connection was dead: the last counts.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.reused.Store(info.Reused)
	a.ready.Store(a.now())
}

func (a *attempt) wroteRequest(info httptrace.WroteRequestInfo) {
	if info.Err == nil {
		a.mark(&a.sent)
	}
}

func (a *attempt) stage() Stage {
	switch {
	case a.first.Load() != 0:
		return StageAnswer
	case a.sent.Load() != 0:
		return StageWait
	case a.ready.Load() != 0:
		return StageSend
	case a.tlsStart.Load() != 0:
		return StageTLS
	case a.connStart.Load() != 0:
		return StageConnect
	case a.dnsStart.Load() != 0:
		return StageResolve
	default:
		return StageStart
	}
}

// result fills in what the hooks saw. A phase that was begun and not ended
// lasted until now.
func (a *attempt) result(now time.Time) Result {
	duration := now.Sub(a.started)
	end := int64(duration) + 1
	phase := func(from, to *atomic.Int64) time.Duration {
		begun, ended := from.Load(), to.Load()
		if begun == 0 {
			return 0
		}
		if ended == 0 {
			ended = end
		}
		return time.Duration(max(0, ended-begun))
	}
	res := Result{
		Stage:     a.stage(),
		StartedAt: a.started,
		Duration:  duration,
		Reused:    a.reused.Load(),
		Phases:    webhook.Phases{FirstByte: phase(&a.ready, &a.first)},
	}
	// A dial that was begun for this request and overtaken by a connection
	// that came free is no part of it.
	if !res.Reused {
		res.Phases.DNS = phase(&a.dnsStart, &a.dnsDone)
		res.Phases.Connect = phase(&a.connStart, &a.conn)
		res.Phases.TLS = phase(&a.tlsStart, &a.tlsDone)
	}
	return res
}
