package safedial_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"posthorn/dispatcher/safedial"
)

func newGuard(t *testing.T, p safedial.Policy) *safedial.Guard {
	t.Helper()
	g, err := safedial.NewGuard(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func cidrs(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, c := range list {
		out = append(out, netip.MustParsePrefix(c))
	}
	return out
}

// dialled asks the guard as net.Dialer does.
func dialled(g *safedial.Guard, ip string) error {
	network := "tcp4"
	if strings.Contains(ip, ":") {
		network = "tcp6"
	}
	return g.Control(context.Background(), network, net.JoinHostPort(ip, "443"), nil)
}

func wantDenied(t *testing.T, err error, what string) *safedial.DeniedError {
	t.Helper()
	var denied *safedial.DeniedError
	if !errors.As(err, &denied) {
		t.Errorf("%s: got %v, want a DeniedError", what, err)
		return &safedial.DeniedError{}
	}
	return denied
}

func TestClosedRangesAreRefusedAtDial(t *testing.T) {
	g := newGuard(t, safedial.Policy{})
	for _, ip := range []string{
		"127.0.0.1", "127.255.255.254", "::1",
		"0.0.0.0", "0.1.2.3", "::",
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1",
		"169.254.1.1", "fe80::1", "fe80::1%eth0",
		"100.64.0.1", "100.127.255.255",
		"224.0.0.1", "239.255.255.255", "ff02::1", "255.255.255.255", "240.0.0.1",
		"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1",
		"192.0.0.1", "198.18.0.1", "192.88.99.1",
		"169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "169.254.170.2",
		// The same in disguise.
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16",
		"::127.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::10.0.0.1", "64:ff9b:1:a00:0:100::",
		"2002:7f00:1::1", "2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
	} {
		wantDenied(t, dialled(g, ip), ip)
	}
}

func TestPublicAddressesPass(t *testing.T) {
	g := newGuard(t, safedial.Policy{})
	for _, ip := range []string{"8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"} {
		if err := dialled(g, ip); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
	}
}

func TestAnAllowedRangeOpensThatRangeAlone(t *testing.T) {
	g := newGuard(t, safedial.Policy{AllowCIDRs: cidrs("127.0.0.0/8", "fd12::/16")})
	for _, ip := range []string{"127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "fd12::7", "fd12::7%eth0"} {
		if err := dialled(g, ip); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
	}
	for _, ip := range []string{"::1", "10.0.0.1", "fd13::7", "64:ff9b::127.0.0.1"} {
		wantDenied(t, dialled(g, ip), ip)
	}
	mapped := newGuard(t, safedial.Policy{AllowCIDRs: cidrs("::ffff:127.0.0.0/104")})
	if err := dialled(mapped, "127.0.0.1"); err != nil {
		t.Errorf("a mapped prefix means the IPv4 prefix inside it: %v", err)
	}
}

func TestMetadataAndTheDenyListBeatEveryAllow(t *testing.T) {
	g := newGuard(t, safedial.Policy{
		AllowCIDRs: cidrs("0.0.0.0/0", "::/0"),
		DenyCIDRs:  cidrs("10.1.0.0/16", "8.8.8.0/24", "2606:4700::/32"),
	})
	for _, ip := range []string{
		"169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "::169.254.169.254",
		"64:ff9b:1::169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0",
		"2001:0:a9fe:a9fe::1", "2001::5601:5601",
		"168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16",
		"fd00:ec2::254", "fd00:ec2::254%eth0", "fd20:ce::254", "100.100.100.200", "169.254.170.2",
		"10.1.2.3", "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700::1111", "2606:4700::1111%1",
	} {
		wantDenied(t, dialled(g, ip), ip)
	}
	if err := dialled(g, "10.2.0.1"); err != nil {
		t.Errorf("an allowed neighbour: %v", err)
	}
}

func TestAllowingATranslatorDoesNotAllowWhatLiesBehindIt(t *testing.T) {
	g := newGuard(t, safedial.Policy{AllowCIDRs: cidrs("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")})
	for _, ip := range []string{"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::192.168.0.1", "2002:a00:1::1", "2001:0:808:808::f5ff:fffe"} {
		wantDenied(t, dialled(g, ip), ip)
	}
	for _, ip := range []string{"64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "2002:808:808::1"} {
		if err := dialled(g, ip); err != nil {
			t.Errorf("%s: %v", ip, err)
		}
	}
}

func TestLocalUseNAT64IsDeniedWhateverItsLayout(t *testing.T) {
	g := newGuard(t, safedial.Policy{AllowCIDRs: cidrs("64:ff9b:1::/48")})
	for _, ip := range []string{
		"64:ff9b:1:7f00:0:100:808:808", "64:ff9b:1:a00:0:100:808:808", // by a 48-bit prefix 127.0.0.1 and 10.0.0.1, by a 96-bit one 8.8.8.8
		"64:ff9b:1:7f00:0:100::", "64:ff9b:1:c0a8:1:100::",
		"64:ff9b:1:7f:0:1:808:808", "64:ff9b:1:a:0:1:808:808", // by a 56-bit one
		"64:ff9b:1:0:7f:0:108:808", "64:ff9b:1:0:a:0:100:0", // by a 64-bit one
		"64:ff9b:1:808:8:800:7f00:1", "64:ff9b:1:808:8:800:a00:1", // by a 96-bit one
		"64:ff9b:1::", "64:ff9b:1::1", "64:ff9b:1:0:ff00::", // nothing by any
	} {
		wantDenied(t, dialled(g, ip), ip)
	}
	for _, ip := range []string{"64:ff9b:1:808:8:800::", "64:ff9b:1:8:8:808::", "64:ff9b:1:0:8:808:800:0", "64:ff9b:1::8.8.8.8"} {
		if err := dialled(g, ip); err != nil {
			t.Errorf("%s: a public address in one layout and none in the others: %v", ip, err)
		}
	}
	open := newGuard(t, safedial.Policy{AllowCIDRs: cidrs("64:ff9b:1::/48", "10.0.0.0/8")})
	if err := dialled(open, "64:ff9b:1:a00:0:100:808:808"); err != nil {
		t.Errorf("allowed in every layout: %v", err)
	}
}

func TestPortsAndNetworksAreChecked(t *testing.T) {
	for _, tc := range []struct {
		name    string
		policy  safedial.Policy
		network string
		address string
		ok      bool
	}{
		{"443 by default", safedial.Policy{}, "tcp4", "8.8.8.8:443", true},
		{"80 by default", safedial.Policy{}, "tcp4", "8.8.8.8:80", true},
		{"no other by default", safedial.Policy{}, "tcp4", "8.8.8.8:6379", false},
		{"a chosen port", safedial.Policy{AllowPorts: []uint16{8443}}, "tcp4", "8.8.8.8:8443", true},
		{"a choice replaces the default", safedial.Policy{AllowPorts: []uint16{8443}}, "tcp4", "8.8.8.8:443", false},
		{"any port", safedial.Policy{AnyPort: true}, "tcp4", "8.8.8.8:6379", true},
		{"an allowed range opens no port", safedial.Policy{AllowCIDRs: cidrs("127.0.0.0/8")}, "tcp4", "127.0.0.1:6379", false},
		{"udp", safedial.Policy{AnyPort: true}, "udp4", "8.8.8.8:443", false},
		{"unix", safedial.Policy{AnyPort: true}, "unix", "/run/docker.sock", false},
		{"a name instead of an address", safedial.Policy{AnyPort: true}, "tcp4", "localhost:443", false},
	} {
		err := newGuard(t, tc.policy).Control(t.Context(), tc.network, tc.address, nil)
		if tc.ok && err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !tc.ok {
			wantDenied(t, err, tc.name)
		}
	}
}

func TestDeniedErrorIsFoundThroughTheDialer(t *testing.T) {
	g := newGuard(t, safedial.Policy{AnyPort: true})
	d := net.Dialer{ControlContext: g.Control}
	conn, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:9")
	if err == nil {
		conn.Close()
	}
	denied := wantDenied(t, err, "through net.Dialer")
	if denied.Addr.String() != "127.0.0.1:9" || denied.Why != "127.0.0.1 is a loopback address" {
		t.Errorf("got %v, %q", denied.Addr, denied.Why)
	}
}

func TestAnUnusablePolicyIsRefused(t *testing.T) {
	for name, p := range map[string]safedial.Policy{
		"an invalid prefix":       {AllowCIDRs: []netip.Prefix{{}}},
		"a prefix beyond mapped":  {DenyCIDRs: cidrs("::ffff:0.0.0.0/90")},
		"port zero":               {AllowPorts: []uint16{0}},
		"any port and some ports": {AnyPort: true, AllowPorts: []uint16{80}},
	} {
		if _, err := safedial.NewGuard(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

type answers []string

func (a answers) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range a {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

func TestCheckHostHandsOnOnlyAllowedAddresses(t *testing.T) {
	g := newGuard(t, safedial.Policy{})
	got, err := g.CheckHost(t.Context(), answers{"10.0.0.1", "::ffff:8.8.8.8", "2606:4700::1111"}, "mixed.example.com", 443)
	if err != nil || len(got) != 2 || got[0].String() != "8.8.8.8:443" || got[1].String() != "[2606:4700::1111]:443" {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = g.CheckHost(t.Context(), answers{"10.0.0.1", "127.0.0.1"}, "inside.example.com", 443)
	wantDenied(t, err, "all addresses closed")
	_, err = g.CheckHost(t.Context(), answers{}, "127.0.0.1", 443)
	wantDenied(t, err, "an IP literal")
	_, err = g.CheckHost(t.Context(), answers{"8.8.8.8"}, "example.com", 22)
	wantDenied(t, err, "a closed port")
	if _, err = g.CheckHost(t.Context(), answers{}, "empty.example.com", 443); err == nil {
		t.Error("no addresses: accepted")
	}
}

func TestURLsThatCouldNeverBeDialledAreRefusedAtRegistration(t *testing.T) {
	g := newGuard(t, safedial.Policy{})
	for _, raw := range []string{
		"", "/hooks", "example.com/hooks", "//example.com/hooks", "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)", "https:example.com", "https:///x",
		"https://user@example.com/", "https://user:pw@example.com/",
		"http://127.0.0.1/", "http://127.1.2.3/", "http://10.0.0.1/", "http://172.16.5.4/", "http://192.168.0.1/", "http://169.254.169.254/latest/",
		"http://0.0.0.0/", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[fe80::1%25eth0]/", "http://[fd00:ec2::254]/",
		"http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://api.localhost/", "http://intranet/", "http://intranet./",
		"http://2130706433/", "http://0x7f000001/", "http://127.1/", "http://0177.0.0.1/", "http://0x7f.0.0.0x1/", "http://1.2.3.0x/",
		"https://example.com:22/", "https://example.com:0/", "https://example.com:/", "https://example.com:99999/",
		"https://exa mple.com/", "https://ｅxample.com/", "https://a..example.com/", "https://-a.example.com/", "https://" + strings.Repeat("a", 64) + ".com/", "https://" + strings.Repeat("a.", 130) + "com/",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			continue // refused even earlier
		}
		var refused *safedial.URLError
		if err := g.CheckURL(u); !errors.As(err, &refused) {
			t.Errorf("%q: got %v, want a URLError", raw, err)
		} else if strings.Contains(err.Error(), "pw") || refused.Why == "" {
			t.Errorf("%q: the sentence %q", raw, err)
		}
	}
	for _, raw := range []string{"https://example.com", "http://example.com/hook?token=x", "https://example.com:443/", "https://xn--bcher-kva.example/", "https://a_b.example.com./", "https://93.184.216.34/", "https://[2606:4700::1111]/", "https://1.example.com/"} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.CheckURL(u); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestPolicyLoosensAndTightensURLs(t *testing.T) {
	check := func(p safedial.Policy, raw string) error {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return newGuard(t, p).CheckURL(u)
	}
	if err := check(safedial.Policy{HTTPSOnly: true}, "http://example.com/"); err == nil {
		t.Error("http accepted where only https is")
	}
	if err := check(safedial.Policy{AllowCIDRs: cidrs("127.0.0.0/8"), AnyPort: true}, "http://localhost:8080/"); err != nil {
		t.Error(err)
	}
	if err := check(safedial.Policy{AllowBareHosts: true}, "http://receiver/"); err != nil {
		t.Error(err)
	}
	if err := check(safedial.Policy{AllowBareHosts: true}, "http://2130706433/"); err == nil {
		t.Error("a number accepted as a bare host")
	}
}

func FuzzGuardNeverLetsAnUnallowedAddressPass(f *testing.F) {
	g, err := safedial.NewGuard(safedial.Policy{AnyPort: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte("\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, ok := netip.AddrFromSlice(b)
		if !ok || g.CheckAddr(netip.AddrPortFrom(ip, 443)) != nil {
			return
		}
		ip = ip.Unmap()
		if ip.IsPrivate() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() ||
			(ip.Is6() && !netip.MustParsePrefix("2000::/3").Contains(ip)) {
			t.Errorf("%s passed", ip)
		}
	})
}
