package webhook

import "time"

// EndpointPrefix begins every endpoint ID.
const EndpointPrefix = "ep_"

// Endpoint is a receiver that a tenant registered: where to POST, which event
// types it wants, and how the POST looks.
//
// The JSON form is the record "endpoint/ID" of the registry topic. Secrets are
// in it only sealed.
type Endpoint struct {
	ID          string `json:"id"`
	Tenant      string `json:"tenant"`
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
	// Events are the subscribed type patterns; empty means every type.
	Events []string `json:"events,omitempty"`
	// Contract names how a delivery looks on the wire, "standard" by default.
	Contract string `json:"contract"`
	// Headers are sent with every POST besides the contract's own.
	Headers map[string]string `json:"headers,omitempty"`
	// Secrets are the live signing secrets, newest first.
	Secrets []SealedSecret `json:"secrets,omitempty"`
	// Disabled stops matching and discards what is already queued.
	Disabled bool `json:"disabled,omitempty"`
	// RateLimit is the most POSTs per second; 0 means no limit.
	RateLimit float64 `json:"rate_limit,omitempty"`
	// MaxInFlight is the most concurrent POSTs; 0 means the line's default.
	MaxInFlight int       `json:"max_in_flight,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// Version counts the endpoint's changes, from 1; it is the ETag.
	Version int64 `json:"version"`
}

// SealedSecret is one signing secret, encrypted with the keyset. The
// associated data binds it to its tenant, endpoint and ID.
type SealedSecret struct {
	ID string `json:"id"`
	// Sealed is the ciphertext.
	Sealed    []byte    `json:"sealed"`
	CreatedAt time.Time `json:"created_at"`
	// ExpiresAt ends a rotated secret's overlap; zero while it is current.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Live reports whether the secret still signs at that time.
func (s SealedSecret) Live(now time.Time) bool {
	return s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt)
}
