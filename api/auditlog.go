package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

// AuditLog reads what changes wrote with [Tx].Audit. Safe for concurrent use.
type AuditLog interface {
	// Read returns up to limit entries, newest first, below the place before (0
	// for the newest), of a tenant ("" for all), and the place to go on from: 0 at
	// the end. It looks at a bounded number of entries, so a page may be shorter
	// than the limit and not be the last.
	Read(ctx context.Context, tenant string, before int64, limit int) (entries []webhook.AuditEntry, next int64, err error)
}

// AuditEntry is one change.
type AuditEntry struct {
	_         struct{}  `additionalProperties:"true"`
	At        time.Time `json:"at"`
	Actor     string    `json:"actor" doc:"The API key's ID; config-<n> for one of the configuration, anonymous where no key is asked for, cli for a command beside the API, system for Posthorn itself"`
	Operation string    `json:"operation" doc:"The operation's ID in this document" example:"createEndpoint"`
	Tenant    string    `json:"tenant,omitempty" doc:"Absent for what is the platform's"`
	Kind      string    `json:"kind" example:"endpoint"`
	ID        string    `json:"id" doc:"The resource"`
	Fields    []string  `json:"fields" doc:"Names of what was set or changed; the log holds no values"`
}

func viewOfAudit(e *webhook.AuditEntry) AuditEntry {
	v := AuditEntry{At: e.At, Actor: e.Actor, Operation: e.Operation, Tenant: e.Tenant, Kind: e.Kind, ID: e.ID, Fields: e.Fields}
	if v.Fields == nil {
		v.Fields = []string{}
	}
	return v
}

func (s *server) registerAudit() {
	const tag = "audit"
	description := "Newest first. How far it goes back is the retention of its topic."
	register(s, huma.Operation{
		OperationID: "listAudit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{tag},
		Metadata: map[string]any{metaAccess: accessAdmin},
		Summary:  "List all changes", Description: description,
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusServiceUnavailable),
	}, func(ctx context.Context, in *PageParams) (*pageOutput[AuditEntry], error) {
		return s.audit(ctx, "", *in)
	})
	register(s, huma.Operation{
		OperationID: "listTenantAudit", Method: http.MethodGet, Path: tenantPath + "/audit", Tags: []string{tag},
		Summary: "List a tenant's changes", Description: description,
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusServiceUnavailable),
	}, func(ctx context.Context, in *tenantAuditInput) (*pageOutput[AuditEntry], error) {
		return s.audit(ctx, in.Tenant, in.PageParams)
	})
}

type tenantAuditInput struct {
	TenantParam
	PageParams
}

func (s *server) audit(ctx context.Context, tenant string, p PageParams) (*pageOutput[AuditEntry], error) {
	cursor, ok := decodeCursor(p.Cursor)
	before := int64(0)
	if ok && cursor != "" {
		var err error
		before, err = strconv.ParseInt(cursor, 10, 64)
		ok = err == nil && before > 0
	}
	switch {
	case !ok:
		return nil, invalid(badCursor)
	case s.cfg.AuditLog == nil:
		return nil, newProblem(http.StatusServiceUnavailable, "This process can't read the audit log.")
	}
	entries, next, err := s.cfg.AuditLog.Read(ctx, tenant, before, p.Limit)
	if err != nil {
		return nil, err
	}
	out := &pageOutput[AuditEntry]{Body: Page[AuditEntry]{Items: []AuditEntry{}}}
	for i := range entries {
		out.Body.Items = append(out.Body.Items, viewOfAudit(&entries[i]))
	}
	if next > 0 {
		out.Body.Next = encodeCursor(strconv.FormatInt(next, 10))
	}
	return out, nil
}
