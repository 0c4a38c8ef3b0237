package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Show writes the whole configuration as YAML, with secrets masked and, beside
// every value that isn't the default, where it comes from. Read back, it is the
// same configuration (but for the secrets).
func (c *Config) Show(w io.Writer) error {
	s := &shower{c: c}
	s.section("", "", reflect.ValueOf(c).Elem(), "")
	if _, err := io.WriteString(w, s.b.String()); err != nil {
		return fmt.Errorf("writing configuration: %w", err)
	}
	return nil
}

type shower struct {
	c *Config
	b strings.Builder
}

// section writes the keys of a struct; the first line begins with lead in
// place of the indent (a list element's dash).
func (s *shower) section(path, indent string, v reflect.Value, lead string) {
	for _, f := range fieldsOf(v.Type()) {
		fv, p := v.Field(f.index), join(path, f.key)
		if m, ok := reflect.TypeAssert[Mapping](fv); ok && m.IsZero() {
			continue
		}
		if lead != "" {
			s.b.WriteString(lead)
			lead = ""
		} else {
			s.b.WriteString(indent)
		}
		s.b.WriteString(f.key + ":")
		switch t := fv.Type(); {
		case isScalar(t):
			s.line(" "+showScalar(fv), p)
		case t.Kind() == reflect.Slice && isScalar(t.Elem()):
			items := make([]string, fv.Len())
			for i := range items {
				items[i] = showScalar(fv.Index(i))
			}
			s.line(" ["+strings.Join(items, ", ")+"]", p)
		case t.Kind() == reflect.Slice && fv.Len() == 0:
			s.line(" []", p)
		case t.Kind() == reflect.Slice:
			s.b.WriteString("\n")
			for i := range fv.Len() {
				s.section(fmt.Sprintf("%s[%d]", p, i), indent+"    ", fv.Index(i), indent+"  - ")
			}
		default:
			s.b.WriteString("\n")
			s.section(p, indent+"  ", fv, "")
		}
	}
}

// line ends a line, naming the origin of its key.
func (s *shower) line(text, path string) {
	s.b.WriteString(text)
	if o, ok := s.c.origins[path]; ok {
		s.b.WriteString("  # " + o.String())
	}
	s.b.WriteString("\n")
}

func showScalar(v reflect.Value) string {
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return FormatDuration(d)
	}
	if p, ok := reflect.TypeAssert[Ports](v); ok && !p.Any {
		b, _ := p.MarshalText() // never fails
		return "[" + strings.ReplaceAll(string(b), ",", ", ") + "]"
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		b, err := m.MarshalText()
		if err != nil {
			return masked
		}
		return quote(string(b))
	}
	if v.Kind() == reflect.String {
		return quote(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// quote writes text as a YAML scalar on one line.
func quote(text string) string {
	if text == "" {
		return `""`
	}
	if strings.ContainsAny(text, "\n\r\t,[]{}#'\"\\") {
		return fmt.Sprintf("%q", text)
	}
	b, err := yaml.Marshal(text)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(b), "\n")
}
