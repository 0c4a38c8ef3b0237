package registry

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"posthorn/webhook"
)

// refusedHeaders frame the request or change how net/http sends it; the two
// idempotency keys would make it repeat a POST on its own.
var refusedHeaders = map[string]bool{
	"Host": true, "Content-Length": true, "Content-Encoding": true, "Transfer-Encoding": true,
	"Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true,
	"Http2-Settings":  true,
	"Idempotency-Key": true, "X-Idempotency-Key": true,
}

func (p Policy) headerProblems(ep *webhook.Endpoint) []FieldError {
	var errs []FieldError
	if len(ep.Headers) > MaxHeaders {
		return []FieldError{{"headers", fmt.Sprintf("there are %d, at most %d are allowed", len(ep.Headers), MaxHeaders)}}
	}
	reserved := map[string]bool{}
	if p.ReservedHeaders != nil {
		for _, name := range p.ReservedHeaders(ep.Contract) {
			reserved[http.CanonicalHeaderKey(name)] = true
		}
	}
	seen := map[string]string{}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(ep.Headers)) {
		value := ep.Headers[name]
		size += len(name) + len(value)
		canonical := http.CanonicalHeaderKey(name)
		problem := ""
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			problem = "the name is not an HTTP token (RFC 9110, section 5.6.2): letters, digits and !#$%&'*+-.^_`|~"
		case refusedHeaders[canonical] || strings.HasPrefix(canonical, "Proxy-"):
			problem = "this header controls the connection and can't be set"
		case reserved[canonical]:
			problem = fmt.Sprintf("the contract %q sets this header itself", ep.Contract)
		case seen[canonical] != "":
			problem = fmt.Sprintf("it is the same header as %q", seen[canonical])
		case !httpguts.ValidHeaderFieldValue(value):
			problem = "the value holds control characters such as line breaks (RFC 9110, section 5.5)"
		case strings.TrimSpace(value) != value:
			problem = "the value begins or ends with spaces, which would not arrive"
		case p.CheckHeader != nil:
			if err := p.CheckHeader(name, value); err != nil {
				problem = err.Error()
			}
		}
		if problem != "" {
			errs = append(errs, FieldError{fmt.Sprintf("headers[%.64s]", printable(name)), problem})
		}
		seen[canonical] = name
	}
	if size > MaxHeaderBytes {
		errs = append(errs, FieldError{"headers", fmt.Sprintf("they have %d bytes together, at most %d are allowed", size, MaxHeaderBytes)})
	}
	return errs
}

// printable keeps a hostile name from breaking the lines of a log or answer.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
