package webhook

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Kind is how one handling of a delivery record ended.
type Kind string

// The four ends of a settlement.
const (
	KindAttempt Kind = "attempt" // a POST was made (or begun)
	KindPark    Kind = "park"    // put back unsent: a spill, an open breaker
	KindDiscard Kind = "discard" // nobody to deliver to any more
	KindDead    Kind = "dead"    // moved to the dead letters without a POST
)

// Outcome is what came of a POST. It is empty for parks and discards.
type Outcome string

// The outcomes.
const (
	OutcomeDelivered Outcome = "delivered" // the receiver answered 2xx
	OutcomeRetry     Outcome = "retry"     // failed; another attempt follows
	OutcomeDead      Outcome = "dead"      // failed, and no further attempt
	OutcomeCut       Outcome = "cut"       // cut short by our own shutdown or handover
)

// Reason says why a settlement ended as it did. The set is closed: it is a
// metric label and a LowCardinality column.
type Reason string

// Reasons of attempts.
const (
	ReasonOK            Reason = "ok"
	ReasonStatus3xx     Reason = "status_3xx" // redirects are failures
	ReasonStatus4xx     Reason = "status_4xx"
	ReasonGone          Reason = "status_410"
	ReasonThrottled     Reason = "status_429"
	ReasonStatus5xx     Reason = "status_5xx"
	ReasonStatusOther   Reason = "status_other" // 1xx or beyond 599
	ReasonTimeout       Reason = "timeout"
	ReasonDNS           Reason = "dns"
	ReasonRefused       Reason = "connection_refused"
	ReasonReset         Reason = "connection_reset"
	ReasonConnect       Reason = "connect" // any other failure to connect
	ReasonTLS           Reason = "tls"
	ReasonProtocol      Reason = "protocol"       // the answer was not HTTP, or its headers too large
	ReasonAddressDenied Reason = "address_denied" // the dial guard refused the address
	ReasonRequest       Reason = "request"        // the request could not be built or signed
	ReasonCut           Reason = "cut"
)

// Reasons of parks.
const (
	ReasonLaneFull    Reason = "lane_full"    // the lane's queue was full: a spill with a turn
	ReasonLaneStalled Reason = "lane_stalled" // the lane makes no progress
	ReasonBreakerOpen Reason = "breaker_open"
	ReasonCrowded     Reason = "commit_crowded" // the commit metadata was filling
	ReasonHoldsFull   Reason = "holds_full"     // too many deliveries held on timers
	ReasonHandover    Reason = "handover"       // put back at a rebalance or shutdown
)

// Reasons of discards and deaths without a POST.
const (
	ReasonEndpointDeleted  Reason = "endpoint_deleted"
	ReasonEndpointDisabled Reason = "endpoint_disabled"
	ReasonTenantSuspended  Reason = "tenant_suspended"
	ReasonExpired          Reason = "expired"   // older than max_age
	ReasonExhausted        Reason = "exhausted" // header of a dead record whose schedule ran out
	ReasonUnknownContract  Reason = "unknown_contract"
)

// Settlement is the record of one handling of one delivery record: exactly one
// is written to the attempts topic for each.
type Settlement struct {
	Kind      Kind
	AttemptID string // UUIDv7, of attempts alone

	DeliveryID string
	Run        int64
	N          int // POSTs made in this run before this settlement
	Step       int
	Deferrals  int
	Origin     Origin

	Tenant      string
	EndpointID  string
	EventID     string
	EventSource string
	EventType   string
	Contract    string
	BodyID      [16]byte
	Source      Position // of the event
	// Record is the position in the deliveries topic that is settled.
	Record Position

	StartedAt time.Time
	Duration  time.Duration
	Phases    Phases
	Status    int // 0 when there was no answer
	Outcome   Outcome
	Reason    Reason
	Detail    string // a short text for people; never a secret, at most 200 characters
	Response  string // the first 500 characters of the answer's body

	NextAt    time.Time // when the next POST is due; zero when none follows
	BegunAt   time.Time
	MatchedAt time.Time

	Traceparent string
	TraceID     string // of the attempt's own span, when it was sampled
}

// Phases are the parts of a POST's duration; 0 for a phase that did not
// happen, as on a reused connection.
type Phases struct {
	DNS, Connect, TLS, FirstByte time.Duration
}

// settlementJSON is the form on the attempts topic: snake case, RFC 3339 with
// milliseconds in UTC, durations in microseconds, zero values left out where
// they mean "none".
type settlementJSON struct {
	V           int     `json:"v"`
	Kind        Kind    `json:"kind"`
	AttemptID   string  `json:"attempt_id,omitempty"`
	DeliveryID  string  `json:"delivery_id"`
	Run         int64   `json:"run"`
	N           int     `json:"n"`
	Step        int     `json:"step"`
	Deferrals   int     `json:"deferrals"`
	Origin      Origin  `json:"origin"`
	Tenant      string  `json:"tenant"`
	EndpointID  string  `json:"endpoint_id"`
	EventID     string  `json:"event_id"`
	EventSource string  `json:"event_source"`
	EventType   string  `json:"event_type"`
	Contract    string  `json:"contract"`
	BodyID      string  `json:"body_id"`
	Source      string  `json:"source,omitempty"`
	Topic       string  `json:"topic"`
	Partition   int32   `json:"partition"`
	Offset      int64   `json:"offset"`
	StartedAt   string  `json:"started_at,omitempty"`
	DurationUS  int64   `json:"duration_us"`
	DNSUS       int64   `json:"dns_us"`
	ConnectUS   int64   `json:"connect_us"`
	TLSUS       int64   `json:"tls_us"`
	FirstByteUS int64   `json:"first_byte_us"`
	Status      int     `json:"status"`
	Outcome     Outcome `json:"outcome,omitempty"`
	Reason      Reason  `json:"reason"`
	Detail      string  `json:"detail,omitempty"`
	Response    string  `json:"response,omitempty"`
	NextAt      string  `json:"next_at,omitempty"`
	BegunAt     string  `json:"begun_at"`
	MatchedAt   string  `json:"matched_at"`
	Traceparent string  `json:"traceparent,omitempty"`
	TraceID     string  `json:"trace_id,omitempty"`
}

const timeForm = "2006-01-02T15:04:05.000Z"

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeForm)
}

// MarshalJSON writes the record of the attempts topic.
func (s *Settlement) MarshalJSON() ([]byte, error) {
	source := ""
	if s.Source.Topic != "" {
		source = s.Source.String()
	}
	j := settlementJSON{
		V: 1, Kind: s.Kind, AttemptID: s.AttemptID,
		DeliveryID: s.DeliveryID, Run: s.Run, N: s.N, Step: s.Step, Deferrals: s.Deferrals, Origin: s.Origin,
		Tenant: s.Tenant, EndpointID: s.EndpointID,
		EventID: s.EventID, EventSource: s.EventSource, EventType: s.EventType, Contract: s.Contract,
		BodyID: fmt.Sprintf("%x", s.BodyID), Source: source,
		Topic: s.Record.Topic, Partition: s.Record.Partition, Offset: s.Record.Offset,
		StartedAt: formatTime(s.StartedAt), DurationUS: s.Duration.Microseconds(),
		DNSUS: s.Phases.DNS.Microseconds(), ConnectUS: s.Phases.Connect.Microseconds(),
		TLSUS: s.Phases.TLS.Microseconds(), FirstByteUS: s.Phases.FirstByte.Microseconds(),
		Status: s.Status, Outcome: s.Outcome, Reason: s.Reason, Detail: s.Detail, Response: s.Response,
		NextAt: formatTime(s.NextAt), BegunAt: formatTime(s.BegunAt), MatchedAt: formatTime(s.MatchedAt),
		Traceparent: s.Traceparent, TraceID: s.TraceID,
	}
	return json.Marshal(&j)
}

// UnmarshalJSON reads the record of the attempts topic.
func (s *Settlement) UnmarshalJSON(b []byte) error {
	var j settlementJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("reading settlement: %w", err)
	}
	if j.V != 1 {
		return fmt.Errorf("reading settlement: record version %d is not 1", j.V)
	}
	var source Position
	var err error
	if j.Source != "" {
		if source, err = ParsePosition(j.Source); err != nil {
			return fmt.Errorf("reading settlement: %w", err)
		}
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	*s = Settlement{
		Kind: j.Kind, AttemptID: j.AttemptID,
		DeliveryID: j.DeliveryID, Run: j.Run, N: j.N, Step: j.Step, Deferrals: j.Deferrals, Origin: j.Origin,
		Tenant: j.Tenant, EndpointID: j.EndpointID,
		EventID: j.EventID, EventSource: j.EventSource, EventType: j.EventType, Contract: j.Contract,
		Source: source, Record: Position{j.Topic, j.Partition, j.Offset},
		Duration: us(j.DurationUS), Phases: Phases{us(j.DNSUS), us(j.ConnectUS), us(j.TLSUS), us(j.FirstByteUS)},
		Status: j.Status, Outcome: j.Outcome, Reason: j.Reason, Detail: j.Detail, Response: j.Response,
		Traceparent: j.Traceparent, TraceID: j.TraceID,
	}
	if len(j.BodyID) != 32 {
		return fmt.Errorf("reading settlement: body_id %.40q: want 32 hex digits", j.BodyID)
	}
	if _, err := hex.Decode(s.BodyID[:], []byte(j.BodyID)); err != nil {
		return fmt.Errorf("reading settlement: body_id %.40q: want 32 hex digits", j.BodyID)
	}
	for _, f := range []struct {
		name, text string
		into       *time.Time
	}{
		{"started_at", j.StartedAt, &s.StartedAt}, {"next_at", j.NextAt, &s.NextAt},
		{"begun_at", j.BegunAt, &s.BegunAt}, {"matched_at", j.MatchedAt, &s.MatchedAt},
	} {
		if f.text == "" {
			continue
		}
		if *f.into, err = time.Parse(time.RFC3339Nano, f.text); err != nil {
			return fmt.Errorf("reading settlement: %s: %w", f.name, err)
		}
	}
	return nil
}

// SettlementOf begins the settlement of a delivery record at a position: it
// copies what both have in common.
func SettlementOf(d *Delivery, record Position, kind Kind, reason Reason) *Settlement {
	return &Settlement{
		Kind: kind, Reason: reason,
		DeliveryID: d.ID, Run: d.Run, N: d.N, Step: d.Step, Deferrals: d.Deferrals, Origin: d.Origin,
		Tenant: d.Tenant, EndpointID: d.EndpointID,
		EventID: d.EventID, EventSource: d.EventSource, EventType: d.EventType, Contract: d.Contract,
		BodyID: d.BodyID, Source: d.Source, Record: record,
		BegunAt: d.BegunAt, MatchedAt: d.MatchedAt, Traceparent: d.Traceparent,
	}
}
