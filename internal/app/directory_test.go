package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/contract"
	"posthorn/dispatcher/breaker"
	"posthorn/dispatcher/send"
	"posthorn/internal/config"
	"posthorn/registry"
	"posthorn/webhook"
)

// apply takes an endpoint into a store, or its tombstone if it is nil.
func apply(t *testing.T, s *registry.Store, id string, e *webhook.Endpoint) {
	t.Helper()
	var value []byte
	if e != nil {
		var err error
		if value, err = json.Marshal(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Apply([]byte(registry.Key(registry.KindEndpoint, id)), value); err != nil {
		t.Fatal(err)
	}
}

func newKeyset(t *testing.T) *registry.Keyset {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keyset.json")
	if err := registry.CreateKeysetFile(file); err != nil {
		t.Fatal(err)
	}
	k, err := registry.OpenKeyset(file)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// someDirectory is a directory of one endpoint, ep_1, with current secrets of
// the IDs sec_0, sec_1, …
func someDirectory(t *testing.T, rawURL string, secrets ...string) (*directory, *webhook.Endpoint) {
	t.Helper()
	store, keys := registry.NewStore(), newKeyset(t)
	e := &webhook.Endpoint{ID: "ep_1", Tenant: "acme", URL: rawURL, Contract: contract.Default, Version: 1, CreatedAt: time.Now()}
	for i, text := range secrets {
		sealed, err := keys.Seal(e, fmt.Sprint("sec_", i), text)
		if err != nil {
			t.Fatal(err)
		}
		e.Secrets = append(e.Secrets, sealed)
	}
	apply(t, store, e.ID, e)
	return newDirectory(nil, store, keys, contract.Builtin(), url.Parse, slog.New(slog.DiscardHandler)), e
}

// signatures returns how many signatures a delivery by a contract gets.
func signatures(t *testing.T, d *directory, name string, at time.Time) (int, error) {
	t.Helper()
	target, ok := d.Endpoint("ep_1")
	if !ok {
		t.Fatal("there is no endpoint")
	}
	h, err := d.Sign(&webhook.Delivery{ID: "dlv_1", EndpointID: "ep_1", Contract: name, EventType: "a.b", Body: []byte("{}")}, target, at)
	if err != nil {
		return 0, err
	}
	for _, value := range h {
		if strings.Contains(value[0], "v1,") || strings.Contains(value[0], ",v1=") {
			return strings.Count(value[0], "v1,") + strings.Count(value[0], ",v1="), nil // base64 may have a v1 of its own
		}
	}
	return 0, nil
}

func TestAContractOfHTTPSAloneNeverSendsByHTTP(t *testing.T) {
	for name, httpsOnly := range map[string]bool{"standard": false, "bunship": false, "bunjang": true, "bigcommerce": true} {
		secret := secretText
		if name == "bunship" || name == "bunjang" {
			secret = hexSecret
		}
		plain, _ := someDirectory(t, "http://hooks.example.com/", secret)
		switch _, err := signatures(t, plain, name, time.Now()); {
		case httpsOnly && (err == nil || !strings.Contains(err.Error(), "https only")):
			t.Errorf("%s signs for http: %v", name, err)
		case !httpsOnly && err != nil:
			t.Errorf("%s: %v", name, err)
		}
		secure, _ := someDirectory(t, "https://hooks.example.com/", secret)
		if n, err := signatures(t, secure, name, time.Now()); n != 1 || err != nil {
			t.Errorf("%s by https: %d signatures, %v", name, n, err)
		}
	}
}

func TestASecretThatDoesNotOpenKeepsNoOtherFromSigning(t *testing.T) {
	now := time.Now()
	const other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	damage := func(s *webhook.SealedSecret) { s.Sealed = []byte("damaged") }
	for _, tt := range []struct {
		name   string
		change func(secrets []webhook.SealedSecret)
		want   int
	}{
		{"all open", func([]webhook.SealedSecret) {}, 2},
		{"the first is damaged", func(s []webhook.SealedSecret) { damage(&s[0]) }, 1},
		{"the second is damaged", func(s []webhook.SealedSecret) { damage(&s[1]) }, 1},
		{"the second has expired and is damaged", func(s []webhook.SealedSecret) { damage(&s[1]); s[1].ExpiresAt = now }, 1},
		{"all are damaged", func(s []webhook.SealedSecret) { damage(&s[0]); damage(&s[1]) }, 0},
		{"the current one is damaged, the other has expired", func(s []webhook.SealedSecret) { damage(&s[0]); s[1].ExpiresAt = now }, 0},
	} {
		d, e := someDirectory(t, "https://hooks.example.com/", secretText, other)
		tt.change(e.Secrets)
		apply(t, d.store, e.ID, e)
		for range 2 { // what was opened is kept, what failed is not taken for it
			if n, err := signatures(t, d, contract.Default, now); n != tt.want || (err != nil) != (tt.want == 0) {
				t.Errorf("%s: %d signatures, want %d; %v", tt.name, n, tt.want, err)
			}
		}
	}
	d, e := someDirectory(t, "https://hooks.example.com/", secretText, other)
	e.Secrets[1].ExpiresAt = now.Add(time.Hour)
	apply(t, d.store, e.ID, e)
	// In this order: what has expired once is forgotten.
	for i, at := range []time.Duration{0, time.Hour} {
		want := 2 - i
		if n, err := signatures(t, d, contract.Default, now.Add(at)); n != want || err != nil {
			t.Errorf("after %v: %d signatures, want %d; %v", at, n, want, err)
		}
	}
}

func TestAnEndpointMadeAnewIsNotTakenForItsPredecessor(t *testing.T) {
	d, e := someDirectory(t, "https://old.example.com/", secretText)
	anew := *e
	anew.URL, anew.CreatedAt = "https://new.example.com/", e.CreatedAt.Add(time.Millisecond)
	var once sync.Once
	d.parseURL = func(raw string) (*url.URL, error) {
		once.Do(func() { // while the first is being derived from
			for _, state := range []*webhook.Endpoint{nil, &anew} {
				apply(t, d.store, e.ID, state)
				d.changed(registry.KindEndpoint, e.ID)
			}
		})
		return url.Parse(raw)
	}
	d.Endpoint(e.ID)
	if now, ok := d.Endpoint(e.ID); !ok || now.URL.Host != "new.example.com" {
		t.Errorf("the endpoint has the URL %v", now.URL)
	}
}

func TestADeletedEndpointsBreakerIsForgotten(t *testing.T) {
	there := map[string]bool{"ep_1": true, "ep_2": true}
	records := 0
	l := &learner{send: func(string, []byte) { records++ }, log: slog.New(slog.DiscardHandler), opened: make(map[string]time.Time),
		exists: func(id string) bool { return there[id] }}
	l.breaker("ep_1", breaker.Open)
	l.breaker("ep_2", breaker.Open)
	l.changed(registry.KindEndpoint, "ep_1") // changed, not deleted
	l.changed(registry.KindBreaker, "ep_1")
	if len(l.opened) != 2 || records != 2 {
		t.Fatalf("%d breakers are known, %d recorded", len(l.opened), records)
	}
	there["ep_1"] = false
	l.changed(registry.KindEndpoint, "ep_1")
	l.breaker("ep_1", breaker.HalfOpen) // a last request in flight
	l.breaker("ep_1", breaker.Open)
	if _, known := l.opened["ep_1"]; known || len(l.opened) != 1 || records != 2 {
		t.Errorf("%d breakers are known, %d recorded", len(l.opened), records)
	}
}

func TestRegistrationRefusesTheHeadersThatSendingRefuses(t *testing.T) {
	l := &Line{cfg: config.Default(), contracts: contract.Builtin()}
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Content-Type", "Trailer", "Te", "Connection",
		"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Upgrade", "HTTP2-Settings", "Expect", "Idempotency-Key", "x-idempotency-key", "a b"} {
		if send.CheckHeader(name, "1") == nil {
			t.Errorf("sending takes %s: the list here is out of date", name)
		}
		e := &webhook.Endpoint{ID: "ep_1", Tenant: "acme", URL: "https://hooks.example.com/", Contract: contract.Default, Headers: map[string]string{name: "1"}}
		if errs := l.checkEndpoint(e); len(errs) != 1 || errs[0].Field != "headers["+name+"]" {
			t.Errorf("%s: registration says %v", name, errs)
		}
	}
}
