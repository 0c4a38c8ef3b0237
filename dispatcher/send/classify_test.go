package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"posthorn/dispatcher/safedial"
	"posthorn/webhook"
)

// retrySome is bunjang's rule: 5xx, 429 and the network.
var retrySome = RetryableFunc(func(status int) bool { return status == 0 || status == 429 || status >= 500 })

func TestEveryStatusHasOneReasonVerdictAndHealth(t *testing.T) {
	for _, tc := range []struct {
		status    int
		reason    webhook.Reason
		all, some Verdict
		health    Health
	}{
		{200, webhook.ReasonOK, Delivered, Delivered, Alive},
		{204, webhook.ReasonOK, Delivered, Delivered, Alive},
		{299, webhook.ReasonOK, Delivered, Delivered, Alive},
		{101, webhook.ReasonStatusOther, Retryable, Permanent, Sick},
		{199, webhook.ReasonStatusOther, Retryable, Permanent, Sick},
		{300, webhook.ReasonStatus3xx, Retryable, Permanent, Alive},
		{302, webhook.ReasonStatus3xx, Retryable, Permanent, Alive},
		{400, webhook.ReasonStatus4xx, Retryable, Permanent, Alive},
		{404, webhook.ReasonStatus4xx, Retryable, Permanent, Alive},
		{408, webhook.ReasonStatus4xx, Retryable, Permanent, Sick},
		{410, webhook.ReasonGone, Permanent, Permanent, Alive},
		{429, webhook.ReasonThrottled, Retryable, Retryable, Sick},
		{499, webhook.ReasonStatus4xx, Retryable, Permanent, Alive},
		{500, webhook.ReasonStatus5xx, Retryable, Retryable, Sick},
		{599, webhook.ReasonStatus5xx, Retryable, Retryable, Sick},
		{600, webhook.ReasonStatusOther, Retryable, Retryable, Sick},
		{999, webhook.ReasonStatusOther, Retryable, Retryable, Sick},
	} {
		at := time.Now().Add(time.Minute)
		// An error or a cut beside a status changes nothing: the status line decides.
		r := Result{Status: tc.status, Err: io.ErrUnexpectedEOF, Cut: true, RetryAt: at}
		all, some := Classify(r, retryAll), Classify(r, retrySome)
		if all.Reason != tc.reason || some.Reason != tc.reason || all.Verdict != tc.all || some.Verdict != tc.some ||
			all.Health != tc.health || some.Health != tc.health {
			t.Errorf("%d: %+v, %+v", tc.status, all, some)
		}
		if (all.Verdict == Delivered) == all.RetryAt.Equal(at) {
			t.Errorf("%d: retry at %v", tc.status, all.RetryAt)
		}
	}
}

// timedOut is a net.Error like net/http's unexported ones.
type timedOut struct{}

func (timedOut) Error() string   { return "net/http: TLS handshake timeout" }
func (timedOut) Timeout() bool   { return true }
func (timedOut) Temporary() bool { return true }

func TestEveryFailureWithoutAStatusHasOneReason(t *testing.T) {
	op := func(err error) error {
		return fmt.Errorf("posting: %w", &net.OpError{Op: "dial", Net: "tcp", Err: err})
	}
	for _, tc := range []struct {
		name   string
		result Result
		reason webhook.Reason
		health Health
	}{
		{"cut", Result{Cut: true, Err: context.Canceled, Stage: StageWait}, webhook.ReasonCut, Unknown},
		{"request", Result{Err: &RequestError{errors.New("x")}}, webhook.ReasonRequest, Unknown},
		{"nothing", Result{}, webhook.ReasonProtocol, Sick},
		{"denied", Result{Err: op(&safedial.DeniedError{Why: "10.0.0.1 is in a private network"}), Stage: StageConnect}, webhook.ReasonAddressDenied, Unknown},
		{"our timeout", Result{Err: fmt.Errorf("posting: %w", ErrTimeout), Stage: StageWait}, webhook.ReasonTimeout, Sick},
		{"dial timeout", Result{Err: op(context.DeadlineExceeded), Stage: StageConnect}, webhook.ReasonTimeout, Sick},
		{"kernel timeout", Result{Err: op(syscall.ETIMEDOUT), Stage: StageConnect}, webhook.ReasonTimeout, Sick},
		{"handshake timeout", Result{Err: timedOut{}, Stage: StageTLS}, webhook.ReasonTimeout, Sick},
		{"no such host", Result{Err: op(&net.DNSError{Err: "no such host", IsNotFound: true}), Stage: StageResolve}, webhook.ReasonDNS, Sick},
		{"resolver timeout", Result{Err: op(&net.DNSError{Err: "i/o timeout", IsTimeout: true}), Stage: StageResolve}, webhook.ReasonDNS, Sick},
		{"refused", Result{Err: op(syscall.ECONNREFUSED), Stage: StageConnect}, webhook.ReasonRefused, Sick},
		{"unreachable", Result{Err: op(syscall.ENETUNREACH), Stage: StageConnect}, webhook.ReasonConnect, Sick},
		{"handshake", Result{Err: errors.New("tls: server selected unsupported protocol version 301"), Stage: StageTLS}, webhook.ReasonTLS, Sick},
		{"closed in the handshake", Result{Err: io.EOF, Stage: StageTLS}, webhook.ReasonTLS, Sick},
		{"alert later", Result{Err: op(tls.AlertError(42)), Stage: StageWait}, webhook.ReasonTLS, Sick},
		{"reset", Result{Err: op(syscall.ECONNRESET), Stage: StageWait}, webhook.ReasonReset, Sick},
		{"pipe", Result{Err: op(syscall.EPIPE), Stage: StageSend}, webhook.ReasonReset, Sick},
		{"closed idle", Result{Err: errors.New("http: server closed idle connection"), Stage: StageWait}, webhook.ReasonReset, Sick},
		{"closed in the header", Result{Err: io.ErrUnexpectedEOF, Stage: StageAnswer}, webhook.ReasonReset, Sick},
		{"not HTTP", Result{Err: errors.New("malformed HTTP response"), Stage: StageAnswer}, webhook.ReasonProtocol, Sick},
	} {
		out := Classify(tc.result, retrySome)
		want := Retryable
		if tc.reason == webhook.ReasonCut {
			want = Cut
		}
		if out.Reason != tc.reason || out.Health != tc.health || out.Verdict != want {
			t.Errorf("%s: %+v", tc.name, out)
		}
		if tc.reason != webhook.ReasonCut && tc.reason != webhook.ReasonRequest {
			if out := Classify(tc.result, RetryableFunc(func(int) bool { return false })); out.Verdict != Permanent {
				t.Errorf("%s: %v although the contract retries nothing", tc.name, out.Verdict)
			}
		}
	}
}

func TestDetailsAreShortAndHoldNoSecrets(t *testing.T) {
	long := strings.Repeat("ü\x00\x1b[31m", 300)
	for _, r := range []Result{
		{Status: 302}, {Status: 404}, {Status: 799},
		{Err: &RequestError{errors.New("see https://user:secret@hooks.example.com/T000/secret?token=secret#secret, or ftp://a@b:secret@host/secret")}},
		{Err: errors.New("proxyconnect http://u:secret@proxy:3128: " + long), Stage: StageConnect},
		{Err: errors.New("malformed HTTP response \"" + long + "\xff\""), Stage: StageAnswer},
		{Err: &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 9, 8, 7)}, Err: errors.New("odd")}, Stage: StageConnect},
		{Err: &net.DNSError{Err: "server misbehaving", Name: "x.example", Server: "10.9.8.7:53"}, Stage: StageResolve},
		{Err: &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.NameMismatch, Detail: long}}, Stage: StageTLS},
		{Err: ErrTimeout, Stage: StageWait, Duration: 1234567 * time.Microsecond},
		{Cut: true, Stage: StageWait},
	} {
		d := Classify(r, retryAll).Detail
		if d == "" || utf8.RuneCountInString(d) > 200 || !utf8.ValidString(d) || strings.ContainsAny(d, "\x00\x1b\n\r") {
			t.Errorf("%v: detail %q", r.Err, d)
		}
		if strings.Contains(d, "secret") || strings.Contains(d, "10.9.8.7") {
			t.Errorf("detail %q tells too much", d)
		}
	}
	if d := redact("at https://hooks.example.com:8443/T/1?a=b now"); d != "at https://hooks.example.com:8443 now" {
		t.Errorf("redacted to %q", d)
	}
}

func FuzzRedactedTextHoldsNoURLTail(f *testing.F) {
	f.Add("http://u:p@h/x?y#z", "x")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if d := redact(text); utf8.RuneCountInString(d) > 200 || !utf8.ValidString(d) {
			t.Errorf("%q", d)
		}
		for _, tail := range []string{"/", "?", "#", "/?", "/#"} {
			secret := "s3cr3t" + strings.Trim(strings.Join(strings.Fields(secret), ""), `"'`)
			if strings.ContainsAny(secret, `"'`) {
				return
			}
			if d := redact("https://host.example" + tail + secret + " end"); strings.Contains(d, "s3cr3t") {
				t.Errorf("%q of %q", d, secret)
			}
		}
	})
}
