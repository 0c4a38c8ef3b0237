package registry

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

func (p Policy) urlProblem(raw string) string {
	switch {
	case raw == "":
		return "it is missing: give the http or https address to POST to"
	case len(raw) > MaxURLBytes:
		return fmt.Sprintf("it has %d bytes, at most %d are allowed", len(raw), MaxURLBytes)
	case strings.ContainsFunc(raw, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }):
		return "it holds spaces or control characters; write them percent-encoded"
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's words quote parts of the URL, which may be a password.
		return "it can't be read as a URL (RFC 3986); look at the port, brackets and percent-escapes"
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("the scheme must be https or http, not %.20q", u.Scheme)
	case u.Scheme == "http" && p.HTTPSOnly:
		return "only https is allowed here"
	case u.Opaque != "" || u.Host == "":
		return `it has no host: write it as "https://host/path"`
	case u.User != nil:
		return "it must not hold a user name or password; use a header for credentials"
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return `it must not have a fragment ("#…"), which is never sent`
	}
	if problem := p.portProblem(u); problem != "" {
		return problem
	}
	return p.hostProblem(u.Hostname())
}

func (p Policy) portProblem(u *url.URL) string {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return "the port after the colon is missing"
		}
		text = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "the port must be a number from 1 to 65535"
	}
	if len(p.Ports) > 0 && !slices.Contains(p.Ports, uint16(port)) {
		allowed := make([]string, len(p.Ports))
		for i, a := range p.Ports {
			allowed[i] = strconv.Itoa(int(a))
		}
		return fmt.Sprintf("port %d is not allowed here; these are: %s", port, strings.Join(allowed, ", "))
	}
	return ""
}

func (p Policy) hostProblem(host string) string {
	if strings.ContainsAny(host, "%") {
		return "the host must not have a zone or percent-encoding"
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return p.addressProblem(addr)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "" || len(name) > 253 {
		return "the host name must have 1 to 253 characters"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isAlnum(r) && r != '-' && r != '_' }) {
			return "the host name is not valid; labels have 1 to 63 letters, digits and hyphens, international names in their xn-- form"
		}
	}
	// Resolvers read "127.1", "0x7f.1" or "2130706433" as addresses (inet_aton);
	// no public name ends in a number (WHATWG URL, "ends in a number").
	tail := labels[len(labels)-1]
	if _, err := strconv.ParseUint(tail, 0, 64); err == nil || strings.Trim(tail, "0123456789") == "" || strings.HasPrefix(tail, "0x") {
		return "the host is a number that some systems read as an address; write an IPv4 address as four decimal numbers"
	}
	if p.AllowInternalNames {
		return ""
	}
	if tail == "localhost" {
		if p.allowed(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			return ""
		}
		return "it points to this machine itself (localhost), which is not allowed"
	}
	if len(labels) == 1 {
		return fmt.Sprintf("the host %q has no dot: it must be a public name", name)
	}
	for _, suffix := range internalSuffixes {
		if strings.HasSuffix(name, suffix) {
			return fmt.Sprintf("names under %q are not public, which is not allowed", suffix)
		}
	}
	return ""
}

// internalSuffixes never exist in public DNS: RFC 6762 (.local), RFC 8375
// (home.arpa), and .internal, which ICANN set aside in 2024.
var internalSuffixes = []string{".local", ".internal", ".home.arpa"}

// RefusesAddress says what kind of address a host resolved to, if deliveries
// are never made there; "" if they may be. It doesn't say the address itself.
func (p Policy) RefusesAddress(addr netip.Addr) string {
	switch {
	case isMetadata(addr):
		return "a cloud metadata address"
	case anyContains(p.DenyCIDRs, addr):
		return "in a network that is denied here"
	case p.allowed(addr):
		return ""
	}
	return specialUse(addr)
}

func (p Policy) addressProblem(addr netip.Addr) string {
	if isMetadata(addr) {
		return fmt.Sprintf("%s is a cloud metadata address, which is never allowed", addr)
	}
	if anyContains(p.DenyCIDRs, addr) {
		return fmt.Sprintf("%s is in a network that deliveries are not allowed to", addr)
	}
	if p.allowed(addr) {
		return ""
	}
	if what := specialUse(addr); what != "" {
		return fmt.Sprintf("%s is %s, which is not allowed", addr, what)
	}
	return ""
}

func (p Policy) allowed(addr netip.Addr) bool { return anyContains(p.AllowCIDRs, addr) }

func anyContains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range networks {
		if prefix.Contains(addr) || prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}
