package api

import (
	"fmt"
	"net/http"

	"posthorn/webhook"
)

// Plan is what tenants of a plan may have.
type Plan struct {
	// Endpoints that a tenant may have, disabled ones included; 0 for any
	// number.
	Endpoints int
}

// planOf returns the plan of a tenant, and whether the configuration has it.
func (s *server) planOf(t *webhook.Tenant) (name string, plan Plan, ok bool) {
	if name = t.Plan; name == "" {
		name = s.cfg.DefaultPlan
	}
	plan, ok = s.cfg.Plans[name]
	return name, plan, ok
}

// checkLimit refuses one endpoint more than a tenant may have. Under the
// registry's lock it is exact over all processes.
func (s *server) checkLimit(tx Tx, tenant string) error {
	t, ok := tenants.table.get(tx, tenant)
	if !ok {
		t = &webhook.Tenant{}
	}
	refused := func(format string, args ...any) error {
		p := newProblem(http.StatusForbidden, format, args...)
		p.Type, p.Title = TypeLimitReached, "Limit of endpoints reached"
		return p
	}
	name, plan, ok := s.planOf(t)
	most, why := plan.Endpoints, fmt.Sprintf("Plan %q of tenant %q", name, tenant)
	switch {
	case t.MaxEndpoints != nil:
		most, why = *t.MaxEndpoints, fmt.Sprintf("The own limit of tenant %q", tenant)
	case !ok:
		// A plan that was taken out of the configuration: any limit made up for
		// it might be too many.
		return refused("The plan %q of tenant %q is not in the configuration any more: it takes no more endpoints until the tenant has another.", name, tenant)
	}
	have := tx.Count(tenant)
	if most == 0 || have < most {
		return nil
	}
	return refused("%s allows %d endpoints, and it has %d. Delete one, or move to a larger plan.", why, most, have)
}
