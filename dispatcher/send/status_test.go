package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"posthorn/webhook"
)

func wantProtocolFailure(t *testing.T, r Result, name string) {
	t.Helper()
	out := Classify(r, retrySome)
	if r.Err == nil || r.Status != 0 || r.Stage != StageAnswer || !r.RetryAt.IsZero() || r.Cut {
		t.Errorf("%s: %+v", name, r)
	}
	if out.Reason != webhook.ReasonProtocol || out.Health != Sick || out.Verdict != Retryable || out.Detail == "" {
		t.Errorf("%s: %+v", name, out)
	}
}

func TestAStatusOutsideHTTPIsAProtocolFailure(t *testing.T) {
	for _, status := range []string{"000", "-00", "+00", "-01", "001", "+10", "099", "+99"} {
		for name, rest := range map[string]string{
			"empty":       "Content-Length: 0\r\n\r\n",
			"with a body": "Content-Length: 2\r\n\r\nhi",
			"endless":     "\r\nhi",
		} {
			s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
				s.readPost(br)
				fmt.Fprintf(conn, "HTTP/1.1 %s x\r\nRetry-After: 3600\r\n%s", status, rest)
				io.Copy(io.Discard, br)
			})
			wantProtocolFailure(t, post(t, newClient(t, nil), s.url), status+", "+name)
		}
	}
}

func TestAStatusOutsideHTTPIsAProtocolFailureOverHTTP2Too(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	for _, status := range []string{"0", "-5", "99", "1000", "1000000"} {
		ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		s := serveOn(t, ln, func(_ *rawServer, conn net.Conn, br *bufio.Reader) { answerHTTP2(conn, br, status) })
		c := newClient(t, func(cfg *Config) {
			cfg.HTTP2, cfg.RootCAs = true, roots
			cfg.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp4", s.addr)
			}
		})
		wantProtocolFailure(t, post(t, c, "https://example.com/"), status)
	}
}

// answerHTTP2 gives each request the same status and no body.
func answerHTTP2(conn net.Conn, br *bufio.Reader, status string) {
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
		case *http2.DataFrame:
			if f.StreamEnded() {
				var block bytes.Buffer
				hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: status})
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			}
		}
	}
}
