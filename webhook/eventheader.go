package webhook

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The header keys of an event carried in a fan-out task, besides those it
// shares with a delivery.
const (
	hdrSubject   = "subject"
	hdrTime      = "time"
	hdrExtension = "ext_" // and the attribute's name
	hdrFirst     = "first"
	hdrLast      = "last"
)

// Task is a part of an event's fan-out that was too large for one go: the
// event and the endpoint IDs that this part covers, both ends included.
type Task struct {
	Event       *Event
	First, Last string
}

// AppendHeaders appends the task's headers to dst; the record's value is the
// event's data. Times are Unix milliseconds in decimal.
func (t *Task) AppendHeaders(dst []Header) []Header {
	e := t.Event
	str := func(key, value string) {
		if value != "" {
			dst = append(dst, Header{key, []byte(value)})
		}
	}
	str(hdrVersion, RecordVersion)
	str(hdrEventID, e.ID)
	str(hdrEventSource, e.Source)
	str(hdrEventType, e.Type)
	str(hdrTenant, e.Tenant)
	str(hdrSubject, e.Subject)
	str(hdrTime, strconv.FormatInt(e.Time.UnixMilli(), 10))
	str(hdrContentType, e.ContentType)
	str(hdrBegunAt, strconv.FormatInt(e.Timestamp.UnixMilli(), 10))
	str(hdrSource, e.Position.String())
	str(hdrTraceparent, e.Traceparent)
	str(hdrTracestate, e.Tracestate)
	for name, value := range e.Extensions {
		str(hdrExtension+name, value)
	}
	str(hdrFirst, t.First)
	str(hdrLast, t.Last)
	return dst
}

// DecodeTask reads a fan-out task from a record's value and headers. The data
// isn't copied. The error is a [*MalformedError].
func DecodeTask[H ~struct {
	Key   string
	Value []byte
}](value []byte, headers []H) (*Task, error) {
	t := &Task{Event: &Event{Data: value}}
	e := t.Event
	var version string
	var err error
	for i := range headers {
		h := Header(headers[i])
		text := string(h.Value)
		at := func() time.Time {
			ms, perr := strconv.ParseInt(text, 10, 64)
			if perr != nil && err == nil {
				err = &MalformedError{h.Key, fmt.Sprintf("%.40q is not a number of milliseconds", text)}
			}
			return time.UnixMilli(ms)
		}
		switch h.Key {
		case hdrVersion:
			version = text
		case hdrEventID:
			e.ID = text
		case hdrEventSource:
			e.Source = text
		case hdrEventType:
			e.Type = text
		case hdrTenant:
			e.Tenant = text
		case hdrSubject:
			e.Subject = text
		case hdrTime:
			e.Time = at()
		case hdrContentType:
			e.ContentType = text
		case hdrBegunAt:
			e.Timestamp = at()
		case hdrSource:
			p, perr := ParsePosition(text)
			if perr != nil && err == nil {
				err = &MalformedError{h.Key, perr.Error()}
			}
			e.Position = p
		case hdrTraceparent:
			e.Traceparent = text
		case hdrTracestate:
			e.Tracestate = text
		case hdrFirst:
			t.First = text
		case hdrLast:
			t.Last = text
		default:
			if name, ok := strings.CutPrefix(h.Key, hdrExtension); ok {
				if e.Extensions == nil {
					e.Extensions = make(map[string]string)
				}
				e.Extensions[name] = text
			}
		}
	}
	if version != RecordVersion {
		return nil, &MalformedError{hdrVersion, fmt.Sprintf("record version %.20q is not %q", version, RecordVersion)}
	}
	for _, need := range []struct{ key, value string }{
		{hdrEventID, e.ID}, {hdrEventType, e.Type}, {hdrTenant, e.Tenant}, {hdrFirst, t.First}, {hdrLast, t.Last},
	} {
		if need.value == "" {
			return nil, &MalformedError{need.key, "missing"}
		}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}
