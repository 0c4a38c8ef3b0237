package contract

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"posthorn/webhook"
)

// DefaultUserAgent is sent by contracts that don't name their own.
const DefaultUserAgent = "Posthorn-Webhooks/1.0"

// ErrNoSecret is returned by [Contract.Headers] when there is nothing to sign
// with: a delivery is never sent unsigned.
var ErrNoSecret = errors.New("no signing secret")

// header is one of the contract's own headers, by its canonical name.
type header struct {
	name  string
	value template[webhook.Delivery]
}

// transportHeaders belong to the connection or to net/http. The last two make
// net/http send a POST again by itself on a broken connection, unseen by the
// ledger.
var transportHeaders = []string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection",
	"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Expect",
	"Idempotency-Key", "X-Idempotency-Key",
}

// Reserved reports whether an endpoint's custom headers may not have that name,
// in any case: the contract's own headers, and those that belong to the
// transport.
func (c *Contract) Reserved(name string) bool {
	return c.reserved[http.CanonicalHeaderKey(name)]
}

// ReservedHeaders returns the canonical names for which [Contract.Reserved] is
// true, sorted.
func (c *Contract) ReservedHeaders() []string {
	names := make([]string, 0, len(c.reserved))
	for name := range c.reserved {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Headers returns all headers of one attempt at a delivery: media type, the
// contract's own (those whose attributes the delivery has), and the signature
// over the delivery's body at that time, in whole seconds. Every secret signs, in the order given. The result is new and
// has room for a few custom headers; its keys are canonical.
//
// The error is [ErrNoSecret], [ErrSecretKind], or says which header would not
// be legal in HTTP. It never holds a secret.
func (c *Contract) Headers(d *webhook.Delivery, at time.Time, secrets []Secret) (http.Header, error) {
	if len(secrets) == 0 {
		return nil, ErrNoSecret
	}
	h := make(http.Header, len(c.headers)+8)
	values := make([]string, 0, len(c.headers)+4) // backs every value of h
	set := func(name, value string) {
		values = append(values, value)
		n := len(values)
		h[name] = values[n-1 : n : n]
	}
	if err := c.own(d, d.ContentType, set); err != nil {
		return nil, err
	}
	if err := c.signature.sign(d, at.Unix(), secrets, set); err != nil {
		return nil, fmt.Errorf("signing delivery: %w", err)
	}
	return h, nil
}

// own sets the media type and the contract's own headers.
func (c *Contract) own(d *webhook.Delivery, contentType string, set func(name, value string)) error {
	if contentType == "" {
		contentType = jsonType
	}
	if !legalValue(contentType) {
		return illegalValue("Content-Type", contentType)
	}
	set("Content-Type", contentType)
	for i := range c.headers {
		value, missing := c.headers[i].value.expand(d)
		if missing != "" {
			continue
		}
		if !legalValue(value) {
			return illegalValue(c.headers[i].name, value)
		}
		set(c.headers[i].name, value)
	}
	return nil
}

// headersPossible checks at matching what would otherwise fail at each attempt.
func (c *Contract) headersPossible(e *webhook.Event, contentType string) error {
	d := webhook.Delivery{
		ID: webhook.DeliveryPrefix, EndpointID: webhook.EndpointPrefix,
		EventID: e.ID, EventType: e.Type, EventSource: e.Source, Tenant: e.Tenant,
	}
	if err := c.own(&d, contentType, func(string, string) {}); err != nil {
		return c.fail("%v", err)
	}
	return nil
}

func illegalValue(name, value string) error {
	return fmt.Errorf("header %s: %.80q holds a control character, which HTTP does not allow", name, value)
}

// legalValue reports whether net/http would send the header value (RFC 9110
// section 5.5: no control characters but the tab).
func legalValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// legalName reports whether a header may be called so (RFC 9110 section 5.6.2,
// token).
func legalName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letterOrDigit := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letterOrDigit && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}
