package safedial

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// URLError says what makes a URL unfit as a receiver's. It holds no part of
// the URL but its scheme, host name or port: the rest may be secret.
type URLError struct {
	Why string // one clause for people: what is wrong and what would be right

	err error
}

func (e *URLError) Error() string { return "url refused: " + e.Why }

// Unwrap returns the [*DeniedError] of an IP literal or a port.
func (e *URLError) Unwrap() error { return e.err }

// CheckURL tells at registration what dialling would refuse later, without
// resolving anything: schemes other than http and https, user info, localhost
// and IP literals of closed ranges, hosts without a dot, numbers in disguise,
// ports outside the policy. The error is a [*URLError].
func (g *Guard) CheckURL(u *url.URL) error {
	fail := func(format string, args ...any) error { return &URLError{Why: fmt.Sprintf(format, args...)} }
	switch {
	case u == nil:
		return fail("it is empty; give an absolute URL such as https://example.com/webhooks")
	case u.Scheme == "http" && g.policy.HTTPSOnly:
		return fail("the scheme is http; only https is allowed here")
	case u.Scheme != "http" && u.Scheme != "https":
		return fail("the scheme is %.20q; use https or http", u.Scheme)
	case u.Opaque != "" || u.Host == "" || u.Hostname() == "":
		return fail("it names no host; give an absolute URL such as https://example.com/webhooks")
	case u.User != nil:
		return fail("it holds a user name or password; put credentials in a header instead")
	}
	port, err := urlPort(u)
	if err != nil {
		return fail("%v", err)
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return fail("an IPv6 zone means nothing beyond one's own link")
		}
		return asURLError(g.CheckAddr(netip.AddrPortFrom(ip, port)))
	}
	if err := g.checkPort(netip.AddrPortFrom(netip.Addr{}, port)); err != nil {
		return asURLError(err)
	}
	return g.checkName(host)
}

func asURLError(err error) error {
	if denied, ok := errors.AsType[*DeniedError](err); ok {
		return &URLError{Why: denied.Why, err: denied}
	}
	return err
}

func urlPort(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return 0, fmt.Errorf("the port after the colon is missing")
		}
		if u.Scheme == "https" {
			return 443, nil
		}
		return 80, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port %.20q is not a number from 1 to 65535", text)
	}
	return uint16(port), nil
}

// checkName applies RFC 1123 host name syntax (with underscores, which exist
// in the wild) and refuses names that only a local resolver could know.
func (g *Guard) checkName(host string) error {
	fail := func(format string, args ...any) error { return &URLError{Why: fmt.Sprintf(format, args...)} }
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if len(name) > 253 {
		return fail("the host name is %d characters long; 253 is the limit", len(name))
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return fail("%.80q is not a host name; write international names in their xn-- form", host)
		}
	}
	last := labels[len(labels)-1]
	if last == "localhost" {
		loopback := g.checkIP(netip.MustParseAddrPort("127.0.0.1:0"))
		if loopback != nil {
			loopback = g.checkIP(netip.MustParseAddrPort("[::1]:0"))
		}
		if loopback != nil {
			return fail("localhost is a loopback address")
		}
		return nil
	}
	// "127.1", "2130706433" and "0x7f.1" are IPv4 to getaddrinfo and browsers
	// (WHATWG URL, "ends in a number"), and no top-level domain looks so.
	if strings.Trim(last, "0123456789") == "" || isHexNumber(last) {
		return fail("%.80q is a number in an unusual form; write IPv4 addresses as 192.0.2.1", host)
	}
	if len(labels) == 1 && !g.policy.AllowBareHosts {
		return fail("host %.80q has no dot; give a public host name", host)
	}
	return nil
}

func isHexNumber(label string) bool {
	digits, ok := strings.CutPrefix(label, "0x")
	return ok && strings.Trim(digits, "0123456789abcdef") == ""
}
