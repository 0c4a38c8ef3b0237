package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const sample = `
kafka:
  brokers: [kafka-1:9092, kafka-2:9092]
  sasl: &login
    mechanism: scram-sha-512
    username: posthorn
    password: hunter2
prefix: hooks
sources:
  - name: orders
    topics:
      - orders
      - hooks.events
    format: cloudevents
    start: earliest
  - name: legacy
    pattern: legacy\..*
    format: json
    start: 2026-01-31T08:00:00+01:00
    type: {header: event-type}
    tenant: {pointer: /account/id}
    source: {constant: /legacy}
    max_size: 1MiB
delivery:
  schedule: [10s, 1m30s]
  allow_cidr: [127.0.0.0/8, ::1/128]
  ports: [443, 8443]
`

func TestAFileBecomesAConfiguration(t *testing.T) {
	c, err := Parse("p.yaml", []byte(sample), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Kafka.SASL.Password.Reveal(); got != "hunter2" {
		t.Errorf("password %q", got)
	}
	if len(c.Sources) != 2 || c.Sources[0].MaxSize != 256*KiB || c.Sources[1].MaxSize != MiB {
		t.Errorf("sources %+v", c.Sources)
	}
	if s := c.Sources[1]; s.Start.At != StartTime || !s.Start.Time.Equal(time.Date(2026, 1, 31, 7, 0, 0, 0, time.UTC)) ||
		s.EventSource.Constant != "/legacy" || s.Type.Header != "event-type" {
		t.Errorf("source %+v", s)
	}
	if got := c.Delivery.Schedule; len(got) != 2 || got[1] != 90*time.Second {
		t.Errorf("schedule %v", got)
	}
	if c.Delivery.MaxAge != 24*time.Hour || c.Partitions.Deliveries != 32 {
		t.Error("what the file leaves out lost its default")
	}
	if !c.Delivery.Ports.Allow(8443) || c.Delivery.Ports.Allow(80) {
		t.Errorf("ports %+v", c.Delivery.Ports)
	}
	if o := c.Origin("kafka.sasl.password"); o.Line != 7 {
		t.Errorf("origin of the password: %v", o)
	}
}

func TestTheDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("", nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("c.yaml", []byte("# nothing yet\nkafka:\n  # brokers: []\n"), nil); err != nil {
		t.Fatal(err)
	}
}

func TestEveryMistakeIsListedAtOnceWithItsLine(t *testing.T) {
	text := `kafka:
  brokres: [a:1]
  brokers: kafka:9092
  sasl: {mechanism: kerberos}
prefix: posthorn
sources:
  - name: one
    topics: [posthorn.dead, "not a topic", fine]
    format: xml
    start: yesterday
  - name: one
    topics: [fine]
    pattern: "("
    format: json
    start: latest
    type: {header: a, constant: b}
    time: {constant: noon}
    max_size: 1TB
delivery:
  schedule: [20h, 20h]
  max_age: 30
  tiers: [1m, 5s]
  https_only: yes
  https_only: true
  allow_cidr: [10.0.0.1/8]
  proxy: ftp://user:secret@host
breaker: {failure_ratio: 1.5}
log: loud
lifecycle: {failing_for: 5m, exhausted: -1}
`
	_, err := Parse("p.yaml", []byte(text), nil)
	var ce *Error
	if !errors.As(err, &ce) {
		t.Fatalf("got %v, want an *Error", err)
	}
	want := []string{
		"p.yaml:2: kafka.brokres: unknown key; did you mean brokers?",
		"p.yaml:3: kafka.brokers: want a list",
		"p.yaml:4: kafka.sasl.mechanism: want one of",
		"p.yaml:8: sources[0].topics[0]: posthorn.dead is a topic of Posthorn's own",
		"p.yaml:8: sources[0].topics[1]: \"not a topic\" is not the name of a topic",
		"p.yaml:9: sources[0].format: want one of",
		"p.yaml:10: sources[0].start: want latest, earliest or an RFC 3339 time",
		"p.yaml:11: sources[1]: want either topics",
		"p.yaml:11: sources[1].name: \"one\" is the name of sources[0] already",
		"p.yaml:11: sources[1].tenant: required for format json",
		"p.yaml:12: sources[1].topics[0]: fine is a topic of sources[0] already",
		"p.yaml:13: sources[1].pattern: not a regular expression",
		"p.yaml:16: sources[1].type: want one of header, pointer, attribute and constant, got 2",
		"p.yaml:17: sources[1].time: every event has its own time",
		"p.yaml:18: sources[1].max_size: want a size",
		"p.yaml:20: delivery.schedule: adds up to 40h, longer than delivery.max_age of 1d",
		"p.yaml:21: delivery.max_age: want a duration such as",
		"p.yaml:22: delivery.tiers[1]: 5s comes after 1m",
		"p.yaml:23: delivery.https_only: want true or false, got \"yes\"",
		"p.yaml:24: delivery.https_only: given twice, first on line 23",
		"p.yaml:25: delivery.allow_cidr[0]: 10.0.0.1/8 has bits beyond its mask; want 10.0.0.0/8",
		"p.yaml:26: delivery.proxy: want a URL",
		"p.yaml:27: breaker.failure_ratio: must be above 0",
		"p.yaml:28: log: want keys of its own (level, format)",
		"p.yaml:29: lifecycle.exhausted: must be a number from 0",
		"p.yaml:29: lifecycle.failing_for: must be 1h or more",
	}
	got := make([]string, len(ce.Problems))
	for i, p := range ce.Problems {
		got[i] = p.String()
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(want):
			t.Errorf("not expected: %s", got[i])
		case i >= len(got):
			t.Errorf("missing: %s", want[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("line %d\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Error("the proxy's password is in the message")
	}
}

func TestBadDocumentsAreRefusedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"syntax", "a: b\n  c: [", "not valid YAML"},
		{"prefix", "\nprefix: a b\n", "p.yaml:2: prefix: want 1 to 200 letters"},
		{"no tier below max_age", "delivery: {max_age: 1h, tiers: [1h]}\n", "p.yaml:1: delivery.tiers[0]: 1h is as long as delivery.max_age of 1h"},
		{"two documents", "prefix: a\n---\nprefix: b\n", "p.yaml:3: a second YAML document"},
		{"a list", "- a\n", "p.yaml:1: want keys of its own"},
		{"no value", "prefix:\n", "p.yaml:1: prefix: has no value"},
		{"alias without anchor", "prefix: *x\n", "p.yaml:1: prefix: an alias (*) without an anchor"},
		{"alias to itself", "kafka: &k {tls: *k}\n", "unknown key"},
		{"merge", "kafka:\n  <<: {client_id: a}\n", "p.yaml:2: kafka: merge keys"},
		{"unknown section", "kafak: {}\n", "p.yaml:1: kafak: unknown key; did you mean kafka?"},
		{"nested where plain", "prefix: {a: b}\n", "p.yaml:1: prefix: want a single value"},
		{"element", "kafka:\n  brokers:\n    - a:1\n    - [b]\n", "p.yaml:4: kafka.brokers[1]: want a single value, got a list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAnchorsAndAliasesAreRead(t *testing.T) {
	c, err := Parse("p.yaml", []byte("kafka: {client_id: &n hooks}\nprefix: *n\n"), nil)
	if err != nil || c.Prefix != "hooks" {
		t.Errorf("%v, %v", c, err)
	}
}

// leaves lists the paths of every key that holds a value.
func leaves(t reflect.Type, path string) (out []string) {
	for _, f := range fieldsOf(t) {
		ft, p := t.Field(f.index).Type, join(path, f.key)
		if isScalar(ft) || ft.Kind() == reflect.Slice {
			out = append(out, p)
		} else {
			out = append(out, leaves(ft, p)...)
		}
	}
	return out
}

func TestEveryKeyHasItsVariable(t *testing.T) {
	seen := map[string]string{}
	for _, path := range leaves(reflect.TypeFor[Config](), "") {
		name := EnvName(path)
		if other, twice := seen[name]; twice {
			t.Errorf("%s and %s share %s", path, other, name)
		}
		seen[name] = path
		// A value that few keys take: each must be refused under its own
		// name, or (plain text) be taken. TLS and SASL are refused as a whole.
		c, err := Parse("", nil, []string{name + "=\x01"})
		if err != nil {
			if !strings.Contains(err.Error(), name+": ") && !strings.Contains(err.Error(), "has settings and") &&
				!strings.Contains(err.Error(), name+" line 1: ") {
				t.Errorf("%s: %v", path, err)
			}
			continue
		}
		if c.Origin(path).Env != name || len(c.Warnings()) > 0 && strings.Contains(c.Warnings()[0].Text, "ignored") {
			t.Errorf("%s has no effect on %s", name, path)
		}
	}
}

func TestTheEnvironmentOverridesTheFile(t *testing.T) {
	c, err := Parse("p.yaml", []byte(sample), []string{
		"POSTHORN_KAFKA_BROKERS=a:1, b:2",
		"POSTHORN_PREFIX=",
		"POSTHORN_DELIVERY_SCHEDULE=1s,2s",
		"POSTHORN_DELIVERY_PORTS=any",
		"POSTHORN_DELIVERY_BYTE_BUDGET=1GiB",
		"POSTHORN_SOURCES=[{name: x, topics: [y], format: cloudevents, start: latest}]",
		"POSTHORN_PORT=tcp://10.0.0.1:9464", "POSTHORN_SERVICE_HOST=10.0.0.1", "POSTHORN_API=http://x", "POSTHORN_API_KEY=ph_x",
		"POSTHORN_KAFKA_BROKER=typo",
		"PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(c.Kafka.Brokers) != "[a:1 b:2]" || c.Prefix != "hooks" || fmt.Sprint(c.Delivery.Schedule) != "[1s 2s]" ||
		!c.Delivery.Ports.Any || c.Delivery.ByteBudget != GiB {
		t.Errorf("%+v", c)
	}
	if len(c.Sources) != 1 || c.Sources[0].Name != "x" || c.Sources[0].MaxSize != DefaultMaxSize {
		t.Errorf("sources %+v", c.Sources)
	}
	if w := c.Warnings(); len(w) != 1 || w[0].Origin.Env != "POSTHORN_KAFKA_BROKER" {
		t.Errorf("warnings %v", w)
	}
	_, err = Parse("p.yaml", []byte(sample), []string{"POSTHORN_SOURCES=- name: x\n  topics: y", "POSTHORN_KAFKA_BROKERS=nowhere"})
	for _, want := range []string{
		"POSTHORN_SOURCES line 2: sources[0].topics: want a list",
		"POSTHORN_SOURCES line 1: sources[0].start: required",
		"POSTHORN_KAFKA_BROKERS: kafka.brokers[0]: want host:port",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
	}
}

func TestWhatIsShownReadsBackTheSame(t *testing.T) {
	text := strings.Replace(sample, "hunter2", `"two\nlines"`, 1)
	c, err := Parse("p.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "lines") {
		t.Errorf("the password is shown:\n%s", b.String())
	}
	if !strings.Contains(b.String(), "prefix: hooks  # p.yaml:8\n") {
		t.Errorf("the origin is not shown:\n%s", b.String())
	}
	back, err := Parse("shown.yaml", b.Bytes(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	back.Kafka.SASL.Password = c.Kafka.SASL.Password
	back.origins, c.origins = nil, nil
	for i := range c.Sources { // the zone isn't kept
		c.Sources[i].Start.Time, back.Sources[i].Start.Time = c.Sources[i].Start.Time.UTC(), back.Sources[i].Start.Time.UTC()
	}
	if got, want := fmt.Sprintf("%+v", *back), fmt.Sprintf("%+v", *c); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestSecretsAreNeverWritten(t *testing.T) {
	c := Default()
	c.Kafka.SASL.Password = "hunter2"
	c.Delivery.Proxy = "http://user:hunter2@proxy:3128"
	var b bytes.Buffer
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%v %+v %#v %s %q", c.Kafka.SASL, c.Kafka.SASL, *c, c.Kafka.SASL.Password, c.Delivery.Proxy)
	if err := json.NewEncoder(&b).Encode(map[string]any{"password": c.Kafka.SASL.Password, "proxy": c.Delivery.Proxy}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "password", c.Kafka.SASL.Password, "kafka", c.Kafka, "proxy", c.Delivery.Proxy)
	if strings.Contains(b.String(), "hunter2") {
		t.Errorf("the secret is in:\n%s", b.String())
	}
}

func TestPasswordFilesLoseTheirLastLineBreak(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := SASL{PasswordFile: file}.ReadPassword()
	if err != nil || got.Reveal() != "hunter2" {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}

func TestTheFileOfPrivateAuthoritiesHasToBeThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "ca.pem")
	_, err := Parse("p.yaml", []byte("delivery:\n  ca_file: "+missing+"\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "p.yaml:2: delivery.ca_file: ") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(missing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("", nil, []string{"POSTHORN_DELIVERY_CA_FILE=" + missing})
	if err != nil || c.Delivery.CAFile != missing {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTheSessionTimeoutStaysWithinWhatBrokersTake(t *testing.T) {
	for text, ok := range map[string]bool{"6s": true, "10s": true, "30m": true, "5999ms": false, "5s": false, "0s": false, "31m": false} {
		_, err := Parse("p.yaml", []byte("kafka: {session_timeout: "+text+"}"), nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && !strings.Contains(err.Error(), "p.yaml:1: kafka.session_timeout: want 6s to 30m") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAttemptsAreKeptAsLongAsDeliveries(t *testing.T) {
	for text, ok := range map[string]bool{"{deliveries: 10d, attempts: 10d}": true, "{attempts: 91d}": true, "{attempts: 30d}": false} {
		_, err := Parse("p.yaml", []byte("clickhouse: {ttl: "+text+"}"), nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil && !strings.Contains(err.Error(), "clickhouse.ttl.attempts: want clickhouse.ttl.deliveries, 90d, or more, got 30d") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
