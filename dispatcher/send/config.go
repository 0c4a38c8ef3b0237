package send

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"posthorn/dispatcher/safedial"
)

// The bounds of an answer. They are not options: a receiver gains nothing from
// more, and the arithmetic of memory (in-flight × bounds) rests on them.
const (
	// maxAnswerHeader is the most header bytes of an answer, interim (1xx)
	// answers included: 4,096 in flight × 32 KiB = 128 MiB at worst.
	maxAnswerHeader = 32 << 10
	// maxAnswerBody is the most body bytes that are read. A body that ends
	// within it leaves the connection usable for the next POST.
	maxAnswerBody = 16 << 10
	// bodyGrace is how long after the status line the body may take; it may
	// end after the request's timeout, since the status has decided.
	bodyGrace = time.Second
)

// Config describes a [Client]. The zero value of every field but Guard means
// the default named there.
type Config struct {
	// Guard decides which addresses may be dialled. Required.
	Guard *safedial.Guard
	// Timeout is that of requests which name none: 15 s. It covers resolving,
	// connecting, sending and the answer's headers.
	Timeout time.Duration
	// DialTimeout and TLSTimeout bound connecting and the TLS handshake, 10 s
	// each. net/http goes on dialling for a later request after the one that
	// asked has given up, so the request's timeout alone wouldn't end it.
	DialTimeout, TLSTimeout time.Duration
	// MaxIdlePerHost and MaxIdle bound the connections kept for reuse: 256
	// for one host and port, 2,000 in all. Those made for requests that want
	// TLS 1.3 are kept, and counted, apart.
	MaxIdlePerHost, MaxIdle int
	// IdleTimeout closes a connection that was unused for so long: 90 s.
	IdleTimeout time.Duration
	// HTTP2 offers h2 to https receivers. Off by default: one dead h2
	// connection holds all requests to a host until its pings time out.
	HTTP2 bool
	// RootCAs replaces the system's certificate authorities.
	RootCAs *x509.CertPool
	// Resolver replaces the default one, Go's own.
	Resolver *net.Resolver
	// Proxy is an http or https forward proxy through which everything goes,
	// by CONNECT to an address that was resolved and checked here. Its user
	// info becomes Proxy-Authorization. The proxy's own address isn't checked.
	// Proxies named by the environment are ignored.
	Proxy *url.URL
	// Dial replaces the dialer *and with it the dial guard*. It is for
	// networks in memory; never set it where real addresses can be dialled.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.Guard == nil {
		errs = append(errs, errors.New("Guard is missing; build one with safedial.NewGuard"))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Timeout", c.Timeout}, {"DialTimeout", c.DialTimeout}, {"TLSTimeout", c.TLSTimeout}, {"IdleTimeout", c.IdleTimeout}} {
		if d.d < 0 {
			errs = append(errs, fmt.Errorf("%s is %v; it can't be negative", d.name, d.d))
		}
	}
	if c.MaxIdle < 0 || c.MaxIdlePerHost < 0 {
		errs = append(errs, errors.New("MaxIdle and MaxIdlePerHost can't be negative"))
	}
	if c.Proxy != nil {
		if (c.Proxy.Scheme != "http" && c.Proxy.Scheme != "https") || c.Proxy.Hostname() == "" {
			errs = append(errs, errors.New("Proxy must be an http or https URL with a host"))
		}
		if c.Dial != nil {
			errs = append(errs, errors.New("Proxy and Dial exclude each other"))
		}
	}
	return errors.Join(errs...)
}

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	fill := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	fill(&c.Timeout, 15*time.Second)
	fill(&c.DialTimeout, 10*time.Second)
	fill(&c.TLSTimeout, 10*time.Second)
	fill(&c.IdleTimeout, 90*time.Second)
	if c.MaxIdlePerHost == 0 {
		c.MaxIdlePerHost = 256
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 2000
	}
	if c.Resolver == nil {
		// That of cgo spends a thread of the system on each name that hangs,
		// and a context can't end it.
		c.Resolver = &net.Resolver{PreferGo: true}
	}
	return c
}

// transport builds a Transport of a client, which speaks no TLS below minTLS.
func (c Config) transport(minTLS uint16) *http.Transport {
	t := &http.Transport{
		Proxy:                  nil, // ours is in the dialer, where the address is known
		DialContext:            c.dialer(),
		TLSHandshakeTimeout:    c.TLSTimeout,
		DisableCompression:     true, // nothing is asked for compressed, so no bomb is unpacked
		MaxResponseHeaderBytes: maxAnswerHeader,
		MaxIdleConns:           c.MaxIdle,
		MaxIdleConnsPerHost:    c.MaxIdlePerHost,
		IdleConnTimeout:        c.IdleTimeout,
		Protocols:              new(http.Protocols),
		TLSClientConfig:        c.tls(minTLS),
	}
	t.Protocols.SetHTTP1(true)
	if c.HTTP2 {
		t.Protocols.SetHTTP2(true)
		// Without pings a connection whose peer vanished stays in use until the
		// kernel gives up on it, a quarter of an hour later.
		t.HTTP2 = &http.HTTP2Config{
			SendPingTimeout:  10 * time.Second,
			PingTimeout:      5 * time.Second,
			WriteByteTimeout: 10 * time.Second,
		}
	}
	return t
}

// tls is how receivers are spoken to, by one of the protocols if any are given.
func (c Config) tls(minTLS uint16, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: minTLS,
		RootCAs:    c.RootCAs,
		NextProtos: protocols,
		// A resumed handshake costs neither side a signature.
		ClientSessionCache: tls.NewLRUClientSessionCache(c.MaxIdle),
	}
}

func (c Config) dialer() func(context.Context, string, string) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial
	}
	if c.Proxy != nil {
		return (&tunnel{
			proxy:    c.Proxy,
			guard:    c.Guard,
			resolver: c.Resolver,
			dialer:   net.Dialer{Timeout: c.DialTimeout, Resolver: c.Resolver},
			tls:      &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs, ServerName: c.Proxy.Hostname()},
			timeout:  c.DialTimeout,
		}).dial
	}
	d := &net.Dialer{
		Timeout:        c.DialTimeout,
		Resolver:       c.Resolver,
		ControlContext: c.Guard.Control,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4,
		},
	}
	return d.DialContext
}
