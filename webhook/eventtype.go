package webhook

import "encoding/json"

// EventType is an entry of the platform's catalogue of what happens there. The
// JSON form is the record "event_type/name" of the registry topic. Matching
// doesn't ask the catalogue: it is for people, and for samples.
type EventType struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// Schema is a JSON Schema of the event's data; nil for none.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Examples of the event's data, each of which meets the schema.
	Examples []json.RawMessage `json:"examples,omitempty"`
	// Deprecated types still happen, Archived ones no longer do.
	Deprecated bool `json:"deprecated,omitempty"`
	Archived   bool `json:"archived,omitempty"`
	RecordMeta
}
