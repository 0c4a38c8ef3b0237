package source

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

const (
	traceA = "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"
	traceB = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

var kafkaTime = time.UnixMilli(1_700_000_000_123)

// record makes a record of headers "key: value" and a value.
func record(value string, headers ...string) *Record {
	rec := &Record{
		Position:  webhook.Position{Topic: "orders", Partition: 3, Offset: 42},
		Timestamp: kafkaTime,
		Key:       []byte("k"),
		Value:     []byte(value),
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		rec.Headers = append(rec.Headers, webhook.Header{Key: k, Value: []byte(v)})
	}
	return rec
}

func reader(t testing.TB, cfg Config) *Reader {
	t.Helper()
	r, err := NewReader(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func binary(value string, headers ...string) *Record {
	return record(value, append([]string{
		"ce_specversion: 1.0", "ce_id: e1", "ce_type: order.created", "ce_source: /shop", "ce_tenant: acme",
	}, headers...)...)
}

func structured(members string, headers ...string) *Record {
	return record(`{"specversion":"1.0","id":"e1","type":"order.created","source":"/shop","tenant":"acme",`+members+`}`,
		append([]string{"content-type: application/cloudevents+json; charset=UTF-8"}, headers...)...)
}

func mustRead(t *testing.T, cfg Config, rec *Record) *webhook.Event {
	t.Helper()
	ev, inv := reader(t, cfg).Read(rec)
	if inv != nil {
		t.Fatalf("refused: %v", inv)
	}
	return ev
}

var cloud = Config{Format: FormatCloudEvents}

func TestBothContentModesReadTheSameEvent(t *testing.T) {
	const data = `{ "id": 250,  "note": "é\u00e9" }`
	want := &webhook.Event{
		ID: "e1", Source: "/shop", Type: "order.created", Tenant: "acme", Subject: "o/250",
		Time:        time.Date(2026, 1, 2, 14, 4, 5, 600_000_000, time.UTC),
		ContentType: "application/json", Data: []byte(data),
		Extensions:  map[string]string{"tenant": "acme", "dataschema": "https://example.com/s", "priority": "7", "urgent": "true", "traceparent": traceA, "tracestate": "a=1"},
		Traceparent: traceA, Tracestate: "a=1",
		Position: webhook.Position{Topic: "orders", Partition: 3, Offset: 42}, Timestamp: kafkaTime,
	}
	for name, rec := range map[string]*Record{
		"binary": binary(data, "Content-Type: application/json", "ce_subject: o/250", "ce_time: 2026-01-02T15:04:05.6+01:00",
			"ce_dataschema: https://example.com/s", "ce_priority: 7", "ce_urgent: true", "ce_traceparent: "+traceA, "ce_tracestate: a=1",
			"traceparent: "+traceB, "ce_Not_An_Attribute: x", "unrelated: y"),
		"structured": structured(`"subject":"o/250","time":"2026-01-02T15:04:05.6+01:00","dataschema":"https:\/\/example.com/s","priority":7,
			"urgent":true,"traceparent":"`+traceA+`","tracestate":"a=1","unset":null,"Not_An_Attribute":{},"data": `+data+` `,
			"traceparent: "+traceB, "ce_type: another.type"),
	} {
		if got := mustRead(t, cloud, rec); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
}

func TestDataKeepsItsBytes(t *testing.T) {
	for _, c := range []struct {
		name, want, contentType string
		rec                     *Record
	}{
		{"binary JSON without a content type", ` [1, 2]` + "\n", "application/json", binary(" [1, 2]\n")},
		{"binary bytes that are not JSON", "\x00\xff\x01", "application/avro", binary("\x00\xff\x01", "content-type: application/avro")},
		{"datacontenttype as an attribute", "x", "text/plain", binary("x", "ce_datacontenttype: text/plain")},
		{"structured text", "<a b=\"c\"/>", "application/xml", structured(`"datacontenttype":"application/xml","data":"<a b=\"c\"/>"`)},
		{"structured base64", "\x00\xff", "application/octet-stream", structured(`"data_base64":"AP8="`)},
		{"structured base64 of JSON", `{"a":1}`, "application/vnd.x+json", structured(`"datacontenttype":"application/vnd.x+json","data_base64":"eyJhIjoxfQ=="`)},
		{"structured JSON string", `"I'm a string"`, "application/json", structured(`"data":"I'm a string"`)},
		{"structured explicit null", `null`, "application/json", structured(`"data":null,"data_base64":null`)},
	} {
		ev := mustRead(t, cloud, c.rec)
		if string(ev.Data) != c.want || ev.ContentType != c.contentType {
			t.Errorf("%s: got %q, %q", c.name, ev.Data, ev.ContentType)
		}
	}
}

func TestWhatIsMissingFallsBackToTheRecord(t *testing.T) {
	for name, ev := range map[string]*webhook.Event{
		"binary":     mustRead(t, cloud, record("{}", "ce_specversion: 1.0", "ce_type: t", "ce_tenant: a", "ce_id: ")),
		"structured": mustRead(t, cloud, record(`{"specversion":"1.0","type":"t","tenant":"a","id":null,"data":{}}`, "content-type: application/cloudevents+json")),
		"json": mustRead(t, Config{Format: FormatJSON, Mapping: Mapping{
			Type: Field{Constant: "t"}, Tenant: Field{Constant: "a"}, ID: Field{Pointer: "/id"}, Source: Field{Header: "src"}, Time: Field{Pointer: "/at"},
		}}, record(`{"id":null}`)),
	} {
		if ev.ID != "orders/3/42@1700000000123" || ev.Source != "orders" || !ev.Time.Equal(kafkaTime) || ev.Traceparent != "" {
			t.Errorf("%s: %+v", name, ev)
		}
	}
	ev := mustRead(t, Config{Format: FormatJSON, Mapping: Mapping{
		Type: Field{Constant: "t"}, Tenant: Field{Constant: "a"}, Source: Field{Constant: "/billing"},
	}}, record(`1`))
	if ev.ID != "orders/3/42@1700000000123" || ev.Source != "/billing" {
		t.Errorf("constant source: %+v", ev)
	}
}

func TestMappingTakesAttributesFromHeadersPointersAndConstants(t *testing.T) {
	cfg := Config{Format: FormatJSON, Mapping: Mapping{
		ID: Field{Pointer: "/meta/ids/1"}, Type: Field{Header: "type"}, Tenant: Field{Pointer: "/a~1b/~0m~01"},
		Time: Field{Pointer: "/meta/at"}, TimeForm: TimeUnix, Subject: Field{Pointer: "/ok"}, Source: Field{Constant: "/shop"},
		Data: "/payload",
	}}
	rec := record(`{"meta":{"ids":["x",9007199254740993],"at":1561479335.25},"a/b":{"~m~1":"ac\u006de \ud83d\ude00"},
		"pay\u006coad" : {"z":1, "z":2} ,"ok":true}`, "type: order.created", "traceparent: bad", "traceparent: "+traceB, "tracestate: v=1")
	ev := mustRead(t, cfg, rec)
	want := &webhook.Event{
		ID: "9007199254740993", Type: "order.created", Tenant: "acme 😀", Subject: "true", Source: "/shop",
		Time: time.Unix(1561479335, 250_000_000).UTC(), ContentType: "application/json", Data: []byte(`{"z":1, "z":2}`),
		Traceparent: traceB, Tracestate: "v=1", Position: rec.Position, Timestamp: kafkaTime,
	}
	if !reflect.DeepEqual(ev, want) {
		t.Errorf("got %+v\nwant %+v", ev, want)
	}
	cfg.Mapping.TimeForm, cfg.Mapping.Time = TimeUnixMsec, Field{Header: "ms"}
	rec.Headers = append(rec.Headers, webhook.Header{Key: "ms", Value: []byte("1561479335250")})
	if ev := mustRead(t, cfg, rec); !ev.Time.Equal(want.Time) {
		t.Errorf("unix_ms: %v", ev.Time)
	}
}

func TestTenantOfCloudEventsCanBeMapped(t *testing.T) {
	both := []*Record{
		binary(`{"org":{"id":77}}`, "ce_org: o1", "ce_subject: s1", "org: h1"),
		structured(`"org":"o1","subject":"s1","data":{"org":{"id":77}}`, "org: h1"),
	}
	for field, want := range map[Field]string{
		{}:                                "acme",
		{Attribute: "org"}:                "o1",
		{Attribute: "subject"}:            "s1",
		{Header: "org"}:                   "h1",
		{Pointer: "/org/id"}:              "77",
		{Constant: "only"}:                "only",
		{Constant: "Zürich", Pointer: ""}: "Zürich",
	} {
		for i, rec := range both {
			ev := mustRead(t, Config{Format: FormatCloudEvents, Mapping: Mapping{Tenant: field}}, rec)
			if ev.Tenant != want {
				t.Errorf("%+v, mode %d: tenant %q, want %q", field, i, ev.Tenant, want)
			}
		}
	}
}

func TestTimestampsThatNoCodecCarriesAreClamped(t *testing.T) {
	rec := binary("{}")
	rec.Timestamp = time.UnixMilli(-1) // Kafka's "no timestamp"
	if ev := mustRead(t, cloud, rec); ev.Timestamp.UnixMilli() != 0 || ev.Time.UnixMilli() != 0 {
		t.Errorf("%v, %v", ev.Timestamp, ev.Time)
	}
	rec.Timestamp = time.UnixMilli(1 << 60)
	if ev := mustRead(t, cloud, rec); ev.Timestamp.Year() != 9999 {
		t.Errorf("%v", ev.Timestamp)
	}
}

func TestMalformedTraceContextIsLeftOut(t *testing.T) {
	for _, bad := range []string{
		"x", traceA[:54], traceA + "0", traceA + "-x", "ff" + traceA[2:], "0A" + traceA[2:], strings.ToUpper(traceA),
		"00-00000000000000000000000000000000-b9c7c989f97918e1-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		strings.ReplaceAll(traceA, "-", "_"), "01" + traceA[2:] + "-\x01", "01" + traceA[2:] + strings.Repeat("-x", 200),
	} {
		if ev := mustRead(t, cloud, binary("{}", "traceparent: "+bad, "tracestate: a=1")); ev.Traceparent != "" || ev.Tracestate != "" {
			t.Errorf("%q was taken", bad)
		}
	}
	future := "01" + traceA[2:] + "-more"
	if ev := mustRead(t, cloud, binary("{}", "traceparent: "+future)); ev.Traceparent != future {
		t.Error("a later version's traceparent was dropped")
	}
	ev := mustRead(t, cloud, binary("{}", "traceparent: "+traceA, "tracestate: "+strings.Repeat("a", 513)))
	if ev.Traceparent != traceA || ev.Tracestate != "" {
		t.Errorf("long tracestate: %q %q", ev.Traceparent, ev.Tracestate)
	}
	if ev := mustRead(t, cloud, binary("{}", "ce_traceparent: bad", "traceparent: "+traceB)); ev.Traceparent != traceB {
		t.Error("a malformed attribute hid the header")
	}
}

func TestEveryReasonIsGivenForItsMistake(t *testing.T) {
	mapped := Config{Format: FormatJSON, MaxBytes: 1 << 20, Mapping: Mapping{
		ID: Field{Pointer: "/id"}, Type: Field{Pointer: "/type"}, Tenant: Field{Header: "tenant"}, Time: Field{Pointer: "/time"}, Data: "/data",
	}}
	plain := func(value string, headers ...string) *Record {
		return record(value, append(headers, "tenant: acme")...)
	}
	empty := binary("")
	empty.Value = nil
	tests := []struct {
		reason Reason
		cfg    Config
		rec    *Record
	}{
		{ReasonEmpty, cloud, empty},
		{ReasonEmpty, cloud, binary("")},
		{ReasonEmpty, cloud, structured(`"subject":"x"`)},
		{ReasonEmpty, cloud, structured(`"data_base64":""`)},
		{ReasonOversize, cloud, binary(strings.Repeat(" ", DefaultMaxBytes) + "1")},
		{ReasonOversize, Config{Format: FormatCloudEvents, MaxBytes: 3}, binary("1234")},
		{ReasonUTF8, cloud, binary("\"\xff\"")},
		{ReasonUTF8, cloud, structured("\"data\":\"\xc3\x28\"")},
		{ReasonUTF8, cloud, structured(`"datacontenttype":"application/json","data_base64":"Iv8i"`)},
		{ReasonUTF8, mapped, plain("{\"x\":\"\xed\xa0\x80\"}")},
		{ReasonJSON, cloud, binary("{")},
		{ReasonJSON, cloud, binary("\ufeff{}")},
		{ReasonJSON, cloud, structured(`"data":{},`)},
		{ReasonJSON, cloud, record(`["specversion"]`, "content-type: application/cloudevents+json")},
		{ReasonJSON, mapped, plain(`{"type":"a","data":{}} x`)},
		{ReasonDepth, cloud, binary(strings.Repeat("[", 200) + strings.Repeat("]", 200))},
		{ReasonDepth, mapped, plain(strings.Repeat(`{"data":`, 5000) + `1` + strings.Repeat("}", 5000))},
		{ReasonDuplicate, cloud, binary("{}", "ce_type: other")},
		{ReasonDuplicate, cloud, binary("{}", "ce_tenant: other")},
		{ReasonDuplicate, cloud, binary("{}", "content-type: a/b", "Content-Type: c/d")},
		{ReasonDuplicate, cloud, structured(`"data":1,"data":2`)},
		{ReasonDuplicate, cloud, structured(`"data":1,"tenan\u0074":"other"`)},
		{ReasonDuplicate, mapped, plain(`{"type":"a","type":"b","data":1}`)},
		{ReasonDuplicate, mapped, plain(`{"type":"a","data":1}`, "tenant: other")},
		{ReasonContentType, cloud, binary("{}", "content-type: json")},
		{ReasonContentType, cloud, binary("{}", "content-type: a/b\x01")},
		{ReasonContentType, cloud, binary("{}", "content-type: application/cloudevents+avro")},
		{ReasonContentType, cloud, binary("{}", "content-type: application/cloudevents-batch+json")},
		{ReasonContentType, cloud, structured(`"datacontenttype":"text/é","data":"x"`)},
		{ReasonSpecVersion, cloud, record("{}", "ce_type: t", "ce_tenant: a")},
		{ReasonSpecVersion, cloud, record("{}", "ce_specversion: 0.3", "ce_type: t", "ce_tenant: a")},
		{ReasonSpecVersion, cloud, record(`{"data":1}`, "content-type: application/cloudevents+json")},
		{ReasonType, cloud, record("{}", "ce_specversion: 1.0", "ce_tenant: a")},
		{ReasonType, mapped, plain(`{"type":"","data":1}`)},
		{ReasonTenant, cloud, record("{}", "ce_specversion: 1.0", "ce_type: t")},
		{ReasonTenant, mapped, record(`{"type":"a","data":1}`)},
		{ReasonAttribute, cloud, binary("{}", "ce_subject: a\nb")},
		{ReasonAttribute, cloud, binary("{}", "ce_subject: a\u0085b")},
		{ReasonAttribute, cloud, binary("{}", "ce_subject: a\ufffeb")},
		{ReasonAttribute, cloud, binary("{}", "ce_subject: \xff")},
		{ReasonAttribute, cloud, binary("{}", "ce_x: "+strings.Repeat("x", maxExtension+1))},
		{ReasonAttribute, cloud, record("{}", "ce_specversion: 1.0", "ce_tenant: a", "ce_type: "+strings.Repeat("t", maxType+1))},
		{ReasonAttribute, cloud, record("{}", "ce_specversion: 1.0", "ce_type: a", "ce_tenant: "+strings.Repeat("t", maxTenant+1))},
		{ReasonAttribute, cloud, binary("{}", extensions(maxExtensions)...)},
		{ReasonAttribute, cloud, structured(`"data":1,"x":{}`)},
		{ReasonAttribute, cloud, structured(`"data":1,"subject":5`)},
		{ReasonAttribute, cloud, structured(`"data":1,"x":"\ud800"`)},
		{ReasonAttribute, cloud, structured(`"data":1,"x":"\u0000"`)},
		{ReasonAttribute, cloud, structured(`"data":1,"` + strings.Join(extensions(200), `":1,"`) + `":1`)},
		{ReasonAttribute, mapped, plain(`{"type":{},"data":1}`)},
		{ReasonAttribute, mapped, plain(`{"type":"\ud800\u0041","data":1}`)},
		{ReasonAttribute, mapped, plain(`{"type":"a","id":"` + strings.Repeat("i", maxID+1) + `","data":1}`)},
		{ReasonTime, cloud, binary("{}", "ce_time: yesterday")},
		{ReasonTime, cloud, binary("{}", "ce_time: 2026-01-02T15:04:05")},
		{ReasonTime, cloud, binary("{}", "ce_time: 1969-12-31T23:59:59Z")},
		{ReasonTime, mapped, plain(`{"type":"a","time":1561479335,"data":1}`)},
		{ReasonData, cloud, structured(`"data":1,"data_base64":"AA=="`)},
		{ReasonData, cloud, structured(`"data_base64":"***"`)},
		{ReasonData, cloud, structured(`"data_base64":12`)},
		{ReasonData, cloud, structured(`"datacontenttype":"text/plain","data":{}`)},
		{ReasonData, mapped, plain(`{"type":"a"}`)},
	}
	covered := map[Reason]bool{}
	for i, c := range tests {
		ev, inv := reader(t, c.cfg).Read(c.rec)
		if inv == nil {
			t.Errorf("case %d (%s): read as %+v", i, c.reason, ev)
			continue
		}
		if inv.Reason != c.reason || inv.Detail == "" || len(inv.Detail) > 200 {
			t.Errorf("case %d: got %v, want %s", i, inv, c.reason)
		}
		covered[inv.Reason] = true
	}
	for _, r := range Reasons() {
		if !covered[r] {
			t.Errorf("no case for reason %s", r)
		}
	}
	if len(covered) != len(Reasons()) {
		t.Errorf("reasons outside the closed set: %v", maps.Keys(covered))
	}
}

func extensions(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("ce_x%d: 1", i))
	}
	return out
}

func TestReadKeepsNothingOfTheHeaders(t *testing.T) {
	rec := binary("{}", "ce_subject: s")
	ev := mustRead(t, cloud, rec)
	for _, h := range rec.Headers {
		copy(h.Value, bytes.Repeat([]byte("!"), len(h.Value)))
	}
	if ev.Subject != "s" || ev.Type != "order.created" || ev.Extensions["tenant"] != "acme" {
		t.Errorf("%+v", ev)
	}
}
