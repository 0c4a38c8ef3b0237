package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"posthorn/webhook"
)

// An Idempotency-Key needs no table of past requests. The ID of the endpoint is
// derived from tenant and key, so a repeat finds what the first request
// created, also when another process answered that one; and the ID of its
// first secret is derived from tenant, key and body, so a repeat with another
// body shows, also when the endpoint has been updated since. Both are HMACs:
// without the key of the configuration nobody can choose them, or test guesses
// of a secret that was brought along.
//
// What is deleted is forgotten: a repeat creates it anew. Once rotation has
// dropped the first secret, bodies are no longer compared.

const (
	secretPrefix = "sec_"
	// onceSecretPrefix begins the ID of a secret that a create with an
	// Idempotency-Key made; no other secret's ID begins so, since base32 has
	// no underscore.
	onceSecretPrefix = "sec_once_"

	maxIdempotencyKey = 255
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newSecretID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails (Go 1.24)
	return secretPrefix + idEncoding.EncodeToString(id[:])
}

// idempotencyKeyProblem says what is wrong with a key that was given.
func idempotencyKeyProblem(key string) string {
	if len(key) > maxIdempotencyKey {
		return fmt.Sprintf("it has %d characters, at most %d are allowed", len(key), maxIdempotencyKey)
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "it may hold only printable ASCII characters; a random UUID is a good key"
	}
	return ""
}

func keyReused() *Problem {
	p := newProblem(http.StatusUnprocessableEntity, "This Idempotency-Key was used for a request with another body. Use a new key for a new request.")
	p.Type, p.Title = TypeKeyReused, "Idempotency-Key reused"
	return p
}

// onceIDs returns the IDs that a create with an Idempotency-Key gives to the
// endpoint and its secret. The body counts as it was understood: neither white
// space nor the order of fields matters.
func (s *server) onceIDs(tenant, key string, body *EndpointCreate) (endpointID, secretID string, err error) {
	canonical, err := json.Marshal(body)
	if err != nil {
		return "", "", fmt.Errorf("encoding request body: %w", err)
	}
	return webhook.EndpointPrefix + s.derive("endpoint", tenant, key),
		onceSecretPrefix + s.derive("request", tenant, key, string(canonical)), nil
}

// derive returns 128 bits of an HMAC-SHA256 over the parts, in base32. Every
// part is behind its length, so that no two lists give the same input.
func (s *server) derive(parts ...string) string {
	mac := hmac.New(sha256.New, s.cfg.IdempotencyKey)
	mac.Write([]byte("posthorn api v1"))
	for _, part := range parts {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write([]byte(part))
	}
	return idEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// madeByAnother reports whether the create that made an endpoint is known to
// have had another body than the one whose secret would be called secretID.
func madeByAnother(ep *webhook.Endpoint, secretID string) bool {
	for _, secret := range ep.Secrets {
		if strings.HasPrefix(secret.ID, onceSecretPrefix) {
			return secret.ID != secretID
		}
	}
	return false
}
