package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hostile are characters that steer a terminal, and a byte that does in 8-bit
// terminals.
const hostile = "a\x1bb\x7fc\u0080d\u009be\u009ff\u061cg\u200eh\u200fi\u2028j\u202ak\u202el\u2066m\u2069n"

func steering(s string) (found []rune) {
	for _, r := range s {
		if r != '\n' && r != '\t' && steersTerminal(r) {
			found = append(found, r)
		}
	}
	return found
}

func TestNothingThatIsShownSteersATerminal(t *testing.T) {
	if got := printable(hostile + "\x9b"); len(steering(got)) > 0 || strings.Contains(got, "\x9b") {
		t.Errorf("text: %q", got)
	}
	if got := printable("ü €\t😀\n"); got != "ü €\t😀\n" {
		t.Errorf("text that is harmless: %q", got)
	}
	quoted, err := json.Marshal(map[string]string{"description": hostile, "plain": "ü € 😀"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeJSON(&out, json.RawMessage(quoted)); err != nil {
		t.Fatal(err)
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["description"] != hostile {
		t.Errorf("it is another document: %q, %v", back["description"], err)
	}
	if len(steering(out.String())) > 0 || !strings.Contains(out.String(), "ü € 😀") {
		t.Errorf("JSON: %q", out.String())
	}
	out.Reset()
	if err := writeJSON(&out, json.RawMessage("\"\x9b2J\"")); err != nil || strings.Contains(out.String(), "\x9b") {
		t.Errorf("a byte that is no UTF-8: %q, %v", out.String(), err)
	}
	out.Reset()
	p := &printer{out: &out, json: true}
	p.received(&Received{Type: hostile, Path: "/" + hostile, Body: []byte(hostile + "\x9b"), Header: http.Header{"X": {hostile}}})
	if len(steering(out.String())) > 0 || !json.Valid(out.Bytes()) {
		t.Errorf("a line of listen: %q", out.String())
	}
}

func TestTheAPIsAnswersLeadNowhereElse(t *testing.T) {
	elsewhere := make(chan string, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere <- r.Method + " " + r.RequestURI }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		}))
		a, err := NewAPI(srv.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		secret := "whsec_mine"
		err = Endpoints{API: a, Tenant: "t", Out: &bytes.Buffer{}}.Create(t.Context(), EndpointChange{Secret: &secret})
		if err == nil || !strings.Contains(err.Error(), http.StatusText(status)) {
			t.Errorf("%d: %v", status, err)
		}
		a.client.CloseIdleConnections()
		srv.Close()
	}
	select {
	case got := <-elsewhere:
		t.Errorf("the request went to another address: %s", got)
	default:
	}
	// Go never uses the environment's proxy for loopback, so a request can't
	// show it.
	a, err := NewAPI("http://posthorn.example", "")
	if err != nil {
		t.Fatal(err)
	}
	transport, ok := a.client.Transport.(*http.Transport)
	if !ok || transport.Proxy != nil {
		t.Error("requests would go through a proxy of the environment")
	}
}
