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
	// Filter is a CEL expression that an event of a subscribed type has to meet as
	// well; empty for none.
	Filter string `json:"filter,omitempty"`
	// Contract names how a delivery looks on the wire, "standard" by default.
	Contract string `json:"contract"`
	// Headers are sent with every POST besides the contract's own.
	Headers map[string]string `json:"headers,omitempty"`
	// Secrets are the live signing secrets, newest first.
	Secrets []SealedSecret `json:"secrets,omitempty"`
	// Disabled stops matching, and OnDisable says what becomes of what is
	// already queued.
	Disabled  bool      `json:"disabled,omitempty"`
	OnDisable OnDisable `json:"on_disable,omitempty"`
	// DisabledReason is why it was disabled, empty while it is not; DisabledAt
	// and EnabledAt are when it was last disabled and enabled again.
	DisabledReason DisabledReason `json:"disabled_reason,omitempty"`
	DisabledAt     time.Time      `json:"disabled_at,omitzero"`
	EnabledAt      time.Time      `json:"enabled_at,omitzero"`
	// Paused keeps everything waiting: it is matched, and nothing is POSTed.
	Paused bool `json:"paused,omitempty"`
	// PurgeBefore discards what was matched before it, when it surfaces.
	// PurgedAt is when that was asked for, which may be later.
	PurgeBefore time.Time `json:"purge_before,omitzero"`
	PurgedAt    time.Time `json:"purged_at,omitzero"`
	// RateLimit is the most POSTs per second; 0 means no limit.
	RateLimit float64 `json:"rate_limit,omitempty"`
	// MaxInFlight is the most concurrent POSTs; 0 means the line's default.
	MaxInFlight int       `json:"max_in_flight,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	// Version counts the endpoint's changes, from 1; it is the ETag.
	Version int64 `json:"version"`
}

// Purged returns when the endpoint's backlog was last purged; zero for never. What
// an earlier version has written says only before when.
func (ep *Endpoint) Purged() time.Time {
	if ep.PurgedAt.After(ep.PurgeBefore) {
		return ep.PurgedAt
	}
	return ep.PurgeBefore
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

// OnDisable says what becomes of what is queued for an endpoint that is disabled.
type OnDisable string

// What may become of it.
const (
	OnDisableDiscard OnDisable = ""     // it is discarded
	OnDisablePark    OnDisable = "park" // it waits until the endpoint is enabled again, or it is too old
)

// DisabledReason says who or what disabled an endpoint.
type DisabledReason string

// The reasons.
const (
	DisabledRequested DisabledReason = "requested" // whoever manages it
	DisabledFailing   DisabledReason = "failing"   // it failed for too long
	DisabledExhausted DisabledReason = "exhausted" // too many deliveries in a row ran out of attempts
	DisabledGone      DisabledReason = "gone"      // the receiver said that it is no more
	DisabledInactive  DisabledReason = "inactive"  // no event for too long
)
