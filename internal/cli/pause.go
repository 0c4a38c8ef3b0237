package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Pauses stops and resumes deliveries: of everything, of a tenant, or of one of
// its endpoints.
type Pauses struct {
	Endpoints

	// All is everything, whoever the tenant; ID a single endpoint.
	All bool
	ID  string
}

// what names what is paused, and where the API has it; empty for an endpoint.
func (p Pauses) what() (name, path string, err error) {
	switch {
	case p.All && (p.ID != "" || p.Tenant != ""):
		return "", "", usagef("--all pauses everything: give neither a tenant nor an endpoint with it")
	case p.All:
		return "everything", "/v1/pause", nil
	case p.Tenant == "":
		return "", "", usagef("say what: --tenant, --tenant and the ID of an endpoint, or --all")
	case p.ID == "":
		return "tenant " + p.Tenant, "/v1/tenants/" + url.PathEscape(p.Tenant) + "/pause", nil
	}
	return p.ID, "", nil
}

// Pause has events matched and wait.
func (p Pauses) Pause(ctx context.Context, reason string) error {
	name, path, err := p.what()
	if err != nil {
		return err
	}
	if path == "" {
		if reason != "" {
			return usagef("--reason is of a tenant's pause, or of everything's; an endpoint has its description")
		}
		paused := true
		return p.Update(ctx, p.ID, EndpointChange{Paused: &paused}, 0)
	}
	answer, err := p.API.call(ctx, http.MethodPut, path, nil, nil, map[string]string{"reason": reason})
	if err != nil {
		return fmt.Errorf("pausing %s: %w", name, err)
	}
	return p.said(answer, "paused "+name)
}

// Resume lets it flow again.
func (p Pauses) Resume(ctx context.Context) error {
	name, path, err := p.what()
	if err != nil {
		return err
	}
	if path == "" {
		paused := false
		return p.Update(ctx, p.ID, EndpointChange{Paused: &paused}, 0)
	}
	if _, err := p.API.call(ctx, http.MethodDelete, path, nil, nil, nil); err != nil {
		return fmt.Errorf("resuming %s: %w", name, err)
	}
	return p.said([]byte(`{"paused":false}`), "resumed "+name)
}

func (p Pauses) said(answer []byte, text string) error {
	if p.JSON {
		return writeJSON(p.Out, json.RawMessage(answer))
	}
	return writef(p.Out, "%s\n", printable(text))
}

// Purge discards what was matched for an endpoint so far.
func (e Endpoints) Purge(ctx context.Context, id string) error {
	answer, err := e.API.call(ctx, http.MethodPut, e.path(id)+"/purge", nil, nil, struct{}{})
	if err != nil {
		return fmt.Errorf("purging %s: %w", id, err)
	}
	return e.show(answer)
}
