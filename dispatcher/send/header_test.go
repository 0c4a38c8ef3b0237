package send

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTheContractsHeadersBeatCustomOnesInAnySpelling(t *testing.T) {
	h := http.Header{"Content-Type": {"application/json"}, "Webhook-Id": {"msg_1"}, "User-Agent": {"BunShip-Webhooks/1.0"}}
	err := AddCustom(h, map[string]string{
		"Webhook-Id": "forged", "WEBHOOK-ID": "forged", "content-type": "text/html", "user-agent": "forged",
		"Authorization": "Bearer token", "x-tenant": "42",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "Webhook-Id": {"msg_1"}, "User-Agent": {"BunShip-Webhooks/1.0"},
		"Authorization": {"Bearer token"}, "X-Tenant": {"42"},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got %v\nwant %v", h, want)
	}
}

func TestCustomHeadersThatSteerTheConnectionAreRefused(t *testing.T) {
	for _, name := range []string{
		"Host", "host", "HOST", "Content-Length", "content-length", "Transfer-Encoding", "Content-Encoding", "Connection", "Keep-Alive",
		"TE", "te", "Trailer", "Upgrade", "Expect", "Proxy-Connection", "Proxy-Authorization", "HTTP2-Settings",
		"Idempotency-Key", "idempotency-key", "X-Idempotency-Key", "x-idempotency-KEY", ":authority", "Content-Type",
	} {
		custom := map[string]string{name: "1"}
		if CheckHeaders(custom) == nil {
			t.Errorf("%s passed at registration", name)
		}
		var refused *RequestError
		if err := AddCustom(http.Header{}, custom); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fine := map[string]string{}
	for _, name := range []string{"Authorization", "X-Api-Key", "X-Request-Id", "Accept", "Cookie"} {
		fine[name] = "some value\twith tab, \u00fc"
	}
	if err := CheckHeaders(fine); err != nil {
		t.Error(err)
	}
	if err := CheckHeaders(map[string]string{"X-A": "1", "x-a": "2"}); err == nil {
		t.Error("one header in two spellings passed")
	}
}

func TestTheKeptResponseIs500WholeCharactersOfValidUTF8(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"short":        {"hello\n\tworld", "hello\n\tworld"},
		"empty":        {"", ""},
		"ascii":        {strings.Repeat("x", 2000), strings.Repeat("x", 500)},
		"two bytes":    {strings.Repeat("ü", 1000), strings.Repeat("ü", 500)},
		"four bytes":   {strings.Repeat("😀", 500), strings.Repeat("😀", 500)},
		"nul":          {"a\x00b", "a\uFFFDb"},
		"invalid":      {"a\xffb\xc3(", "a\uFFFDb\uFFFD("},
		"cut at end":   {"abc\xf0\x9f\x98", "abc"},
		"only invalid": {strings.Repeat("\xff", 2000), strings.Repeat("\uFFFD", 500)},
		"surrogate":    {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
	} {
		if got := clean([]byte(tc.in), 500); got != tc.want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func FuzzTheKeptResponse(f *testing.F) {
	f.Add([]byte("a\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := clean(b[:min(len(b), keepBytes)], maxResponseChars)
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) || utf8.RuneCountInString(s) > 500 {
			t.Errorf("%q", s)
		}
	})
}
