package contract

import (
	"fmt"
	"slices"
	"strconv"
)

// Outline is what a contract says of itself to people who look for one.
type Outline struct {
	Body             string   // data, cloudevents or object
	Fields           []string // of an object, in their order
	Headers          []string // canonical; the contract's own without those of the signature
	Scheme           string   // standard or t-v1
	SignatureHeaders []string // canonical
	SecretPrefix     string
	Permanent        []string // statuses that are not retried, "410" or "400-428"
}

// Outline returns the contract's outline.
func (c *Contract) Outline() Outline {
	o := Outline{SignatureHeaders: c.signature.headers(), SecretPrefix: c.secret.prefix}
	o.Body = map[bodyForm]string{formData: "data", formCloudEvents: "cloudevents", formObject: "object"}[c.form]
	for i := range c.fields {
		o.Fields = append(o.Fields, c.fields[i].name)
	}
	for i := range c.headers {
		o.Headers = append(o.Headers, c.headers[i].name)
	}
	slices.Sort(o.Headers)
	o.Scheme = "standard"
	if c.signature.scheme == schemeTV1 {
		o.Scheme = "t-v1"
	}
	if o.SecretPrefix == "" && c.secret.kind == secretStandard {
		o.SecretPrefix = prefixSymmetric
		if c.secret.ed25519 {
			o.SecretPrefix = prefixPrivate
		}
	}
	const first, last = 100, 599
	for from := first; from <= last; from++ {
		to := from
		for to <= last && !c.Retryable(to) && (to < 200 || to > 299) {
			to++
		}
		switch to {
		case from:
			continue
		case from + 1:
			o.Permanent = append(o.Permanent, strconv.Itoa(from))
		default:
			o.Permanent = append(o.Permanent, fmt.Sprintf("%d-%d", from, to-1))
		}
		from = to
	}
	return o
}
