package registry

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"posthorn/registry/filter"
	"posthorn/registry/match"
	"posthorn/webhook"
)

// Limits of an endpoint.
const (
	MaxURLBytes         = 2048
	MaxPatterns         = 100
	MaxDescriptionRunes = 1000
	MaxTenantBytes      = 128
	MaxIDBytes          = 64
	MaxHeaders          = 32
	MaxHeaderBytes      = 8 << 10 // names and values together
	MaxInFlightLimit    = 1000
	MinRateLimit        = 0.00001 // POSTs per second, about one a day; 0 is none
)

// FieldError is one thing that is wrong with a registration, in words for the
// user who made it.
type FieldError struct {
	// Field is the JSON name, with an index or key where it has parts:
	// "url", "events[2]", "headers[X-Team]".
	Field string `json:"field"`
	// Problem says what is wrong and what would be right. It never quotes the
	// value of a header.
	Problem string `json:"problem"`
}

// Error returns "field: problem".
func (e FieldError) Error() string { return e.Field + ": " + e.Problem }

// Policy is what the operator allows in a registration. The zero value is the
// strictest one that still allows plain http and any port.
//
// It gives users a clear answer early; it is no defence, since a name may
// resolve to another address later. That is the dial guard's part.
type Policy struct {
	// HTTPSOnly refuses plain http.
	HTTPSOnly bool
	// AllowCIDRs are private or special addresses that may be used all the
	// same. Cloud metadata addresses stay refused.
	AllowCIDRs []netip.Prefix
	// DenyCIDRs are addresses that deliveries never go to, before any of
	// AllowCIDRs.
	DenyCIDRs []netip.Prefix
	// AllowInternalNames permits host names of one label and those under
	// .local, .internal, .localhost and .home.arpa.
	AllowInternalNames bool
	// Ports are those that may be used; empty means all.
	Ports []uint16
	// CheckContract says whether a contract exists; nil accepts every name.
	CheckContract func(name string) error
	// ReservedHeaders names the headers that a contract sets itself; nil means
	// none besides those that are always refused.
	ReservedHeaders func(contract string) []string
	// CheckHeader says why a header couldn't be sent, without showing its
	// value; nil leaves it at the rules here. What registration accepts and
	// sending refuses would fail every delivery.
	CheckHeader func(name, value string) error
}

// ValidateEndpoint lists everything that is wrong with an endpoint that a user
// would like to register; nothing means that it may be. Secrets, times and
// version are not looked at: users don't set them.
func ValidateEndpoint(ep *webhook.Endpoint, policy Policy) []FieldError {
	var errs []FieldError
	add := func(field, format string, args ...any) {
		errs = append(errs, FieldError{field, fmt.Sprintf(format, args...)})
	}
	if p := idProblem(ep.ID); p != "" {
		add("id", "%s", p)
	}
	if p := tenantProblem(ep.Tenant); p != "" {
		add("tenant", "%s", p)
	}
	if p := policy.urlProblem(ep.URL); p != "" {
		add("url", "%s", p)
	}
	if p := descriptionProblem(ep.Description); p != "" {
		add("description", "%s", p)
	}
	if len(ep.Events) > MaxPatterns {
		add("events", "there are %d patterns, at most %d are allowed; \"*\" as the last segment covers many types at once", len(ep.Events), MaxPatterns)
	}
	for i, pattern := range ep.Events[:min(len(ep.Events), MaxPatterns)] {
		if err := match.ValidatePattern(pattern); err != nil {
			add(fmt.Sprintf("events[%d]", i), "%v", err)
		}
	}
	if ep.Filter != "" {
		if err := filter.Compile(ep.Filter); err != nil {
			add("filter", "%v", err)
		}
	}
	if policy.CheckContract != nil {
		if err := policy.CheckContract(ep.Contract); err != nil {
			add("contract", "%v", err)
		}
	}
	errs = append(errs, policy.headerProblems(ep)...)
	if r := ep.RateLimit; r != 0 && !(r >= MinRateLimit && r <= math.MaxFloat64) { // NaN is neither
		add("rate_limit", "it must be POSTs per second: 0 (no limit), or from 0.00001 (about one a day) up; to stop them, pause or disable the endpoint")
	}
	if ep.MaxInFlight < 0 || ep.MaxInFlight > MaxInFlightLimit {
		add("max_in_flight", "it must be a number from 0 (the default) to %d", MaxInFlightLimit)
	}
	return errs
}

func idProblem(id string) string {
	rest, ok := strings.CutPrefix(id, webhook.EndpointPrefix)
	switch {
	case !ok || rest == "":
		return fmt.Sprintf("it must begin with %q", webhook.EndpointPrefix)
	case len(id) > MaxIDBytes:
		return fmt.Sprintf("it has %d characters, at most %d are allowed", len(id), MaxIDBytes)
	case strings.ContainsFunc(rest, func(r rune) bool { return !isAlnum(r) && r != '_' && r != '-' }):
		return `it may hold only letters, digits, "_" and "-"`
	}
	return ""
}

func tenantProblem(tenant string) string {
	switch {
	case tenant == "":
		return "it is missing"
	case len(tenant) > MaxTenantBytes:
		return fmt.Sprintf("it has %d characters, at most %d are allowed", len(tenant), MaxTenantBytes)
	case tenant == "." || tenant == "..":
		return "it would change the meaning of a URL path"
	case strings.ContainsFunc(tenant, func(r rune) bool { return !isAlnum(r) && !strings.ContainsRune("_-.:~@", r) }):
		return `it may hold only letters, digits and "_-.:~@"`
	}
	return ""
}

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func descriptionProblem(s string) string {
	if !utf8.ValidString(s) {
		return "it is not valid UTF-8"
	}
	if n := utf8.RuneCountInString(s); n > MaxDescriptionRunes {
		return fmt.Sprintf("it has %d characters, at most %d are allowed", n, MaxDescriptionRunes)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		return "it holds control characters"
	}
	return ""
}
