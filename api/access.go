package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// access says which keys may call an operation. Whoever may not is answered 403
// before anything is looked at, so the answer tells nothing of what there is.
type access string

const (
	// accessTenant is of every path with {tenant}: administrators, and keys of
	// that tenant.
	accessTenant access = "tenant"
	// accessAdmin is for administrators alone.
	accessAdmin access = "admin"
	// accessAll is for every key: what is read there is the same for all
	// tenants.
	accessAll access = "all"
)

// The members of [huma.Operation.Metadata] that say who may call an operation.
const (
	metaAccess = "access" // an access; without it the path must have {tenant}
	metaReads  = "reads"  // true: read-only keys may call it though it isn't a GET
)

// accessExtension is where the OpenAPI document says it.
const accessExtension = "x-posthorn-access"

func accessOf(op *huma.Operation) access {
	if a, ok := op.Metadata[metaAccess].(access); ok {
		return a
	}
	if !strings.Contains(op.Path, "{tenant}") {
		// Found by every test and every start: newServer registers all.
		panic(fmt.Sprintf("api: %s has no {tenant} in its path and doesn't say who may call it", op.OperationID))
	}
	return accessTenant
}

// onlyReads reports whether an operation changes nothing.
func onlyReads(op *huma.Operation) bool {
	reads, _ := op.Metadata[metaReads].(bool)
	return reads || op.Method == http.MethodGet
}

// authorize refuses callers of an operation that their key isn't for.
func authorize(op *huma.Operation) func(ctx huma.Context, next func(huma.Context)) {
	who, reads := accessOf(op), onlyReads(op)
	return func(ctx huma.Context, next func(huma.Context)) {
		p := principalOf(ctx.Context())
		var problem *Problem
		switch {
		case p.ID == "": // the handler in front has let it through
			problem = unauthorized("The request was not authenticated.")
		case p.Tenant != "" && who == accessAdmin:
			problem = forbidden("This takes an administrator's key; this one is bound to a tenant.")
		case p.Tenant != "" && who == accessTenant && ctx.Param("tenant") != p.Tenant:
			problem = forbidden("This key is bound to another tenant.")
		case p.ReadOnly && !reads:
			problem = forbidden("This key is read-only.")
		default:
			next(ctx)
			return
		}
		problem.writeTo(ctx)
	}
}

func forbidden(detail string) *Problem {
	p := newProblem(http.StatusForbidden, "%s", detail)
	p.Type, p.Title = TypeForbidden, "Not allowed with this key"
	return p
}
