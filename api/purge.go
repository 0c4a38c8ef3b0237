package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const purgePath = endpointPath + "/purge"

// purgeSurfaces is how long an endpoint shows as purging: what waits for a later
// attempt surfaces within the longest of the default tiers.
const purgeSurfaces = 15 * time.Minute

// Purge is the body of a purge; it may be left out.
type Purge struct {
	Before time.Time `json:"before,omitzero" doc:"Discard what was matched before this; now if absent. A later purge than an earlier one's is kept"`
}

func (s *server) registerPurge() {
	register(s, huma.Operation{
		OperationID: "purgeEndpoint", Method: http.MethodPut, Path: purgePath, Tags: []string{"endpoints"},
		Summary:     "Discard an endpoint's backlog",
		Description: "What was matched before now, or a given time, is discarded: what is queued at once, what waits for its next attempt when it surfaces, within 15 minutes with the default schedule. Until then the endpoint shows as purging. Each discarded delivery is recorded, with reason purged.",
		Responses:   s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed),
	}, s.purgeEndpoint)
}

type purgeInput struct {
	EndpointParam
	IfMatchParam
	Body *Purge `required:"false"`
}

func (s *server) purgeEndpoint(ctx context.Context, in *purgeInput) (*endpointOutput, error) {
	expected, problem := parseIfMatch(in.IfMatch)
	if problem != nil {
		return nil, problem
	}
	before := time.Time{}
	if in.Body != nil {
		before = in.Body.Before.UTC()
	}
	if before.After(time.Now()) {
		return nil, invalid(FieldError{"before", "it lies in the future: what isn't matched yet can't be purged"})
	}
	var ep *webhook.Endpoint
	changed := false
	err := s.update(ctx, func(tx Tx) (*note, error) {
		old, err := expected.endpointOf(tx, in.Tenant, in.ID)
		if err != nil {
			return nil, err
		}
		ep = cloneOf(old)
		at := before
		if at.IsZero() {
			at = tx.Now()
		}
		if changed = at.After(ep.PurgeBefore); !changed {
			return nil, nil
		}
		ep.PurgeBefore, ep.PurgedAt = at, tx.Now()
		return endpointNote(old, ep), tx.Put(ep)
	})
	if err != nil {
		return nil, err
	}
	if changed {
		s.log.InfoContext(ctx, "endpoint purged", "tenant", ep.Tenant, "endpoint", ep.ID, "before", ep.PurgeBefore)
	}
	return &endpointOutput{ETag: etag(ep.Version), Body: s.view(ep)}, nil
}
