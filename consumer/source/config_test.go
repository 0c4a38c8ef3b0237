package source

import (
	"slices"
	"strings"
	"testing"
)

func TestConfigNamesEveryMistakeAtOnce(t *testing.T) {
	cfg := Config{Format: FormatJSON, MaxBytes: -1, Mapping: Mapping{
		ID:   Field{Constant: "always"},
		Type: Field{Header: "a", Pointer: "/b"}, Tenant: Field{Pointer: "no/slash"},
		Time: Field{Constant: "2026"}, TimeForm: "julian", Source: Field{Attribute: "source"},
		Subject: Field{Constant: "a\nb"}, Data: "/~2",
	}}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"max_bytes", "mapping.id", "mapping.type", "mapping.tenant", "mapping.time:", "mapping.time_form", "mapping.source", "mapping.subject", "mapping.data"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s in:\n%v", want, err)
		}
	}
	for _, cfg := range []Config{
		{},
		{Format: "avro"},
		{Format: FormatJSON},
		{Format: FormatJSON, Mapping: Mapping{Type: Field{Constant: "t"}}},
		{Format: FormatCloudEvents, Mapping: Mapping{Type: Field{Constant: "t"}}},
		{Format: FormatCloudEvents, Mapping: Mapping{Data: "/d"}},
		{Format: FormatCloudEvents, Mapping: Mapping{Tenant: Field{Attribute: "No"}}},
		{Format: FormatCloudEvents, Mapping: Mapping{Tenant: Field{Pointer: strings.Repeat("/a", maxPointerTokens+1)}}},
	} {
		if _, err := NewReader(cfg); err == nil {
			t.Errorf("accepted %+v", cfg)
		}
	}
}

func TestPointersAreReadAsRFC6901Says(t *testing.T) {
	// Section 5 of the RFC.
	for pointer, want := range map[string][]string{
		"": nil, "/foo": {"foo"}, "/foo/0": {"foo", "0"}, "/": {""}, "/a~1b": {"a/b"}, "/c%d": {"c%d"},
		"/m~0n": {"m~n"}, "/ ": {" "}, "/~01": {"~1"}, "/a//b": {"a", "", "b"},
	} {
		if got, err := parsePointer(pointer); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", pointer, got, err)
		}
	}
	for _, bad := range []string{"a", "#/a", "/~", "/~2", "/a~"} {
		if _, err := parsePointer(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
