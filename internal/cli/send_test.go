package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer/source"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/config"
	"posthorn/webhook"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m)) }

func broker(t *testing.T, topics ...string) config.Kafka {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return config.Kafka{Brokers: c.ListenAddrs()}
}

// consume returns the first n records of a topic.
func consume(t *testing.T, k config.Kafka, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out []*kgo.Record
	for len(out) < n {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(out), n, err)
		}
		out = append(out, fs.Records()...)
	}
	return out
}

// read reads a record as the line does.
func read(t *testing.T, r *kgo.Record) *webhook.Event {
	t.Helper()
	reader, err := source.NewReader(source.Config{Format: source.FormatCloudEvents})
	if err != nil {
		t.Fatal(err)
	}
	headers := make([]webhook.Header, len(r.Headers))
	for i, h := range r.Headers {
		headers[i] = webhook.Header(h)
	}
	rec := source.Record{
		Position: webhook.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, Timestamp: r.Timestamp,
		Key: r.Key, Value: r.Value, Headers: headers,
	}
	ev, inv := reader.Read(&rec)
	if inv != nil {
		t.Fatalf("the line can't read what was sent: %v", inv)
	}
	return ev
}

func base(k config.Kafka) SendConfig {
	return SendConfig{Kafka: k, Topic: "orders", MaxMessage: config.MiB}
}

func TestAnEventFromFlagsIsReadByTheLine(t *testing.T) {
	k := broker(t, "orders")
	c := base(k)
	c.Type, c.Tenant, c.ID, c.Source, c.Subject = "order.created", "acme", "o-1", "/shop", "250"
	c.Data = []byte(`{"id": 250}`)
	c.Extensions = map[string]string{"region": "eu", "partitionkey": "250"}
	c.Traceparent, c.Tracestate = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=b"
	var out bytes.Buffer
	s, err := Send(t.Context(), c, &out)
	if err != nil || s.Sent != 1 || !strings.HasPrefix(out.String(), "sent=1 failed=0 topic=orders ") {
		t.Fatalf("%+v, %v, %q", s, err, out.String())
	}
	r := consume(t, k, "orders", 1)[0]
	ev := read(t, r)
	if string(r.Key) != "250" || ev.ID != "o-1" || ev.Type != "order.created" || ev.Tenant != "acme" || ev.Source != "/shop" ||
		ev.Subject != "250" || string(ev.Data) != `{"id": 250}` || ev.Extension("region") != "eu" ||
		ev.Traceparent != c.Traceparent || ev.Tracestate != "a=b" || time.Since(ev.Time) > time.Minute {
		t.Errorf("key %q, event %+v", r.Key, ev)
	}
}

func TestCountMakesDistinctEvents(t *testing.T) {
	k := broker(t, "orders")
	c := base(k)
	c.Type, c.Tenant, c.ID, c.Data, c.Count, c.JSON = "t", "acme", "n", []byte(`{}`), 500, true
	var out bytes.Buffer
	if _, err := Send(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	var s Summary
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.Sent != 500 {
		t.Errorf("%s, %v", out.String(), err)
	}
	ids := map[string]bool{}
	for _, r := range consume(t, k, "orders", 500) {
		ids[read(t, r).ID] = true
	}
	if len(ids) != 500 || !ids["n-1"] || !ids["n-500"] {
		t.Errorf("%d distinct IDs", len(ids))
	}
}

func TestJSONLinesAreEventsOfTheirOwn(t *testing.T) {
	k := broker(t, "orders")
	lines := `{"id":"a","type":"order.created","tenant":"acme","data":{"x":  [1,2]},"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}

{"specversion":"1.0","id":"b","source":"/other","time":"2026-01-31T08:00:00Z","tenant":"globex","priority":3,"subject":null,"data":"hi"}
{"id":"c","datacontenttype":"text/plain","data":"plain \"text\""}
{"datacontenttype":"application/octet-stream","data_base64":"AAEC"}
`
	file := filepath.Join(t.TempDir(), "events.jsonl")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	c := base(k)
	c.File, c.Type, c.Tenant, c.Source = file, "fallback", "initech", "/shop"
	if _, err := Send(t.Context(), c, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range consume(t, k, "orders", 4) {
		ev := read(t, r)
		got = append(got, fmt.Sprintf("%s %s %s %s %s %q %v", ev.Source, ev.Type, ev.Tenant, ev.ContentType, ev.Extension("priority"), ev.Data, ev.Traceparent != ""))
		if ev.ID == "b" && !ev.Time.Equal(time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)) {
			t.Errorf("time %v", ev.Time)
		}
	}
	want := []string{
		`/shop order.created acme application/json  "{\"x\":  [1,2]}" true`,
		`/other fallback globex application/json 3 "\"hi\"" false`,
		`/shop fallback initech text/plain  "plain \"text\"" false`,
		`/shop fallback initech application/octet-stream  "\x00\x01\x02" false`,
	}
	for i, w := range want {
		if got[i] != w {
			t.Errorf("event %d\n got %s\nwant %s", i, got[i], w)
		}
	}
}

func TestABadLineIsNamedAndWhatCameBeforeIsSent(t *testing.T) {
	k := broker(t, "orders")
	for _, bad := range []struct{ line, want string }{
		{`{"type":`, "standard input:2: want a CloudEvent as a JSON object"},
		{`["a"]`, "want a CloudEvent as a JSON object"},
		{`{"type":"x","Tenant":"y"}`, `"Tenant": names of attributes are lower-case`},
		{`{"type":7}`, "type is 7, want a string"},
		{`{"type":"x","specversion":"0.3"}`, "specversion is"},
		{`{"type":"x","data":1,"data_base64":""}`, "both data and data_base64"},
		{`{"type":"x","datacontenttype":"text/plain","data":{}}`, "has to be a JSON string"},
		{`{"type":"x","data_base64":"?"}`, "data_base64"},
		{`{"type":"x","nested":{}}`, "nested: an extension attribute is a string"},
		{`{"id":"1"}`, "the event has no type"},
	} {
		c := base(k)
		c.Stdin = strings.NewReader(`{"type":"good"}` + "\n" + bad.line + "\n" + `{"type":"never"}`)
		var out bytes.Buffer
		s, err := Send(t.Context(), c, &out)
		if err == nil || !strings.Contains(err.Error(), bad.want) || s.Sent != 1 || !strings.Contains(out.String(), "sent=1") {
			t.Errorf("%s: got %v with %+v, want %q", bad.line, err, s, bad.want)
		}
	}
}

func TestCountLimitsLines(t *testing.T) {
	c := base(broker(t, "orders"))
	c.Stdin, c.Count = strings.NewReader(strings.Repeat(`{"type":"t"}`+"\n", 10)), 3
	if s, err := Send(t.Context(), c, &bytes.Buffer{}); err != nil || s.Sent != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestMistakesOfSendAreUsageErrors(t *testing.T) {
	k := broker(t, "orders")
	for name, change := range map[string]func(*SendConfig){
		"topic":     func(c *SendConfig) { c.Topic = "" },
		"both":      func(c *SendConfig) { c.File = "x" },
		"type":      func(c *SendConfig) { c.Type = "" },
		"extension": func(c *SendConfig) { c.Extensions = map[string]string{"time": "x"} },
		"count":     func(c *SendConfig) { c.Count = -1 },
		"empty":     func(c *SendConfig) { c.Data, c.Stdin = nil, strings.NewReader("\n\n") },
	} {
		c := base(k)
		c.Type, c.Data = "t", []byte("{}")
		change(&c)
		_, err := Send(t.Context(), c, &bytes.Buffer{})
		if usage := (*UsageError)(nil); !errors.As(err, &usage) {
			t.Errorf("%s: got %v, want a usage error", name, err)
		}
	}
	if _, err := ReadData("{", ""); err == nil {
		t.Error("broken JSON was taken for a payload")
	}
	if b, err := ReadData("{", "text/plain"); err != nil || string(b) != "{" {
		t.Error("text/plain was held to JSON")
	}
}

func TestAnInterruptionSaysWhatWasSent(t *testing.T) {
	c := base(broker(t, "orders"))
	c.Type, c.Data, c.Count, c.Rate = "t", []byte("{}"), 1_000_000, 1000
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	read := 0
	next := c.repeat()
	cl, err := connect(ctx, c.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	s, err := produce(ctx, cl, &c, func() (*cloudEvent, error) {
		if read++; read == 20 {
			cancel(stop)
		}
		return next()
	})
	if !errors.Is(err, stop) || s.Sent != 20 || s.Failed != 0 {
		t.Errorf("%+v, %v: want the 20 that were begun, and the cause", s, err)
	}
}

func TestATopicThatIsMissingFails(t *testing.T) {
	c := base(broker(t, "other"))
	c.Type, c.Data = "t", []byte("{}")
	s, err := Send(t.Context(), c, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "UNKNOWN_TOPIC") || s.Failed != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

func FuzzParseEventYieldsWhatTheLineCanRead(f *testing.F) {
	f.Add(`{"id":"a","type":"order.created","data":{"x":1}}`)
	f.Add(`{"type":"x","datacontenttype":"text/plain","data":"y","n":1e9,"b":true}`)
	f.Add(`{"data_base64":"AAEC","time":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseEvent([]byte(text))
		if err != nil {
			return
		}
		r := e.record(&SendConfig{Topic: "t", Type: "fallback"})
		if r.Value == nil {
			t.Fatal("a nil value is a tombstone, not an event")
		}
		seen := map[string]bool{}
		for _, h := range r.Headers {
			if seen[h.Key] || len(h.Value) == 0 {
				t.Fatalf("header %s is there twice, or empty", h.Key)
			}
			seen[h.Key] = true
		}
		for _, key := range []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"} {
			if !seen[key] {
				t.Fatalf("no %s", key)
			}
		}
	})
}
