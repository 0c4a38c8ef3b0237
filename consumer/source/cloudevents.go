package source

import (
	"encoding/base64"
	"slices"
	"strings"

	"posthorn/webhook"
)

// Content-type prefix of the structured mode, and the one event format read
// (CloudEvents Kafka protocol binding 1.0.2, section 3; JSON format, section 3).
const (
	cloudEventsType = "application/cloudevents"
	cloudEventsJSON = "application/cloudevents+json"
	binaryPrefix    = "ce_"
)

// readCloudEvent tells the content modes apart by the content type (Kafka
// binding, section 3). Its key is matched without regard to case, since HTTP
// habits reach Kafka headers; attributes' keys are matched exactly.
func (r *Reader) readCloudEvent(rec *Record) (*webhook.Event, *Invalid) {
	var contentType string
	for i := range rec.Headers {
		h := &rec.Headers[i]
		if len(h.Key) != len("content-type") || !strings.EqualFold(h.Key, "content-type") || len(h.Value) == 0 {
			continue
		}
		if contentType != "" && contentType != string(h.Value) {
			return nil, invalid(ReasonDuplicate, "header content-type is there twice, with different values")
		}
		contentType = string(h.Value)
	}
	if len(contentType) >= len(cloudEventsType) && strings.EqualFold(contentType[:len(cloudEventsType)], cloudEventsType) {
		name, _, why := mediaType(contentType)
		if why != "" {
			return nil, invalid(ReasonContentType, "header content-type %s", why)
		}
		if name != cloudEventsJSON {
			return nil, invalid(ReasonContentType, "event format %.64q is not read: want %s, or the binary content mode", name, cloudEventsJSON)
		}
		return r.readStructured(rec)
	}
	return r.readBinary(rec, contentType)
}

// readBinary reads the binary content mode (Kafka binding, section 3.2):
// attributes in ce_ headers, data in the value.
func (r *Reader) readBinary(rec *Record, contentType string) (*webhook.Event, *Invalid) {
	var a attributes
	for i := range rec.Headers {
		name, ok := strings.CutPrefix(rec.Headers[i].Key, binaryPrefix)
		if !ok || !isAttributeName(name) {
			continue
		}
		value := string(rec.Headers[i].Value)
		if had, twice := a.get(name); twice && had != value {
			return nil, invalid(ReasonDuplicate, "header %s%s is there twice, with different values", binaryPrefix, name)
		}
		if inv := a.set(name, value); inv != nil {
			return nil, inv
		}
	}
	if a.specversion == "" {
		return nil, invalid(ReasonSpecVersion,
			"not a CloudEvent: no header ce_specversion (binary mode), and content-type is not %s (structured mode)", cloudEventsJSON)
	}
	// The binding maps datacontenttype to content-type alone; some producers
	// write it as an attribute as well, or instead.
	if contentType == "" {
		contentType = a.contentType
	}
	if contentType == "" {
		contentType = "application/json"
	}
	_, isJSON, why := mediaType(contentType)
	if why != "" {
		return nil, invalid(ReasonContentType, "header content-type %s", why)
	}
	a.contentType = contentType
	return r.complete(rec, &a, rec.Value, isJSON, false)
}

// readStructured reads the structured content mode (Kafka binding, section
// 3.3) in the JSON format: one object holds attributes and data. ce_ headers
// beside it may repeat the attributes; the object decides.
func (r *Reader) readStructured(rec *Record) (*webhook.Event, *Invalid) {
	var (
		a         attributes
		data, b64 span
		first     *Invalid
		seen      = make([]string, 0, 16)
		s         scanner
	)
	note := func(inv *Invalid) {
		if first == nil {
			first = inv
		}
	}
	s.member = func(name string, at span) {
		switch {
		case len(seen) == maxExtensions+16:
			note(invalid(ReasonAttribute, "more than %d members", maxExtensions+16))
			return
		case first != nil:
			return
		}
		if slices.Contains(seen, name) {
			note(invalid(ReasonDuplicate, "member %.64q is there twice", name))
			return
		}
		seen = append(seen, name)
		raw := at.of(rec.Value)
		switch name {
		case "data":
			data = at
		case "data_base64":
			if raw[0] != 'n' { // null is as good as omitted
				b64 = at
			}
		default:
			note(a.setJSON(name, raw))
		}
	}
	// No search tree: pointers lead into the data, not into the envelope.
	if inv := s.scan(rec.Value, nil); inv != nil {
		return nil, inv
	}
	if !s.isObject {
		return nil, invalid(ReasonJSON, "a structured CloudEvent is a JSON object")
	}
	if first != nil {
		return nil, first
	}
	body, isJSON, checked, inv := a.body(rec.Value, data, b64)
	if inv != nil {
		return nil, inv
	}
	return r.complete(rec, &a, body, isJSON, checked)
}

// body takes the data out of a structured event (JSON format 1.0.2, section
// 3.1.2). checked means that it has been validated as part of the envelope.
func (a *attributes) body(doc []byte, data, b64 span) (body []byte, isJSON, checked bool, inv *Invalid) {
	fallback := "application/json"
	if b64.found() {
		fallback = "application/octet-stream" // the format leaves it open
	}
	if a.contentType == "" {
		a.contentType = fallback
	}
	_, isJSON, why := mediaType(a.contentType)
	switch {
	case why != "":
		return nil, false, false, invalid(ReasonContentType, "datacontenttype %s", why)
	case data.found() && b64.found():
		return nil, false, false, invalid(ReasonData, "both data and data_base64: want one of them")
	case b64.found():
		text, inv := scalar("data_base64", b64.of(doc))
		if inv != nil {
			return nil, false, false, inv
		}
		body, err := base64.StdEncoding.DecodeString(text)
		if err != nil || doc[b64.start] != '"' {
			return nil, false, false, invalid(ReasonData, "data_base64 is not a string of base64 (RFC 4648, section 4)")
		}
		return body, isJSON, false, nil
	case !data.found():
		return nil, false, false, nil
	case isJSON:
		return data.of(doc), true, true, nil
	case doc[data.start] != '"':
		return nil, false, false, invalid(ReasonData, "data has to be a string, as datacontenttype %.64q is not JSON", a.contentType)
	}
	text, inv := scalar("data", data.of(doc))
	return []byte(text), false, true, inv
}

// complete makes the event of attributes and data.
func (r *Reader) complete(rec *Record, a *attributes, data []byte, isJSON, checked bool) (*webhook.Event, *Invalid) {
	if a.specversion != "1.0" {
		return nil, invalid(ReasonSpecVersion, "specversion %.16q: want \"1.0\"", a.specversion)
	}
	if len(data) == 0 {
		return nil, invalid(ReasonEmpty, "the event has no data: a webhook needs a body, {} at least")
	}
	var s scanner
	if isJSON && (!checked || r.root != nil) {
		if inv := s.scan(data, r.root); inv != nil {
			return nil, inv
		}
	}
	ev := &webhook.Event{
		ID: a.id, Source: a.source, Type: a.typ, Subject: a.subject,
		ContentType: a.contentType, Data: data, Extensions: a.extensions,
	}
	if a.time != "" {
		t, why := parseTime(TimeRFC3339, a.time)
		if why != "" {
			return nil, invalid(ReasonTime, "attribute time %s", why)
		}
		ev.Time = t
	}
	var inv *Invalid
	if f := &r.mapping.Tenant; f.Attribute != "" {
		ev.Tenant, _ = a.get(f.Attribute)
	} else if ev.Tenant, inv = f.read(rec, &s, slotTenant, "tenant"); inv != nil {
		return nil, inv
	}
	if why := checkText(ev.Tenant, maxTenant); why != "" {
		return nil, invalid(ReasonAttribute, "the tenant %s", why)
	}
	// The attribute is the context of the event's creation; the header may be
	// that of a later hop (Distributed Tracing extension).
	setTrace(ev, a.extensions["traceparent"], a.extensions["tracestate"])
	return r.finish(ev, rec)
}
