package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode"

	"posthorn/dispatcher/safedial"
	"posthorn/webhook"
)

// Verdict is what follows from an attempt.
type Verdict uint8

// The verdicts.
const (
	// Delivered: the receiver has it.
	Delivered Verdict = iota + 1
	// Retryable: it failed, and another attempt makes sense. Whether the
	// schedule has one left is the caller's to say.
	Retryable
	// Permanent: it failed, and the contract wants no other attempt.
	Permanent
	// Cut: our own shutdown or handover ended it; it spends no step.
	Cut
)

func (v Verdict) String() string {
	switch v {
	case Delivered:
		return "delivered"
	case Retryable:
		return "retryable"
	case Permanent:
		return "permanent"
	case Cut:
		return "cut"
	default:
		return fmt.Sprintf("Verdict(%d)", uint8(v))
	}
}

// Health is what an attempt says about the endpoint, for its breaker.
type Health uint8

// The healths.
const (
	// Unknown: nothing is known about the endpoint; the breaker's request is
	// to be excluded, not counted as either.
	Unknown Health = iota
	// Alive: it answered as a working receiver does. A 404 or a redirect is a
	// failed delivery and yet alive: it costs one quick round trip, and parking
	// wouldn't make it come right.
	Alive
	// Sick: it didn't answer, answered nonsense, or said that it can't cope
	// (5xx, 429, 408).
	Sick
)

// Outcome is the judgement on a [Result].
type Outcome struct {
	Verdict Verdict
	Reason  webhook.Reason
	Health  Health
	// RetryAt is the receiver's own wish (Retry-After), zero if it had none;
	// the schedule's delay is the floor.
	RetryAt time.Time
	// Detail is a sentence fragment for people, at most 200 characters, without
	// secrets: no header values, and of URLs the scheme and host alone.
	// Empty when the reason says it all.
	Detail string
}

// Contract is what the judgement asks of the endpoint's contract.
type Contract interface {
	// Retryable reports whether a failure with that status is worth another
	// attempt; 0 stands for no status (network errors and timeouts).
	Retryable(status int) bool
}

// RetryableFunc is a [Contract] made of one function.
type RetryableFunc func(status int) bool

// Retryable calls f.
func (f RetryableFunc) Retryable(status int) bool { return f(status) }

// Classify judges a result. It is pure.
//
//	result            reason            verdict            health
//	2xx               ok                delivered          alive
//	3xx               status_3xx        the contract's     alive
//	408               status_4xx        the contract's     sick
//	410               status_410        the contract's     alive
//	429               status_429        the contract's     sick
//	other 4xx         status_4xx        the contract's     alive
//	5xx               status_5xx        the contract's     sick
//	1xx, 600 up       status_other      the contract's     sick
//	no status         see networkReason the contract's (0) sick
//	nor an error      protocol          the contract's (0) sick
//	dial guard        address_denied    the contract's (0) unknown
//	can't be built    request           retryable          unknown
//	cut               cut               cut                unknown
//
// A request that can't be built is retryable because the cure, a corrected
// endpoint or keyset, lies with people; it still ends when the schedule does.
func Classify(r Result, c Contract) Outcome {
	out := Outcome{RetryAt: r.RetryAt, Verdict: Permanent}
	switch {
	case r.Status == 0 && r.Cut:
		return Outcome{Verdict: Cut, Reason: webhook.ReasonCut, Detail: "cut while " + string(r.Stage)}
	case r.Status != 0:
		out.Reason, out.Health = statusReason(r.Status)
		if out.Health == Alive && out.Reason == webhook.ReasonOK {
			out.Verdict, out.RetryAt = Delivered, time.Time{}
			return out
		}
		out.Detail = statusDetail(r.Status)
	default:
		out.Reason, out.Health = networkReason(r)
		out.Detail = detail(out.Reason, r)
		if out.Reason == webhook.ReasonRequest {
			out.Verdict = Retryable
			return out
		}
	}
	if c.Retryable(r.Status) {
		out.Verdict = Retryable
	}
	return out
}

func statusReason(status int) (webhook.Reason, Health) {
	switch {
	case status >= 200 && status <= 299:
		return webhook.ReasonOK, Alive
	case status >= 300 && status <= 399:
		return webhook.ReasonStatus3xx, Alive
	case status == http.StatusRequestTimeout:
		return webhook.ReasonStatus4xx, Sick
	case status == http.StatusGone:
		return webhook.ReasonGone, Alive
	case status == http.StatusTooManyRequests:
		return webhook.ReasonThrottled, Sick
	case status >= 400 && status <= 499:
		return webhook.ReasonStatus4xx, Alive
	case status >= 500 && status <= 599:
		return webhook.ReasonStatus5xx, Sick
	default:
		return webhook.ReasonStatusOther, Sick
	}
}

// networkReason looks from the most to the least specific: a timeout in the
// TLS handshake is a timeout, and what fails on a connection that was open and
// silent is a reset, whatever net/http calls it.
func networkReason(r Result) (webhook.Reason, Health) {
	var (
		request  *RequestError
		denied   *safedial.DeniedError
		dns      *net.DNSError
		timeouts net.Error
	)
	err := r.Err
	switch {
	case err == nil:
		// Whoever answers without a status must not look like our own mistake,
		// which costs the breaker nothing.
		return webhook.ReasonProtocol, Sick
	case errors.As(err, &request):
		return webhook.ReasonRequest, Unknown
	case errors.As(err, &denied):
		return webhook.ReasonAddressDenied, Unknown
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return webhook.ReasonTimeout, Sick
	case errors.As(err, &dns):
		return webhook.ReasonDNS, Sick
	case errors.As(err, &timeouts) && timeouts.Timeout():
		return webhook.ReasonTimeout, Sick
	case r.Stage == StageTLS, isTLS(err):
		return webhook.ReasonTLS, Sick
	case errors.Is(err, syscall.ECONNREFUSED):
		return webhook.ReasonRefused, Sick
	case isReset(err):
		return webhook.ReasonReset, Sick
	case r.Stage == StageSend, r.Stage == StageWait:
		return webhook.ReasonReset, Sick
	case r.Stage == StageAnswer:
		return webhook.ReasonProtocol, Sick
	default:
		return webhook.ReasonConnect, Sick
	}
}

func isTLS(err error) bool {
	var (
		verify *tls.CertificateVerificationError
		alert  tls.AlertError
		record tls.RecordHeaderError
	)
	return errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &record)
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func statusDetail(status int) string {
	switch text := http.StatusText(status); {
	case status >= 300 && status <= 399:
		return fmt.Sprintf("answered %d; redirects are not followed", status)
	case text == "":
		return fmt.Sprintf("answered %d", status)
	default:
		return fmt.Sprintf("answered %d %s", status, text)
	}
}

// detail words a failure without a status. The ledger is for people outside
// too, so texts that name our resolver, addresses on our side, or what a name
// of ours resolves to, are replaced.
func detail(reason webhook.Reason, r Result) string {
	var (
		denied  *safedial.DeniedError
		dns     *net.DNSError
		request *RequestError
		verify  *tls.CertificateVerificationError
	)
	switch {
	case reason == webhook.ReasonTimeout:
		return fmt.Sprintf("timed out after %v while %s", r.Duration.Round(time.Millisecond), r.Stage)
	case r.Err == nil:
		return "there was no status"
	case errors.As(r.Err, &request):
		return redact(request.Err.Error())
	case errors.As(r.Err, &denied):
		return redact(deniedDetail(denied))
	case errors.As(r.Err, &dns):
		return string(StageResolve) + ": " + dnsDetail(dns)
	case reason == webhook.ReasonRefused:
		return "the connection was refused"
	case reason == webhook.ReasonReset:
		return "the connection was closed while " + string(r.Stage)
	case errors.As(r.Err, &verify):
		return redact(certificateDetail(verify.Err))
	}
	err := r.Err
	for { // the innermost operation, without our wrapping and net's addresses
		var op *net.OpError
		if !errors.As(err, &op) {
			break
		}
		err = op.Err
	}
	text := strings.TrimPrefix(err.Error(), "posting: while "+string(r.Stage)+": ")
	return redact(string(r.Stage) + ": " + text)
}

func deniedDetail(denied *safedial.DeniedError) string {
	if denied.Kind != "" {
		return "the address of the host is " + denied.Kind
	}
	return denied.Why
}

// dnsDetail goes by the flags alone: the text of a net.DNSError can be that of
// another error of net, with both ends of the resolver's connection.
func dnsDetail(dns *net.DNSError) string {
	switch {
	case dns.IsNotFound:
		return "no such host"
	case dns.IsTimeout:
		return "no answer in time"
	case dns.IsTemporary:
		return "a temporary failure"
	default:
		return "it failed"
	}
}

// certificateDetail leaves out the names and dates of x509's texts where they
// can be long: a hostile certificate holds as many as it likes.
func certificateDetail(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not yet valid"
	case errors.As(err, &authority):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &hostname):
		return "the certificate is for another host name"
	default:
		return "the certificate is not valid: " + err.Error()
	}
}

const maxDetail = 200

// word is a run of what an IP address, with or without a port, is made of.
var word = regexp.MustCompile(`[\w.:%\[\]]+`)

// withoutAddress is for errors that keep another's text without wrapping it.
func withoutAddress(word string) string {
	for _, text := range []string{word, strings.TrimRight(word, ".:")} {
		_, ip := netip.ParseAddr(strings.Trim(text, "[]"))
		_, ipPort := netip.ParseAddrPort(text)
		if ip == nil || ipPort == nil {
			return "(address)" + word[len(text):]
		}
	}
	return word
}

var urlTail = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/?#"']*@)?([^\s/?#"']*)[^\s"']*`)

// redact cuts URLs down to scheme and host, takes IP addresses and control
// characters out, and keeps to the ledger's length.
func redact(text string) string {
	text = urlTail.ReplaceAllString(strings.ToValidUTF8(text, "\uFFFD"), "$1$2")
	text = word.ReplaceAllStringFunc(text, withoutAddress)
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	return clean([]byte(text), maxDetail)
}
