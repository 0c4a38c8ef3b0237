package contract

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

// order is one event that every contract can deliver.
func order() *webhook.Event {
	return &webhook.Event{
		ID: "e-1", Source: "/orders", Type: "order.created", Tenant: "t1", Subject: "250",
		Time:        time.Date(2019, 6, 24, 14, 35, 35, 120_999_999, time.FixedZone("", 7200)),
		ContentType: "application/json",
		Data:        []byte(`{"type": "order",  "id":250}`),
		Extensions:  map[string]string{"storeid": "1234567"},
	}
}

func builtinContract(t testing.TB, name string) *Contract {
	t.Helper()
	c, ok := Builtin().Get(name)
	if !ok {
		t.Fatalf("no builtin contract %q among %v", name, Builtin().Names())
	}
	return c
}

func mustLoad(t testing.TB, text string) *Contract {
	t.Helper()
	c, err := Load("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Digests of canonical JSON, computed with sha1sum.
const (
	orderDigest  = "c69c140bfaa433e7ca25ff53f7feddf43f4bccbb"
	tenantDigest = "76e1945c4f792ac74815009dce0a7d1ae5208716"
)

// withBody is a contract with that body section.
func withBody(body string) string {
	return "body: " + body + `
signature: {scheme: standard}
secret: {format: standard, rotation_overlap: 0s}
timeout: 1s
retry: {}
`
}

func TestBodyByteForByte(t *testing.T) {
	cloudEvents := withBody("{form: cloudevents}")
	for _, tt := range []struct {
		name, yaml  string // a builtin's name, or "" and a file
		change      func(*webhook.Event)
		body, media string
	}{
		{name: "standard", body: `{"type": "order",  "id":250}`, media: "application/json"},
		{name: "standard", change: func(e *webhook.Event) { e.ContentType, e.Data = "text/csv", []byte("a,b\n") },
			body: "a,b\n", media: "text/csv"},
		{name: "standard", change: func(e *webhook.Event) { e.ContentType = "" },
			body: `{"type": "order",  "id":250}`, media: "application/json"},
		{name: "bunship", body: `{"type":"order.created","timestamp":"2019-06-24T12:35:35.120Z","data":{"type": "order",  "id":250}}`, media: "application/json"},
		{name: "bunship", change: func(e *webhook.Event) { e.Data = nil },
			body: `{"type":"order.created","timestamp":"2019-06-24T12:35:35.120Z","data":null}`, media: "application/json"},
		{name: "bunship", change: func(e *webhook.Event) {
			e.Type, e.Time, e.Timestamp = "a\"b\\ü\u2028", time.Time{}, time.UnixMilli(1561379735007)
		}, body: "{\"type\":\"a\\\"b\\\\ü\u2028\",\"timestamp\":\"2019-06-24T12:35:35.007Z\",\"data\":{\"type\": \"order\",  \"id\":250}}", media: "application/json"},
		{name: "bunjang", body: `{"eventId":"e-1","eventType":"order.created","payloadVersion":"v1","data":{"type": "order",  "id":250}}`, media: "application/json"},
		{name: "bunjang", change: func(e *webhook.Event) { e.Extensions["payloadversion"] = "v2" },
			body: `{"eventId":"e-1","eventType":"order.created","payloadVersion":"v2","data":{"type": "order",  "id":250}}`, media: "application/json"},
		// The digest is that of `{"data":{"id":250,"type":"order"},"producer":"stores/t1","scope":"order.created","store_id":"1234567"}` by sha1sum.
		{name: "bigcommerce", body: `{"scope":"order.created","store_id":"1234567","data":{"type": "order",  "id":250},"hash":"` + orderDigest + `","created_at":1561379735,"producer":"stores/t1"}`, media: "application/json"},
		// Without the extension the tenant is the store.
		{name: "bigcommerce", change: func(e *webhook.Event) { e.Extensions = nil },
			body: `{"scope":"order.created","store_id":"t1","data":{"type": "order",  "id":250},"hash":"` + tenantDigest + `","created_at":1561379735,"producer":"stores/t1"}`, media: "application/json"},
		{yaml: cloudEvents, body: `{"specversion":"1.0","id":"e-1","source":"/orders","type":"order.created","subject":"250","time":"2019-06-24T12:35:35.120999999Z","datacontenttype":"application/json","storeid":"1234567","data":{"type": "order",  "id":250}}`, media: "application/cloudevents+json"},
		{yaml: cloudEvents, change: func(e *webhook.Event) {
			e.Subject, e.ContentType, e.Data = "", "text/plain", []byte("42")
			e.Extensions = map[string]string{"zone": "b", "alpha": "a", "data": "not twice"}
		}, body: `{"specversion":"1.0","id":"e-1","source":"/orders","type":"order.created","time":"2019-06-24T12:35:35.120999999Z","datacontenttype":"text/plain","alpha":"a","zone":"b","data_base64":"NDI="}`, media: "application/cloudevents+json"},
		{yaml: cloudEvents, change: func(e *webhook.Event) { e.Extensions, e.Data = nil, nil },
			body: `{"specversion":"1.0","id":"e-1","source":"/orders","type":"order.created","subject":"250","time":"2019-06-24T12:35:35.120999999Z","datacontenttype":"application/json"}`, media: "application/cloudevents+json"},
	} {
		var c *Contract
		if tt.name != "" {
			c = builtinContract(t, tt.name)
		} else {
			c = mustLoad(t, tt.yaml)
		}
		e := order()
		if tt.change != nil {
			tt.change(e)
		}
		for range 2 { // the same event, the same bytes
			body, media, err := c.Body(e)
			if err != nil || string(body) != tt.body || media != tt.media {
				t.Errorf("%s:\n got %s (%s), %v\nwant %s (%s)", c.Name(), body, media, err, tt.body, tt.media)
			}
		}
	}
}

func TestFieldsOfEveryKind(t *testing.T) {
	c := mustLoad(t, withBody(`
  form: object
  fields:
    - {name: "a\"b", const: "x\n"}
    - {name: n, const: 0x10}
    - {name: yes, const: true}
    - {name: gone, from: extension.gone, optional: true}
    - {name: alt, from: [extension.gone, subject, id]}
    - {name: text, template: "{{{tenant}}}/{extension.storeid}"}
    - {name: opt, template: "x{extension.gone}", optional: true}
    - {name: h, sha1: [gone, n]}
    - {name: data, from: data, optional: true}`))
	e := order()
	e.Data = nil
	body, _, err := c.Body(e)
	// The digest is that of {"n":16}, by sha1sum.
	want := `{"a\"b":"x\n","n":16,"yes":true,"alt":"250","text":"{t1}/1234567","h":"031a02513e4ed28dfca353f03045caa72901fa51"}`
	if err != nil || string(body) != want {
		t.Errorf("got  %s, %v\nwant %s", body, err, want)
	}
}

func TestDigestIgnoresWhatIsNotTheChange(t *testing.T) {
	c := builtinContract(t, "bigcommerce")
	digest := func(change func(*webhook.Event)) string {
		e := order()
		change(e)
		body, _, err := c.Body(e)
		var v struct{ Hash string }
		if err := errors.Join(err, json.Unmarshal(body, &v)); err != nil {
			t.Fatal(err)
		}
		return v.Hash
	}
	same := digest(func(*webhook.Event) {})
	for name, change := range map[string]func(*webhook.Event){
		"time":             func(e *webhook.Event) { e.Time = e.Time.Add(time.Hour) },
		"event ID":         func(e *webhook.Event) { e.ID = "e-2" },
		"space and order":  func(e *webhook.Event) { e.Data = []byte(" { \"id\":250,\n\"type\":\"order\"} ") },
		"escapes":          func(e *webhook.Event) { e.Data = []byte(`{"type":"\u006frder","id":250}`) },
		"member repeated":  func(e *webhook.Event) { e.Data = []byte(`{"id":1,"type":"order","id":250}`) },
		"foreign property": func(e *webhook.Event) { e.Subject = "other" },
	} {
		if got := digest(change); got != same {
			t.Errorf("%s changes the digest", name)
		}
	}
	for name, change := range map[string]func(*webhook.Event){
		"data":                func(e *webhook.Event) { e.Data = []byte(`{"type":"order","id":251}`) },
		"tenant":              func(e *webhook.Event) { e.Tenant = "t2" },
		"type":                func(e *webhook.Event) { e.Type = "order.updated" },
		"number beyond 2^53":  func(e *webhook.Event) { e.Data = []byte(`{"id":9007199254740993}`) },
		"its neighbour":       func(e *webhook.Event) { e.Data = []byte(`{"id":9007199254740992}`) },
		"number against text": func(e *webhook.Event) { e.Data = []byte(`{"type":"order","id":"250"}`) },
	} {
		if got := digest(change); got == same {
			t.Errorf("%s doesn't change the digest", name)
		}
	}
	if digest(func(e *webhook.Event) { e.Data = []byte(`9007199254740993`) }) == digest(func(e *webhook.Event) { e.Data = []byte(`9007199254740992`) }) {
		t.Error("two IDs beyond 2^53 have the same digest")
	}
}

// TestCanonicalFormIsRFC8785 takes the property order example of RFC 8785
// section 3.2.3 and the string example of section 3.2.2.
func TestCanonicalFormIsRFC8785(t *testing.T) {
	for in, want := range map[string]string{
		`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`: "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u0080\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\ufb33\":\"Hebrew Letter Dalet With Dagesh\"}",
		`"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"`: "\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"",
		` [ 1.50 , -0, 1e5, true,false , null, [] ,{} ] `: `[1.50,-0,1e5,true,false,null,[],{}]`,
	} {
		got, err := appendCanonical(nil, []byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s:\n got %s, %v\nwant %s", in, got, err, want)
		}
	}
}

func TestAnEventThatCannotBeDeliveredSaysWhy(t *testing.T) {
	for _, tt := range []struct {
		contract string
		change   func(*webhook.Event)
		want     string
	}{
		{"bunship", func(e *webhook.Event) { e.Data = []byte("a,b") }, `field "data": the event's data (3 bytes`},
		{"bunship", func(e *webhook.Event) { e.Data = []byte("{} {}") }, "not a JSON value"},
		{"bunship", func(e *webhook.Event) { e.Data = []byte("\"\xff\"") }, "in UTF-8"},
		{"bunship", func(e *webhook.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "year"},
		{"bunship", func(e *webhook.Event) { e.Time = time.Time{} }, "time is missing"},
		{"bunship", func(e *webhook.Event) { e.Type = "a\r\nX-Evil: 1" }, "header X-Webhook-Event"},
		{"bigcommerce", func(e *webhook.Event) { e.Tenant = "" }, `field "producer": the event has no tenant`},
		{"standard", func(e *webhook.Event) { e.ContentType = "a\nb" }, "header Content-Type"},
	} {
		e := order()
		tt.change(e)
		body, _, err := builtinContract(t, tt.contract).Body(e)
		var eventErr *EventError
		if body != nil || !errors.As(err, &eventErr) || eventErr.Contract != tt.contract || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %s, %v; want an *EventError with %q", tt.contract, body, err, tt.want)
		}
	}
	e := order()
	e.Source = ""
	if _, _, err := mustLoad(t, withBody("{form: cloudevents}")).Body(e); err == nil || !strings.Contains(err.Error(), "needs an id, a source and a type") {
		t.Errorf("cloudevents without a source: %v", err)
	}
}

func FuzzBodyIsJSON(f *testing.F) {
	e := order()
	f.Add(e.Type, e.Tenant, e.Subject, e.ContentType, "storeid", "7", e.Data, e.Time.UnixNano())
	f.Add("\xff\"\\\u2028", "\x00", "é", "text/plain", "data", "\xc0", []byte("\"\xff\""), int64(-1))
	f.Add("t", "t", "", "", "", "", []byte(`{"a":[{"b":"\ud800"},1e400]}`), int64(1<<62))
	contracts := []*Contract{mustLoad(f, withBody("{form: cloudevents}"))}
	for _, name := range []string{"bunship", "bunjang", "bigcommerce"} {
		contracts = append(contracts, builtinContract(f, name))
	}
	f.Fuzz(func(t *testing.T, kind, tenant, subject, media, extension, value string, data []byte, nanos int64) {
		e := &webhook.Event{ID: subject + "x", Source: "/s", Type: kind, Tenant: tenant, Subject: subject,
			ContentType: media, Data: data, Time: time.Unix(0, nanos), Extensions: map[string]string{extension: value}}
		for _, c := range contracts {
			body, _, err := c.Body(e)
			if err != nil {
				continue
			}
			if !validJSON(body) {
				t.Fatalf("%s: not JSON: %q", c.Name(), body)
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(body, &members); err != nil {
				t.Fatalf("%s: %v", c.Name(), err)
			}
			if raw, ok := members["data"]; ok && len(data) > 0 && !bytes.Equal(bytes.TrimSpace(data), raw) {
				t.Fatalf("%s: data %q became %q", c.Name(), data, raw)
			}
			if encoded, ok := members["data_base64"]; ok {
				var text string
				_ = json.Unmarshal(encoded, &text)
				if got, err := base64.StdEncoding.DecodeString(text); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%s: data %q became %q", c.Name(), data, got)
				}
			}
		}
	})
}

func FuzzCanonicalFormKeepsTheValue(f *testing.F) {
	f.Add([]byte(`{"b":1,"a":[true,null,"\u00e9\/"]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if !validJSON(in) {
			t.Skip()
		}
		once, err := appendCanonical(nil, in)
		if err != nil || !validJSON(once) {
			t.Fatalf("%q became %q, %v", in, once, err)
		}
		if twice, err := appendCanonical(nil, once); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("canonical form %q has the canonical form %q, %v", once, twice, err)
		}
		var a, b any
		if errors.Join(decodeExact(in, &a), decodeExact(once, &b)) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q means other than %q", in, once)
		}
	})
}

func decodeExact(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}

func TestEmbeddedDataNestsNoDeeperThanTheSourcesAllow(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(strings.Repeat(`[`, n-1) + `{"a":"[[{{\"[[\\"}` + strings.Repeat(`]`, n-1))
	}
	for _, name := range []string{"bunship", "bunjang", "bigcommerce"} {
		e := order()
		e.ContentType = "text/plain" // which no source looks into
		e.Data = nested(128)
		if _, _, err := builtinContract(t, name).Body(e); err != nil {
			t.Errorf("%s: 128 levels: %v", name, err)
		}
		e.Data = nested(129)
		var at *EventError
		if _, _, err := builtinContract(t, name).Body(e); !errors.As(err, &at) || !strings.Contains(at.Detail, "deeper than 128") {
			t.Errorf("%s: 129 levels: %v", name, err)
		}
	}
	e := order()
	e.Data = []byte("[" + strings.Repeat("[],{},", 1000) + `""]`)
	if _, _, err := builtinContract(t, "bunship").Body(e); err != nil {
		t.Errorf("1000 lists side by side: %v", err)
	}
}
