package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"posthorn/internal/config"
)

// Codes of ClickHouse's errors (src/Common/ErrorCodes.cpp).
const (
	codeUnknownFunction = 46 // also a view with parameters that isn't there
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
	codeUnknownUser     = 192
	codeWrongPassword   = 193
	codeRequired        = 194
	codeAuthentication  = 516
)

// probeTimeout bounds the request that finds out what a port speaks.
const probeTimeout = 2 * time.Second

// Explain makes an error of a connection of [Open] or [OpenLedger] one for people:
// the URL that was asked is left out, and what would help is added where that is
// known. Where the protocol may be the wrong one, the servers are asked. The chain
// of errors stays; nil stays nil.
func Explain(ctx context.Context, c config.ClickHouse, err error) error {
	if err == nil || len(c.Addr) == 0 {
		return err
	}
	text := err.Error()
	if asked, ok := errors.AsType[*url.Error](err); ok {
		text = strings.ReplaceAll(text, asked.Error(), asked.Err.Error())
	}
	text = stages.Replace(text)
	if hint := hintOf(ctx, c, err); hint != "" {
		text += " (" + hint + ")"
	}
	return &explained{text, err}
}

// stages are what the driver puts before an error, of its own steps.
var stages = strings.NewReplacer("failed to query server hello: ", "", "failed to query server hello info: ", "", "sendQuery: ", "")

// explained is an error with another text.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }

func (e *explained) Unwrap() error { return e.err }

func hintOf(ctx context.Context, c config.ClickHouse, err error) string {
	if refusal, ok := errors.AsType[*clickhouse.Exception](err); ok {
		switch refusal.Code {
		case codeUnknownDatabase, codeUnknownTable, codeUnknownFunction:
			return "posthorn clickhouse migrate makes the ledger's database, tables and views"
		case codeUnknownUser, codeWrongPassword, codeRequired, codeAuthentication:
			return "clickhouse.username and clickhouse.password, or password_file, say who signs in"
		}
		return ""
	}
	addrs := strings.Join(c.Addr, ", ")
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s: start that ClickHouse, or posthorn dev, which has one; clickhouse.addr says where it is, and --clickhouse of posthorn query", addrs)
	case isDNS(err):
		return "clickhouse.addr says where ClickHouse is, and --clickhouse of posthorn query"
	case ctx.Err() != nil:
		return ""
	}
	for _, addr := range c.Addr {
		switch speaks := probe(ctx, c, addr); {
		case speaks == config.ProtocolHTTP && c.Protocol == config.ProtocolNative:
			return addr + " is an HTTP port: set clickhouse.protocol: http, or take the native port, which is 9000 as a rule"
		case speaks == config.ProtocolNative && c.Protocol == config.ProtocolHTTP:
			return addr + " is a port of the native protocol: set clickhouse.protocol: native, or take the HTTP port, which is 8123 as a rule; --clickhouse of posthorn query wants the latter"
		}
	}
	if c.Protocol == config.ProtocolHTTP && errors.Is(err, io.EOF) {
		return addrs + " doesn't speak HTTP: if it is a port of the native protocol, set clickhouse.protocol: native"
	}
	return ""
}

func isDNS(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// probe asks a server by HTTP, without a name or a password, what its port speaks:
// a native port answers that it is one. It returns "" where that can't be told.
func probe(ctx context.Context, c config.ClickHouse, addr string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if c.TLS.Enabled {
		// Nothing is told, and nothing believed: any certificate will do.
		scheme, transport.TLSClientConfig = "https", &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // see above
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+addr+"/ping", http.NoBody)
	if err != nil {
		return ""
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	switch {
	case err != nil:
		return ""
	case strings.Contains(string(answer), "clickhouse-client"):
		return config.ProtocolNative
	case resp.StatusCode == http.StatusOK && strings.TrimSpace(string(answer)) == "Ok.":
		return config.ProtocolHTTP
	}
	return ""
}
