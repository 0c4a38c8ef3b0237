package contract

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // a platform's published digest format, not a protection
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"posthorn/webhook"
)

const (
	jsonType        = "application/json"
	cloudEventsType = "application/cloudevents+json" // CloudEvents 1.0 JSON format, section 3
)

type bodyForm int

const (
	formData        bodyForm = iota + 1 // the event's data as it came
	formCloudEvents                     // structured CloudEvents 1.0 in JSON
	formObject                          // a JSON object of declared fields
)

type fieldKind int

const (
	fieldText  fieldKind = iota + 1 // a string: the first alternative that has a value
	fieldTime                       // the event's time
	fieldData                       // the event's data, byte for byte
	fieldConst                      // the same for every event
	fieldSHA1                       // the digest of other fields
)

// field is one member of the object form.
type field struct {
	name         string
	member       []byte // the name as JSON, with its colon
	kind         fieldKind
	alternatives []template[webhook.Event]
	fallback     *string // stands in when no alternative has a value
	optional     bool    // left out when there is no value
	unix         bool    // a time is Unix seconds, not RFC 3339
	constant     []byte  // JSON
	digested     []int   // indexes of the digested fields, in canonical order
}

// EventError says why an event can't be delivered under a contract. It is the
// event's fault: the same event fails the same way every time.
type EventError struct {
	Contract string
	Detail   string // what is wrong and what would be right
}

func (e *EventError) Error() string {
	return fmt.Sprintf("building body by contract %q: %s", e.Contract, e.Detail)
}

// Body builds the bytes to sign and POST for an event, and their media type.
// The same event gives the same bytes: nothing depends on the clock. In the
// data form the body shares the event's memory. The error is an [*EventError];
// it also covers what [Contract.Headers] would have to refuse later on each
// attempt, such as a line break in an attribute that becomes a header.
func (c *Contract) Body(e *webhook.Event) (body []byte, contentType string, err error) {
	switch c.form {
	case formCloudEvents:
		body, contentType, err = c.cloudEvent(e)
	case formObject:
		body, contentType, err = c.object(e)
	default:
		body, contentType = e.Data, cmp.Or(e.ContentType, jsonType)
	}
	if err != nil {
		return nil, "", err
	}
	if err := c.headersPossible(e, contentType); err != nil {
		return nil, "", err
	}
	return body, contentType, nil
}

func (c *Contract) fail(format string, args ...any) error {
	return &EventError{Contract: c.name, Detail: fmt.Sprintf(format, args...)}
}

// eventTime returns the event's time in UTC, the record's where it has none.
func (c *Contract) eventTime(e *webhook.Event) (time.Time, error) {
	t := e.Time
	if t.IsZero() {
		t = e.Timestamp
	}
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 { // RFC 3339 has four digits
		return t, c.fail("the event's time is missing or its year not within 0 to 9999")
	}
	return t, nil
}

// coreAttributes are the members of a structured CloudEvent that no extension
// may repeat.
var coreAttributes = []string{
	"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64",
}

// cloudEvent writes the structured mode of the CloudEvents 1.0 JSON format.
// The trace context stays out: it is the platform's own, and a repeat of the
// event may carry another.
func (c *Contract) cloudEvent(e *webhook.Event) ([]byte, string, error) {
	if e.ID == "" || e.Source == "" || e.Type == "" {
		return nil, "", c.fail("a CloudEvent needs an id, a source and a type (CloudEvents 1.0, required attributes)")
	}
	t, err := c.eventTime(e)
	if err != nil {
		return nil, "", err
	}
	b := make([]byte, 0, len(e.Data)+512)
	attribute := func(name, value string) {
		if value != "" {
			b = append(appendString(append(b, ','), name), ':')
			b = appendString(b, value)
		}
	}
	b = append(b, `{"specversion":"1.0"`...)
	attribute("id", e.ID)
	attribute("source", e.Source)
	attribute("type", e.Type)
	attribute("subject", e.Subject)
	attribute("time", t.Format(time.RFC3339Nano))
	attribute("datacontenttype", e.ContentType)
	if len(e.Extensions) > 0 {
		for _, name := range slices.Sorted(maps.Keys(e.Extensions)) {
			if !slices.Contains(coreAttributes, name) {
				attribute(name, e.Extensions[name])
			}
		}
	}
	switch {
	case len(e.Data) == 0:
	case isJSON(e.ContentType) && validJSON(e.Data) && !tooDeep(e.Data):
		b = append(b, `,"data":`...)
		b = append(b, e.Data...)
	default:
		b = append(b, `,"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, e.Data)
		b = append(b, '"')
	}
	return append(b, '}'), cloudEventsType, nil
}

// isJSON reports whether data of that media type is a JSON value (CloudEvents
// 1.0 JSON format, section 3.1: subtype json, or a +json suffix; none means
// JSON).
func isJSON(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	return mediaType == "" || strings.HasSuffix(mediaType, "/json") || strings.HasSuffix(mediaType, "+json")
}

// object writes the declared fields in their order.
func (c *Contract) object(e *webhook.Event) ([]byte, string, error) {
	b := make([]byte, 0, len(e.Data)+512)
	b = append(b, '{')
	for i := range c.fields {
		f := &c.fields[i]
		comma := len(b) > 1
		mark := len(b)
		if comma {
			b = append(b, ',')
		}
		b = append(b, f.member...)
		var some bool
		var err error
		if f.kind == fieldSHA1 {
			b, err = c.appendSHA1(b, f, e)
			some = true
		} else {
			b, some, err = c.appendValue(b, f, e)
		}
		if err != nil {
			return nil, "", err
		}
		if !some {
			b = b[:mark]
		}
	}
	return append(b, '}'), jsonType, nil
}

// appendValue appends a field's value, or nothing and false when an optional
// field has none.
func (c *Contract) appendValue(b []byte, f *field, e *webhook.Event) ([]byte, bool, error) {
	switch f.kind {
	case fieldConst:
		return append(b, f.constant...), true, nil
	case fieldTime:
		t, err := c.eventTime(e)
		if err != nil {
			return nil, false, err
		}
		if f.unix {
			return strconv.AppendInt(b, t.Unix(), 10), true, nil
		}
		return t.AppendFormat(b, `"2006-01-02T15:04:05.000Z"`), true, nil
	case fieldData:
		if len(e.Data) == 0 { // a CloudEvent may have no data
			return append(b, "null"...), !f.optional, nil
		}
		if !validJSON(e.Data) {
			return nil, false, c.fail("field %q: the event's data (%d bytes, content type %.60q) is not a JSON value in UTF-8, which this contract's body embeds; produce JSON, or use a contract with body form data",
				f.name, len(e.Data), e.ContentType)
		}
		if tooDeep(e.Data) {
			return nil, false, c.fail("field %q: the event's data nests deeper than %d levels, which this contract's body doesn't embed", f.name, maxDepth)
		}
		return append(b, e.Data...), true, nil
	default:
		missing := ""
		for _, alternative := range f.alternatives {
			text, none := alternative.expand(e)
			if none == "" {
				return appendString(b, text), true, nil
			}
			missing = none
		}
		switch {
		case f.fallback != nil:
			return appendString(b, *f.fallback), true, nil
		case f.optional:
			return b, false, nil
		}
		return nil, false, c.fail("field %q: the event has no %s", f.name, missing)
	}
}

// appendSHA1 appends the hex SHA-1 of the canonical JSON of an object of the
// digested fields, so two firings of the same change have the same digest.
func (c *Contract) appendSHA1(b []byte, f *field, e *webhook.Event) ([]byte, error) {
	doc := make([]byte, 0, len(e.Data)+256)
	doc = append(doc, '{')
	for _, i := range f.digested {
		d := &c.fields[i]
		mark := len(doc)
		if mark > 1 {
			doc = append(doc, ',')
		}
		doc = append(doc, d.member...)
		var some bool
		var err error
		value := len(doc)
		if doc, some, err = c.appendValue(doc, d, e); err != nil {
			return nil, err
		}
		if !some {
			doc = doc[:mark]
			continue
		}
		if d.kind == fieldData { // every other value is canonical as it is written
			if doc, err = appendCanonical(doc[:value], slices.Clone(doc[value:])); err != nil {
				return nil, c.fail("field %q: %v", f.name, err)
			}
		}
	}
	sum := sha1.Sum(append(doc, '}')) //nolint:gosec // as above
	b = append(b, '"')
	b = hex.AppendEncode(b, sum[:])
	return append(b, '"'), nil
}
