package api

import (
	"encoding/json"
	"time"

	"posthorn/webhook"
)

// The kinds of registry records that the line learns of endpoints.
const kindFilter = "filter"

// filterTroubleShown is how long a filter's trouble is shown.
const filterTroubleShown = 24 * time.Hour

// view is viewOf with what the line has learned of the endpoint.
func (s *server) view(ep *webhook.Endpoint) Endpoint {
	v := viewOf(ep)
	if ep.Filter != "" {
		v.FilterTrouble = s.filterTrouble(ep)
	}
	return v
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
