package webhook

import (
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
	ReasonPaused      Reason = "paused"         // the endpoint, its tenant or everything is paused
)

// Reasons of discards and deaths without a POST.
const (
	ReasonEndpointDeleted  Reason = "endpoint_deleted"
	ReasonEndpointDisabled Reason = "endpoint_disabled" // also of parks, where what is queued shall wait
	ReasonTenantSuspended  Reason = "tenant_suspended"
	ReasonPurged           Reason = "purged"    // matched before the endpoint's purge
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
