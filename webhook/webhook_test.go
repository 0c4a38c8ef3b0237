package webhook

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func full() *Delivery {
	at := time.UnixMilli(1_700_000_000_123)
	return &Delivery{
		ID: DeliveryID("shop", "e1", "ep_1"), Run: 1_700_000_000_000, N: 2, Step: 1, Deferrals: 3, Origin: OriginMatch,
		EventID: "e1", EventSource: "shop", EventType: "order.created", Tenant: "acme", EndpointID: "ep_1",
		Contract: "standard", ContentType: "application/json",
		NotBefore: at.Add(time.Minute), BegunAt: at, MatchedAt: at.Add(time.Second),
		BodyID: BodyID([]byte("{}")), Source: Position{"orders", 3, 77}, Registry: RegistryVersion{[16]byte{1, 2}, 9},
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Tracestate: "a=b", Body: []byte("{}"),
	}
}

func TestADeliverySurvivesItsRecord(t *testing.T) {
	test := *full()
	test.Source = Position{}
	test.NotBefore = time.Time{}
	for _, d := range []*Delivery{full(), &test} {
		got, err := DecodeDelivery([]byte(d.EndpointID), d.Body, d.AppendHeaders(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, d) {
			t.Errorf("got  %+v\nwant %+v", got, d)
		}
	}
}

func TestADeliveryIsNeverDueEarlierForBeingWritten(t *testing.T) {
	d := full()
	d.NotBefore = d.BegunAt.Add(time.Microsecond)
	got, err := DecodeDelivery([]byte("ep_1"), nil, d.AppendHeaders(nil))
	if err != nil || got.NotBefore.Before(d.NotBefore) {
		t.Fatalf("due at %v, error %v; want not before %v", got.NotBefore, err, d.NotBefore)
	}
}

func TestTheIdentityOfARecordIsThatOfItsDelivery(t *testing.T) {
	d := full()
	id, ok := RecordIdentity(d.AppendHeaders(nil))
	if !ok || id != d.Identity() {
		t.Fatalf("identity %x, %v; want %x", id, ok, d.Identity())
	}
}

func TestWhateverIsPutBackOrTriedAgainIsNoRepeat(t *testing.T) {
	d := full()
	seen := map[Identity]string{}
	for name, v := range map[string]*Delivery{
		"itself": d, "deferred": d.Deferred(d.NotBefore), "retried": d.Retried(d.NotBefore),
		"deferred twice": d.Deferred(d.NotBefore).Deferred(d.NotBefore), "a later run": func() *Delivery { c := *d; c.Run++; return &c }(),
		"another endpoint": func() *Delivery { c := *d; c.ID = DeliveryID("shop", "e1", "ep_2"); return &c }(),
	} {
		if other, dup := seen[v.Identity()]; dup {
			t.Errorf("%s has the identity of %s", name, other)
		}
		seen[v.Identity()] = name
	}
}

func TestDeliveryIDsDependOnEachPartAlone(t *testing.T) {
	if a, b := DeliveryID("a", "bc", "d"), DeliveryID("ab", "c", "d"); a == b {
		t.Error("the parts run together")
	}
	if got, want := DeliveryID("shop", "e1", "ep_1"), DeliveryID("shop", "e1", "ep_1"); got != want || len(got) != 30 {
		t.Errorf("%s, %s", got, want)
	}
}

func TestASettlementSurvivesItsRecord(t *testing.T) {
	s := SettlementOf(full(), Position{"posthorn.deliveries", 1, 5}, KindAttempt, ReasonTimeout)
	s.StartedAt = time.UnixMilli(1_700_000_000_500).UTC()
	s.BegunAt, s.MatchedAt = s.BegunAt.UTC(), s.MatchedAt.UTC()
	s.NextAt = s.StartedAt.Add(time.Minute)
	s.Duration, s.Phases = 15*time.Second, Phases{1000, 2000, 3000, 4000}
	s.Status, s.Outcome, s.Detail, s.Response = 503, OutcomeRetry, "busy", "try later\u2028\u0000"
	s.AttemptID, s.TraceID = "0190", "abc"
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var got Settlement
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&got, s) {
		t.Errorf("got  %+v\nwant %+v", &got, s)
	}
}

func TestATaskSurvivesItsRecord(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	task := &Task{First: "ep_1", Last: "ep_9", Event: &Event{ID: "e", Source: "s", Type: "t", Tenant: "a", Subject: "x", Time: at,
		ContentType: "application/json", Data: []byte("1"), Extensions: map[string]string{"storeid": "7"},
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Position: Position{"o", 0, 1}, Timestamp: at}}
	got, err := DecodeTask(task.Event.Data, task.AppendHeaders(nil))
	if err != nil || !reflect.DeepEqual(got, task) {
		t.Errorf("got %+v %v", got, err)
	}
}

func FuzzDecodeDelivery(f *testing.F) {
	for _, h := range full().AppendHeaders(nil) {
		f.Add(h.Key, h.Value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		headers := full().AppendHeaders([]Header{{key, value}}) // ours come later, so the fuzzed one counts
		d, err := DecodeDelivery([]byte("ep_1"), []byte("{}"), headers)
		if err != nil {
			return
		}
		again, err := DecodeDelivery([]byte(d.EndpointID), d.Body, d.AppendHeaders(nil))
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Fatalf("not stable: %+v, %v; was %+v", again, err, d)
		}
		if id, ok := RecordIdentity(headers); !ok || id != d.Identity() {
			t.Fatalf("identity %x %v, want %x", id, ok, d.Identity())
		}
	})
}

func FuzzASettlementIsReadAlikeInOnePassAndByEncodingJSON(f *testing.F) {
	s := SettlementOf(full(), Position{"posthorn.deliveries", 1, 5}, KindAttempt, ReasonTimeout)
	s.StartedAt, s.NextAt, s.Detail = time.UnixMilli(1_700_000_000_500), time.UnixMilli(1_700_000_060_500), "busy"
	f.Add(s.AppendJSON(nil))
	s.Response = "a \"quote\", \u2028, \xff and \x00"
	f.Add(s.AppendJSON(nil))
	for _, text := range []string{`{}`, `{"v":1}`, `{"v":1,"v":2}`, `{"v":01}`, `{"v":-1}`, `{"V":1,"Kind":"park"}`, `{"v":1,"kind":null}`, `{"v":1,"n":1e2}`,
		`{"v":1,"n":4294967296}`, `{"v":1,"extra":[1,{"a":2}]}`, `{"v":1,}`, `{"v":1}}`, ` {"v":1}`, `{"v":-}`, `{"v":"1"}`, `{"kind":1}`, "{\"kind\":\"\xff\"}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var j settlementJSON
		if !j.scan(string(b)) {
			return
		}
		var want settlementJSON
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q is read in one pass, and to encoding/json it is wrong: %v", b, err)
		}
		if j != want {
			t.Fatalf("%q: got %+v, want %+v", b, j, want)
		}
	})
}

func TestWhatIsWrittenForTheLedgerIsReadInOnePass(t *testing.T) {
	for _, response := range []string{"", "try later", `{"ok":true}`, `\`, "<a\n\tb>/", "a\u2028b\xffc\x01"} {
		s := SettlementOf(full(), Position{"posthorn.deliveries", 1, 5}, KindAttempt, ReasonTimeout)
		s.StartedAt, s.BegunAt, s.MatchedAt = time.UnixMilli(1_700_000_000_500).UTC(), s.BegunAt.UTC(), s.MatchedAt.UTC()
		s.Response = response
		b := s.AppendJSON(nil)
		if !json.Valid(b) {
			t.Fatalf("not JSON: %s", b)
		}
		got, err := DecodeSettlement(b)
		s.Response = strings.ToValidUTF8(response, "\uFFFD")
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v %v\nwant %+v", got, err, s)
		}
		if !new(settlementJSON).scan(string(b)) {
			t.Errorf("%s takes the slow way", b)
		}
	}
}

func BenchmarkDeliveryHeaders(b *testing.B) {
	d := full()
	b.ReportAllocs()
	for b.Loop() {
		d.AppendHeaders(make([]Header, 0, 24))
	}
	size := 0
	for _, h := range d.AppendHeaders(nil) {
		size += len(h.Key) + len(h.Value)
	}
	b.ReportMetric(float64(size), "bytes/record")
}

func BenchmarkDecodeDelivery(b *testing.B) {
	d := full()
	key, headers := []byte(d.EndpointID), d.AppendHeaders(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeDelivery(key, d.Body, headers); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSettlement(b *testing.B) {
	s := SettlementOf(full(), Position{"posthorn.deliveries", 1, 5}, KindAttempt, ReasonOK)
	s.StartedAt, s.Response = time.UnixMilli(1_700_000_000_500), "ok"
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.AppendJSON(make([]byte, 0, 1<<10))
		}
		b.ReportMetric(float64(len(s.AppendJSON(nil))), "bytes/record")
	})
	text := s.AppendJSON(nil)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeSettlement(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
