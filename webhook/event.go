package webhook

import "time"

// Event is a domain event as a platform produced it to Kafka, after the source
// mapping has found its attributes. It is immutable once read.
type Event struct {
	// ID identifies the event within Source. It is never empty: an event
	// without one is named by its record's position and Kafka timestamp.
	ID string
	// Source is the context in which the event happened (CloudEvents 1.0
	// "source"); with ID it identifies the event.
	Source string
	// Type is the kind of event, for instance "order.created".
	Type string
	// Tenant is the platform's customer whose endpoints may receive the event.
	Tenant string
	// Subject is the CloudEvents "subject"; often empty.
	Subject string
	// Time is when the event happened; the record's Kafka timestamp where the
	// producer said nothing.
	Time time.Time
	// ContentType is the media type of Data, "application/json" by default.
	ContentType string
	// Data is the payload, byte for byte as it was produced.
	Data []byte
	// Extensions are the CloudEvents extension attributes (and "dataschema"),
	// by lower-case name. Nil when there are none.
	Extensions map[string]string
	// Traceparent and Tracestate are the W3C trace context of the event's
	// creation, carried unchanged through every hop.
	Traceparent, Tracestate string
	// Position is where the record lies.
	Position Position
	// Timestamp is the Kafka timestamp of the record (milliseconds).
	Timestamp time.Time
}

// Extension returns the extension attribute of that lower-case name, or "".
func (e *Event) Extension(name string) string { return e.Extensions[name] }
