package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	endpointsPath = "/v1/tenants/{tenant}/endpoints"
	endpointPath  = endpointsPath + "/{id}"
)

// TenantParam is the path of a tenant's resources. This type and those like it
// are exported because huma takes no parameters from unexported ones.
type TenantParam struct {
	Tenant string `path:"tenant" maxLength:"128" doc:"The platform's customer, as in its events" example:"acme"`
}

// EndpointParam is the path of an endpoint.
type EndpointParam struct {
	TenantParam
	ID string `path:"id" doc:"The endpoint's ID" example:"ep_aguhqyl7kjzdrgvlq5xwlkaw2i"`
}

// IfMatchParam makes a change conditional.
type IfMatchParam struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read: the request fails with 412 if the endpoint has changed since" example:"\"3\""`
}

type endpointOutput struct {
	ETag string `header:"ETag" doc:"The version in quotes"`
	Body Endpoint
}

func (s *server) registerEndpoints() {
	const tag = "endpoints"
	register(s, huma.Operation{
		OperationID: "createEndpoint", Method: http.MethodPost, Path: endpointsPath, Tags: []string{tag},
		Summary:       "Register an endpoint",
		Description:   "The signing secret that is generated is in this response alone. With Idempotency-Key a request may be repeated: it creates one endpoint, and a repeat is answered 200 with the endpoint as it is by then, without the secret.",
		DefaultStatus: http.StatusCreated,
		Responses: s.responses(map[int]any{http.StatusOK: Endpoint{}},
			http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity),
	}, s.createEndpoint)
	register(s, huma.Operation{
		OperationID: "listEndpoints", Method: http.MethodGet, Path: endpointsPath, Tags: []string{tag},
		Summary: "List a tenant's endpoints", Description: "In the order of their IDs. A tenant without any has an empty list.",
		Responses: s.responses(nil, http.StatusBadRequest),
	}, s.listEndpoints)
	register(s, huma.Operation{
		OperationID: "listAllEndpoints", Method: http.MethodGet, Path: "/v1/endpoints", Tags: []string{tag},
		Metadata: map[string]any{metaAccess: accessAdmin},
		Summary:  "List the endpoints of all tenants", Description: "In the order of their IDs.",
		Responses: s.responses(nil, http.StatusBadRequest),
	}, s.listAllEndpoints)
	register(s, huma.Operation{
		OperationID: "getEndpoint", Method: http.MethodGet, Path: endpointPath, Tags: []string{tag},
		Summary:   "Read an endpoint",
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound),
	}, s.getEndpoint)
	register(s, huma.Operation{
		OperationID: "updateEndpoint", Method: http.MethodPatch, Path: endpointPath, Tags: []string{tag},
		Summary:     "Change an endpoint",
		Description: "The body is a JSON Merge Patch (RFC 7396), whichever of the two media types it comes as. A patch that changes nothing leaves the version as it is.",
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{
			"application/merge-patch+json": {Schema: s.schemaOf(EndpointPatch{})},
		}},
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed),
	}, s.updateEndpoint)
	register(s, huma.Operation{
		OperationID: "deleteEndpoint", Method: http.MethodDelete, Path: endpointPath, Tags: []string{tag},
		Summary:   "Delete an endpoint",
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed),
	}, s.deleteEndpoint)
}

type createInput struct {
	TenantParam
	IdempotencyKey string `header:"Idempotency-Key" doc:"A unique name for this request, so that it may be repeated: 1 to 255 printable ASCII characters"`
	Body           EndpointCreate
}

type createOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the endpoint is read"`
	ETag     string `header:"ETag" doc:"The version in quotes"`
	Body     CreatedEndpoint
}

func (s *server) createEndpoint(ctx context.Context, in *createInput) (*createOutput, error) {
	ep := in.Body.endpoint(in.Tenant)
	ep.ID = s.cfg.NewEndpointID()
	secretID := newSecretID()
	once := in.IdempotencyKey != ""
	if once {
		if p := idempotencyKeyProblem(in.IdempotencyKey); p != "" {
			return nil, invalid(FieldError{"header.Idempotency-Key", p})
		}
		var err error
		if ep.ID, secretID, err = s.onceIDs(in.Tenant, in.IdempotencyKey, &in.Body); err != nil {
			return nil, err
		}
	}
	if errs := s.checkCreate(ep, in.Body.Secret); len(errs) > 0 {
		return nil, invalid(errs...)
	}
	if errs := s.cfg.CheckAddress(ctx, ep.URL); len(errs) > 0 {
		return nil, invalid(errs...)
	}
	generated, err := s.addSecret(ep, secretID, in.Body.Secret)
	if err != nil {
		return nil, err
	}

	var found *webhook.Endpoint
	err = s.update(ctx, func(tx Tx) (*note, error) {
		found = nil
		if old, ok := tx.Get(ep.ID); ok && once {
			if old.Tenant != ep.Tenant || madeByAnother(old, secretID) {
				return nil, keyReused()
			}
			found = old
			return nil, nil
		} else if ok {
			return nil, fmt.Errorf("creating endpoint: the new ID %s is taken", ep.ID)
		}
		if err := s.checkLimit(tx, ep.Tenant); err != nil {
			return nil, err
		}
		return endpointNote(nil, ep), tx.Put(ep)
	})
	if err != nil {
		return nil, err
	}
	out := &createOutput{Status: http.StatusCreated, Body: CreatedEndpoint{Endpoint: viewOf(ep), Secret: generated}}
	if found != nil {
		out.Status, out.Body = http.StatusOK, CreatedEndpoint{Endpoint: s.view(found)}
	} else {
		s.log.InfoContext(ctx, "endpoint created", "tenant", ep.Tenant, "endpoint", ep.ID, "contract", ep.Contract)
	}
	out.ETag = etag(out.Body.Version)
	out.Location = strings.NewReplacer("{tenant}", url.PathEscape(ep.Tenant), "{id}", ep.ID).Replace(endpointPath)
	return out, nil
}

// endpointNote is the audit log's note of an endpoint that was created (before
// is nil) or changed.
func endpointNote(before, after *webhook.Endpoint) *note {
	return &note{Tenant: after.Tenant, Kind: "endpoint", ID: after.ID, Fields: changedFields(before, after)}
}

func (s *server) checkCreate(ep *webhook.Endpoint, secret string) []FieldError {
	errs := s.cfg.CheckEndpoint(ep)
	if secret == "" || concerns(errs, map[string]bool{"contract": true}) {
		return errs
	}
	if err := s.cfg.Contracts.CheckSecret(ep.Contract, secret); err != nil {
		errs = append(errs, FieldError{"secret", err.Error()})
	}
	return errs
}

// addSecret seals the secret that was brought along, or else a new one, which
// it returns to be shown.
func (s *server) addSecret(ep *webhook.Endpoint, id, brought string) (generated string, err error) {
	plain := brought
	if plain == "" {
		if generated, err = s.cfg.Contracts.GenerateSecret(ep.Contract); err != nil {
			return "", fmt.Errorf("generating secret: %w", err)
		}
		plain = generated
	}
	sealed, err := s.cfg.Sealer.Seal(ep, id, plain)
	if err != nil {
		return "", fmt.Errorf("sealing secret: %w", err)
	}
	ep.Secrets = []webhook.SealedSecret{sealed}
	return generated, nil
}

func (s *server) getEndpoint(_ context.Context, in *EndpointParam) (*endpointOutput, error) {
	ep, err := endpointOf(s.cfg.Endpoints, in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	return &endpointOutput{ETag: etag(ep.Version), Body: s.view(ep)}, nil
}

type updateInput struct {
	EndpointParam
	IfMatchParam
	Body EndpointPatch
}

func (s *server) updateEndpoint(ctx context.Context, in *updateInput) (*endpointOutput, error) {
	expected, problem := parseIfMatch(in.IfMatch)
	if problem != nil {
		return nil, problem
	}
	if u := in.Body.URL; u.Set && !u.Null {
		if errs := s.cfg.CheckAddress(ctx, u.Value); len(errs) > 0 {
			return nil, invalid(errs...)
		}
	}
	var ep *webhook.Endpoint
	var changed bool
	err := s.update(ctx, func(tx Tx) (*note, error) {
		old, err := expected.endpointOf(tx, in.Tenant, in.ID)
		if err != nil {
			return nil, err
		}
		ep = cloneOf(old)
		if errs := s.patch(ep, &in.Body); len(errs) > 0 {
			return nil, invalid(errs...)
		}
		if changed = !sameSettings(old, ep); !changed {
			return nil, nil
		}
		return endpointNote(old, ep), tx.Put(ep)
	})
	if err != nil {
		return nil, err
	}
	if changed {
		s.log.InfoContext(ctx, "endpoint updated", "tenant", ep.Tenant, "endpoint", ep.ID, "version", ep.Version)
	}
	return &endpointOutput{ETag: etag(ep.Version), Body: s.view(ep)}, nil
}

// patch applies a patch and lists what is wrong with the fields that it names.
// The others aren't looked at: when rules have become stricter since an
// endpoint was registered, its owner can still disable it.
func (s *server) patch(ep *webhook.Endpoint, p *EndpointPatch) []FieldError {
	named, errs := p.apply(ep)
	if len(errs) > 0 {
		return errs
	}
	for _, e := range s.cfg.CheckEndpoint(ep) {
		if concerns([]FieldError{e}, named) {
			errs = append(errs, e)
		}
	}
	return errs
}

// concerns reports whether one of the errors lies in one of the fields.
func concerns(errs []FieldError, fields map[string]bool) bool {
	for _, e := range errs {
		if name, _, _ := strings.Cut(e.Field, "["); fields[name] {
			return true
		}
	}
	return false
}

type deleteInput struct {
	EndpointParam
	IfMatchParam
}

func (s *server) deleteEndpoint(ctx context.Context, in *deleteInput) (*struct{}, error) {
	expected, problem := parseIfMatch(in.IfMatch)
	if problem != nil {
		return nil, problem
	}
	err := s.update(ctx, func(tx Tx) (*note, error) {
		old, err := expected.endpointOf(tx, in.Tenant, in.ID)
		if err != nil {
			return nil, err
		}
		return &note{Tenant: old.Tenant, Kind: "endpoint", ID: old.ID}, tx.Delete(in.ID)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "endpoint deleted", "tenant", in.Tenant, "endpoint", in.ID)
	return nil, nil
}
