package config

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestMappingsFitTheirFormat(t *testing.T) {
	for _, c := range []struct{ format, keys, want string }{
		{"cloudevents", "tenant: {attribute: orgid}", ""},
		{"cloudevents", "tenant: {pointer: /org/id}", ""},
		{"cloudevents", "tenant: {attribute: Org-ID}", "tenant.attribute: \"Org-ID\" is not the name"},
		{"cloudevents", "type: {header: x}", "type: a CloudEvent carries its own type"},
		{"cloudevents", "data: /x", "time_form and data belong to format json"},
		{"cloudevents", "tenant: {}", "tenant: want one of {header"},
		{"json", "tenant: {attribute: orgid}", "tenant: attributes are of CloudEvents"},
		{"json", "tenant: {pointer: a/b}", "tenant.pointer: \"a/b\" is not a JSON Pointer"},
		{"json", "tenant: {pointer: /a~2}", "is not a JSON Pointer"},
		{"json", "tenant: {pointer: /1/2/3/4/5/6/7/8/9}", "deeper than 8 levels"},
		{"json", "tenant: {pointer: /a}\n  time_form: unix_ms\n  data: /payload", ""},
		{"json", "tenant: {pointer: /a}\n  time_form: julian", "time_form: want one of"},
		{"json", "id: {constant: x}", "id: every event has its own id"},
	} {
		text := "sources:\n- name: s\n  topics: [t]\n  start: latest\n  format: " + c.format + "\n  " + c.keys + "\n"
		if c.format == "json" {
			text += "  type: {header: t}\n"
		}
		_, err := Parse("p.yaml", []byte(text), nil)
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s, %s: got %v, want %q", c.format, c.keys, err, c.want)
		}
	}
}

func TestOurOwnTopicsAreNoSource(t *testing.T) {
	c := Default()
	c.Sources = []Source{
		{Name: "all", Pattern: ".*"},
		{Name: "named", Topics: []string{"orders", "posthorn.events"}},
		{Name: "half", Pattern: "ord"},
	}
	for topic, want := range map[string]string{
		"orders": "named", "payments": "all", "posthorn.events": "named",
		"posthorn.deliveries": "", "posthorn.retry.5s": "", "__consumer_offsets": "", "posthornish": "all",
	} {
		got := ""
		if s := c.SourceOf(topic); s != nil {
			got = s.Name
		}
		if got != want {
			t.Errorf("%s is read by %q, want %q", topic, got, want)
		}
	}
	c.Sources = c.Sources[:1]
	if s := c.SourceOf("posthorn.events"); s != nil {
		t.Error("a pattern matched our own events")
	}
	c.Sources[0].Pattern = "ord"
	if s := c.SourceOf("orders"); s != nil {
		t.Error("a pattern matched part of a name")
	}
}

func TestDurationsAndSizesKeepTheirForm(t *testing.T) {
	for _, s := range []string{"5s", "1m", "15m", "1h", "36h", "1d", "90d", "1m30s", "1h30m", "1h0m5s", "500ms", "0s"} {
		d, err := ParseDuration(s)
		if err != nil || FormatDuration(d) != s {
			t.Errorf("%s became %s, %v", s, FormatDuration(d), err)
		}
	}
	for s, want := range map[string]time.Duration{"7d": 168 * time.Hour, "2w": 336 * time.Hour, "24h": 24 * time.Hour, "36500d": 876_000 * time.Hour} {
		if d, err := ParseDuration(s); err != nil || d != want {
			t.Errorf("%s is %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"5", "", "d", "w", "1.5d", "-1d", "36501d", "x"} {
		if d, err := ParseDuration(s); err == nil && s != "0" {
			t.Errorf("%q was taken for %v", s, d)
		}
	}
	for text, want := range map[string]Size{"256KiB": 256 * KiB, "128MiB": 128 * MiB, "1 GiB": GiB, "10kB": 10_000, "77": 77, "77B": 77} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5MiB", "99999999999GiB", "1TB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken for %d", text, s)
		}
	}
}

func TestRetentionCoversTheTiersAndTheAge(t *testing.T) {
	c := Default()
	c.Delivery.Tiers = append(c.Delivery.Tiers, 100*time.Hour)
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "topics.retention.retry: is 7d, and delivery.tiers[4] of 100h needs 200h") {
		t.Error(err)
	}
	c = Default()
	c.Topics.Retention.Deliveries = time.Hour
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "topics.retention.deliveries: is 1h and must not be shorter than delivery.max_age") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("kafka: &k {tls: *k}")
	f.Add("sources: [{}, *a, &a]")
	f.Add("a: !!binary x\n? [b]\n: c\n--- |\n  x\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f.yaml", []byte(text), []string{"POSTHORN_SOURCES=" + text})
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := c.Show(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("shown.yaml", b.Bytes(), nil); err != nil && c.Kafka.SASL.Password == "" {
			t.Fatalf("what is shown is not taken: %v\n%s", err, b.String())
		}
	})
}
