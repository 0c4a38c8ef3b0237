package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// schema is what seeds need of a schema of the document.
type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Properties map[string]*schema
	Required   []string
	Examples   []any
	Default    any
	Enum       []any
	Minimum    float64
}

// seedSecret is one that the contract standard takes.
const seedSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// known are values of members of which the document has no example.
var known = map[string]any{
	"secret": seedSecret, "url": "https://hooks.example.com/a", "headers": map[string]any{"X-Team": "a value of a header"},
	"id": "initech", "schema": map[string]any{"type": "object", "required": []any{"total"}}, "samples": 3, "plan": "pro",
	"kind": "retry", "states": []any{"dead"}, "filter": "data.total > 1.0 && type.startsWith('order')", "tenant": "acme",
}

// hostile is put in place of every member.
var hostile = []string{
	`null`, `"\u0000\ud800 \u202e"`, `-0.5`, `1e300`, `[null,{"":true}]`, `"9999-12-31T23:59:59.999999999-23:59"`, `"0000-01-01T00:00:00+23:59"`,
}

// seedsOf returns bodies of a schema: the first with every member, the second with
// those that are required, then the first with each member left out and with each
// made hostile, and texts that are no such body at all.
func seedsOf(t testing.TB, s *schema) (out []string) {
	t.Helper()
	add := func(v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	whole := map[string]any{}
	for name, member := range s.Properties {
		whole[name] = member.example(name)
	}
	add(whole)
	part := map[string]any{}
	for _, name := range s.Required {
		part[name] = whole[name]
	}
	add(part)
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		part := maps.Clone(whole)
		delete(part, name)
		add(part)
		for _, value := range hostile {
			part[name] = json.RawMessage(value)
			add(part)
		}
		part[name] = strings.Repeat("é", 2000)
		add(part)
		for _, value := range s.Properties[name].Enum {
			part[name] = value
			add(part)
		}
	}
	whole["nosuch"] = seedSecret
	add(whole)
	return append(out, `{}`, `[]`, `null`, ``, `"`+seedSecret+`"`, `["`+seedSecret+`"]`, seedSecret, "\xff"+seedSecret, out[0]+"}", out[0][:len(out[0])-1],
		strings.ToUpper(out[0]), strings.Repeat(`[`, 20000), strings.Repeat(`{"url":`, 9000), `{"secret":["`+seedSecret+`"],"url":{"url":{}}}`)
}

// example is a value that a member may have.
func (s *schema) example(name string) any {
	switch value, ok := known[name]; {
	case len(s.Examples) > 0 && !ok:
		return s.Examples[0]
	case ok:
		return value
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Format == "date-time" && name == "expires_at":
		return time.Now().Add(time.Hour).UTC()
	case s.Format == "date-time" && name == "since":
		return time.Now().Add(-time.Hour).UTC()
	case s.Format == "date-time":
		return time.Now().Add(-time.Minute).UTC()
	}
	kind := s.Type
	if several, ok := kind.([]any); ok {
		kind = several[0]
	}
	switch kind {
	case "boolean":
		return false
	case "integer", "number":
		return s.Minimum + 1
	case "array":
		return []any{}
	case "object":
		return map[string]any{}
	}
	return "a text"
}
