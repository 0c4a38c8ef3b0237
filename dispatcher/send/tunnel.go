package send

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"posthorn/dispatcher/safedial"
)

// tunnel dials through a forward proxy by CONNECT (RFC 9110 section 9.3.6).
//
// It stands in the dialer rather than in Transport.Proxy because that would
// hand the proxy a host *name*, which the proxy resolves by itself: the check
// of the address would be worth nothing. Here the name is resolved and checked,
// and the proxy gets the IP; TLS and Host still carry the name, since the
// Transport knows nothing of all this.
type tunnel struct {
	proxy    *url.URL
	guard    *safedial.Guard
	resolver safedial.Resolver
	dialer   net.Dialer
	tls      *tls.Config
	timeout  time.Duration
}

func (t *tunnel) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("reading port: %w", err)
	}
	targets, err := t.guard.CheckHost(ctx, t.resolver, host, uint16(port))
	if err != nil {
		return nil, err
	}
	// One after the other, as net.Dialer does: the first may be IPv6 where the
	// proxy has none.
	var errs []error
	for _, target := range targets[:min(len(targets), 3)] {
		conn, err := t.connect(ctx, target.String())
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errs[0]
}

func (t *tunnel) connect(ctx context.Context, target string) (net.Conn, error) {
	port := t.proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.proxy.Scheme]
	}
	raw, err := t.dialer.DialContext(ctx, "tcp", net.JoinHostPort(t.proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("dialling proxy: %w", err)
	}
	// Closing is what ends a read or write that the context no longer wants.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	conn := raw
	if t.proxy.Scheme == "https" {
		conn = tls.Client(raw, t.tls)
	}
	err = t.handshake(conn, target)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("connecting through proxy: %w", err)
	}
	return conn, nil
}

func (t *tunnel) handshake(conn net.Conn, target string) error {
	auth := ""
	if t.proxy.User != nil {
		password, _ := t.proxy.User.Password()
		auth = "Proxy-Authorization: Basic " +
			base64.StdEncoding.EncodeToString([]byte(t.proxy.User.Username()+":"+password)) + "\r\n"
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, auth); err != nil {
		return err
	}
	br := bufio.NewReader(io.LimitReader(conn, maxAnswerHeader))
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // a CONNECT's success has no body; else the caller closes the connection
	if err != nil {
		return fmt.Errorf("reading the proxy's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answered %d", resp.StatusCode)
	}
	if br.Buffered() > 0 {
		return errors.New("the proxy sent data of its own") // in HTTP and TLS the client speaks first
	}
	return nil
}
