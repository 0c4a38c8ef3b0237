package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/api"
	"posthorn/webhook"
)

// memory is a registry for the real API.
type memory map[string]*webhook.Endpoint

func (m memory) Get(id string) (*webhook.Endpoint, bool) { ep, ok := m[id]; return ep, ok }

func (m memory) List(tenant, after string, limit int) (page []*webhook.Endpoint, next string) {
	for _, id := range slices.Sorted(maps.Keys(m)) {
		if m[id].Tenant != tenant || id <= after {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].ID
		}
		page = append(page, m[id])
	}
	return page, ""
}

func (m memory) Count(string) int { return len(m) }
func (m memory) Put(ep *webhook.Endpoint) error {
	ep.Version = 1
	if old, ok := m[ep.ID]; ok {
		ep.Version = old.Version + 1
	}
	m[ep.ID] = ep
	return nil
}
func (m memory) Delete(id string) error                               { delete(m, id); return nil }
func (m memory) Update(_ context.Context, f func(api.Tx) error) error { return f(m) }
func (m memory) Raw(string, string) ([]byte, bool)                    { return nil, false }
func (m memory) PutRaw(string, string, []byte) error                  { return nil }
func (m memory) Now() time.Time                                       { return time.Now() }
func (m memory) StartReplay(string) error                             { return nil }
func (m memory) Audit(*webhook.AuditEntry) error                      { return nil }
func (m memory) Records(string, string, string) iter.Seq2[string, []byte] {
	return func(func(string, []byte) bool) {}
}
func (m memory) Describe() []api.Contract                                      { return nil }
func (m memory) ListAll(after string, limit int) ([]*webhook.Endpoint, string) { return nil, "" }
func (m memory) GenerateSecret(string) (string, error)                         { return "whsec_generated", nil }
func (m memory) CheckSecret(_, secret string) error {
	if !strings.HasPrefix(secret, "whsec_") {
		return errors.New("want whsec_ and base64")
	}
	return nil
}
func (m memory) Overlap(string) (time.Duration, error) { return 24 * time.Hour, nil }
func (m memory) Seal(_ *webhook.Endpoint, id, _ string) (webhook.SealedSecret, error) {
	return webhook.SealedSecret{ID: id, Sealed: []byte{1}}, nil
}

// line serves the real API on a registry in memory and returns a client.
func line(t *testing.T) (memory, *Endpoints, *bytes.Buffer) {
	t.Helper()
	m := memory{}
	n := 0
	h, err := api.New(api.Config{
		Endpoints: m, Records: m, Writer: m, Contracts: m, Sealer: m,
		CheckEndpoint: func(ep *webhook.Endpoint) (errs []api.FieldError) {
			if strings.Contains(ep.URL, "10.0.0.1") {
				errs = append(errs, api.FieldError{Field: "url", Problem: "10.0.0.1 is a private address"})
			}
			if ep.Contract == "unheard" {
				errs = append(errs, api.FieldError{Field: "contract", Problem: "there is no such contract"})
			}
			return errs
		},
		Covers:         func(string, string) bool { return true },
		NewEndpointID:  func() string { n++; return fmt.Sprintf("ep_%04d", n) },
		IdempotencyKey: bytes.Repeat([]byte{1}, 32),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	a, err := NewAPI(srv.URL+"/", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.client.CloseIdleConnections)
	var out bytes.Buffer
	return m, &Endpoints{API: a, Tenant: "acme & sons/1", Out: &out}, &out
}

//go:fix inline
func TestAnEndpointIsCreatedChangedAndDeleted(t *testing.T) {
	m, e, out := line(t)
	if m == nil {
		t.Fatal()
	}
	e.Tenant = "acme"
	headers, err := ParseHeaders([]string{"x-team: core", "X-Env:prod"})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Create(t.Context(), EndpointChange{
		URL: new("https://hooks.example.com/a"), Events: &[]string{"order.*"}, Headers: &headers, Description: new("ours"), RateLimit: new(2.5),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ep_0001", "acme", "order.*", "X-Team: core", "2.5/s", "whsec_generated  (shown this once", "standard"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	out.Reset()
	e.JSON = true
	change := map[string]*string{"X-Env": nil, "X-New": new("1")}
	err = e.Update(t.Context(), "ep_0001", EndpointChange{Disabled: new(true), Events: &[]string{}, Headers: &change}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var ep endpoint
	if err := json.Unmarshal(out.Bytes(), &ep); err != nil {
		t.Fatal(err)
	}
	if !ep.Disabled || len(ep.Events) != 0 || ep.Version != 2 || ep.Description != "ours" || ep.Secret != "" ||
		!maps.Equal(ep.Headers, map[string]string{"X-Team": "core", "X-New": "1"}) {
		t.Errorf("%+v", ep)
	}
	var none map[string]*string
	if err := e.Update(t.Context(), "ep_0001", EndpointChange{Headers: &none}, 0); err != nil || len(m["ep_0001"].Headers) != 0 {
		t.Errorf("%v, headers %v", err, m["ep_0001"].Headers)
	}

	var refused *APIError
	if err := e.Update(t.Context(), "ep_0001", EndpointChange{Disabled: new(false)}, 1); !errors.As(err, &refused) || refused.Status != http.StatusPreconditionFailed {
		t.Errorf("a stale version: %v", err)
	}
	if err := e.Delete(t.Context(), "ep_0001"); err != nil || len(m) != 0 {
		t.Errorf("%v, %d left", err, len(m))
	}
	if err := e.Get(t.Context(), "ep_0001"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound || !strings.Contains(err.Error(), "ep_0001") {
		t.Errorf("after deletion: %v", err)
	}
}

func TestEveryMistakeThatTheAPINamesIsShown(t *testing.T) {
	_, e, _ := line(t)
	e.Tenant = "acme"
	err := e.Create(t.Context(), EndpointChange{URL: new("http://10.0.0.1/"), Contract: new("unheard")})
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, want := range []string{"creating endpoint: 4", "\n  contract: there is no such contract", "\n  url: 10.0.0.1 is a private address"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func TestAllPagesAreListed(t *testing.T) {
	m, e, out := line(t)
	for i := range 1203 {
		id := fmt.Sprintf("ep_%05d", i)
		m[id] = &webhook.Endpoint{ID: id, Tenant: e.Tenant, URL: "https://x.example.com/", Contract: "standard", Disabled: i == 7, Version: 1}
	}
	if err := e.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1204 || strings.Count(out.String(), "disabled") != 1 {
		t.Errorf("%d lines", n)
	}
	out.Reset()
	e.JSON = true
	if err := e.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	var items []endpoint
	if err := json.Unmarshal(out.Bytes(), &items); err != nil || len(items) != 1203 {
		t.Errorf("%d items, %v", len(items), err)
	}
	out.Reset()
	e.Tenant = "nobody"
	if err := e.List(t.Context()); err != nil || strings.TrimSpace(out.String()) != "[]" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAnswersThatAreNoProblemDocumentAreReadable(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte("upstream \x1b[31mgone\n" + strings.Repeat("x", 10_000)))
	}))
	defer srv.Close()
	a, err := NewAPI(srv.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	defer a.client.CloseIdleConnections()
	err = Endpoints{API: a, Tenant: "t", Out: &bytes.Buffer{}}.Get(t.Context(), "x")
	if err == nil || !strings.Contains(err.Error(), "502 Bad Gateway: upstream") || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 400 {
		t.Errorf("%q", err)
	}
	srv.Close()
	if err := (Endpoints{API: a, Tenant: "t", Out: &bytes.Buffer{}}).Get(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "--api says where") {
		t.Error(err)
	}
}

func TestMistakesOfEndpointCommandsAreUsageErrors(t *testing.T) {
	_, e, _ := line(t)
	var usage *UsageError
	if err := e.Update(t.Context(), "x", EndpointChange{}, 0); !errors.As(err, &usage) {
		t.Errorf("an update of nothing: %v", err)
	}
	for _, h := range [][]string{{"no colon"}, {": x"}, {"A: 1", "a: 2"}} {
		if _, err := ParseHeaders(h); !errors.As(err, &usage) {
			t.Errorf("%q: %v", h, err)
		}
	}
	for _, u := range []string{"", "127.0.0.1:9464", "ftp://x", "http://"} {
		if _, err := NewAPI(u, ""); !errors.As(err, &usage) {
			t.Errorf("%q: %v", u, err)
		}
	}
}

func TestSecretsCanComeFromAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSecret("@" + file); err != nil || s != "whsec_x" {
		t.Errorf("%q, %v", s, err)
	}
	if _, err := ReadSecret("@" + file + ".none"); err == nil {
		t.Error("a missing file was taken")
	}
}

func TestEnablingOffersWhatWasMissedAndRecoversItWhenAsked(t *testing.T) {
	m, e, out := line(t)
	e.Tenant = "acme"
	hour := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	m["ep_1"] = &webhook.Endpoint{ID: "ep_1", Tenant: "acme", URL: "https://hooks.example.com/a", Contract: "standard",
		Disabled: true, DisabledReason: webhook.DisabledGone, DisabledAt: hour, EnabledAt: hour.Add(time.Hour)}
	said := func(recovering bool) string {
		t.Helper()
		out.Reset()
		if err := e.Enable(t.Context(), "ep_1", recovering); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := said(false); m["ep_1"].Disabled || !strings.Contains(got, "from 2026-11-01T08:00:00Z to 2026-11-01T09:00:00Z") ||
		!strings.Contains(got, "posthorn endpoint enable --tenant acme ep_1 --recover") {
		t.Errorf("enabled: %s", got)
	}
	if got := said(true); !strings.Contains(got, "rpl_") || !strings.Contains(got, "2026-11-01T07:50:00Z") || strings.Contains(got, "--recover") {
		t.Errorf("recovered: %s", got)
	}
	e.JSON = true
	var both struct {
		Endpoint endpoint `json:"endpoint"`
		Replay   replay   `json:"replay"`
	}
	if got := said(true); json.Unmarshal([]byte(got), &both) != nil || both.Endpoint.ID != "ep_1" || both.Replay.EndpointID != "ep_1" {
		t.Errorf("as JSON: %s", got)
	}
	m["ep_1"].EnabledAt = time.Time{}
	if err := e.Enable(t.Context(), "ep_1", true); err == nil || !strings.Contains(err.Error(), "never disabled") || !strings.Contains(err.Error(), "is enabled") {
		t.Errorf("nothing to recover: %v", err)
	}
}
