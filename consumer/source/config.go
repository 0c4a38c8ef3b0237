package source

import (
	"errors"
	"fmt"
	"strings"
)

// Format says how the records of a source are laid out.
type Format string

// The formats.
const (
	// FormatCloudEvents is the Kafka protocol binding of CloudEvents 1.0, in
	// binary or structured content mode, told apart record by record.
	FormatCloudEvents Format = "cloudevents"
	// FormatJSON is any JSON; the mapping says where the attributes are.
	FormatJSON Format = "json"
)

// TimeForm says how a mapped event time is written.
type TimeForm string

// The forms of a mapped time.
const (
	TimeRFC3339  TimeForm = "rfc3339" // the default
	TimeUnix     TimeForm = "unix"    // seconds since 1970, a fraction is allowed
	TimeUnixMsec TimeForm = "unix_ms" // milliseconds since 1970
)

// DefaultMaxBytes is the default limit of a record's value.
const DefaultMaxBytes = 256 << 10

// maxMaxBytes bounds the limit itself: a delivery's body has to fit into one
// record of our own topics, whose max.message.bytes an operator can raise, but
// not to any size (a fan-out holds the body in memory).
const maxMaxBytes = 16 << 20

// maxPointerTokens bounds the depth of a pointer. With seven pointers it keeps
// the nodes of the search tree below the 64 bits of scanner.seen.
const maxPointerTokens = 8

// Config is the reading side of one source.
type Config struct {
	// Format is required.
	Format Format `yaml:"format"`
	// MaxBytes is the largest value that is read, in bytes, at most 16 MiB;
	// 0 means [DefaultMaxBytes].
	MaxBytes int `yaml:"max_bytes"`
	// Mapping is required for [FormatJSON]. For [FormatCloudEvents] only
	// Tenant may be set; by default it is the extension attribute "tenant".
	Mapping Mapping `yaml:"mapping"`
}

// Mapping says where the attributes of an event are found. An unset field
// means that the attribute is absent.
type Mapping struct {
	ID      Field `yaml:"id"`
	Type    Field `yaml:"type"`
	Tenant  Field `yaml:"tenant"`
	Time    Field `yaml:"time"`
	Subject Field `yaml:"subject"`
	Source  Field `yaml:"source"`
	// TimeForm is how Time is written, [TimeRFC3339] by default.
	TimeForm TimeForm `yaml:"time_form"`
	// Data is a JSON Pointer to the part of the value that is the event's
	// data; empty means the whole value. Either is taken byte for byte.
	Data string `yaml:"data"`
}

// Field is one place to take an attribute from: exactly one of its members is
// set, or none.
type Field struct {
	// Header is the key of a Kafka header, matched exactly.
	Header string `yaml:"header,omitempty"`
	// Pointer is a JSON Pointer (RFC 6901) to a string, number or boolean of
	// the value; of a CloudEvent's data, in both content modes.
	Pointer string `yaml:"pointer,omitempty"`
	// Attribute is the name of a CloudEvents attribute.
	Attribute string `yaml:"attribute,omitempty"`
	// Constant is the attribute itself.
	Constant string `yaml:"constant,omitempty"`
}

// IsZero reports whether the field is unset.
func (f Field) IsZero() bool { return f == Field{} }

// Validate reports every mistake at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if c.MaxBytes < 0 || c.MaxBytes > maxMaxBytes {
		bad("max_bytes %d: want 1 to %d, or 0 for %d", c.MaxBytes, maxMaxBytes, DefaultMaxBytes)
	}
	m := &c.Mapping
	for _, f := range m.fields() {
		errs = append(errs, f.field.validate("mapping."+f.name, f.max, c.Format)...)
	}
	if _, err := parsePointer(m.Data); err != nil {
		bad("mapping.data: %w", err)
	}
	switch m.TimeForm {
	case "", TimeRFC3339, TimeUnix, TimeUnixMsec:
	default:
		bad("mapping.time_form %q: want %q, %q or %q", m.TimeForm, TimeRFC3339, TimeUnix, TimeUnixMsec)
	}
	if m.Time.Constant != "" {
		bad("mapping.time: a constant can't be the time of every event")
	}
	if m.ID.Constant != "" {
		bad("mapping.id: a constant can't identify an event")
	}
	switch c.Format {
	case FormatCloudEvents:
		for _, f := range m.fields() {
			if f.name != "tenant" && !f.field.IsZero() {
				bad("mapping.%s: CloudEvents have this attribute themselves; only mapping.tenant can be set", f.name)
			}
		}
		if m.Data != "" || m.TimeForm != "" {
			bad("mapping: data and time_form belong to format %q", FormatJSON)
		}
	case FormatJSON:
		if m.Type.IsZero() {
			bad("mapping.type is required: a header, a pointer or a constant")
		}
		if m.Tenant.IsZero() {
			bad("mapping.tenant is required: a header, a pointer or a constant")
		}
	default:
		bad("format %q: want %q or %q", c.Format, FormatCloudEvents, FormatJSON)
	}
	return errors.Join(errs...)
}

type namedField struct {
	name  string
	field Field
	max   int // the attribute's limit in bytes
}

// fields lists the mapped attributes in the order of their slots.
func (m *Mapping) fields() []namedField {
	return []namedField{
		{"id", m.ID, maxID},
		{"type", m.Type, maxType},
		{"tenant", m.Tenant, maxTenant},
		{"time", m.Time, maxTimeText},
		{"subject", m.Subject, maxSubject},
		{"source", m.Source, maxSource},
	}
}

func (f Field) validate(name string, limit int, format Format) (errs []error) {
	set := 0
	for _, s := range [...]string{f.Header, f.Pointer, f.Attribute, f.Constant} {
		if s != "" {
			set++
		}
	}
	if set > 1 {
		errs = append(errs, fmt.Errorf("%s: want one of header, pointer, attribute and constant, not %d of them", name, set))
	}
	if f.Pointer != "" {
		if _, err := parsePointer(f.Pointer); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if f.Attribute != "" {
		if format == FormatJSON {
			errs = append(errs, fmt.Errorf("%s: attributes are of CloudEvents; plain JSON has headers and pointers", name))
		} else if !isAttributeName(f.Attribute) {
			errs = append(errs, fmt.Errorf("%s: attribute %q: CloudEvents names are lower-case letters and digits", name, f.Attribute))
		}
	}
	if why := checkText(f.Constant, limit); why != "" {
		errs = append(errs, fmt.Errorf("%s: constant %s", name, why))
	}
	return errs
}

// parsePointer splits a JSON Pointer into its tokens (RFC 6901, sections 3 and
// 4). The empty pointer has none: it names the whole document.
func parsePointer(p string) ([]string, error) {
	if p == "" {
		return nil, nil
	}
	if p[0] != '/' {
		return nil, fmt.Errorf("pointer %q: want a JSON Pointer (RFC 6901), which begins with a slash, such as /order/id", p)
	}
	tokens := strings.Split(p[1:], "/")
	if len(tokens) > maxPointerTokens {
		return nil, fmt.Errorf("pointer %q: deeper than %d levels", p, maxPointerTokens)
	}
	for i, t := range tokens {
		for j := range len(t) {
			if t[j] == '~' && (j+1 == len(t) || t[j+1] != '0' && t[j+1] != '1') {
				return nil, fmt.Errorf("pointer %q: a tilde is written ~0 and a slash inside a name ~1 (RFC 6901)", p)
			}
		}
		// In this order, or ~01 would become a slash (RFC 6901, section 4).
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}
