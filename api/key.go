package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
	"time"

	"posthorn/webhook"
)

// A key is "ph_", 16 characters that name it, "_" and 52 that are secret: 80
// and 256 random bits in base32. The name is that of its record, "key_" and
// the 16: so a key is found without comparing anything secret, and whoever
// finds a leaked one can say which it is.
const (
	keyPrefix   = "ph_"
	keyIDPrefix = "key_"
	keyIDBytes  = 10
	secretBytes = 32
	keyIDChars  = keyIDBytes * 8 / 5
	secretChars = (secretBytes*8 + 4) / 5
	keyChars    = len(keyPrefix) + keyIDChars + 1 + secretChars

	// MinAdminKey is the least length of a key of the configuration.
	MinAdminKey = 32
)

// KindKey is the registry's kind of API keys.
const KindKey = "key"

var keys = table[webhook.APIKey, *webhook.APIKey](KindKey)

// NewKeyID returns the ID of a new key.
func NewKeyID() string {
	var id [keyIDBytes]byte
	rand.Read(id[:]) // never fails (Go 1.24)
	return keyIDPrefix + idEncoding.EncodeToString(id[:])
}

// IssueKey makes the key of a record that has an ID, and sets its Hash and
// LastFour. The key is to be shown once and kept nowhere.
func IssueKey(record *webhook.APIKey) (key string) {
	var secret [secretBytes]byte
	rand.Read(secret[:])
	key = keyPrefix + strings.TrimPrefix(record.ID, keyIDPrefix) + "_" + idEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(key))
	record.Hash, record.LastFour = sum[:], key[len(key)-4:]
	return key
}

// keyIDOf returns the ID that a key names.
func keyIDOf(key string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(key, keyPrefix)
	if !ok || len(key) != keyChars || rest[keyIDChars] != '_' {
		return "", false
	}
	return keyIDPrefix + rest[:keyIDChars], true
}

// principal returns whose key it is, if it is valid now.
func (s *server) principal(key string) (Principal, bool) {
	sum := sha256.Sum256([]byte(key))
	for i := range s.admins {
		if subtle.ConstantTimeCompare(sum[:], s.admins[i][:]) == 1 {
			return Principal{ID: configKeyID(i)}, true
		}
	}
	id, ok := keyIDOf(key)
	if !ok {
		return Principal{}, false
	}
	k, ok := keys.get(s.cfg.Records, id)
	if !ok || subtle.ConstantTimeCompare(sum[:], k.Hash) != 1 {
		return Principal{}, false
	}
	if !k.ExpiresAt.IsZero() && !time.Now().Before(k.ExpiresAt) {
		return Principal{}, false
	}
	return Principal{ID: k.ID, Tenant: k.Tenant, ReadOnly: k.ReadOnly}, true
}
