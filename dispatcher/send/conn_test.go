package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"posthorn/webhook"
)

type certSpec struct {
	name     string    // example.com by default
	notAfter time.Time // far away by default
}

// certificate makes a self-signed certificate and the pool that trusts it. It
// begins before the clock of a synctest bubble (2000).
func certificate(t *testing.T, spec certSpec) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	if spec.name == "" {
		spec.name = "example.com"
	}
	if spec.notAfter.IsZero() {
		spec.notAfter = time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: spec.name}, DNSNames: []string{spec.name},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: spec.notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// tlsServer answers 200 behind TLS; the URL names example.com, which the
// client's Dial leads there.
func tlsServer(t *testing.T, cfg *tls.Config) (s *rawServer, dial func(context.Context, string, string) (net.Conn, error)) {
	t.Helper()
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	s = serveOn(t, ln, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	return s, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp4", s.addr)
	}
}

func TestOnlyVerifiedModernTLSIsSpoken(t *testing.T) {
	good, roots := certificate(t, certSpec{})
	expired, expiredRoots := certificate(t, certSpec{notAfter: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)})
	other, otherRoots := certificate(t, certSpec{name: "other.example"})
	for _, tc := range []struct {
		name     string
		cert     tls.Certificate
		roots    *x509.CertPool
		min, max uint16
		want     webhook.Reason
		detail   string
	}{
		{"TLS 1.3", good, roots, tls.VersionTLS13, tls.VersionTLS13, webhook.ReasonOK, ""},
		{"TLS 1.2", good, roots, tls.VersionTLS12, tls.VersionTLS12, webhook.ReasonOK, ""},
		{"TLS 1.1", good, roots, tls.VersionTLS10, tls.VersionTLS11, webhook.ReasonTLS, "protocol version"},
		{"TLS 1.0", good, roots, tls.VersionTLS10, tls.VersionTLS10, webhook.ReasonTLS, "protocol version"},
		{"self-signed", good, x509.NewCertPool(), 0, 0, webhook.ReasonTLS, "the certificate is signed by an unknown authority"},
		{"expired", expired, expiredRoots, 0, 0, webhook.ReasonTLS, "the certificate has expired or is not yet valid"},
		{"another host", other, otherRoots, 0, 0, webhook.ReasonTLS, "the certificate is for another host name"},
	} {
		s, dial := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{tc.cert}, MinVersion: tc.min, MaxVersion: tc.max})
		c := newClient(t, func(cfg *Config) { cfg.RootCAs, cfg.Dial = tc.roots, dial })
		r := post(t, c, "https://example.com/")
		out := Classify(r, retryAll)
		if out.Reason != tc.want || !strings.Contains(out.Detail, tc.detail) {
			t.Errorf("%s: %+v (%v)", tc.name, out, r.Err)
		}
		if want := int64(0); tc.want == webhook.ReasonTLS && s.posts.Load() != want {
			t.Errorf("%s: %d requests were sent", tc.name, s.posts.Load())
		}
	}
}

func TestAPlainServerBehindAnHTTPSURLIsATLSFailure(t *testing.T) {
	s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		br.Peek(1)
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, br)
	})
	wantReason(t, post(t, newClient(t, nil), "https://"+s.addr+"/"), webhook.ReasonTLS)
}

func TestHTTP2IsOffByDefaultAndSpokenByOption(t *testing.T) {
	var proto atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proto.Store(r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	s.Client().CloseIdleConnections()
	for option, want := range map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"} {
		c := newClient(t, func(cfg *Config) { cfg.RootCAs, cfg.HTTP2 = roots, option })
		wantReason(t, post(t, c, s.URL), webhook.ReasonOK)
		if got := proto.Load(); got != want {
			t.Errorf("HTTP2 %v: spoke %v", option, got)
		}
		if option && (c.transport.HTTP2.SendPingTimeout == 0 || c.transport.HTTP2.PingTimeout == 0) {
			t.Error("a dead h2 connection is never noticed")
		}
		c.Close()
	}
}

func TestSequentialPostsShareOneConnectionWhileBodiesAreSmall(t *testing.T) {
	for name, answer := range map[string]string{
		"empty":    "HTTP/1.1 204 No Content\r\n\r\n",
		"length":   "HTTP/1.1 200 OK\r\nContent-Length: 16000\r\n\r\n" + strings.Repeat("x", 16000),
		"chunked":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"failures": "HTTP/1.1 500 X\r\nContent-Length: 3000\r\n\r\n" + strings.Repeat("x", 3000),
		"redirect": "HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 4\r\n\r\nmove",
	} {
		s := newRawServer(t, answering(answer))
		c := newClient(t, nil)
		for range 20 {
			post(t, c, s.url)
		}
		if conns, posts := s.conns.Load(), s.posts.Load(); conns != 1 || posts != 20 {
			t.Errorf("%s: %d connections for %d requests", name, conns, posts)
		}
	}
	big := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("x", 20000)))
	c := newClient(t, nil)
	for range 3 {
		wantReason(t, post(t, c, big.url), webhook.ReasonOK)
	}
	if n := big.conns.Load(); n != 3 {
		t.Errorf("%d connections for 3 answers beyond the bound: one was drained", n)
	}
}

func TestAPostThatWasReadOnAReusedConnectionIsNotSentAgain(t *testing.T) {
	for name, linger := range map[string]int{"FIN": -1, "RST": 0} {
		s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
			s.readPost(br)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			s.readPost(br) // and hangs up without an answer
			conn.(*net.TCPConn).SetLinger(linger)
		})
		c := newClient(t, nil)
		wantReason(t, post(t, c, s.url), webhook.ReasonOK)
		r := post(t, c, s.url)
		wantReason(t, r, webhook.ReasonReset)
		if !r.Reused || s.posts.Load() != 2 || s.conns.Load() != 1 {
			t.Errorf("%s: reused %v, %d POSTs over %d connections", name, r.Reused, s.posts.Load(), s.conns.Load())
		}
	}
}

// deadOnReuse fails the first write of its second request without writing.
type deadOnReuse struct {
	net.Conn
	writes atomic.Int64
}

func (c *deadOnReuse) Write(p []byte) (int, error) {
	if c.writes.Add(1) > 1 {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return c.Conn.Write(p)
}

func TestAReusedConnectionFoundDeadBeforeWritingIsReplaced(t *testing.T) {
	s := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	c := newClient(t, func(cfg *Config) {
		cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, s.addr)
			return &deadOnReuse{Conn: conn}, err
		}
	})
	for range 2 {
		r := post(t, c, s.url)
		wantReason(t, r, webhook.ReasonOK)
		if r.Reused {
			t.Error("the dead connection is reported as the one used")
		}
	}
	if conns, posts := s.conns.Load(), s.posts.Load(); conns != 2 || posts != 2 {
		t.Errorf("%d POSTs over %d connections, want 2 and 2", posts, conns)
	}
}

func TestHTTP2ReplaysARefusedStreamOnceAtMost(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	for name, code := range map[string]http2.ErrCode{"refused": http2.ErrCodeRefusedStream, "protocol error": http2.ErrCodeProtocol} {
		ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		s := serveOn(t, ln, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
			if _, err := io.ReadFull(br, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			fr := http2.NewFramer(conn, br)
			fr.WriteSettings()
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				switch f := f.(type) {
				case *http2.SettingsFrame:
					if !f.IsAck() {
						fr.WriteSettingsAck()
					}
				case *http2.HeadersFrame:
					s.posts.Add(1)
				case *http2.DataFrame:
					if f.StreamEnded() {
						fr.WriteRSTStream(f.StreamID, code)
					}
				}
			}
		})
		c := newClient(t, func(cfg *Config) {
			cfg.HTTP2, cfg.RootCAs = true, roots
			cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp4", s.addr)
			}
		})
		r := post(t, c, "https://example.com/")
		wantReason(t, r, webhook.ReasonReset)
		if n := s.posts.Load(); n != 2 {
			t.Errorf("%s: %d POSTs, want 2 (%v)", name, n, r.Err)
		}
	}
}

func TestDoSendsTheRequestAsItIs(t *testing.T) {
	var got bytes.Buffer
	s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		req, ok := s.readPost(bufio.NewReader(io.TeeReader(br, &got)))
		if ok && req.Method == http.MethodPost {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		}
	})
	header := http.Header{"Content-Type": {"application/json"}, "X-Webhook-Delivery-Id": {"dlv_1"}, "User-Agent": {"Posthorn"}}
	if err := AddCustom(header, map[string]string{"x-own": "1"}); err != nil {
		t.Fatal(err)
	}
	r := newClient(t, nil).Do(t.Context(), &Request{URL: mustURL(t, s.url+"?q=1"), Header: header, Body: []byte("{}")})
	want := "POST /hook?q=1 HTTP/1.1\r\nHost: " + s.addr + "\r\nUser-Agent: Posthorn\r\nContent-Length: 2\r\n" +
		"Content-Type: application/json\r\nX-Own: 1\r\nX-Webhook-Delivery-Id: dlv_1\r\n\r\n{}"
	if got.String() != want {
		t.Errorf("sent %q\nwant %q", got.String(), want)
	}
	if r.Response != "hello" {
		t.Errorf("response %q", r.Response)
	}
}

func TestAnUnusableConfigurationOrRequestIsRefused(t *testing.T) {
	guard := loopbackGuard(t)
	never := func(context.Context, string, string) (net.Conn, error) { return nil, errNever }
	for name, cfg := range map[string]Config{
		"no guard":         {},
		"negative timeout": {Guard: guard, Timeout: -1},
		"negative idle":    {Guard: guard, MaxIdle: -1},
		"socks proxy":      {Guard: guard, Proxy: mustURL(t, "socks5://127.0.0.1:1")},
		"proxy and dial":   {Guard: guard, Proxy: mustURL(t, "http://127.0.0.1:1"), Dial: never},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := newClient(t, func(cfg *Config) { cfg.Dial = never })
	for _, raw := range []string{"", "/x", "ftp://example.com/", "https:///x"} {
		r := c.Do(t.Context(), &Request{URL: mustURL(t, raw)})
		wantReason(t, r, webhook.ReasonRequest)
	}
	for _, raw := range []string{"http://user:secret@example.com/?token=secret", "http://[::1/secret", "http://localhost.:1/%zz-secret", "http://intranet/secret"} {
		_, err := c.ParseURL(raw)
		if _, ok := errors.AsType[*RequestError](err); !ok {
			t.Errorf("%q: %v", raw, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the URL: %v", err)
		}
	}
}
