package api

import (
	"context"
	"slices"

	"posthorn/webhook"
)

// listBatch is how many endpoints are read at once to be filtered.
const listBatch = 500

// EndpointFilter is the query of lists of endpoints.
type EndpointFilter struct {
	Status   string `query:"status" enum:"enabled,disabled" doc:"Only those with this status"`
	Type     string `query:"type" maxLength:"255" doc:"Only those subscribed to this event type" example:"order.created"`
	Contract string `query:"contract" doc:"Only those with this contract"`
}

type listInput struct {
	TenantParam
	PageParams
	EndpointFilter
}

type listAllInput struct {
	PageParams
	EndpointFilter
}

type listOutput struct {
	Body EndpointList
}

func (s *server) listEndpoints(ctx context.Context, in *listInput) (*listOutput, error) {
	return s.endpointPage(ctx, in.PageParams, in.EndpointFilter, func(after string, limit int) ([]*webhook.Endpoint, string) {
		return s.cfg.Endpoints.List(in.Tenant, after, limit)
	})
}

func (s *server) listAllEndpoints(ctx context.Context, in *listAllInput) (*listOutput, error) {
	return s.endpointPage(ctx, in.PageParams, in.EndpointFilter, s.cfg.Endpoints.ListAll)
}

func (s *server) endpointPage(ctx context.Context, in PageParams, filter EndpointFilter, read func(after string, limit int) ([]*webhook.Endpoint, string)) (*listOutput, error) {
	after, ok := decodeCursor(in.Cursor)
	if !ok {
		return nil, invalid(badCursor)
	}
	batch := in.Limit
	if filter != (EndpointFilter{}) {
		batch = listBatch
	}
	list := EndpointList{Items: []Endpoint{}}
	for examined := 0; ; {
		page, next := read(after, batch)
		for i, ep := range page {
			if !s.wanted(filter, ep) {
				continue
			}
			list.Items = append(list.Items, s.view(ep))
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

func (s *server) wanted(in EndpointFilter, ep *webhook.Endpoint) bool {
	if in.Status != "" && ep.Disabled != (in.Status == "disabled") {
		return false
	}
	if in.Contract != "" && ep.Contract != in.Contract {
		return false
	}
	return in.Type == "" || len(ep.Events) == 0 ||
		slices.ContainsFunc(ep.Events, func(pattern string) bool { return s.cfg.Covers(pattern, in.Type) })
}
