package send

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"posthorn/dispatcher/safedial"
	"posthorn/webhook"
)

// anAddress finds what looks like an IP address or a host with a port.
var anAddress = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+|::|\[|:\d{2,5}\b`)

func TestDetailsNeverShowAddressesOfOurs(t *testing.T) {
	ours := &net.UDPAddr{IP: net.IPv4(10, 9, 8, 7), Port: 36325}
	resolver := &net.UDPAddr{IP: net.ParseIP("fd00::35"), Port: 53}
	op := func(err error) error {
		return &net.OpError{Op: "read", Net: "udp", Source: ours, Addr: resolver, Err: err}
	}
	refused := op(os.NewSyscallError("read", syscall.ECONNREFUSED))
	dns := func(e net.DNSError) error {
		e.Err, e.Name, e.Server = refused.Error(), "x.example", resolver.String()
		return fmt.Errorf("posting: %w", &net.OpError{Op: "dial", Net: "tcp", Err: &e})
	}
	guard := publicOnly(t)
	denied := guard.CheckAddr(netip.MustParseAddrPort("10.9.8.7:443"))
	for _, tc := range []struct {
		r    Result
		want string
	}{
		{Result{Err: dns(net.DNSError{IsNotFound: true}), Stage: StageResolve}, "no such host"},
		{Result{Err: dns(net.DNSError{IsTimeout: true, IsTemporary: true}), Stage: StageResolve}, "in time"},
		{Result{Err: dns(net.DNSError{IsTemporary: true}), Stage: StageResolve}, "temporary"},
		{Result{Err: dns(net.DNSError{}), Stage: StageResolve}, "failed"},
		{Result{Err: denied, Stage: StageConnect}, "in a private network"},
		{Result{Err: op(context.DeadlineExceeded), Stage: StageConnect}, "timed out"},
		{Result{Err: op(syscall.ECONNRESET), Stage: StageWait}, "closed"},
		{Result{Err: refused, Stage: StageConnect}, "refused"},
		{Result{Err: op(syscall.ENETUNREACH), Stage: StageConnect}, "unreachable"},
		{Result{Err: op(op(errors.New("odd"))), Stage: StageTLS}, "odd"},
		{Result{Err: fmt.Errorf("connecting through proxy: %w", fmt.Errorf("reading the proxy's answer: %w", op(errors.New("odd")))), Stage: StageConnect}, "odd"},
		// Not every layer wraps: some keep the text of what they met.
		{Result{Err: errors.New("giving up after " + op(errors.New("odd")).Error()), Stage: StageAnswer}, "odd"},
		{Result{Err: errors.New("giving up after write tcp [fd00::7]:36325->[fd00::35]:443: odd"), Stage: StageAnswer}, "odd"},
		{Result{Err: errors.New("giving up after dial tcp fd00::35: odd"), Stage: StageAnswer}, "odd"},
		{Result{Err: &RequestError{fmt.Errorf("asking for the key: %w", refused)}}, "asking for the key"},
	} {
		d := Classify(tc.r, retryAll).Detail
		if anAddress.MatchString(d) || !strings.Contains(d, tc.want) {
			t.Errorf("%v: detail %q, want %q in it", tc.r.Err, d, tc.want)
		}
	}
}

func TestAFailingResolverIsNotNamed(t *testing.T) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc.Close() // nobody answers: the kernel refuses
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", pc.LocalAddr().String())
	}
	c := newClient(t, func(cfg *Config) { cfg.Resolver = &net.Resolver{PreferGo: true, Dial: dial} })
	r := post(t, c, "http://unknown.example.test/")
	if !strings.Contains(r.Err.Error(), "127.0.0.1:") {
		t.Fatalf("the resolver failed in another way: %v", r.Err)
	}
	if out := wantReason(t, r, webhook.ReasonDNS); anAddress.MatchString(out.Detail) {
		t.Errorf("detail %q", out.Detail)
	}
}

func TestAFailingProxyIsNotNamed(t *testing.T) {
	gone, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	rude := newRawServer(t, func(_ *rawServer, conn net.Conn, br *bufio.Reader) {
		br.ReadByte()
		conn.(*net.TCPConn).SetLinger(0)
	})
	garbled := newRawServer(t, func(_ *rawServer, conn net.Conn, br *bufio.Reader) {
		br.ReadString('\n')
		io.WriteString(conn, "SSH-2.0\r\n")
	})
	for _, proxy := range []*url.URL{mustURL(t, "http://"+gone.Addr().String()), mustURL(t, "http://"+rude.addr), mustURL(t, "http://"+garbled.addr)} {
		c := newClient(t, func(cfg *Config) { cfg.Guard, cfg.Proxy = publicOnly(t), proxy })
		r := post(t, c, "https://93.184.216.34/hook")
		if out := Classify(r, retryAll); out.Detail == "" || anAddress.MatchString(out.Detail) {
			t.Errorf("detail %q of %v", out.Detail, r.Err)
		}
	}
}

func TestADeniedAddressIsKeptFromTheLedger(t *testing.T) {
	resolver := newNameServer(t, map[string][]string{"vault.inside.test": {"10.9.8.7"}, "denied.test": {"93.184.216.34"}})
	guard, err := safedial.NewGuard(safedial.Policy{DenyCIDRs: []netip.Prefix{netip.MustParsePrefix("93.184.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, func(cfg *Config) { cfg.Guard, cfg.Resolver = guard, resolver })
	for host, want := range map[string]string{"vault.inside.test": "in a private network", "denied.test": "in a range that the operator denies"} {
		out := wantReason(t, post(t, c, "http://"+host+"/"), webhook.ReasonAddressDenied)
		if anAddress.MatchString(out.Detail) || !strings.HasSuffix(out.Detail, want) {
			t.Errorf("%s: detail %q", host, out.Detail)
		}
	}
}

func TestTheResolverIsGosOwn(t *testing.T) {
	// That of cgo spends a thread of the system on each name that hangs.
	if r := (Config{}).withDefaults().Resolver; !r.PreferGo {
		t.Error("the default resolver may be that of cgo")
	}
}
