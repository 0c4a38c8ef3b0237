package filter

import (
	"bytes"
	"encoding/json"
	"errors"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"posthorn/webhook"
)

// Event is an event as expressions see it. It isn't safe for concurrent use.
type Event struct {
	event  *webhook.Event
	data   any // once parsed
	err    error
	parsed bool
}

// Reset makes it another event's.
func (e *Event) Reset(event *webhook.Event) { *e = Event{event: event} }

var errNotJSON = errors.New("the event's data is not JSON")

// payload parses the data. Numbers are doubles, as CEL's conversion from JSON
// has it: a field is of one type, whether it holds 10 or 10.5.
func (e *Event) payload() (any, error) {
	if !e.parsed {
		e.parsed = true
		if len(bytes.TrimSpace(e.event.Data)) == 0 {
			e.data = types.NullValue
		} else if err := json.Unmarshal(e.event.Data, &e.data); err != nil {
			e.err = errNotJSON
		} else if e.data == nil {
			e.data = types.NullValue
		}
	}
	return e.data, e.err
}

// ResolveName implements CEL's Activation.
func (e *Event) ResolveName(name string) (any, bool) {
	switch name {
	case "type":
		return e.event.Type, true
	case "source":
		return e.event.Source, true
	case "subject":
		return e.event.Subject, true
	case "id":
		return e.event.ID, true
	case "tenant":
		return e.event.Tenant, true
	case "time":
		return e.event.Time, true
	case "extension":
		if e.event.Extensions == nil {
			return noExtensions, true
		}
		return e.event.Extensions, true
	case "data":
		data, err := e.payload()
		if err != nil {
			return types.WrapErr(err), true
		}
		return data, true
	}
	return nil, false
}

var noExtensions = map[string]string{}

// Parent implements CEL's Activation.
func (e *Event) Parent() cel.Activation { return nil }
