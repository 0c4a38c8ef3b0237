// Package verify checks, at the receiver, that a delivery comes from the
// platform that holds the signing secret, is what was sent, and is fresh. It
// knows the signature schemes of Posthorn's contracts and imports only the
// standard library, so that a receiver can use it by itself:
//
//	v, err := verify.New(verify.Standard, []string{os.Getenv("WEBHOOK_SECRET")})
//	...
//	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
//	...
//	if err := v.Verify(r.Header, body); err != nil {
//		http.Error(w, "signature", http.StatusUnauthorized)
//		return
//	}
//
// Verify the bytes as they were received: JSON that was parsed and written
// again is another body.
package verify

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// DefaultTolerance is how far a delivery's timestamp may lie from the
// receiver's clock, either way.
const DefaultTolerance = 5 * time.Minute

// maxSignatures bounds the work that one request can ask for.
const maxSignatures = 32

// Why a delivery is refused; test for them with [errors.Is].
var (
	ErrMissingHeader = errors.New("a signature header is missing")
	ErrMalformed     = errors.New("a signature header is malformed")
	ErrTooOld        = errors.New("the timestamp is too old")
	ErrTooNew        = errors.New("the timestamp is too far in the future")
	ErrNoMatch       = errors.New("no signature matches")
)

// Error is what [Verifier.Verify] returns: one of the reasons above and where
// it was found. It holds no secret and no expected signature.
type Error struct {
	Reason error  // ErrMissingHeader, ErrMalformed, ErrTooOld, ErrTooNew or ErrNoMatch
	Header string // the header concerned
	Detail string // may be empty
}

func (e *Error) Error() string {
	text := "verifying delivery: " + e.Reason.Error() + ": " + e.Header
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

func (e *Error) Unwrap() error { return e.Reason }

// Verifier verifies the deliveries to one endpoint. It is immutable and safe
// for concurrent use.
type Verifier struct {
	scheme    Scheme
	secrets   []secret
	tolerance time.Duration
	anyTime   bool
	now       func() time.Time
}

// secret is one parsed key.
type secret struct {
	key    []byte            // of HMAC-SHA256
	public ed25519.PublicKey // or else this
}

// Option changes a [Verifier].
type Option func(*Verifier)

// WithTolerance replaces [DefaultTolerance]: one second or more, of which whole
// seconds count, as timestamps have no more.
func WithTolerance(d time.Duration) Option { return func(v *Verifier) { v.tolerance = d } }

// IgnoreTimestamp accepts deliveries of any age, to verify what was stored. A
// receiver that uses it lets anyone replay an old delivery.
func IgnoreTimestamp() Option { return func(v *Verifier) { v.anyTime = true } }

// WithClock replaces [time.Now].
func WithClock(now func() time.Time) Option { return func(v *Verifier) { v.now = now } }

// New returns a verifier for a scheme and the secrets in force: one, or during
// a rotation the old and the new. A delivery passes when any of them signed
// it. The error holds nothing of a secret.
//
// For [Standard] a secret is whsec_ and the base64 of 24 bytes or more (the
// prefix may be missing) or a public key, whpk_ and base64. For the t/v1
// schemes it is the text as it was issued, prefix included, 16 characters or
// more.
func New(scheme Scheme, secrets []string, options ...Option) (*Verifier, error) {
	if scheme.signature == "" {
		return nil, errors.New("making verifier: the scheme is empty: use Standard, Bunship, Bunjang or TV1")
	}
	if len(secrets) == 0 {
		return nil, errors.New("making verifier: at least one secret is needed")
	}
	v := &Verifier{scheme: scheme, tolerance: DefaultTolerance, now: time.Now}
	for i, text := range secrets {
		s, err := scheme.parseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("making verifier: secret %d of %d: %w", i+1, len(secrets), err)
		}
		v.secrets = append(v.secrets, s)
	}
	for _, option := range options {
		option(v)
	}
	if v.tolerance < time.Second {
		return nil, fmt.Errorf("making verifier: a tolerance of %v is below one second", v.tolerance)
	}
	return v, nil
}

// Verify checks a request's headers against the exact bytes of its body. The
// error is an [*Error]; nil means authentic and fresh. Signatures are compared
// in constant time.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	var claim claim
	var err error
	if v.scheme.tv1 {
		claim, err = v.scheme.readTV1(header)
	} else {
		claim, err = readStandard(header)
	}
	if err != nil {
		return err
	}
	if err := v.fresh(claim); err != nil {
		return err
	}
	matched := false
	var whole []byte // ed25519 takes its message in one piece
	for _, s := range v.secrets {
		var want []byte
		if s.public != nil && whole == nil {
			whole = append([]byte(claim.prefix), body...)
		}
		if s.public == nil {
			h := hmac.New(sha256.New, s.key)
			h.Write([]byte(claim.prefix))
			h.Write(body)
			want = h.Sum(nil)
		}
		for _, signature := range claim.signatures {
			// No early return: which secret and which entry matched stays out of
			// the time it takes.
			switch {
			case s.public == nil && !signature.ed25519:
				if hmac.Equal(signature.bytes, want) {
					matched = true
				}
			case s.public != nil && signature.ed25519:
				if ed25519.Verify(s.public, whole, signature.bytes) {
					matched = true
				}
			}
		}
	}
	if !matched {
		return &Error{ErrNoMatch, v.scheme.signature, ""}
	}
	return nil
}

// claim is what the headers say.
type claim struct {
	unix       int64
	timeHeader string // that unix was read from
	prefix     string // of the signed content, before the body
	signatures []signature
}

type signature struct {
	ed25519 bool
	bytes   []byte
}

func (v *Verifier) fresh(c claim) error {
	if v.anyTime {
		return nil
	}
	age := v.now().Unix() - c.unix
	limit := int64(v.tolerance / time.Second)
	switch {
	case age > limit:
		return &Error{ErrTooOld, c.timeHeader, fmt.Sprintf("signed %d seconds ago, %d are allowed", age, limit)}
	case -age > limit:
		return &Error{ErrTooNew, c.timeHeader, fmt.Sprintf("signed %d seconds ahead of this clock, %d are allowed", -age, limit)}
	}
	return nil
}

// single returns the one value of a header. Two values are refused: which of
// them another program on the way reads can't be known.
func single(h http.Header, name string) (string, error) {
	values := h.Values(name)
	switch {
	case len(values) == 0 || len(values) == 1 && strings.TrimSpace(values[0]) == "":
		return "", &Error{ErrMissingHeader, name, ""}
	case len(values) > 1:
		return "", &Error{ErrMalformed, name, "the header is there twice"}
	}
	return strings.TrimSpace(values[0]), nil
}

// unixSeconds reads decimal digits without sign: 12 of them reach the year
// 33658 and can't overflow.
func unixSeconds(s, header string) (int64, error) {
	if s == "" || len(s) > 12 || strings.Trim(s, "0123456789") != "" {
		return 0, &Error{ErrMalformed, header, "the timestamp is not Unix seconds in decimal"}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, &Error{ErrMalformed, header, "the timestamp is not Unix seconds in decimal"}
	}
	return n, nil
}
