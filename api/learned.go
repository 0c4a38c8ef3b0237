package api

import (
	"encoding/json"
	"time"

	"posthorn/webhook"
)

// The kinds of registry records that the line learns of endpoints.
const (
	kindFilter = "filter"
	kindHealth = "health"
	kindNotice = "notice"
)

// filterTroubleShown is how long a filter's trouble is shown.
const filterTroubleShown = 24 * time.Hour

// view is viewOf with what the line has learned of the endpoint.
func (s *server) view(ep *webhook.Endpoint) Endpoint {
	v := viewOf(ep)
	if ep.Filter != "" {
		v.FilterTrouble = s.filterTrouble(ep)
	}
	s.health(ep, &v)
	v.Missed = missedOf(s.cfg.Records, ep)
	return v
}

// missedOf returns the time in which an endpoint was last disabled; nil if it
// never was, or is still.
func missedOf(from Records, ep *webhook.Endpoint) *Missed {
	if ep.Disabled || ep.EnabledAt.IsZero() || ep.DisabledAt.IsZero() {
		return nil
	}
	m := &Missed{From: ep.DisabledAt, Until: ep.EnabledAt}
	var n struct {
		DisabledAt  time.Time `json:"disabled_at"`
		MissedSince time.Time `json:"missed_since"`
	}
	if value, ok := from.Raw(kindNotice, ep.ID); ok && json.Unmarshal(value, &n) == nil && n.DisabledAt.Equal(ep.DisabledAt) {
		m.FailingSince = n.MissedSince
	}
	return m
}

// health shows the record of how an endpoint fares.
func (s *server) health(ep *webhook.Endpoint, v *Endpoint) {
	value, ok := s.cfg.Records.Raw(kindHealth, ep.ID)
	if !ok {
		return
	}
	var h struct {
		FailingSince time.Time `json:"failing_since"`
		Exhausted    int       `json:"exhausted"`
		LastEvent    time.Time `json:"last_event"`
	}
	if json.Unmarshal(value, &h) != nil {
		return
	}
	if !h.LastEvent.IsZero() {
		v.LastEventOn = h.LastEvent.Format(time.DateOnly)
	}
	if !h.FailingSince.IsZero() && !h.FailingSince.Before(ep.EnabledAt) {
		v.FailingSince, v.Exhausted = h.FailingSince, h.Exhausted
	}
}

func (s *server) filterTrouble(ep *webhook.Endpoint) *FilterTrouble {
	value, ok := s.cfg.Records.Raw(kindFilter, ep.ID)
	if !ok {
		return nil
	}
	var t webhook.FilterTrouble
	if json.Unmarshal(value, &t) != nil || t.Expression != ep.Filter || time.Since(t.At) > filterTroubleShown {
		return nil
	}
	return &FilterTrouble{At: t.At, Reason: t.Reason}
}
