package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"posthorn/webhook"
)

func FuzzCreateBodyNeverFailsInside(f *testing.F) {
	for _, seed := range []string{
		plainBody, `{}`, `[]`, `null`, ``, `{"url":1e999}`, `{"url":"https://a.b","headers":{"a.b":null}}`,
		`{"url":"https://a.b","events":[null],"contract":"plain","secret":"plain_x","max_in_flight":1.0,"rate_limit":0.5}`,
		`{"url":"\ud800","url":"https://a.b"}`, `{"URL":"https://a.b"}`, `{"url":{"url":{}}}`, "\xff", `{"headers":{"":""},"url":"://"}`,
		strings.Repeat(`[`, 20000),
	} {
		f.Add("application/json", "", seed)
		f.Add("", "key", seed)
	}
	f.Add("a+b;c", "\x7f", plainBody)
	store := newMemory()
	h, err := New(config(store, &contracts{}, &sealer{}, io.Discard))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, mediaType, key, body string) {
		*store = memory{endpoints: map[string]*webhook.Endpoint{}}
		send := func(method, path string) *httptest.ResponseRecorder {
			r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
			r.Header.Set("Content-Type", mediaType)
			if method == http.MethodPost {
				r.Header.Set("Idempotency-Key", key)
			} else {
				r.Header.Set("If-Match", key)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("%s: status %d: %s", method, w.Code, w.Body)
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%s: status %d with a body that is no JSON: %q", method, w.Code, w.Body)
			}
			if w.Code >= 400 && w.Header().Get("Content-Type") != problemType {
				t.Fatalf("%s: status %d is not a Problem: %q", method, w.Code, w.Body)
			}
			return w
		}
		made := send(http.MethodPost, acme)
		if (made.Code == http.StatusCreated) != (len(store.endpoints) == 1) {
			t.Fatalf("status %d, but %d endpoints", made.Code, len(store.endpoints))
		}
		if made.Code == http.StatusCreated && key != "" && send(http.MethodPost, acme).Code != http.StatusOK {
			t.Fatal("a repeat is not recognised")
		}
		// The same bytes as a patch.
		send(http.MethodPatch, acme+"/ep_00001")
	})
}
