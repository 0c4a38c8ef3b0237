package safedial

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052 section 2.1
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1, deprecated
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915, "IPv4-translated"
	cgnat      = netip.MustParsePrefix("100.64.0.0/10")   // RFC 6598
	broadcast  = netip.MustParseAddr("255.255.255.255")   // RFC 919
	thisNet    = netip.MustParsePrefix("0.0.0.0/8")       // RFC 791 section 3.2
	v6Docs     = netip.MustParsePrefix("2001:db8::/32")   // RFC 3849
	v4Docs     = [...]netip.Prefix{                       // RFC 5737
		netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"),
	}
)

// embeddedIPv4 returns every IPv4 address that a translator or relay might
// read out of an IPv6 address, possible misreadings included: it serves to
// deny, so a candidate too many does no harm.
func embeddedIPv4(ip netip.Addr) []netip.Addr {
	if !ip.Is6() {
		return nil
	}
	b := ip.As16()
	switch {
	case nat64Local.Contains(ip):
		return nat64LocalIPv4(b)
	case teredo.Contains(ip):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), teredoClient(b)}
	default:
		return translatedIPv4(ip)
	}
}

// nat64LocalIPv4 returns the candidates of a local-use NAT64 address. The
// translator's prefix may be any of 48, 56, 64 or 96 bits long, and RFC 6052
// section 2.2 puts the IPv4 address elsewhere for each (always around byte 8,
// which translators ignore).
func nat64LocalIPv4(b [16]byte) []netip.Addr {
	return []netip.Addr{
		last4(b),
		netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
		netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
		netip.AddrFrom4([4]byte{b[9], b[10], b[11], b[12]}),
	}
}

// translatedIPv4 returns the IPv4 addresses that an allowed IPv6 address may
// lead to: one, but for the local-use NAT64 range, whose layout is the
// translator's secret.
//
// There the layouts that aren't the translator's mostly read zeros, which lie
// in 0.0.0.0/8: no destination for any packet (RFC 6890 section 2.2.2), so they
// are left out, unless no layout reads anything else. Without that no address
// at all would pass.
func translatedIPv4(ip netip.Addr) []netip.Addr {
	if !ip.Is6() {
		return nil
	}
	b := ip.As16()
	switch {
	case ip.IsLoopback() || ip.IsUnspecified():
		return nil // they lie in ::/96 but embed nothing
	case nat64Local.Contains(ip):
		candidates := slices.DeleteFunc(nat64LocalIPv4(b), thisNet.Contains)
		if len(candidates) == 0 {
			return []netip.Addr{last4(b)}
		}
		return candidates
	case nat64.Contains(ip), compatible.Contains(ip), translated.Contains(ip):
		return []netip.Addr{last4(b)}
	case sixToFour.Contains(ip):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(ip):
		return []netip.Addr{teredoClient(b)}
	default:
		return nil
	}
}

func last4(b [16]byte) netip.Addr { return netip.AddrFrom4([4]byte(b[12:16])) }

// teredoClient undoes the inversion of the client's address (RFC 4380 section 4).
func teredoClient(b [16]byte) netip.Addr {
	var v4 [4]byte
	binary.BigEndian.PutUint32(v4[:], ^binary.BigEndian.Uint32(b[12:16]))
	return netip.AddrFrom4(v4)
}

// naming names the address that decided: ip itself or what it embeds.
func naming(ip, decisive netip.Addr) string {
	if ip == decisive {
		return ip.String()
	}
	return fmt.Sprintf("%s (inside %s)", decisive, ip)
}

// describe says what kind of address was denied.
func describe(ip netip.Addr) string {
	for _, docs := range v4Docs {
		if docs.Contains(ip) {
			return "in a documentation range"
		}
	}
	switch {
	case ip.IsLoopback():
		return "a loopback address"
	case ip.IsUnspecified():
		return "the unspecified address"
	case ip.IsPrivate():
		return "in a private network"
	case ip.IsLinkLocalUnicast():
		return "a link-local address"
	case ip.IsMulticast():
		return "a multicast address"
	case ip == broadcast:
		return "the broadcast address"
	case thisNet.Contains(ip):
		return `in "this network" (0.0.0.0/8)`
	case cgnat.Contains(ip):
		return "in the carrier-grade NAT range"
	case nat64.Contains(ip), nat64Local.Contains(ip):
		return "a NAT64 address"
	case sixToFour.Contains(ip):
		return "a 6to4 address"
	case teredo.Contains(ip):
		return "a Teredo address"
	case v6Docs.Contains(ip):
		return "in a documentation range"
	default:
		return "not a public address"
	}
}
