package contract

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"

	"posthorn/webhook"
)

// ErrSecretKind is returned by [Contract.Headers] for a secret that can't sign
// by the contract's scheme: an ed25519 key where a MAC is asked for.
var ErrSecretKind = errors.New("the secret is an ed25519 key, but the signature scheme is HMAC-SHA256")

// The canonical names of the Standard Webhooks headers.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

type schemeKind int

const (
	// schemeStandard is Standard Webhooks 1.0.0: "v1," and the base64 of
	// HMAC-SHA256, or "v1a," and that of ed25519, over id "." timestamp "."
	// body; several signatures stand side by side with a space between.
	schemeStandard schemeKind = iota + 1
	// schemeTV1 is one header "t=<Unix seconds>,v1=<hex>" with HMAC-SHA256 over
	// t "." body; several signatures are several v1 entries.
	schemeTV1
)

// signature is how a contract signs.
type signature struct {
	scheme schemeKind
	header string // canonical, of schemeTV1
}

// headers returns the canonical names that the signature sets.
func (s signature) headers() []string {
	if s.scheme == schemeTV1 {
		return []string{s.header}
	}
	return []string{headerID, headerTimestamp, headerSignature}
}

func (s signature) sign(d *webhook.Delivery, unix int64, secrets []Secret, set func(name, value string)) error {
	if s.scheme == schemeTV1 {
		value, err := signTV1(d.Body, unix, secrets)
		if err != nil {
			return err
		}
		set(s.header, value)
		return nil
	}
	value, err := signStandard(d, unix, secrets)
	if err != nil {
		return err
	}
	set(headerID, d.ID)
	set(headerTimestamp, strconv.FormatInt(unix, 10))
	set(headerSignature, value)
	return nil
}

func signStandard(d *webhook.Delivery, unix int64, secrets []Secret) (string, error) {
	prefix := make([]byte, 0, len(d.ID)+24)
	prefix = append(prefix, d.ID...)
	prefix = append(prefix, '.')
	prefix = strconv.AppendInt(prefix, unix, 10)
	prefix = append(prefix, '.')

	out := make([]byte, 0, len(secrets)*96) // a signature of either kind takes at most 93 bytes
	var whole []byte                        // ed25519 takes its message in one piece
	for i := range secrets {
		if i > 0 {
			out = append(out, ' ')
		}
		switch s := &secrets[i]; {
		case s.private != nil:
			if whole == nil {
				whole = append(append(make([]byte, 0, len(prefix)+len(d.Body)), prefix...), d.Body...)
			}
			out = append(out, "v1a,"...)
			out = base64.StdEncoding.AppendEncode(out, ed25519.Sign(s.private, whole))
		case s.key != nil:
			var sum [sha256.Size]byte
			out = append(out, "v1,"...)
			out = base64.StdEncoding.AppendEncode(out, s.mac(sum[:0], prefix, d.Body))
		default:
			return "", ErrNoSecret
		}
	}
	return string(out), nil
}

func signTV1(body []byte, unix int64, secrets []Secret) (string, error) {
	prefix := strconv.AppendInt(make([]byte, 0, 24), unix, 10)
	out := make([]byte, 0, 24+len(secrets)*(4+2*sha256.Size))
	out = append(out, "t="...)
	out = append(out, prefix...)
	prefix = append(prefix, '.')
	for i := range secrets {
		switch s := &secrets[i]; {
		case s.private != nil:
			return "", ErrSecretKind
		case s.key == nil:
			return "", ErrNoSecret
		default:
			var sum [sha256.Size]byte
			out = append(out, ",v1="...)
			out = hex.AppendEncode(out, s.mac(sum[:0], prefix, body))
		}
	}
	return string(out), nil
}
