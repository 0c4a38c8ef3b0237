package send

import (
	"crypto/tls"
	"testing"

	"posthorn/webhook"
)

func TestNothingIsSentBelowTheLowestTLSVersion(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	for _, h2 := range []bool{false, true} {
		s, dial := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12})
		c := newClient(t, func(cfg *Config) { cfg.RootCAs, cfg.Dial, cfg.HTTP2 = roots, dial, h2 })
		do := func(minTLS uint16) Result {
			return c.Do(t.Context(), &Request{URL: mustURL(t, "https://example.com/"), Body: []byte(`{"a":1}`), MinTLS: minTLS})
		}
		// The first leaves a connection that the second must not take.
		for i, minTLS := range []uint16{0, tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS13} {
			r, want := do(minTLS), webhook.ReasonOK
			if minTLS == tls.VersionTLS13 {
				want = webhook.ReasonTLS
			}
			out := wantReason(t, r, want)
			if want == webhook.ReasonTLS && (r.Stage != StageTLS || r.Reused || out.Health != Sick) {
				t.Errorf("%d: %+v, %+v", i, r, out)
			}
		}
		if n := s.posts.Load(); n != 2 {
			t.Errorf("%d requests arrived, want 2: one was sent over TLS 1.2", n)
		}
	}
}

func TestTheLowestTLSVersionIsSpokenWhereBothCan(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	s, dial := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{cert}})
	c := newClient(t, func(cfg *Config) { cfg.RootCAs, cfg.Dial = roots, dial })
	req := &Request{URL: mustURL(t, "https://example.com/"), MinTLS: tls.VersionTLS13}
	wantReason(t, c.Do(t.Context(), req), webhook.ReasonOK)
	if r := c.Do(t.Context(), req); !r.Reused || s.conns.Load() != 1 {
		t.Errorf("%d connections for two requests alike", s.conns.Load())
	}
	plain := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	req.URL = mustURL(t, plain.url)
	wantReason(t, newClient(t, nil).Do(t.Context(), req), webhook.ReasonOK)
}

func TestAnUnknownLowestTLSVersionIsRefused(t *testing.T) {
	c := newClient(t, nil)
	for _, v := range []uint16{1, tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS13 + 1} {
		wantReason(t, c.Do(t.Context(), &Request{URL: mustURL(t, "https://127.0.0.1:9/"), MinTLS: v}), webhook.ReasonRequest)
	}
}
