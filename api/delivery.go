package api

import (
	"time"
	"unicode/utf8"

	"encoding/base64"
)

// Delivery is where one delivery stands in one run, as clients see it.
type Delivery struct {
	_           struct{}   `additionalProperties:"true"`
	ID          string     `json:"id" example:"dlv_mod5qzbbwmhddwd55ps7pcm7ka" doc:"Derived from event and endpoint, and the same over retries, resends and replays"`
	Run         int64      `json:"run" doc:"0 for what an event led to; a resend, bulk retry or replay begins another run, named by the Unix milliseconds of its request"`
	EndpointID  string     `json:"endpoint_id" example:"ep_aguhqyl7kjzdrgvlq5xwlkaw2i"`
	EventID     string     `json:"event_id"`
	EventSource string     `json:"event_source"`
	EventType   string     `json:"event_type" example:"order.created"`
	State       string     `json:"state" enum:"delivered,dead,discarded,pending" doc:"dead: given up; discarded: nobody to deliver to; pending: neither, yet"`
	StatusCode  *int       `json:"status_code" nullable:"true" doc:"HTTP status of the attempt that decided, or else the last; null without an answer"`
	Response    string     `json:"response" doc:"The first 500 characters of that answer"`
	Attempts    int64      `json:"attempts" doc:"POSTs made in this run"`
	BegunAt     time.Time  `json:"begun_at" doc:"Kafka timestamp of the event; of a later run, the time of its request"`
	MatchedAt   time.Time  `json:"matched_at"`
	DeliveredAt *time.Time `json:"delivered_at" nullable:"true" doc:"When the receiver had accepted it; null until then"`
	NextRetryAt *time.Time `json:"next_retry_at" nullable:"true" doc:"When the next attempt is due; null when none is planned"`
	Reason      string     `json:"reason" doc:"Why the attempt that decided, or else the last, ended as it did" example:"status_5xx"`
}

// DeliveryDetail is one delivery whole. What it says in front is of its latest
// run.
type DeliveryDetail struct {
	_ struct{} `additionalProperties:"true"`
	Delivery
	Origin          string          `json:"origin" enum:"match,test,resend,retry,replay" doc:"What began the run"`
	Contract        string          `json:"contract" example:"standard"`
	ContentType     string          `json:"content_type" example:"application/json"`
	Payload         *string         `json:"payload" nullable:"true" doc:"The body that is signed and POSTed, byte for byte; null when the ledger no longer keeps it"`
	PayloadEncoding string          `json:"payload_encoding" enum:"utf-8,base64" doc:"base64 for bodies that aren't UTF-8"`
	Source          *SourcePosition `json:"source,omitempty" doc:"Where the event lies in Kafka; absent for a test event"`
	Traceparent     string          `json:"traceparent,omitempty" doc:"W3C trace context of the event"`
	Runs            []DeliveryRun   `json:"runs" doc:"The latest first"`
}

// SourcePosition is where an event lies.
type SourcePosition struct {
	_         struct{} `additionalProperties:"true"`
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
}

// DeliveryRun is one run of a delivery.
type DeliveryRun struct {
	_           struct{}   `additionalProperties:"true"`
	Run         int64      `json:"run"`
	Origin      string     `json:"origin"`
	State       string     `json:"state" enum:"delivered,dead,discarded,pending"`
	StatusCode  *int       `json:"status_code" nullable:"true"`
	Response    string     `json:"response"`
	Attempts    int64      `json:"attempts" doc:"POSTs made in this run"`
	BegunAt     time.Time  `json:"begun_at"`
	MatchedAt   time.Time  `json:"matched_at"`
	DeliveredAt *time.Time `json:"delivered_at" nullable:"true"`
	NextRetryAt *time.Time `json:"next_retry_at" nullable:"true"`
	Reason      string     `json:"reason"`
	History     []Attempt  `json:"history" doc:"What came of every handling, newest first; the newest thousand over all runs"`
}

// Attempt is what came of one handling of a delivery: a POST, or why there was
// none.
type Attempt struct {
	_           struct{}   `additionalProperties:"true"`
	ID          string     `json:"id" format:"uuid"`
	Kind        string     `json:"kind" enum:"attempt,park,discard,dead" doc:"attempt: a POST; park: put back unsent; discard: nobody to deliver to; dead: given up without a POST"`
	Run         int64      `json:"run"`
	N           int        `json:"n" doc:"POSTs of this run before it"`
	StartedAt   time.Time  `json:"started_at"`
	DurationMS  float64    `json:"duration_ms"`
	DNSMS       float64    `json:"dns_ms"`
	ConnectMS   float64    `json:"connect_ms"`
	TLSMS       float64    `json:"tls_ms"`
	FirstByteMS float64    `json:"first_byte_ms"`
	StatusCode  *int       `json:"status_code" nullable:"true" doc:"null without an answer"`
	Outcome     string     `json:"outcome" enum:"delivered,retry,dead,cut," doc:"Of a POST; cut: ended by our own shutdown or handover, and made again"`
	Reason      string     `json:"reason" example:"timeout"`
	Detail      string     `json:"detail" doc:"A text for people"`
	Response    string     `json:"response" doc:"The first 500 characters of the answer"`
	NextRetryAt *time.Time `json:"next_retry_at" nullable:"true"`
	TraceID     string     `json:"trace_id,omitempty"`
}

// The values of payload_encoding.
const (
	encodingUTF8   = "utf-8"
	encodingBase64 = "base64"
)

// EncodePayload returns a body as JSON can hold it: the text itself where it is
// UTF-8, and else its base64 (RFC 4648, with padding).
func EncodePayload(body []byte) (payload, encoding string) {
	if utf8.Valid(body) {
		return string(body), encodingUTF8
	}
	return base64.StdEncoding.EncodeToString(body), encodingBase64
}
