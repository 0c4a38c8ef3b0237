package send

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"posthorn/dispatcher/safedial"
	"posthorn/webhook"
)

// nameServer answers on loopback. Each name has a list of addresses; every
// question of a type takes the next one, and the last stays.
type nameServer struct {
	mu    sync.Mutex
	names map[string][]string
}

func newNameServer(t *testing.T, names map[string][]string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ns := &nameServer{names: names}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := ns.answer(buf[:n]); err == nil {
				pc.WriteTo(answer, from)
			}
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", pc.LocalAddr().String())
	}}
}

func (ns *nameServer) answer(query []byte) ([]byte, error) {
	var msg dnsmessage.Message
	if err := msg.Unpack(query); err != nil {
		return nil, err
	}
	msg.Response, msg.Additionals = true, nil
	q := msg.Questions[0]
	ns.mu.Lock()
	defer ns.mu.Unlock()
	name := strings.TrimSuffix(q.Name.String(), ".")
	list, known := ns.names[name]
	if !known {
		msg.RCode = dnsmessage.RCodeNameError
		return msg.Pack()
	}
	ip := netip.MustParseAddr(list[0])
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
	switch {
	case q.Type == dnsmessage.TypeA && ip.Is4():
		msg.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: ip.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && ip.Is6():
		msg.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}}}
	}
	if len(list) > 1 && len(msg.Answers) > 0 {
		ns.names[name] = list[1:]
	}
	return msg.Pack()
}

func publicOnly(t *testing.T) *safedial.Guard {
	t.Helper()
	g, err := safedial.NewGuard(safedial.Policy{AnyPort: true})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestClosedAddressesAreRefusedAtDialWhateverTheirName(t *testing.T) {
	s := newRawServer(t, answering("HTTP/1.1 200 OK\r\n\r\n"))
	_, port, _ := net.SplitHostPort(s.addr)
	names := map[string][]string{
		"loopback.test": {"127.0.0.1"}, "private.test": {"10.0.0.1"}, "linklocal.test": {"169.254.7.7"}, "metadata.test": {"169.254.169.254"},
		"wireserver.test": {"168.63.129.16"}, "zero.test": {"0.0.0.0"}, "v6loopback.test": {"::1"}, "ula.test": {"fd00::1"},
		"mapped.test": {"::ffff:127.0.0.1"}, "nat64.test": {"64:ff9b::7f00:1"}, "sixtofour.test": {"2002:7f00:1::1"},
	}
	hosts := []string{"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "[::]", "localhost"}
	for name := range names {
		hosts = append(hosts, name)
	}
	resolver := newNameServer(t, names)
	c := newClient(t, func(cfg *Config) { cfg.Guard, cfg.Resolver = publicOnly(t), resolver })
	for _, host := range hosts {
		r := post(t, c, "http://"+host+":"+port+"/")
		out := wantReason(t, r, webhook.ReasonAddressDenied)
		if out.Health != Unknown || out.Detail == "" || r.Stage == StageSend {
			t.Errorf("%s: %+v after %s", host, out, r.Stage)
		}
	}
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
}

func TestARebindingNameIsRefusedAtDial(t *testing.T) {
	s := newRawServer(t, answering("HTTP/1.1 200 OK\r\n\r\n"))
	_, port, _ := net.SplitHostPort(s.addr)
	resolver := newNameServer(t, map[string][]string{"rebind.example.test": {"93.184.216.34", "127.0.0.1"}})
	guard := publicOnly(t)
	if _, err := guard.CheckHost(t.Context(), resolver, "rebind.example.test", 443); err != nil {
		t.Fatalf("at registration the name is harmless: %v", err)
	}
	c := newClient(t, func(cfg *Config) { cfg.Guard, cfg.Resolver = guard, resolver })
	wantReason(t, post(t, c, "http://rebind.example.test:"+port+"/"), webhook.ReasonAddressDenied)
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections arrived", n)
	}
}

func TestUnknownNamesAreDNSFailuresThatDoNotNameOurResolver(t *testing.T) {
	resolver := newNameServer(t, nil)
	c := newClient(t, func(cfg *Config) { cfg.Resolver = resolver })
	out := wantReason(t, post(t, c, "http://unknown.example.test/"), webhook.ReasonDNS)
	if out.Detail != "resolving the host name: no such host" || out.Health != Sick {
		t.Errorf("%+v", out)
	}
}

func TestRefusedAndResetConnectionsAreToldApart(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	r := post(t, newClient(t, nil), "http://"+ln.Addr().String())
	wantReason(t, r, webhook.ReasonRefused)
	if !errors.Is(r.Err, syscall.ECONNREFUSED) || r.Phases.Connect == 0 || r.Phases.FirstByte != 0 {
		t.Errorf("%v, %+v", r.Err, r.Phases)
	}
	for name, linger := range map[string]int{"RST": 0, "FIN": -1} {
		s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
			s.readPost(br)
			conn.(*net.TCPConn).SetLinger(linger)
		})
		if out := Classify(post(t, newClient(t, nil), s.url), retryAll); out.Reason != webhook.ReasonReset {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

func TestProxiesOfTheEnvironmentAreIgnored(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	if os.Getenv("HTTP_PROXY") == "" {
		t.Fatal("the environment was not set")
	}
	s := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	wantReason(t, post(t, newClient(t, nil), s.url), webhook.ReasonOK)
	if c := newClient(t, func(cfg *Config) { cfg.HTTP2 = true }); c.transport.Proxy != nil || c.tls13.Proxy != nil {
		t.Error("the transport asks for a proxy")
	}
}

// connectProxy is a forward proxy that reaches target whatever it is asked for,
// and notes what that was.
func connectProxy(t *testing.T, target string) (proxy *url.URL, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	s := newRawServer(t, func(_ *rawServer, conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		mu.Lock()
		seen = append(seen, req.Method+" "+req.Host+" "+req.Header.Get("Proxy-Authorization"))
		mu.Unlock()
		if target == "" {
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\n\r\n")
			return
		}
		up, err := net.Dial("tcp4", target)
		if err != nil {
			return
		}
		defer up.Close()
		io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(up, br); up.(*net.TCPConn).CloseWrite() })
		io.Copy(conn, up)
		conn.Close()
		wg.Wait()
	})
	return mustURL(t, "http://"+s.addr), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func TestAProxyGetsTheCheckedAddressAndNeverTheName(t *testing.T) {
	var sni, host string
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sni, host = r.TLS.ServerName, r.Host
	}))
	t.Cleanup(receiver.Close)
	proxy, asked := connectProxy(t, receiver.Listener.Addr().String())
	proxy.User = url.UserPassword("posthorn", "pw")
	resolver := newNameServer(t, map[string][]string{"example.com": {"93.184.216.34"}, "inside.test": {"10.0.0.1"}})
	c := newClient(t, func(cfg *Config) {
		cfg.Guard, cfg.Proxy, cfg.Resolver = publicOnly(t), proxy, resolver
		cfg.RootCAs = receiver.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	})
	wantReason(t, post(t, c, "https://example.com/hook"), webhook.ReasonOK)
	if sni != "example.com" || host != "example.com" {
		t.Errorf("TLS for %q, Host %q: both must still be the name", sni, host)
	}
	wantReason(t, post(t, c, "https://inside.test/hook"), webhook.ReasonAddressDenied)
	wantReason(t, post(t, c, "https://127.0.0.1/hook"), webhook.ReasonAddressDenied)
	want := []string{"CONNECT 93.184.216.34:443 Basic " + base64.StdEncoding.EncodeToString([]byte("posthorn:pw"))}
	if got := asked(); !slices.Equal(got, want) {
		t.Errorf("the proxy was asked %q, want %q", got, want)
	}
}

func TestAProxyThatRefusesIsAFailureToConnect(t *testing.T) {
	proxy, _ := connectProxy(t, "")
	c := newClient(t, func(cfg *Config) { cfg.Guard, cfg.Proxy = publicOnly(t), proxy })
	out := wantReason(t, post(t, c, "https://93.184.216.34/hook"), webhook.ReasonConnect)
	if !strings.Contains(out.Detail, "the proxy answered 403") {
		t.Errorf("detail %q", out.Detail)
	}
}
