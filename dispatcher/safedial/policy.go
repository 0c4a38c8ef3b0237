// Package safedial decides which addresses may be dialled. Receivers' URLs are
// written by strangers, so a POST is a tool for reaching what only we can
// reach: loopback, private networks, the cloud's metadata service.
//
// The [Guard] sits in the dialer, after every name has become an address, so a
// name that resolves to something harmless at registration and to 127.0.0.1
// later (DNS rebinding) gains nothing. [Guard.CheckURL] is the polite form for
// registration: it refuses what could never be dialled, with a sentence that
// says why.
package safedial

import (
	"fmt"
	"net/netip"
	"slices"
)

// defaultPorts are what Policy.AllowPorts means when it is empty.
var defaultPorts = []uint16{80, 443}

// Policy is what the operator allows. The zero value allows the public
// internet on ports 80 and 443.
type Policy struct {
	// AllowCIDRs opens ranges that are closed by default, for instance
	// 127.0.0.0/8 for a demo or 10.20.0.0/16 for receivers in one's own
	// network. It never opens a cloud metadata address, and never a port.
	// IPv4-mapped prefixes count as the IPv4 prefix inside them.
	AllowCIDRs []netip.Prefix
	// DenyCIDRs closes ranges, whatever AllowCIDRs says. An IPv4 range is
	// closed too where it is embedded in an IPv6 address (NAT64, 6to4, Teredo).
	DenyCIDRs []netip.Prefix
	// AllowPorts are the destination ports; empty means 80 and 443.
	AllowPorts []uint16
	// AnyPort lifts the port check; AllowPorts must then be empty.
	AnyPort bool
	// HTTPSOnly refuses http URLs.
	HTTPSOnly bool
	// AllowBareHosts lets URLs name hosts without a dot, as inside a compose or
	// Kubernetes network. Their addresses are checked like all others.
	AllowBareHosts bool
}

// Validate reports the first thing wrong with the policy.
func (p Policy) Validate() error {
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
	}{{"allowed", p.AllowCIDRs}, {"denied", p.DenyCIDRs}} {
		if _, err := unmapPrefixes(list.prefixes); err != nil {
			return fmt.Errorf("%s ranges: %w", list.name, err)
		}
	}
	if p.AnyPort && len(p.AllowPorts) > 0 {
		return fmt.Errorf("allowed ports: %v and any port at once; choose one", p.AllowPorts)
	}
	if slices.Contains(p.AllowPorts, 0) {
		return fmt.Errorf("allowed ports: 0 is no port; use 1 to 65535")
	}
	return nil
}

// DeniedError says that the policy forbids an address. errors.As finds it
// through the wrapping of net and net/http.
type DeniedError struct {
	// Addr is the address that was about to be dialled; its port is 0 where
	// only the IP was in question, and it is invalid where there was none to
	// parse.
	Addr netip.AddrPort
	// Why is one clause for people, such as "10.0.0.7 is in a private network".
	Why string
	// Kind completes "the address is …" without showing it, for readers who may
	// not learn what a name resolves to here. It is empty where the IP wasn't
	// at fault, and Why then shows none.
	Kind string

	err error // of the ssrf library, where it was the one to refuse
}

func (e *DeniedError) Error() string { return "address denied: " + e.Why }

func (e *DeniedError) Unwrap() error { return e.err }

// unmapPrefixes returns the prefixes masked, and IPv4-mapped ones as IPv4,
// since addresses are unmapped before they are compared.
func unmapPrefixes(in []netip.Prefix) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(in))
	for _, p := range in {
		if !p.IsValid() {
			return nil, fmt.Errorf("%v is not a CIDR prefix such as 10.0.0.0/8", p)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("%v reaches beyond the IPv4-mapped addresses; give the IPv4 range itself", p)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
