package webhook

import "time"

// Tenant is what is known of a platform's customer besides its endpoints. The
// JSON form is the record "tenant/ID" of the registry topic. A tenant without
// one has the defaults: it may have endpoints and gets its events.
type Tenant struct {
	ID          string `json:"id"` // as in the events
	Description string `json:"description,omitempty"`
	// Plan names a plan of the configuration; empty for the default one.
	Plan string `json:"plan,omitempty"`
	// MaxEndpoints takes the place of the plan's limit; nil leaves that.
	MaxEndpoints *int `json:"max_endpoints,omitempty"`
	// Suspended keeps the tenant's events from being matched, and discards what
	// is queued.
	Suspended bool `json:"suspended,omitempty"`
	RecordMeta
}

// RecordMeta is what every record of the registry has that users write.
type RecordMeta struct {
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	// Version counts the record's changes, from 1; it is the ETag.
	Version int64 `json:"version"`
	// Once and Request are HMACs of the Idempotency-Key that the record was
	// created with, without and with the request's body; empty without a key.
	Once    string `json:"once,omitempty"`
	Request string `json:"request,omitempty"`
}

// Meta returns m itself, for code that works on any kind of record.
func (m *RecordMeta) Meta() *RecordMeta { return m }
