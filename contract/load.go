package contract

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"posthorn/webhook"
)

// Bounds of a contract file.
const (
	maxFileSize = 64 << 10
	maxTimeout  = 2 * time.Minute
	maxOverlap  = 7 * 24 * time.Hour
	maxInactive = 10 * 365 * 24 * time.Hour
	maxSteps    = 24 // of a schedule
)

// Load reads a contract from YAML. Names are lower-case letters, digits and
// hyphens. Unknown keys are refused; the error is a [*LoadError] that lists
// every mistake with its line.
func Load(name string, text []byte) (*Contract, error) {
	l := &loader{c: &Contract{name: name, minTLS: tlsVersions["1.2"]}}
	switch {
	case !legalContractName(name):
		l.problem(nil, "", "the name %.80q is not 1 to 64 lower-case letters, digits and hyphens, with a letter first", name)
	case len(text) > maxFileSize:
		l.problem(nil, "", "the file has %d bytes, more than %d", len(text), maxFileSize)
	default:
		if root := l.parse(text); root != nil {
			l.contract(root)
		}
	}
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &LoadError{Name: name, Problems: l.problems}
	}
	return l.c, nil
}

func legalContractName(name string) bool {
	return name != "" && len(name) <= 64 && 'a' <= name[0] && name[0] <= 'z' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// loader fills a contract in from the reader's nodes.
type loader struct {
	reader
	c *Contract
}

func (l *loader) contract(root ast.Node) {
	c := l.c
	var headers, secret ast.Node // read last: they depend on the signature
	l.mapping(root, "",
		key{"description", false, func(n ast.Node, path string) { c.description, _ = l.text(n, path) }},
		key{"body", true, l.body},
		key{"signature", true, l.signature},
		key{"headers", false, func(n ast.Node, _ string) { headers = n }},
		key{"secret", true, func(n ast.Node, _ string) { secret = n }},
		key{"timeout", true, func(n ast.Node, path string) {
			c.timeout = l.duration(n, path, 100*time.Millisecond, maxTimeout)
		}},
		key{"https_only", false, func(n ast.Node, path string) { c.httpsOnly = l.boolean(n, path) }},
		key{"min_tls", false, func(n ast.Node, path string) { c.minTLS, _ = oneOf(&l.reader, n, path, tlsVersions) }},
		key{"inactive_after", false, func(n ast.Node, path string) { c.inactive = l.duration(n, path, 24*time.Hour, maxInactive) }},
		key{"retry", true, l.retry},
	)
	l.headers(headers, "headers")
	if secret != nil {
		l.secret(secret, "secret")
	}
}

var bodyForms = map[string]bodyForm{"data": formData, "cloudevents": formCloudEvents, "object": formObject}

func (l *loader) body(n ast.Node, path string) {
	var fields ast.Node
	l.mapping(n, path,
		key{"form", true, func(n ast.Node, path string) { l.c.form, _ = oneOf(&l.reader, n, path, bodyForms) }},
		key{"fields", false, func(n ast.Node, _ string) { fields = n }},
	)
	switch {
	case l.c.form == formObject && fields == nil:
		l.problem(n, path, "form object needs fields")
	case fields != nil && l.c.form != formObject && l.c.form != 0:
		l.problem(fields, path+".fields", "only form object has fields")
	case fields != nil:
		l.fields(fields, path+".fields")
	}
}

var schemes = map[string]schemeKind{"standard": schemeStandard, "t-v1": schemeTV1}

func (l *loader) signature(n ast.Node, path string) {
	s := &l.c.signature
	var header ast.Node
	l.mapping(n, path,
		key{"scheme", true, func(n ast.Node, path string) { s.scheme, _ = oneOf(&l.reader, n, path, schemes) }},
		key{"header", false, func(n ast.Node, path string) {
			header = n
			if name, ok := l.text(n, path); ok {
				s.header = l.headerName(n, path, name)
			}
		}},
	)
	switch {
	case s.scheme == schemeTV1 && header == nil:
		l.problem(n, path, "scheme t-v1 needs a header")
	case s.scheme == schemeStandard && header != nil:
		l.problem(header, path+".header", "scheme standard has its own header names")
	}
}

// headerName checks the name of a header that the contract sets, and returns
// its canonical form.
func (l *loader) headerName(n ast.Node, path, name string) string {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !legalName(name):
		l.problem(n, path, "%.80q is no header name (RFC 9110, token)", name)
	case canonical == "Content-Type":
		l.problem(n, path, "Content-Type follows from the body")
	case slices.Contains(transportHeaders, canonical):
		l.problem(n, path, "%s belongs to the transport", canonical)
	}
	return canonical
}

func (l *loader) headers(n ast.Node, path string) {
	c := l.c
	c.reserved = map[string]bool{"Content-Type": true, "User-Agent": true}
	for _, name := range slices.Concat(transportHeaders, c.signature.headers()) {
		c.reserved[name] = true
	}
	agent := false
	if n != nil {
		l.entries(n, path, func(name string, k, v ast.Node, at string) {
			canonical := l.headerName(k, at, name)
			if c.reserved[canonical] && canonical != "User-Agent" || slices.ContainsFunc(c.headers, func(h header) bool { return h.name == canonical }) {
				l.problem(k, at, "the header is set already")
			}
			text, ok := l.text(v, at)
			if !ok {
				return
			}
			value, err := parseTemplate(text, deliveryAttribute)
			if err != nil {
				l.problem(v, at, "%v", err)
			} else if !legalValue(text) {
				l.problem(v, at, "a header can't hold control characters")
			}
			agent = agent || canonical == "User-Agent"
			c.headers = append(c.headers, header{canonical, value})
		})
	}
	if !agent {
		c.headers = append(c.headers, header{"User-Agent", template[webhook.Delivery]{{literal: DefaultUserAgent}}})
	}
	for _, h := range c.headers {
		c.reserved[h.name] = true
	}
}

var secretKinds = map[string]secretKind{"standard": secretStandard, "hex": secretHex, "text": secretText}

func (l *loader) secret(n ast.Node, path string) {
	s := &l.c.secret
	var prefix, generate ast.Node
	l.mapping(n, path,
		key{"format", true, func(n ast.Node, path string) { s.kind, _ = oneOf(&l.reader, n, path, secretKinds) }},
		key{"prefix", false, func(n ast.Node, path string) {
			prefix = n
			s.prefix, _ = l.text(n, path)
			if len(s.prefix) > 32 || strings.ContainsFunc(s.prefix, func(r rune) bool { return r < '!' || r > '~' }) {
				l.problem(n, path, "want at most 32 printable ASCII characters without spaces")
			}
		}},
		key{"generate", false, func(n ast.Node, path string) {
			generate = n
			s.ed25519, _ = oneOf(&l.reader, n, path, map[string]bool{"hmac-sha256": false, "ed25519": true})
		}},
		key{"rotation_overlap", true, func(n ast.Node, path string) { s.overlap = l.duration(n, path, 0, maxOverlap) }},
	)
	s.symmetric = l.c.signature.scheme == schemeTV1
	if s.kind == secretStandard && prefix != nil {
		l.problem(prefix, path+".prefix", "format standard has its own prefixes")
	}
	if generate != nil && s.kind != secretStandard && s.kind != 0 {
		l.problem(generate, path+".generate", "only format standard has a choice")
	} else if s.ed25519 && s.symmetric {
		l.problem(generate, path+".generate", "scheme t-v1 can't use ed25519")
	}
}

func (l *loader) retry(n ast.Node, path string) {
	p := &l.c.retry
	var except, gone, immediate ast.Node
	on := false
	l.mapping(n, path,
		key{"on", false, func(n ast.Node, path string) { on = true; l.statuses(n, path, &p.retried, true) }},
		key{"except", false, func(n ast.Node, _ string) { except = n }},
		key{"gone", false, func(n ast.Node, _ string) { gone = n }},
		key{"schedule", false, func(n ast.Node, path string) { l.schedule(n, path) }},
		key{"immediate", false, func(n ast.Node, path string) { immediate = n; l.immediate(n, path) }},
	)
	if !on {
		p.retried.set(0, len(p.retried)-1, true)
	}
	if except != nil {
		l.statuses(except, path+".except", &p.retried, false)
	}
	p.retried.set(200, 299, false)
	if gone != nil {
		l.statuses(gone, path+".gone", &p.gone, true)
		for status, is := range p.gone {
			switch {
			case is && (status == 0 || 200 <= status && status <= 299):
				l.problem(gone, path+".gone", "only an answer other than 2xx can disable an endpoint")
				return
			case is && p.retried[status]:
				l.problem(gone, path+".gone", "status %d disables the endpoint but is also retried: put it into %s.except", status, path)
				return
			}
		}
	}
	if immediate != nil && (!p.scheduled || len(p.schedule) > 0) {
		l.problem(immediate, path+".immediate", "a contract retries in process or by schedule: say schedule: [] beside immediate")
	}
}

// statuses sets every status that a list names: a number, a class such as 5xx,
// "network" (no answer), or "all" (all of them).
func (l *loader) statuses(n ast.Node, path string, into *statusSet, value bool) {
	l.list(n, path, func(n ast.Node, path string) {
		if s, ok := textOf(n); ok {
			switch {
			case s == "network":
				into[0] = value
				return
			case s == "all":
				into.set(0, len(into)-1, value)
				return
			case len(s) == 3 && s[1:] == "xx" && '1' <= s[0] && s[0] <= '5':
				from := int(s[0]-'0') * 100
				into.set(from, from+99, value)
				return
			}
		} else if i, ok := integerOf(n); ok && 100 <= i && i <= 599 {
			into[i] = value
			return
		}
		l.problem(n, path, "want a status from 100 to 599, a class such as 5xx, network, or all")
	})
}

func (l *loader) schedule(n ast.Node, path string) {
	p := &l.c.retry
	p.scheduled = true
	l.list(n, path, func(n ast.Node, path string) {
		p.schedule = append(p.schedule, l.duration(n, path, time.Second, math.MaxInt64))
	})
	if len(p.schedule) > maxSteps {
		l.problem(n, path, "%d retries, more than %d", len(p.schedule), maxSteps)
	}
}

func (l *loader) immediate(n ast.Node, path string) {
	i := &Immediate{}
	l.c.retry.immediate = i
	l.mapping(n, path,
		key{"retries", true, func(n ast.Node, path string) { i.Retries, _ = l.integer(n, path, 1, 10) }},
		key{"initial", true, func(n ast.Node, path string) { i.Initial = l.duration(n, path, time.Millisecond, time.Minute) }},
		key{"multiplier", true, func(n ast.Node, path string) { i.Multiplier = l.number(n, path, 1, 10) }},
		key{"jitter", true, func(n ast.Node, path string) { i.Jitter = l.number(n, path, 0, 1) }},
		key{"total", true, func(n ast.Node, path string) {
			i.Total = l.duration(n, path, time.Second, 10*time.Minute)
		}},
	)
}

// fields reads the fields of the object form.
func (l *loader) fields(n ast.Node, path string) {
	var digests []func() // once every field is known
	l.list(n, path, func(n ast.Node, path string) {
		f, digest := l.field(n, path)
		if f.name != "" && slices.ContainsFunc(l.c.fields, func(o field) bool { return o.name == f.name }) {
			l.problem(n, path, "field %q is there twice", f.name)
		}
		if digest != nil {
			i := len(l.c.fields)
			digests = append(digests, func() { l.digest(i, digest, path+".sha1") })
		}
		l.c.fields = append(l.c.fields, f)
	})
	if len(l.c.fields) == 0 {
		l.problem(n, path, "want at least one field")
	}
	for _, resolve := range digests {
		resolve()
	}
}
