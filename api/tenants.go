package api

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	tenantsPath = "/v1/tenants"
	tenantPath  = tenantsPath + "/{tenant}"

	// kindTenant is the registry's kind of tenants.
	kindTenant = "tenant"
	// maxOwnLimit bounds a tenant's own limit of endpoints.
	maxOwnLimit = 1_000_000
)

var tenants = resource[webhook.Tenant, *webhook.Tenant]{kindTenant, "tenant", func(t *webhook.Tenant) string { return t.ID }}

// Tenant is a platform's customer.
type Tenant struct {
	_             struct{}  `additionalProperties:"true"`
	ID            string    `json:"id" example:"acme"`
	Description   string    `json:"description"`
	Plan          string    `json:"plan" doc:"The plan that counts: its own, or the default one"`
	MaxEndpoints  *int      `json:"max_endpoints,omitempty" doc:"Its own limit in place of the plan's; 0 means any number"`
	EndpointLimit int       `json:"endpoint_limit" doc:"How many endpoints it may have by either; 0 means any number"`
	Endpoints     int       `json:"endpoints" doc:"How many it has, disabled ones included"`
	Suspended     bool      `json:"suspended" doc:"Its events are matched to nothing, and what was queued is discarded"`
	CreatedAt     time.Time `json:"created_at"`
	UpdatedAt     time.Time `json:"updated_at"`
	Version       int64     `json:"version" doc:"Counts changes from 1; the ETag is this number in quotes"`
}

// TenantCreate is the body of a create.
type TenantCreate struct {
	ID           string `json:"id" maxLength:"128" doc:"As in its events" example:"acme"`
	Description  string `json:"description,omitempty" maxLength:"1000"`
	Plan         string `json:"plan,omitempty" maxLength:"64" doc:"A plan of the configuration; the default one if absent" example:"pro"`
	MaxEndpoints *int   `json:"max_endpoints,omitempty" minimum:"0" maximum:"1000000" doc:"A limit in place of the plan's; 0 means any number"`
	Suspended    bool   `json:"suspended,omitempty"`
}

// TenantPatch is the body of an update, a JSON Merge Patch (RFC 7396).
type TenantPatch struct {
	Description  Member[string] `json:"description,omitzero" maxLength:"1000"`
	Plan         Member[string] `json:"plan,omitzero" doc:"null takes it back to the default plan"`
	MaxEndpoints Member[int]    `json:"max_endpoints,omitzero" minimum:"0" maximum:"1000000" doc:"null takes it back to the plan's limit"`
	Suspended    Member[bool]   `json:"suspended,omitzero" doc:"true stops matching within a second and discards what is queued, with the reason tenant_suspended"`
}

type tenantOutput struct {
	ETag string `header:"ETag" doc:"The version in quotes"`
	Body Tenant
}

func (s *server) viewOfTenant(t *webhook.Tenant) Tenant {
	name, plan, _ := s.planOf(t)
	v := Tenant{ID: t.ID, Description: t.Description, Plan: name, EndpointLimit: plan.Endpoints, MaxEndpoints: t.MaxEndpoints, Suspended: t.Suspended,
		Endpoints: s.cfg.Endpoints.Count(t.ID), CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt, Version: t.Version}
	if t.MaxEndpoints != nil {
		v.EndpointLimit = *t.MaxEndpoints
	}
	return v
}

func (s *server) registerTenants() {
	const tag = "tenants"
	admin := map[string]any{metaAccess: accessAdmin}
	register(s, huma.Operation{
		OperationID: "createTenant", Method: http.MethodPost, Path: tenantsPath, Tags: []string{tag}, Metadata: admin,
		Summary:       "Create a tenant",
		Description:   "Only needed to set something: a tenant that was never created has the default plan, and may have endpoints.",
		DefaultStatus: http.StatusCreated,
		Responses:     s.responses(map[int]any{http.StatusOK: Tenant{}}, http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity),
	}, s.createTenant)
	register(s, huma.Operation{
		OperationID: "listTenants", Method: http.MethodGet, Path: tenantsPath, Tags: []string{tag}, Metadata: admin,
		Summary: "List tenants", Description: "Those that were created, in the order of their IDs.",
		Responses: s.responses(nil, http.StatusBadRequest),
	}, s.listTenants)
	register(s, huma.Operation{
		OperationID: "getTenant", Method: http.MethodGet, Path: tenantPath, Tags: []string{tag},
		Summary: "Read a tenant", Responses: s.responses(nil, http.StatusNotFound),
	}, s.getTenant)
	register(s, huma.Operation{
		OperationID: "updateTenant", Method: http.MethodPatch, Path: tenantPath, Tags: []string{tag}, Metadata: admin,
		Summary:     "Change a tenant",
		Description: "The body is a JSON Merge Patch (RFC 7396). A smaller limit leaves the endpoints that there are; the next create is refused.",
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{
			"application/merge-patch+json": {Schema: s.schemaOf(TenantPatch{})},
		}},
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed),
	}, s.updateTenant)
	register(s, huma.Operation{
		OperationID: "deleteTenant", Method: http.MethodDelete, Path: tenantPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Delete a tenant", Description: "Refused while it has endpoints. Its keys are revoked, and its pause and its replays go with it.",
		Responses: s.responses(nil, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed),
	}, s.deleteTenant)
}

type createTenantInput struct {
	IdempotencyParam
	Body TenantCreate
}

type createTenantOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the tenant is read"`
	ETag     string `header:"ETag" doc:"The version in quotes"`
	Body     Tenant
}

func (s *server) createTenant(ctx context.Context, in *createTenantInput) (*createTenantOutput, error) {
	b := &in.Body
	t := &webhook.Tenant{ID: b.ID, Description: b.Description, Plan: b.Plan, MaxEndpoints: b.MaxEndpoints, Suspended: b.Suspended}
	if errs := append(s.checkTenantID("id", t.ID), s.checkTenant(t)...); len(errs) > 0 {
		return nil, invalid(errs...)
	}
	made, repeated, err := tenants.create(ctx, s, t.ID, in.IdempotencyKey, t, b)
	if err != nil {
		return nil, err
	}
	out := &createTenantOutput{Status: http.StatusCreated, ETag: etag(made.Version), Body: s.viewOfTenant(made),
		Location: strings.ReplaceAll(tenantPath, "{tenant}", url.PathEscape(made.ID))}
	if repeated {
		out.Status = http.StatusOK
	} else {
		s.log.InfoContext(ctx, "tenant created", "tenant", made.ID, "plan", made.Plan)
	}
	return out, nil
}

func (s *server) checkTenant(t *webhook.Tenant) []FieldError {
	errs := checkText("description", t.Description)
	if _, ok := s.cfg.Plans[t.Plan]; t.Plan != "" && !ok {
		errs = append(errs, FieldError{"plan", fmt.Sprintf("it is not one of the configuration's: %s", strings.Join(slices.Sorted(maps.Keys(s.cfg.Plans)), ", "))})
	}
	if m := t.MaxEndpoints; m != nil && (*m < 0 || *m > maxOwnLimit) {
		errs = append(errs, FieldError{"max_endpoints", fmt.Sprintf("it must be from 0 (any number) to %d", maxOwnLimit)})
	}
	return errs
}

func (s *server) listTenants(ctx context.Context, in *PageParams) (*pageOutput[Tenant], error) {
	return paginate(ctx, *in, func(after string) iter.Seq2[string, *webhook.Tenant] {
		return tenants.table.all(s.cfg.Records, "", after)
	}, nil, s.viewOfTenant)
}

func (s *server) getTenant(_ context.Context, in *TenantParam) (*tenantOutput, error) {
	t, ok := tenants.table.get(s.cfg.Records, in.Tenant)
	if !ok {
		return nil, tenants.missing(in.Tenant)
	}
	return &tenantOutput{ETag: etag(t.Version), Body: s.viewOfTenant(t)}, nil
}

type updateTenantInput struct {
	TenantParam
	IfMatchParam
	Body TenantPatch
}

func (s *server) updateTenant(ctx context.Context, in *updateTenantInput) (*tenantOutput, error) {
	p := &in.Body
	t, err := tenants.patch(ctx, s, in.Tenant, in.IfMatch, func(t *webhook.Tenant) []FieldError {
		replace(&t.Description, p.Description)
		replace(&t.Plan, p.Plan)
		replace(&t.Suspended, p.Suspended)
		switch {
		case p.MaxEndpoints.Null:
			t.MaxEndpoints = nil
		case p.MaxEndpoints.Set:
			t.MaxEndpoints = &p.MaxEndpoints.Value
		}
		return s.checkTenant(t)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "tenant updated", "tenant", t.ID, "version", t.Version, "suspended", t.Suspended)
	return &tenantOutput{ETag: etag(t.Version), Body: s.viewOfTenant(t)}, nil
}

type deleteTenantInput struct {
	TenantParam
	IfMatchParam
}

func (s *server) deleteTenant(ctx context.Context, in *deleteTenantInput) (*struct{}, error) {
	err := tenants.delete(ctx, s, in.Tenant, in.IfMatch, func(tx Tx) error {
		if n := tx.Count(in.Tenant); n > 0 {
			return newProblem(http.StatusConflict, "The tenant has %d endpoints. Delete them first; to stop its deliveries, suspend it.", n)
		}
		return forget(tx, in.Tenant)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "tenant deleted", "tenant", in.Tenant)
	return nil, nil
}

// forget deletes what belongs to a tenant besides its endpoints: one of the same
// name that comes later must not meet its keys, be paused, or see its replays.
func forget(tx Tx, tenant string) error {
	for id, k := range keys.all(tx, "", "") {
		if k.Tenant == tenant {
			if err := keys.delete(tx, id); err != nil {
				return err
			}
		}
	}
	if _, paused := tx.Raw(webhook.KindPause, pauseID(tenant)); paused {
		if err := tx.PutRaw(webhook.KindPause, pauseID(tenant), nil); err != nil {
			return err
		}
	}
	for _, kind := range [...]string{KindReplay, KindProgress, KindOnce} {
		for id := range tx.Records(kind, tenant+"/", "") {
			if err := tx.PutRaw(kind, id, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
