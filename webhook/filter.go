package webhook

import "time"

// FilterTrouble is the registry's record "filter/<endpoint ID>": the last time
// that an endpoint's filter could not decide, which leaves the event out.
type FilterTrouble struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"` // a closed set, see package filter
	// Expression is the one that it happened to.
	Expression string `json:"expression"`
}
