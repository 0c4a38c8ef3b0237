package send

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"
)

// inline is the largest body that is copied behind its header, so that both
// leave in one packet and one system call.
const inline = 16 << 10

// heads are the buffers that requests are written in.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// appendHead appends the request line and headers (RFC 9112 sections 3 and 5)
// in the order of their names, but Host, User-Agent and Content-Length first.
// check has seen to it that none of it can begin another line.
func appendHead(b []byte, req *Request) ([]byte, error) {
	host, err := httpguts.PunycodeHostPort(req.URL.Host)
	if err != nil || !httpguts.ValidHostHeader(host) {
		return b, fmt.Errorf("the URL's host %.60q can't be a Host header", req.URL.Host)
	}
	uri := req.URL.RequestURI()
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] == 0x7f {
			return b, errors.New("the URL's path holds a space or a control character")
		}
	}
	b = append(b, "POST "...)
	b = append(b, uri...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, '\r', '\n')
	if agent, ok := req.Header["User-Agent"]; ok {
		b = appendField(b, "User-Agent", agent)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(req.Body)), 10)
	b = append(b, '\r', '\n')
	var few [16]string
	names := few[:0]
	for name := range req.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch http.CanonicalHeaderKey(name) {
		case "User-Agent":
			if name == "User-Agent" {
				continue // written above
			}
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue // they frame the message, which is done here
		}
		b = appendField(b, name, req.Header[name])
	}
	return append(b, '\r', '\n'), nil
}

func appendField(b []byte, name string, values []string) []byte {
	for _, v := range values {
		b = append(b, name...)
		b = append(b, ':', ' ')
		b = append(b, textproto.TrimString(v)...)
		b = append(b, '\r', '\n')
	}
	return b
}

// dialAddr returns the host, in ASCII, and port that a URL leads to.
func dialAddr(u *url.URL) (string, error) {
	host, port := u.Hostname(), u.Port()
	for i := range len(host) {
		if host[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", fmt.Errorf("the URL's host %.60q is no name: %w", host, err)
			}
			host = ascii
			break
		}
	}
	if port == "" {
		if port = "80"; u.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(host, port), nil
}
