package webhook

import (
	"encoding/json"
	"time"
)

// ReplayPrefix begins every replay's ID.
const ReplayPrefix = "rpl_"

// The kinds of a replay.
const (
	// ReplayEvents makes deliveries anew of what lies on the event topics.
	ReplayEvents = "replay"
	// ReplayFailed makes another run of deliveries that the ledger knows.
	ReplayFailed = "retry"
)

// Replay is what a user asked for: deliveries to one endpoint of what happened
// in a time. The JSON form is the record "replay/tenant/ID" of the registry topic.
// How far it has come is another record, see [ReplayProgress].
type Replay struct {
	ID         string `json:"id"`
	Tenant     string `json:"tenant"`
	EndpointID string `json:"endpoint_id"`
	// Kind is [ReplayEvents] or [ReplayFailed].
	Kind string `json:"kind"`
	// Run names the run of every delivery that it makes: the Unix milliseconds
	// of the request, or the next that no other replay of the endpoint has.
	Run int64 `json:"run"`
	// Since and Until are a range of Kafka timestamps of events, for
	// [ReplayFailed] of begun_at. Until isn't included and never zero.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Events are type patterns that narrow the subscription; none means all.
	Events []string `json:"events,omitempty"`
	// States are those of the deliveries, for [ReplayFailed].
	States []string `json:"states,omitempty"`
	// Rate is the most deliveries a second.
	Rate float64 `json:"rate"`
	// Paused and Cancelled are the user's wish.
	Paused    bool `json:"paused,omitempty"`
	Cancelled bool `json:"cancelled,omitempty"`
	RecordMeta
}

// States of a replay.
const (
	ReplayQueued    = "queued"    // nobody has taken it up yet
	ReplayRunning   = "running"   // deliveries are made
	ReplayWaiting   = "waiting"   // not now, see the reason
	ReplayPaused    = "paused"    // by its user
	ReplayCompleted = "completed" // all deliveries are on the line
	ReplayCancelled = "cancelled" // by its user
	ReplayBroken    = "failed"    // it can't go on, see the reason
)

// ReplayProgress is how far a replay has come. The JSON form is the record
// "progress/tenant/ID" of the registry topic, written by the replay's owner.
type ReplayProgress struct {
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Produced counts the deliveries on the line, Skipped those that fit too but
	// whose body can't be made any more.
	Produced int64 `json:"produced"`
	Skipped  int64 `json:"skipped,omitempty"`
	// Total and Finished measure the way: offsets of the event topics, or
	// deliveries of the ledger. Lost is what the event topics held no longer.
	Total    int64 `json:"total"`
	Finished int64 `json:"finished"`
	Lost     int64 `json:"lost,omitempty"`
	// Position is where to go on; only the replay's owner reads it.
	Position  json.RawMessage `json:"position,omitempty"`
	StartedAt time.Time       `json:"started_at,omitzero"`
	UpdatedAt time.Time       `json:"updated_at"`
	EndedAt   time.Time       `json:"ended_at,omitzero"`
}

// Ended reports whether a state is a replay's last.
func (p *ReplayProgress) Ended() bool {
	return p.State == ReplayCompleted || p.State == ReplayCancelled || p.State == ReplayBroken
}
