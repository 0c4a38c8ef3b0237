package app

import (
	"fmt"
	"slices"
	"strings"
)

// Role is a part of the line that a process can play.
type Role string

// The roles.
const (
	RoleMatch     Role = "match"     // events → deliveries
	RoleDispatch  Role = "dispatch"  // deliveries → endpoints
	RoleRetry     Role = "retry"     // what falls due → deliveries
	RoleAnalytics Role = "analytics" // settlements → ClickHouse
	RoleAPI       Role = "api"       // the admin API
)

// Roles is a set of roles.
type Roles []Role

// AllRoles is every role there is.
func AllRoles() Roles { return Roles{RoleMatch, RoleDispatch, RoleRetry, RoleAnalytics, RoleAPI} }

// Has reports whether the role is in the set.
func (rs Roles) Has(r Role) bool { return slices.Contains(rs, r) }

// ParseRoles reads roles; none means all.
func ParseRoles(names []string) (Roles, error) {
	if len(names) == 0 {
		return AllRoles(), nil
	}
	var rs Roles
	for _, n := range names {
		r := Role(strings.TrimSpace(n))
		if !AllRoles().Has(r) {
			return nil, fmt.Errorf("role %q is not known: want one or several of match, dispatch, retry, analytics, api", n)
		}
		if !rs.Has(r) {
			rs = append(rs, r)
		}
	}
	return rs, nil
}
