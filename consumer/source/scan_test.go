package source

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func depth(b []byte) (deepest int) {
	d, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			d++
			deepest = max(deepest, d)
		case c == '}' || c == ']':
			d--
		}
	}
	return deepest
}

var texts = []string{
	`{}`, `[]`, `null`, `true`, `fals`, `-0`, `01`, `1.`, `.5`, `1e+`, `1E-7`, `-`, `"\u12g4"`, `"\x"`, "\"\t\"", `"`, `{"a":1,}`, `[1,]`, `{"a" 1}`, `{1:2}`,
	` {"a":[{"b":"c\"d"},-1.5e3,null]} `, `{"a":1}{`, "\ufeff{}", `{"\ud83d\ude00":"\ud83d"}`, `{"a":{"b":1},"a":2}`, ``, ` `,
	strings.Repeat("[", 129) + strings.Repeat("]", 129), strings.Repeat("[", 128) + strings.Repeat("]", 128),
}

// FuzzScannerAgreesWithEncodingJSON holds the scanner against the standard
// library's as an oracle, and what a path finds against its decoding.
func FuzzScannerAgreesWithEncodingJSON(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	var tree paths
	for slot, p := range []string{"/a", "/a/b", "/a/0", "/0", "/\U0001f600"} {
		tokens, err := parsePointer(p)
		if err != nil {
			f.Fatal(err)
		}
		tree.add(slot, tokens)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		plain := scanner{doc: doc}
		ok, want := plain.run(nil), json.Valid(doc)
		if ok != want && (!want || plain.reason != ReasonDepth || depth(doc) <= maxDepth) {
			t.Fatalf("%q: scanner %v (%s), encoding/json %v", doc, ok, plain.detail, want)
		}
		s := scanner{doc: doc}
		if found := s.run(&tree.root); found && !ok || !found && ok && s.reason != ReasonDuplicate {
			t.Fatalf("%q: with paths %v (%s), without %v", doc, found, s.detail, ok)
		} else if !found || !utf8.Valid(doc) {
			return
		}
		var object map[string]any
		if json.Unmarshal(doc, &object) != nil || object == nil {
			return
		}
		a, has := object["a"]
		if has != s.slots[0].found() {
			t.Fatalf("%q: /a found %v", doc, s.slots[0])
		}
		if !has {
			return
		}
		raw := s.slots[0].of(doc)
		var got any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatalf("%q: /a is %q: %v", doc, raw, err)
		}
		if text, isString := a.(string); isString {
			mine, inv := scalar("a", raw)
			if inv == nil && mine != text {
				t.Fatalf("%q: /a decodes to %q, want %q", doc, mine, text)
			}
			if inv != nil && !strings.ContainsRune(text, utf8.RuneError) {
				t.Fatalf("%q: /a refused: %v", doc, inv)
			}
		}
	})
}

// FuzzReadNeverPanicsAndNeverLetsABadEventThrough feeds one record to a reader
// of each format and checks what every event has to hold.
func FuzzReadNeverPanicsAndNeverLetsABadEventThrough(f *testing.F) {
	f.Add([]byte(`{"type":"t","org":["a"],"data":{}}`), "order.created", "acme", "application/json", "2026-01-02T15:04:05Z")
	f.Add([]byte(`{"specversion":"1.0","type":"t","tenant":"a","data_base64":"AA=="}`), "t", "a", "application/cloudevents+json", "")
	f.Add([]byte(`{"specversion":"1.0","type":"t","tenant":"a","datacontenttype":"text/plain","data":"x"}`), "t", "a", "Application/CloudEvents+JSON; charset=utf-8", "")
	f.Add([]byte("\x00"), "t\x00", "a", "text/plain", "x")
	readers := []*Reader{
		reader(f, cloud),
		reader(f, Config{Format: FormatCloudEvents, Mapping: Mapping{Tenant: Field{Pointer: "/org/0"}}}),
		reader(f, Config{Format: FormatJSON, MaxBytes: 4096, Mapping: Mapping{
			Type: Field{Pointer: "/type"}, Tenant: Field{Pointer: "/org/0"}, ID: Field{Pointer: "/id"}, Time: Field{Header: "ce_time"},
			TimeForm: TimeUnix, Subject: Field{Header: "ce_tenant"}, Source: Field{Pointer: "/source"}, Data: "/data",
		}}),
	}
	f.Fuzz(func(t *testing.T, value []byte, typ, tenant, contentType, when string) {
		rec := record(string(value), "ce_specversion: 1.0", "ce_type: "+typ, "ce_tenant: "+tenant, "content-type: "+contentType, "ce_time: "+when)
		for i, r := range readers {
			ev, inv := r.Read(rec)
			if (ev == nil) == (inv == nil) {
				t.Fatalf("reader %d: %v and %v", i, ev, inv)
			}
			if inv != nil {
				k, v, hs := InvalidRecord(rec, inv)
				if size(k, v, hs) > 200<<10 || len(inv.Detail) > 200 || !utf8.ValidString(inv.Detail) {
					t.Fatalf("reader %d: %v", i, inv)
				}
				continue
			}
			if ev.ID == "" || ev.Type == "" || ev.Tenant == "" || ev.Source == "" || len(ev.Data) == 0 || ev.Time.IsZero() {
				t.Fatalf("reader %d: incomplete: %+v", i, ev)
			}
			for _, s := range []string{ev.ID, ev.Type, ev.Tenant, ev.Source, ev.Subject, ev.ContentType} {
				if why := checkText(s, maxSource); why != "" {
					t.Fatalf("reader %d: attribute %q %s", i, s, why)
				}
			}
			if _, isJSON, why := mediaType(ev.ContentType); why != "" || isJSON && (!json.Valid(ev.Data) || !utf8.Valid(ev.Data)) {
				t.Fatalf("reader %d: content type %q (%s) of %q", i, ev.ContentType, why, ev.Data)
			}
			if _, err := ev.Time.MarshalText(); err != nil {
				t.Fatalf("reader %d: %v", i, err)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data := `{"id":250,"items":[` + strings.Repeat(`{"sku":"A-17","qty":2,"price":12.50,"name":"a thing"},`, 17) + `{}],"org":{"id":"acme"}}`
	for name, c := range map[string]struct {
		cfg Config
		rec *Record
	}{
		"binary":     {cloud, binary(data, "content-type: application/json", "ce_time: 2026-01-02T15:04:05Z", "ce_traceparent: "+traceA)},
		"structured": {cloud, structured(`"datacontenttype":"application/json","time":"2026-01-02T15:04:05Z","traceparent":"` + traceA + `","data":` + data)},
		"json": {Config{Format: FormatJSON, Mapping: Mapping{ID: Field{Pointer: "/id"}, Type: Field{Header: "type"}, Tenant: Field{Pointer: "/org/id"}}},
			record(data, "type: order.created")},
	} {
		b.Run(name, func(b *testing.B) {
			r := reader(b, c.cfg)
			b.ReportAllocs()
			b.SetBytes(int64(len(c.rec.Value)))
			for b.Loop() {
				if _, inv := r.Read(c.rec); inv != nil {
					b.Fatal(inv)
				}
			}
		})
	}
}
