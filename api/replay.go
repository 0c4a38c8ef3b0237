package api

import (
	"encoding/json"
	"time"

	"posthorn/webhook"
)

// Replay is a replay as clients see it.
type Replay struct {
	_          struct{}  `additionalProperties:"true"`
	ID         string    `json:"id" example:"rpl_aguhqyl7kjzdrgvlq5xwlkaw2i"`
	Tenant     string    `json:"tenant"`
	EndpointID string    `json:"endpoint_id"`
	Kind       string    `json:"kind" enum:"replay,retry"`
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until"`
	Events     []string  `json:"events"`
	States     []string  `json:"states,omitempty"`
	Rate       float64   `json:"rate" doc:"Most deliveries a second"`
	Run        int64     `json:"run" doc:"The run of every delivery that it makes"`

	State    string         `json:"state" enum:"queued,running,waiting,paused,completed,cancelled,failed" doc:"completed: all its deliveries are on the line; see deliveries for what became of them"`
	Reason   string         `json:"reason" doc:"Why it waits or failed"`
	Progress ReplayProgress `json:"progress"`
	// Deliveries is there where one replay is read and a ledger answers.
	Deliveries *ReplayDeliveries `json:"deliveries,omitempty" doc:"How its deliveries stand, from the ledger; absent in lists, and without ClickHouse"`

	CreatedAt time.Time  `json:"created_at"`
	StartedAt *time.Time `json:"started_at" nullable:"true"`
	UpdatedAt time.Time  `json:"updated_at" doc:"Of its progress"`
	EndedAt   *time.Time `json:"ended_at" nullable:"true"`
}

// ReplayProgress is how far a replay has come.
type ReplayProgress struct {
	_        struct{} `additionalProperties:"true"`
	Total    int64    `json:"total" doc:"Records of the event topics in its time, of all tenants; of a retry, deliveries. An estimate: topics hold offsets without a record"`
	Scanned  int64    `json:"scanned" doc:"How many of them it is past"`
	Matched  int64    `json:"matched" doc:"How many of those fit"`
	Produced int64    `json:"produced" doc:"Deliveries put on the line"`
	Skipped  int64    `json:"skipped" doc:"Those that fit, and of which no body can be made any more"`
	Lost     int64    `json:"lost" doc:"Records that the event topics had deleted when it got to them"`
}

// ReplayDeliveries counts a replay's deliveries by how they stand.
type ReplayDeliveries struct {
	_         struct{} `additionalProperties:"true"`
	Delivered int64    `json:"delivered"`
	Pending   int64    `json:"pending"`
	Dead      int64    `json:"dead"`
	Discarded int64    `json:"discarded"`
}

// ReplayCreate is the body of a create.
type ReplayCreate struct {
	Endpoint string    `json:"endpoint" maxLength:"64" doc:"The endpoint to deliver to; it may be newer than the events" example:"ep_aguhqyl7kjzdrgvlq5xwlkaw2i"`
	Kind     string    `json:"kind,omitempty" enum:"replay,retry" default:"replay" doc:"replay: make deliveries of the events of a time that the endpoint is subscribed to. retry: make another run of deliveries to it that failed, and that no other run has delivered"`
	Since    time.Time `json:"since" doc:"Events with this Kafka timestamp or a later one; of a retry, deliveries begun then"`
	Until    time.Time `json:"until,omitzero" doc:"And before this time; now if absent"`
	Events   []string  `json:"events,omitempty" doc:"Event type patterns that narrow the endpoint's subscription; none means all of it"`
	States   []string  `json:"states,omitempty" enum:"dead,discarded" doc:"Of a retry: the states of the deliveries; dead if absent"`
	Rate     float64   `json:"rate,omitempty" minimum:"0.1" maximum:"10000" default:"100" doc:"Most deliveries a second. Fewer are made where the endpoint takes fewer, or live deliveries would wait longer"`
	Paused   bool      `json:"paused,omitempty" doc:"Begin paused"`
}

// Kinds of registry records: what a user asked for, and how far it has come.
// Their IDs are "tenant/ID".
const (
	KindReplay   = "replay"
	KindProgress = "progress"
)

const replays = table[webhook.Replay, *webhook.Replay](KindReplay)

func replayKey(tenant, id string) string { return tenant + "/" + id }

// progressOf returns how far a replay has come; zero while nobody has it.
func progressOf(r Records, key string) (p webhook.ReplayProgress) {
	if value, ok := r.Raw(KindProgress, key); ok && json.Unmarshal(value, &p) != nil {
		return webhook.ReplayProgress{}
	}
	return p
}

func viewOfReplay(r *webhook.Replay, p *webhook.ReplayProgress) Replay {
	v := Replay{
		ID: r.ID, Tenant: r.Tenant, EndpointID: r.EndpointID, Kind: r.Kind, Since: r.Since, Until: r.Until,
		Events: r.Events, States: r.States, Rate: r.Rate, Run: r.Run,
		State: stateOf(r, p), CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
		Progress: ReplayProgress{Total: p.Total, Scanned: p.Finished, Matched: p.Produced + p.Skipped, Produced: p.Produced, Skipped: p.Skipped, Lost: p.Lost},
	}
	if v.State == p.State {
		v.Reason = p.Reason
	}
	if v.Events == nil {
		v.Events = []string{}
	}
	if p.UpdatedAt.After(v.UpdatedAt) {
		v.UpdatedAt = p.UpdatedAt
	}
	if !p.StartedAt.IsZero() {
		v.StartedAt = &p.StartedAt
	}
	if !p.EndedAt.IsZero() {
		v.EndedAt = &p.EndedAt
	}
	return v
}

// stateOf is what the user wishes where the owner hasn't come to it yet.
func stateOf(r *webhook.Replay, p *webhook.ReplayProgress) string {
	switch {
	case p.Ended():
		return p.State
	case r.Cancelled:
		return webhook.ReplayCancelled
	case r.Paused:
		return webhook.ReplayPaused
	case p.State == "":
		return webhook.ReplayQueued
	case p.State == webhook.ReplayPaused:
		return webhook.ReplayRunning
	}
	return p.State
}
