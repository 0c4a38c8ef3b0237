package verify

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The headers of Standard Webhooks 1.0.0.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// Scheme is how a delivery is signed. Schemes can be compared with ==.
type Scheme struct {
	name      string
	signature string // the header that holds the signatures
	tv1       bool
}

// The schemes of the contracts that ship.
var (
	// Standard is Standard Webhooks 1.0.0, of the contracts standard and
	// bigcommerce: HMAC-SHA256 (v1) and ed25519 (v1a).
	Standard = Scheme{name: "standard", signature: headerSignature}
	// Bunship is the t/v1 form in X-Webhook-Signature.
	Bunship = Scheme{name: "bunship", signature: "X-Webhook-Signature", tv1: true}
	// Bunjang is the t/v1 form in X-Bun-Webhook-Signature.
	Bunjang = Scheme{name: "bunjang", signature: "X-Bun-Webhook-Signature", tv1: true}
)

// TV1 returns the scheme of a contract of the operator's own that signs
// "t=<Unix seconds>,v1=<hex>" in that header.
func TV1(header string) Scheme {
	header = http.CanonicalHeaderKey(header)
	for _, known := range []Scheme{Bunship, Bunjang} {
		if header == http.CanonicalHeaderKey(known.signature) {
			return known
		}
	}
	return Scheme{name: "t-v1", signature: header, tv1: true}
}

// ForContract returns the scheme of a contract that ships.
func ForContract(name string) (Scheme, bool) {
	switch name {
	case "standard", "bigcommerce":
		return Standard, true
	case "bunship":
		return Bunship, true
	case "bunjang":
		return Bunjang, true
	}
	return Scheme{}, false
}

// String returns the scheme's name: standard, bunship, bunjang or t-v1.
func (s Scheme) String() string { return s.name }

// Detect tells by a request's headers which scheme signed it. It proves
// nothing: verify with the secret of that scheme. A request that carries the
// headers of two schemes is none.
func Detect(header http.Header) (Scheme, bool) {
	var found []Scheme
	for _, s := range []Scheme{Standard, Bunship, Bunjang} {
		if header.Get(s.signature) != "" {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return Scheme{}, false
	}
	return found[0], true
}

// What a secret has at least: a shorter one, as from a variable that was cut or
// left empty, would let forgeries through rather than fail.
const (
	minStandardKey = 24 // bytes; Standard Webhooks 1.0.0: 192 bits
	minTV1Secret   = 16 // characters
)

func (s Scheme) parseSecret(text string) (secret, error) {
	if s.tv1 {
		if len(text) < minTV1Secret {
			return secret{}, fmt.Errorf("it has %d characters, want %d or more", len(text), minTV1Secret)
		}
		return secret{key: []byte(text)}, nil
	}
	if strings.HasPrefix(text, "whsk_") {
		return secret{}, errors.New("it is the sender's private key; want the public one, whpk_ and base64")
	}
	if encoded, ok := strings.CutPrefix(text, "whpk_"); ok {
		key, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return secret{}, fmt.Errorf("want whpk_ and the base64 of %d bytes", ed25519.PublicKeySize)
		}
		return secret{public: key}, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	if err != nil || len(key) == 0 {
		return secret{}, errors.New("want whsec_ and base64")
	}
	if len(key) < minStandardKey {
		return secret{}, fmt.Errorf("the key has %d bytes, want %d or more", len(key), minStandardKey)
	}
	return secret{key: key}, nil
}

// readStandard reads the three headers of Standard Webhooks. Signatures of
// versions that it doesn't know are passed over, as the specification asks.
func readStandard(h http.Header) (claim, error) {
	id, err := single(h, headerID)
	if err != nil {
		return claim{}, err
	}
	timestamp, err := single(h, headerTimestamp)
	if err != nil {
		return claim{}, err
	}
	list, err := single(h, headerSignature)
	if err != nil {
		return claim{}, err
	}
	if strings.Contains(id, ".") {
		// The dot separates what is signed: with one in the ID, a body that begins
		// with digits and a dot could be read as another timestamp.
		return claim{}, &Error{ErrMalformed, headerID, "the ID holds a dot"}
	}
	c := claim{timeHeader: headerTimestamp, prefix: id + "." + timestamp + "."}
	if c.unix, err = unixSeconds(timestamp, headerTimestamp); err != nil {
		return claim{}, err
	}
	for entry := range strings.FieldsSeq(list) {
		version, encoded, ok := strings.Cut(entry, ",")
		if !ok {
			return claim{}, &Error{ErrMalformed, headerSignature, "an entry has no comma between version and signature"}
		}
		if version != "v1" && version != "v1a" {
			continue
		}
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return claim{}, &Error{ErrMalformed, headerSignature, "a signature is not base64"}
		}
		if c.signatures = append(c.signatures, signature{version == "v1a", b}); len(c.signatures) > maxSignatures {
			return claim{}, &Error{ErrMalformed, headerSignature, "too many signatures"}
		}
	}
	if len(c.signatures) == 0 {
		return claim{}, &Error{ErrMalformed, headerSignature, "no v1 or v1a signature"}
	}
	return c, nil
}

// readTV1 reads "t=<Unix seconds>,v1=<hex>[,v1=<hex>...]"; other keys are
// passed over.
func (s Scheme) readTV1(h http.Header) (claim, error) {
	malformed := func(detail string) error {
		return &Error{ErrMalformed, s.signature, detail}
	}
	value, err := single(h, s.signature)
	if err != nil {
		return claim{}, err
	}
	c := claim{timeHeader: s.signature}
	for entry := range strings.SplitSeq(value, ",") {
		name, text, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok {
			return claim{}, malformed("want t=<Unix seconds>,v1=<hex>")
		}
		switch name {
		case "t":
			if c.prefix != "" {
				return claim{}, malformed("t is there twice")
			}
			if c.unix, err = unixSeconds(text, s.signature); err != nil {
				return claim{}, err
			}
			c.prefix = text + "."
		case "v1":
			b, err := hex.DecodeString(text)
			if err != nil {
				return claim{}, malformed("v1 is not hex")
			}
			if c.signatures = append(c.signatures, signature{bytes: b}); len(c.signatures) > maxSignatures {
				return claim{}, malformed("too many signatures")
			}
		}
	}
	switch {
	case c.prefix == "":
		return claim{}, malformed("no t entry")
	case len(c.signatures) == 0:
		return claim{}, malformed("no v1 entry")
	}
	return c, nil
}
