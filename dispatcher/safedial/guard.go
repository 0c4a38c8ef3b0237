package safedial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// metadata are the addresses at which clouds hand out credentials and
// configuration to whoever asks from the inside. They are denied before any
// allow list is looked at: an operator who opens 169.254.0.0/16 or fc00::/7
// for a receiver doesn't mean these.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Google Cloud, Azure, OpenStack and most others
	netip.MustParseAddr("169.254.170.2"),   // AWS ECS task credentials
	netip.MustParseAddr("169.254.170.23"),  // AWS EKS pod identity
	netip.MustParseAddr("169.254.42.42"),   // Scaleway
	netip.MustParseAddr("169.254.0.23"),    // Tencent Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure WireServer: a public address, host-local in fact
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud, classic
	netip.MustParseAddr("fd00:ec2::254"),   // AWS over IPv6
	netip.MustParseAddr("fd00:ec2::23"),    // AWS EKS pod identity over IPv6
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud over IPv6
	netip.MustParseAddr("fd00:42::42"),     // Scaleway over IPv6
	netip.MustParseAddr("fe80::a9fe:a9fe"), // OpenStack over IPv6
}

// Guard decides about addresses by a [Policy]. It is immutable and safe for
// concurrent use.
type Guard struct {
	policy Policy
	deny   []netip.Prefix
	ports  []uint16 // nil: any
	ranges *ssrf.Guardian
}

// NewGuard builds a guard; the error is the policy's.
func NewGuard(p Policy) (*Guard, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("reading dial policy: %w", err)
	}
	allow, _ := unmapPrefixes(p.AllowCIDRs) // validated above
	deny, _ := unmapPrefixes(p.DenyCIDRs)
	var allow4, allow6 []netip.Prefix
	for _, prefix := range allow {
		if prefix.Addr().Is4() {
			allow4 = append(allow4, prefix)
		} else {
			allow6 = append(allow6, prefix)
		}
	}
	g := &Guard{policy: p, deny: deny}
	if !p.AnyPort {
		g.ports = slices.Clone(p.AllowPorts)
		if len(g.ports) == 0 {
			g.ports = defaultPorts
		}
	}
	g.ranges = ssrf.New(
		ssrf.WithNetworks("tcp4", "tcp6"),
		ssrf.WithAnyPort(), // the ports are ours: its default knows 80 and 443 alone
		ssrf.WithAllowedV4Prefixes(allow4...),
		ssrf.WithAllowedV6Prefixes(allow6...),
	)
	return g, nil
}

// HTTPSOnly reports whether http URLs are refused.
func (g *Guard) HTTPSOnly() bool { return g.policy.HTTPSOnly }

// Control is for net.Dialer.ControlContext, which the net package calls with
// each resolved address just before it connects. The error is a
// [*DeniedError].
func (g *Guard) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return &DeniedError{Why: fmt.Sprintf("%.60q is not an IP address and port", address), err: err}
	}
	if err := g.CheckAddr(addr); err != nil {
		return err
	}
	// Only the network is left to check; the address has passed.
	if err := g.ranges.Safe(network, addr.String(), nil); errors.Is(err, ssrf.ErrProhibitedNetwork) {
		return &DeniedError{Addr: addr, Why: fmt.Sprintf("network %.20q is neither tcp4 nor tcp6", network), err: err}
	}
	return nil
}

// CheckAddr applies the policy to an address and port. The error is a
// [*DeniedError].
func (g *Guard) CheckAddr(addr netip.AddrPort) error {
	if err := g.checkPort(addr); err != nil {
		return err
	}
	return g.checkIP(addr)
}

func (g *Guard) checkPort(addr netip.AddrPort) error {
	if g.ports == nil || slices.Contains(g.ports, addr.Port()) {
		return nil
	}
	return &DeniedError{Addr: addr, Why: fmt.Sprintf("port %d is not among the allowed ports %v", addr.Port(), g.ports)}
}

// checkIP is the one order of checks: metadata, the operator's deny list, the
// allow list, the ranges closed by default. What an IPv6 address embeds passes
// all of it too: a translator on the way would take us there.
func (g *Guard) checkIP(addr netip.AddrPort) error {
	deny := func(err error, subject, kind string) error {
		return &DeniedError{Addr: addr, Why: subject + " is " + kind, Kind: kind, err: err}
	}
	// A zone would hide the address from every prefix comparison (see
	// netip.Prefix.Contains), a mapped form from the IPv4 lists.
	ip := addr.Addr().WithZone("").Unmap()
	if !ip.IsValid() {
		return &DeniedError{Addr: addr, Why: "there is no IP address"}
	}
	embedded := embeddedIPv4(ip)
	for _, a := range append([]netip.Addr{ip}, embedded...) {
		if slices.Contains(metadata, a) {
			return deny(nil, naming(ip, a), "a cloud metadata service")
		}
		for _, prefix := range g.deny {
			if prefix.Contains(a) {
				return &DeniedError{
					Addr: addr, Kind: "in a range that the operator denies",
					Why: fmt.Sprintf("%s is in %s, which the operator denies", naming(ip, a), prefix),
				}
			}
		}
	}
	if err := g.ranges.SafeAddr(ip); err != nil {
		return deny(err, ip.String(), describe(ip))
	}
	// Only an allowed IPv6 range brings an embedding this far. Its IPv4 side
	// must be public or allowed in its own right: who allows NAT64 doesn't
	// mean 64:ff9b::127.0.0.1.
	for _, a := range translatedIPv4(ip) {
		if err := g.ranges.SafeAddr(a); err != nil {
			return deny(err, naming(ip, a), describe(a))
		}
	}
	return nil
}

// Resolver is the part of *net.Resolver that [Guard.CheckHost] needs.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// CheckHost resolves a host and returns those of its addresses that may be
// dialled, unmapped, in the resolver's order and at least one. It is for
// connections that somebody else makes, a proxy: hand it one of these
// addresses and never the name, which could resolve to something else there.
// The error is a [*DeniedError] when every address is denied, else the
// resolver's.
func (g *Guard) CheckHost(ctx context.Context, r Resolver, host string, port uint16) ([]netip.AddrPort, error) {
	ips := make([]netip.Addr, 0, 4)
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = r.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("resolving host: %w", err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("resolving host: %w", &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true})
	}
	var allowed []netip.AddrPort
	var denied error
	for _, ip := range ips {
		addr := netip.AddrPortFrom(ip.Unmap(), port)
		if err := g.CheckAddr(addr); err == nil {
			allowed = append(allowed, addr)
		} else if denied == nil {
			denied = err
		}
	}
	if len(allowed) == 0 {
		return nil, denied
	}
	return allowed, nil
}
