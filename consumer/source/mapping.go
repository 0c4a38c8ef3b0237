package source

import (
	"fmt"

	"posthorn/webhook"
)

// readJSON reads plain JSON by the mapping.
func (r *Reader) readJSON(rec *Record) (*webhook.Event, *Invalid) {
	var s scanner
	if inv := s.scan(rec.Value, r.root); inv != nil {
		return nil, inv
	}
	ev := &webhook.Event{ContentType: "application/json", Data: rec.Value}
	if r.mapping.Data != "" {
		data := s.slots[slotData]
		if !data.found() {
			return nil, invalid(ReasonData, "nothing at pointer %.64q, where the mapping has the data", r.mapping.Data)
		}
		ev.Data = data.of(rec.Value)
	}
	m := &r.mapping
	var when string
	for _, a := range [...]struct {
		name  string
		field *Field
		slot  int
		limit int
		into  *string
	}{
		{"id", &m.ID, slotID, maxID, &ev.ID},
		{"type", &m.Type, slotType, maxType, &ev.Type},
		{"tenant", &m.Tenant, slotTenant, maxTenant, &ev.Tenant},
		{"time", &m.Time, slotTime, maxTimeText, &when},
		{"subject", &m.Subject, slotSubject, maxSubject, &ev.Subject},
		{"source", &m.Source, slotSource, maxSource, &ev.Source},
	} {
		text, inv := a.field.read(rec, &s, a.slot, a.name)
		if inv != nil {
			return nil, inv
		}
		if why := checkText(text, a.limit); why != "" {
			return nil, invalid(ReasonAttribute, "the %s %s", a.name, why)
		}
		*a.into = text
	}
	if when != "" {
		t, why := parseTime(m.TimeForm, when)
		if why != "" {
			return nil, invalid(ReasonTime, "the time %s", why)
		}
		ev.Time = t
	}
	return r.finish(ev, rec)
}

// read takes an attribute from where the mapping has it, but for CloudEvents
// attributes, which only the reader of CloudEvents knows.
func (f *Field) read(rec *Record, s *scanner, slot int, name string) (string, *Invalid) {
	switch {
	case f.Constant != "":
		return f.Constant, nil
	case f.Header != "":
		return header(rec, f.Header)
	case f.Pointer != "":
		at := s.slots[slot]
		if !at.found() {
			return "", nil
		}
		return scalar(fmt.Sprintf("the %s at pointer %.64q", name, f.Pointer), at.of(s.doc))
	}
	return "", nil
}
