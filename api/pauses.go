package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	pauseAllPath    = "/v1/pause"
	pauseTenantPath = "/v1/tenants/{tenant}/pause"
)

// Pause says whether everything, or a tenant, is paused.
type Pause struct {
	_      struct{}  `additionalProperties:"true"`
	Paused bool      `json:"paused"`
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// PauseRequest is the body of a pause; it may be left out.
type PauseRequest struct {
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"A note for people"`
}

func (s *server) registerPauses() {
	const tag = "pauses"
	admin := map[string]any{metaAccess: accessAdmin}
	const what = "Events are matched and wait, nothing is POSTed, within a second. What is older than delivery.max_age when it is due expires all the same. Pausing what is paused changes nothing."
	register(s, huma.Operation{
		OperationID: "pauseEverything", Method: http.MethodPut, Path: pauseAllPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Pause everything", Description: what, Responses: s.responses(nil, http.StatusBadRequest),
	}, func(ctx context.Context, in *pauseAllInput) (*pauseOutput, error) {
		return s.pause(ctx, "", in.Body)
	})
	register(s, huma.Operation{
		OperationID: "resumeEverything", Method: http.MethodDelete, Path: pauseAllPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Resume everything", Description: "What waits is POSTed when its turn comes, within 15 minutes with the default schedule. Tenants and endpoints that are paused themselves stay so.",
		Responses: s.responses(nil, http.StatusBadRequest),
	}, func(ctx context.Context, _ *struct{}) (*struct{}, error) { return nil, s.resume(ctx, "") })
	register(s, huma.Operation{
		OperationID: "getPause", Method: http.MethodGet, Path: pauseAllPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Whether everything is paused", Responses: s.responses(nil, http.StatusBadRequest),
	}, func(context.Context, *struct{}) (*pauseOutput, error) { return &pauseOutput{s.pauseOf("")}, nil })

	register(s, huma.Operation{
		OperationID: "pauseTenant", Method: http.MethodPut, Path: pauseTenantPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Pause a tenant", Description: what + " A single endpoint is paused by its field paused.", Responses: s.responses(nil, http.StatusBadRequest),
	}, func(ctx context.Context, in *pauseTenantInput) (*pauseOutput, error) {
		return s.pause(ctx, in.Tenant, in.Body)
	})
	register(s, huma.Operation{
		OperationID: "resumeTenant", Method: http.MethodDelete, Path: pauseTenantPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Resume a tenant", Description: "Endpoints that are paused themselves stay so.", Responses: s.responses(nil, http.StatusBadRequest),
	}, func(ctx context.Context, in *TenantParam) (*struct{}, error) { return nil, s.resume(ctx, in.Tenant) })
	register(s, huma.Operation{
		OperationID: "getTenantPause", Method: http.MethodGet, Path: pauseTenantPath, Tags: []string{tag},
		Summary: "Whether a tenant is paused", Description: "By itself; everything may be paused besides.", Responses: s.responses(nil, http.StatusBadRequest),
	}, func(_ context.Context, in *TenantParam) (*pauseOutput, error) {
		return &pauseOutput{s.pauseOf(in.Tenant)}, nil
	})
}

type pauseAllInput struct {
	Body *PauseRequest `required:"false"`
}

type pauseTenantInput struct {
	TenantParam
	Body *PauseRequest `required:"false"`
}

type pauseOutput struct {
	Body Pause
}

// pauseID is the ID of the record that pauses a tenant, or everything ("").
func pauseID(tenant string) string {
	if tenant == "" {
		return webhook.PauseAll
	}
	return webhook.PauseTenant + tenant
}

func (s *server) pauseOf(tenant string) Pause {
	value, ok := s.cfg.Records.Raw(webhook.KindPause, pauseID(tenant))
	if !ok {
		return Pause{}
	}
	var p webhook.Pause
	_ = json.Unmarshal(value, &p) // a record that can't be read pauses all the same
	return Pause{Paused: true, Since: p.Since, Reason: p.Reason}
}

func (s *server) pause(ctx context.Context, tenant string, body *PauseRequest) (*pauseOutput, error) {
	reason := ""
	if body != nil {
		reason = body.Reason
	}
	if tenant != "" {
		// A name that no tenant may have would pause nobody and look as if it did.
		for _, e := range s.cfg.CheckEndpoint(&webhook.Endpoint{Tenant: tenant, Contract: DefaultContract}) {
			if e.Field == "tenant" {
				return nil, invalid(FieldError{"path.tenant", e.Problem})
			}
		}
	}
	changed := false
	err := s.update(ctx, func(tx Tx) (*note, error) {
		if _, paused := tx.Raw(webhook.KindPause, pauseID(tenant)); paused {
			return nil, nil
		}
		changed = true
		value, err := json.Marshal(webhook.Pause{Since: tx.Now(), Reason: reason})
		if err != nil {
			return nil, fmt.Errorf("encoding pause: %w", err)
		}
		return &note{Tenant: tenant, Kind: webhook.KindPause, ID: pauseID(tenant)}, tx.PutRaw(webhook.KindPause, pauseID(tenant), value)
	})
	if err != nil {
		return nil, err
	}
	if changed {
		s.log.WarnContext(ctx, "paused", "tenant", tenant, "everything", tenant == "", "reason", reason)
	}
	return &pauseOutput{s.pauseOf(tenant)}, nil
}

func (s *server) resume(ctx context.Context, tenant string) error {
	changed := false
	err := s.update(ctx, func(tx Tx) (*note, error) {
		if _, changed = tx.Raw(webhook.KindPause, pauseID(tenant)); !changed {
			return nil, nil
		}
		return &note{Tenant: tenant, Kind: webhook.KindPause, ID: pauseID(tenant)}, tx.PutRaw(webhook.KindPause, pauseID(tenant), nil)
	})
	if err == nil && changed {
		s.log.WarnContext(ctx, "resumed", "tenant", tenant, "everything", tenant == "")
	}
	return err
}
