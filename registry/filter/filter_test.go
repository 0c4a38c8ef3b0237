package filter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

func order() *webhook.Event {
	return &webhook.Event{
		ID: "ord-1", Source: "shop", Type: "order.created", Tenant: "acme", Subject: "orders/1",
		Time: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), Extensions: map[string]string{"region": "eu"},
		Data: []byte(`{"total":120.5,"count":3,"vip":true,"note":null,"name":"Ann","items":[{"sku":"a","n":1},{"sku":"b","n":5}],"big":9007199254740993}`),
	}
}

func TestWhatAnExpressionDecides(t *testing.T) {
	for _, tt := range []struct {
		expression string
		want       bool
		trouble    Trouble
	}{
		{`type == "order.created"`, true, ""},
		{`type.startsWith("order.") && source == "shop" && id == "ord-1" && tenant == "acme" && subject == "orders/1"`, true, ""},
		{`time > timestamp("2026-01-01T00:00:00Z") && time.getFullYear() == 2026`, true, ""},
		{`extension.region == "eu"`, true, ""},
		{`extension["region"] in ["us", "apac"]`, false, ""},
		{`data.total > 100`, true, ""},
		{`data.total > 100.0 && data.count == 3`, true, ""},
		{`100 < data.total`, true, ""},
		{`data.vip`, true, ""},
		{`!data.vip`, false, ""},
		{`data.name.matches("^A.*n$")`, true, ""},
		{`data.items.exists(i, i.sku == "b" && i.n > 4)`, true, ""},
		{`data.items.all(i, i.n > 4)`, false, ""},
		{`data.items[1].sku == "b"`, true, ""},
		{`size(data.items) == 2`, true, ""},
		{`data.note == null`, true, ""},
		{`true`, true, ""},
		// What isn't there means no, without has().
		{`data.nosuch == 1`, false, ""},
		{`data.nosuch.deeper > 1`, false, ""},
		{`data.name.first == "A"`, false, ""},
		{`data.note.x == 1`, false, ""},
		{`data.items[7].sku == "a"`, false, ""},
		{`extension.nosuch == "x"`, false, ""},
		{`has(data.nosuch)`, false, ""},
		{`!has(data.nosuch)`, true, ""},
		{`has(data.nosuch) && data.nosuch > 1 || data.count == 3`, true, ""},
		{`data.nosuch == 1 || data.count == 3`, true, ""}, // CEL's || needs one of them
		// Everything else that goes wrong.
		{`data.name > 5`, false, TroubleError},
		{`int(data.count) / 0 == 1`, false, TroubleError},
		{`timestamp(data.name) > time`, false, TroubleError},
		{`data.items.sku == "a"`, false, TroubleError}, // a list has no fields
		{`data.name`, false, TroubleNotBool},
		{`data.count`, false, TroubleNotBool},
	} {
		var e Event
		e.Reset(order())
		if err := Compile(tt.expression); err != nil {
			t.Errorf("%s: %v", tt.expression, err)
			continue
		}
		if got, trouble := New(tt.expression).Wants(&e); got != tt.want || trouble != tt.trouble {
			t.Errorf("%s: %v %q, want %v %q", tt.expression, got, trouble, tt.want, tt.trouble)
		}
	}
}

func TestDataThatIsNoJSONIsTroubleOnlyForWhoAsksForIt(t *testing.T) {
	e := new(Event)
	binary := order()
	binary.Data = []byte("\x00\x01")
	e.Reset(binary)
	if got, trouble := New(`type == "order.created"`).Wants(e); !got || trouble != "" || e.parsed {
		t.Errorf("%v %q, parsed %v", got, trouble, e.parsed)
	}
	if got, trouble := New(`data.total > 1.0`).Wants(e); got || trouble != TroubleData {
		t.Errorf("%v %q", got, trouble)
	}
	for _, data := range []string{"", " ", "null", `"text"`, "7"} {
		plain := order()
		plain.Data = []byte(data)
		e.Reset(plain)
		if got, trouble := New(`data.total > 1.0`).Wants(e); got || trouble != "" {
			t.Errorf("%q: %v %q", data, got, trouble)
		}
	}
}

func TestDataIsParsedOnceForAllExpressions(t *testing.T) {
	var e Event
	e.Reset(order())
	first, _ := e.payload()
	if got, _ := New(`data.vip`).Wants(&e); !got {
		t.Fatal("not wanted")
	}
	first.(map[string]any)["vip"] = false
	if got, _ := New(`data.vip`).Wants(&e); got {
		t.Error("it was parsed again")
	}
	e.Reset(order())
	if got, _ := New(`data.vip`).Wants(&e); !got {
		t.Error("the next event has the data of the one before")
	}
}

func TestABadExpressionIsRefusedWithItsPosition(t *testing.T) {
	for _, tt := range []struct {
		expression   string
		line, column int
		says         string
	}{
		{`type ==`, 1, 8, "Syntax error"},
		{"type == \"a\" &&\n  nosuch > 1", 2, 3, "undeclared reference"},
		{`type > 5`, 1, 6, "no matching overload"},
		{`type`, 1, 1, "true or false"},
		{`size(data.items)`, 1, 1, "true or false"},
		{``, 1, 1, ""},
		{strings.Repeat("(", 100) + "true" + strings.Repeat(")", 100), 0, 0, ""},
		{`"` + strings.Repeat("a", MaxExpression) + `" == type`, 0, 0, ""},
		{`data.items.all(i, data.items.all(j, data.items.all(k, i == j && j == k)))`, 0, 0, "cost too much"},
	} {
		err := Compile(tt.expression)
		e, is := errors.AsType[*Error](err)
		if !is || (tt.line > 0 && (e.Line != tt.line || e.Column != tt.column)) || !strings.Contains(e.Problem, tt.says) {
			t.Errorf("%.60s: %v, want %d:%d %s", tt.expression, err, tt.line, tt.column, tt.says)
		}
	}
}

func TestAnEvaluationThatCostsTooMuchEnds(t *testing.T) {
	big := order()
	big.Data = []byte(`{"items":[` + strings.TrimSuffix(strings.Repeat(`{"n":1},`, 50_000), ",") + `]}`)
	var e Event
	e.Reset(big)
	p := New(`data.items.all(i, i.n == 1.0)`)
	if err := Compile(p.Source()); err != nil {
		t.Fatal(err)
	}
	if got, trouble := p.Wants(&e); got || trouble != TroubleCost {
		t.Errorf("%v %q", got, trouble)
	}
}

func TestAnExpressionThatDoesNotCompileWantsNothing(t *testing.T) {
	var e Event
	e.Reset(order())
	if got, trouble := New(`nosuch`).Wants(&e); got || trouble != TroubleInvalid {
		t.Errorf("%v %q", got, trouble)
	}
}

func FuzzAnExpressionNeverPanicsAndEnds(f *testing.F) {
	for _, s := range []string{`data.total > 100`, `type ==`, `data.items.exists(i, i.n > 1)`, `[1,2].map(x, x*2)`, `"a".matches(data.name)`} {
		f.Add(s, `{"total":1,"name":"(a*)*$","items":[1,"x",null]}`)
	}
	f.Fuzz(func(t *testing.T, expression, data string) {
		event := order()
		event.Data = []byte(data)
		var e Event
		e.Reset(event)
		err := Compile(expression)
		if got, trouble := New(expression).Wants(&e); err != nil && (got || trouble != TroubleInvalid) {
			t.Errorf("%q doesn't compile, and came to %v %q", expression, got, trouble)
		}
	})
}

func BenchmarkWants(b *testing.B) {
	p := New(`data.total > 100.0 && extension.region == "eu"`)
	event := order()
	var e Event
	b.ReportAllocs()
	for b.Loop() {
		e.Reset(event)
		if ok, _ := p.Wants(&e); !ok {
			b.Fatal()
		}
	}
}
