package webhook

import "time"

// APIKey is a key of the admin API as it is recorded: without the key itself.
// The JSON form is the record "key/ID" of the registry topic.
type APIKey struct {
	ID          string `json:"id"` // "key_…"
	Description string `json:"description,omitempty"`
	// Tenant that the key is bound to; empty for an administrator's.
	Tenant string `json:"tenant,omitempty"`
	// ReadOnly keys change nothing.
	ReadOnly bool `json:"read_only,omitempty"`
	// ExpiresAt ends the key; zero for never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Hash is the SHA-256 of the whole key. A slow hash is for what people make
	// up: this one's input holds 256 random bits, which nobody can guess
	// whatever a guess costs.
	Hash []byte `json:"hash"`
	// LastFour are the key's last four characters, to recognise it by.
	LastFour string `json:"last_four"`
	RecordMeta
}
