package api

import (
	"context"
	"slices"

	"posthorn/webhook"
)

// listBatch is how many endpoints are read at once to be filtered.
const listBatch = 500

type listInput struct {
	TenantParam
	PageParams
	Disabled string `query:"disabled" enum:"true,false" doc:"Only those that are disabled, or that are not"`
	Event    string `query:"event" maxLength:"255" doc:"Only those subscribed to this event type" example:"order.created"`
	Contract string `query:"contract" doc:"Only those with this contract"`
}

type listOutput struct {
	Body EndpointList
}

func (s *server) listEndpoints(ctx context.Context, in *listInput) (*listOutput, error) {
	after, ok := decodeCursor(in.Cursor)
	if !ok {
		return nil, invalid(badCursor)
	}
	batch := in.Limit
	if in.filters() {
		batch = listBatch
	}
	list := EndpointList{Items: []Endpoint{}}
	for examined := 0; ; {
		page, next := s.cfg.Endpoints.List(in.Tenant, after, batch)
		for i, ep := range page {
			if !s.wanted(in, ep) {
				continue
			}
			list.Items = append(list.Items, viewOf(ep))
			if len(list.Items) == in.Limit {
				if i < len(page)-1 || next != "" {
					list.Next = encodeCursor(ep.ID)
				}
				return &listOutput{Body: list}, nil
			}
		}
		if next == "" {
			return &listOutput{Body: list}, nil
		}
		after = next
		if examined += batch; examined >= maxExamined {
			list.Next = encodeCursor(after)
			return &listOutput{Body: list}, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

func (in *listInput) filters() bool { return in.Disabled != "" || in.Event != "" || in.Contract != "" }

func (s *server) wanted(in *listInput, ep *webhook.Endpoint) bool {
	if in.Disabled != "" && ep.Disabled != (in.Disabled == "true") {
		return false
	}
	if in.Contract != "" && ep.Contract != in.Contract {
		return false
	}
	return in.Event == "" || len(ep.Events) == 0 ||
		slices.ContainsFunc(ep.Events, func(pattern string) bool { return s.cfg.Covers(pattern, in.Event) })
}
