package contract

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// The prefixes of Standard Webhooks 1.0.0 secrets.
const (
	prefixSymmetric = "whsec_"
	prefixPrivate   = "whsk_"
	prefixPublic    = "whpk_"
)

// Secret is a parsed signing secret. Printing, logging or encoding it shows
// nothing of it. The zero value signs nothing.
type Secret struct {
	key     []byte             // of HMAC-SHA256
	macs    *sync.Pool         // of hash.Hash with the key taken in, which is half the work for a small body
	private ed25519.PrivateKey // or else this
}

func symmetric(key []byte) Secret {
	return Secret{key: key, macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// mac appends the HMAC-SHA256 of prefix and body.
func (s *Secret) mac(dst, prefix, body []byte) []byte {
	h := s.macs.Get().(hash.Hash)
	defer s.macs.Put(h)
	h.Reset()
	h.Write(prefix)
	h.Write(body)
	return h.Sum(dst)
}

// Format hides the secret from every verb of package fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// LogValue hides the secret from log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// PublicKey returns what the receivers of an ed25519 secret verify with, in
// the form "whpk_" and base64; false for a symmetric secret.
func (s Secret) PublicKey() (string, bool) {
	if s.private == nil {
		return "", false
	}
	public := s.private.Public().(ed25519.PublicKey)
	return prefixPublic + base64.StdEncoding.EncodeToString(public), true
}

type secretKind int

const (
	// secretStandard is whsec_ and the base64 of a key of 24 to 64 bytes, or
	// whsk_ and that of an ed25519 private key.
	secretStandard secretKind = iota + 1
	// secretHex is a prefix and 64 hex digits; the key is the whole text.
	secretHex
	// secretText is any printable ASCII of 16 to 256 characters; the key is the
	// whole text. One that is generated looks like secretHex.
	secretText
)

// secretFormat is what a contract's secrets look like.
type secretFormat struct {
	kind      secretKind
	prefix    string
	ed25519   bool // generate whsk_ secrets
	symmetric bool // refuse whsk_ secrets: the scheme can't use them
	overlap   time.Duration
}

// GenerateSecret returns a new secret from the system's random source, as it
// is shown to the receiver's owner once.
func (c *Contract) GenerateSecret() string {
	f := c.secret
	if f.kind != secretStandard {
		var key [32]byte
		rand.Read(key[:]) // never fails (Go 1.24)
		return f.prefix + hex.EncodeToString(key[:])
	}
	if f.ed25519 {
		var seed [ed25519.SeedSize]byte
		rand.Read(seed[:])
		return prefixPrivate + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed[:]))
	}
	var key [32]byte
	rand.Read(key[:])
	return prefixSymmetric + base64.StdEncoding.EncodeToString(key[:])
}

// ParseSecret reads a secret that was generated or that the receiver's owner
// brought along. The error says what is wrong and what would be right, and
// holds nothing of the secret.
func (c *Contract) ParseSecret(text string) (Secret, error) {
	s, err := c.secret.parse(text)
	if err != nil {
		return Secret{}, fmt.Errorf("reading secret for contract %q: %w", c.name, err)
	}
	return s, nil
}

func (f secretFormat) parse(text string) (Secret, error) {
	switch f.kind {
	case secretHex:
		digits, ok := strings.CutPrefix(text, f.prefix)
		key, err := hex.DecodeString(digits)
		if !ok || err != nil || len(digits) != 64 {
			return Secret{}, fmt.Errorf("want %q and 64 hex digits", f.prefix)
		}
		if oneByte(key) {
			return Secret{}, errWeak
		}
		return symmetric([]byte(text)), nil
	case secretText:
		for i := range len(text) {
			if text[i] < '!' || text[i] > '~' {
				return Secret{}, errors.New("want printable ASCII without spaces")
			}
		}
		if len(text) < 16 || len(text) > 256 {
			return Secret{}, fmt.Errorf("it has %d characters, want 16 to 256", len(text))
		}
		if oneByte([]byte(strings.TrimPrefix(text, f.prefix))) {
			return Secret{}, errWeak
		}
		return symmetric([]byte(text)), nil
	}
	if encoded, ok := strings.CutPrefix(text, prefixPrivate); ok {
		if f.symmetric {
			return Secret{}, errors.New("it is an ed25519 private key, which this contract's signature scheme can't use; want whsec_ and base64")
		}
		return parsePrivate(encoded)
	}
	if strings.HasPrefix(text, prefixPublic) {
		return Secret{}, errors.New("it is a public key, which can't sign; want the private one, whsk_ and base64")
	}
	key, err := decodeBase64(strings.TrimPrefix(text, prefixSymmetric))
	if err != nil {
		return Secret{}, errors.New("want whsec_ and padded standard base64")
	}
	if len(key) < 24 || len(key) > 64 { // Standard Webhooks 1.0.0: 192 to 512 bits
		return Secret{}, fmt.Errorf("the key has %d bytes, want 24 to 64", len(key))
	}
	if oneByte(key) {
		return Secret{}, errWeak
	}
	return symmetric(key), nil
}

var errWeak = errors.New("the key is one byte over and over, which anyone guesses; want random bytes")

// oneByte reports whether a key repeats a single byte, as placeholders do.
func oneByte(key []byte) bool {
	return bytes.Count(key, key[:min(1, len(key))]) >= len(key)
}

// parsePrivate takes the seed alone, or the seed and the public key behind it
// as libsodium and RFC 8032 implementations write it.
func parsePrivate(encoded string) (Secret, error) {
	b, err := decodeBase64(encoded)
	if err != nil {
		return Secret{}, errors.New("want whsk_ and padded standard base64")
	}
	if len(b) != ed25519.SeedSize && len(b) != ed25519.PrivateKeySize {
		return Secret{}, fmt.Errorf("the ed25519 key has %d bytes, want 32 or 64", len(b))
	}
	if oneByte(b[:ed25519.SeedSize]) {
		return Secret{}, errWeak
	}
	private := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	if len(b) == ed25519.PrivateKeySize && !bytes.Equal(private, b) {
		return Secret{}, errors.New("the ed25519 private and public halves don't belong together")
	}
	return Secret{private: private}, nil
}

// decodeBase64 is strict where encoding/base64 is not: it skips line breaks,
// and receivers' libraries may not.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(strings.IndexAny(s, "\r\n"))
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}
