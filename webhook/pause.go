package webhook

import "time"

// KindPause is the kind of registry record that pauses more than one endpoint.
const KindPause = "pause"

// The IDs of pauses: everything, and (before its name) a tenant. A single
// endpoint's is in its own record.
const (
	PauseAll    = "all"
	PauseTenant = "tenant/"
)

// Pause is the record of what is paused; without a record nothing is. Its events
// are matched, and nothing is POSTed.
type Pause struct {
	Since time.Time `json:"since"`
	// Reason is a note for people.
	Reason string `json:"reason,omitempty"`
}
