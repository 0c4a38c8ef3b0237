package send

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// reserved are the names, in canonical form, that an endpoint's custom headers
// may not have: they frame the message, steer the connection, or make net/http
// send a POST again by itself.
var reserved = map[string]string{
	"Host":                "names the receiver; it follows from the URL",
	"Content-Length":      "frames the message",
	"Transfer-Encoding":   "frames the message",
	"Content-Encoding":    "describes the body, which is sent as it is",
	"Content-Type":        "describes the body; the contract sets it",
	"Trailer":             "frames the message",
	"Te":                  "steers the connection",
	"Connection":          "steers the connection",
	"Keep-Alive":          "steers the connection",
	"Proxy-Connection":    "steers the connection",
	"Proxy-Authorization": "is meant for a proxy",
	"Upgrade":             "steers the connection",
	"Http2-Settings":      "steers the connection",
	"Expect":              "makes the request wait for an interim answer",
	"Idempotency-Key":     "would make the POST repeat itself on a broken connection",
	"X-Idempotency-Key":   "would make the POST repeat itself on a broken connection",
}

// CheckHeaders reports everything that keeps an endpoint's custom headers from
// being sent; it is for registration, beside the contract's own reserved names.
// The error never shows a value.
func CheckHeaders(custom map[string]string) error {
	var errs []error
	seen := make(map[string]string, len(custom))
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		if err := CheckHeader(name, custom[name]); err != nil {
			errs = append(errs, err)
			continue
		}
		key := textproto.CanonicalMIMEHeaderKey(name)
		if other, dup := seen[key]; dup {
			errs = append(errs, fmt.Errorf("headers %s and %s are the same; give it once", other, name))
		}
		seen[key] = name
	}
	return errors.Join(errs...)
}

// CheckHeader is CheckHeaders for one.
func CheckHeader(name, value string) error {
	if err := checkSyntax(name, value); err != nil {
		return err
	}
	if why, ok := reserved[textproto.CanonicalMIMEHeaderKey(name)]; ok {
		return fmt.Errorf("header %s can't be set: it %s", name, why)
	}
	return nil
}

// AddCustom adds an endpoint's custom headers to the contract's own, whose
// keys are canonical. The contract's win: a custom header of the same name, in
// whatever spelling, is left out. A header that [CheckHeader] refuses makes
// the whole fail with a [*RequestError].
func AddCustom(own http.Header, custom map[string]string) error {
	for name, value := range custom {
		key := textproto.CanonicalMIMEHeaderKey(name)
		if _, taken := own[key]; taken {
			continue
		}
		if err := CheckHeader(name, value); err != nil {
			return &RequestError{err}
		}
		own[key] = []string{value}
	}
	return nil
}

// checkSyntax applies RFC 9110 section 5: a token, and a value without control
// characters. A line break in either would begin a header or a request of the
// writer's choice.
func checkSyntax(name, value string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("header name %.60q: use letters, digits and dashes", name)
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return fmt.Errorf("header %.60s: its value holds a line break or another control character", name)
	}
	return nil
}

func isReplayHeader(name string) bool {
	return strings.EqualFold(name, "Idempotency-Key") || strings.EqualFold(name, "X-Idempotency-Key")
}
