package api

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A browser behind the platform's network reaches the API as its user does, so
// any page that the user opens could call it. Three rules stop that, none of
// which concerns another client: the origin's (below), the media type's, since
// a page sends no JSON elsewhere without asking first (Fetch, "CORS-safelisted
// request-header"), and the host's.

const wantJSON = "The body must be JSON, with Content-Type: application/json, or application/merge-patch+json for a patch."

// sameOrigin refuses what a browser says comes from another origin's page.
func (s *server) sameOrigin(r *http.Request) *Problem {
	if s.origins.Check(r) != nil {
		return newProblem(http.StatusForbidden, "The request comes from a web page of another origin.")
	}
	return nil
}

// declaredJSON reports whether a body has exactly one of the API's media types;
// parameters such as a charset change nothing.
func declaredJSON(h http.Header) bool {
	declared := h.Values("Content-Type")
	if len(declared) != 1 {
		return false
	}
	kind, _, err := mime.ParseMediaType(declared[0])
	return err == nil && (kind == "application/json" || kind == "application/merge-patch+json")
}

// servesHost reports whether the API answers to a Host, "name" or "name:port".
func (s *server) servesHost(host string) bool {
	if !s.cfg.RestrictHosts {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return true
	}
	return strings.EqualFold(host, "localhost") ||
		slices.ContainsFunc(s.cfg.AllowedHosts, func(allowed string) bool { return strings.EqualFold(host, allowed) })
}
