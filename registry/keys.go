package registry

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"posthorn/webhook"
)

// The kinds of records, the part of a key before its first slash.
const (
	KindTenant    = "tenant"    // written by users: see [webhook.Tenant]
	KindEndpoint  = "endpoint"  // written by users
	KindBreaker   = "breaker"   // learned: see [BreakerState]
	KindHealth    = "health"    // learned: see lifecycle.State
	KindNotice    = "notice"    // the last warning of an endpoint that fails, written under the lock
	KindFilter    = "filter"    // learned: see [webhook.FilterTrouble]
	KindReplay    = "replay"    // written by users: see [webhook.Replay]; its ID is "tenant/ID"
	KindProgress  = "progress"  // learned: see [webhook.ReplayProgress]; by the replay's ID
	KindHeartbeat = "heartbeat" // written by every process each minute: see [Clock]
)

// Key joins a kind and an ID into a record key.
func Key(kind, id string) string { return kind + "/" + id }

// SplitKey is the inverse of [Key]. Both parts are non-empty.
func SplitKey(key string) (kind, id string, err error) {
	kind, id, ok := strings.Cut(key, "/")
	if !ok || kind == "" || id == "" {
		return "", "", fmt.Errorf("registry key %.80q: want kind/ID", key)
	}
	return kind, id, nil
}

// idEncoding has the characters of RFC 4648's base32 in ASCII order, so that
// encoded IDs sort as their bytes do.
var idEncoding = base32.NewEncoding("234567abcdefghijklmnopqrstuvwxyz").WithPadding(base32.NoPadding)

// NewEndpointID returns "ep_" and 26 characters of base32 (lower case, no
// padding) that hold a UUIDv7 (RFC 9562), so that IDs sort by their creation,
// to the millisecond. Nothing may rely on more than uniqueness.
func NewEndpointID() string {
	id, err := uuid.NewV7()
	if err != nil {
		// Only a failing source of randomness gets here; crypto/rand ends the
		// process in that case rather than return something weak.
		_, _ = rand.Read(id[:])
	}
	return webhook.EndpointPrefix + idEncoding.EncodeToString(id[:])
}

// Breaker states as they are recorded.
const (
	BreakerClosed   = "closed"
	BreakerOpen     = "open"
	BreakerHalfOpen = "half_open"
)

// BreakerState is the record "breaker/ID": what the owner of an endpoint last
// said of its breaker, for the API, the metrics and the next owner.
type BreakerState struct {
	State string `json:"state"` // closed, open or half_open
	// Since is when this state began.
	Since time.Time `json:"since"`
	// OpenedAt is when the breaker last left closed; zero if it never did.
	OpenedAt time.Time `json:"opened_at,omitzero"`
	// Reason is the bounded reason of the failures that opened it.
	Reason webhook.Reason `json:"reason,omitempty"`
}

// Record returns the key and value that record the state of an endpoint's breaker.
func (b BreakerState) Record(endpointID string) (key string, value []byte, err error) {
	if value, err = json.Marshal(b); err != nil {
		return "", nil, fmt.Errorf("encoding breaker state: %w", err)
	}
	return Key(KindBreaker, endpointID), value, nil
}
