package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/contract"
	"posthorn/dispatcher/send"
	"posthorn/registry"
	"posthorn/webhook"
)

// world is the API with keys on, over the rules, contracts and keyset of a real
// line. Two tenants live in it: acme, whose IDs are the document's examples, and
// globex, of which acme's key must never see anything.
type world struct {
	t      testing.TB
	h      http.Handler
	store  *memory
	belt   *belt
	sealer *remembering
	log    *bytes.Buffer

	admin, acme string // keys
	// hidden must be in no response and no line of the log: secrets and keys.
	hidden []string
	// quiet must be in no line of the log: values of custom headers.
	quiet []string
	// foreign must be in no response to acme's key.
	foreign []string

	seeded struct {
		endpoints map[string]*webhook.Endpoint
		raw       map[string][]byte
		audit     []webhook.AuditEntry
	}
}

// remembering is a real keyset that remembers what it sealed.
type remembering struct {
	*registry.Keyset
	sealed []string
}

func (r *remembering) Seal(ep *webhook.Endpoint, secretID, plaintext string) (webhook.SealedSecret, error) {
	r.sealed = append(r.sealed, plaintext)
	return r.Keyset.Seal(ep, secretID, plaintext)
}

// shipped is the contracts that Posthorn comes with.
type shipped struct{ contract.Set }

func (c shipped) Describe() (out []Contract) {
	for _, name := range c.Names() {
		out = append(out, Contract{Name: name, Schedule: []string{}})
	}
	return out
}

func (c shipped) must(name string) (*contract.Contract, error) {
	if k, ok := c.Get(name); ok {
		return k, nil
	}
	return nil, fmt.Errorf("contract %q is not known", name)
}

func (c shipped) GenerateSecret(name string) (string, error) {
	k, err := c.must(name)
	if err != nil {
		return "", err
	}
	return k.GenerateSecret(), nil
}

func (c shipped) CheckSecret(name, secret string) error {
	k, err := c.must(name)
	if err == nil {
		_, err = k.ParseSecret(secret)
	}
	return err
}

func (c shipped) Overlap(name string) (time.Duration, error) {
	k, err := c.must(name)
	if err != nil {
		return 0, err
	}
	return k.RotationOverlap(), nil
}

// rules are those of registration.
func (c shipped) rules(ep *webhook.Endpoint) (out []FieldError) {
	for _, e := range registry.ValidateEndpoint(ep, registry.Policy{
		CheckContract: func(name string) error { _, err := c.must(name); return err },
		ReservedHeaders: func(name string) []string {
			if k, ok := c.Get(name); ok {
				return k.ReservedHeaders()
			}
			return nil
		},
		CheckHeader: send.CheckHeader,
	}) {
		out = append(out, FieldError(e))
	}
	return out
}

// wired is a belt whose bodies are the contracts' own.
type wired struct {
	*belt
	contracts shipped
}

func (w wired) Body(name string, e *webhook.Event) ([]byte, string, error) {
	k, err := w.contracts.must(name)
	if err != nil {
		return nil, "", err
	}
	return k.Body(e)
}

// books is a ledger of one delivery a tenant.
type books map[string]*DeliveryDetail

func (b books) Deliveries(_ context.Context, tenant string, _ DeliveryFilter) ([]Delivery, string, error) {
	return []Delivery{b[tenant].Delivery}, "", nil
}

func (b books) Delivery(_ context.Context, tenant, id string) (*DeliveryDetail, error) {
	if d := b[tenant]; d != nil && d.ID == id {
		return d, nil
	}
	return nil, ErrNotFound
}

func (b books) Attempts(_ context.Context, tenant, id, _ string, _ int) ([]Attempt, string, error) {
	d, err := b.Delivery(context.Background(), tenant, id)
	if err != nil {
		return nil, "", err
	}
	return []Attempt{{Kind: "attempt", Outcome: "delivered", Response: d.Response}}, "", nil
}

func (b books) Run(context.Context, string, string, int64) (*ReplayDeliveries, error) {
	return &ReplayDeliveries{}, nil
}

func (b books) Backlog(context.Context, string, string) (*Backlog, error) { return &Backlog{}, nil }

// The IDs that the document has as its examples.
const (
	exampleEndpoint = "ep_aguhqyl7kjzdrgvlq5xwlkaw2i"
	exampleDelivery = "dlv_mod5qzbbwmhddwd55ps7pcm7ka"
)

// elsewhere is globex's endpoint.
const elsewhere = "ep_elsewhere"

// canary is a text that nothing but what it was put into can hold.
func canary(name string) string { return name + strings.ToLower(rand.Text()) }

// theWorld is made once: an API takes as long to make as hundreds of requests.
var theWorld *world

func worldOf(t testing.TB) *world {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset")
	if err := registry.CreateKeysetFile(path); err != nil {
		t.Fatal(err)
	}
	keyset, err := registry.OpenKeyset(path)
	if err != nil {
		t.Fatal(err)
	}
	if theWorld == nil {
		theWorld = newWorld(t, keyset)
	}
	// A keyset reads its file again; the API opens nothing that it sealed.
	theWorld.t, theWorld.sealer.Keyset = t, keyset
	return theWorld
}

func newWorld(t testing.TB, keyset *registry.Keyset) *world {
	t.Helper()
	kinds := shipped{contract.Builtin()}
	w := &world{t: t, store: newMemory(), belt: &belt{}, sealer: &remembering{Keyset: keyset}, log: &bytes.Buffer{}}
	foreign := func(name string) string {
		w.foreign = append(w.foreign, canary(name))
		return w.foreign[len(w.foreign)-1]
	}
	cfg := config(w.store, nil, nil, io.Discard)
	cfg.Contracts, cfg.Sealer, cfg.CheckEndpoint, cfg.Line = kinds, w.sealer, kinds.rules, wired{w.belt, kinds}
	cfg.Logger = slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Plans, cfg.DefaultPlan = map[string]Plan{"free": {Endpoints: 3}, "pro": {}}, "free"
	payload := foreign("payload")
	cfg.Ledger = books{
		"acme": {Delivery: Delivery{ID: exampleDelivery, EndpointID: exampleEndpoint, State: "dead"}},
		"globex": {Delivery: Delivery{ID: "dlv_elsewhere", EndpointID: elsewhere, EventID: foreign("event"), State: "dead", Response: foreign("response")},
			Payload: &payload},
	}
	ids := []string{exampleEndpoint, elsewhere}
	next := cfg.NewEndpointID
	cfg.NewEndpointID = func() string {
		if len(ids) == 0 {
			return next()
		}
		id := ids[0]
		ids = ids[1:]
		return id
	}
	w.admin, w.acme = canary("the administrator's key "), w.store.issue(webhook.APIKey{Tenant: "acme"})
	others := w.store.issue(webhook.APIKey{Tenant: "globex", Description: foreign("note")})
	locked(&cfg)
	cfg.AdminKeys = []string{w.admin}
	var err error
	if w.h, err = New(cfg); err != nil {
		t.Fatal(err)
	}

	seed := func(method, path, body string) {
		t.Helper()
		if a := w.send(w.admin, method, path, body); a.Code >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, a.Code, a.Body)
		}
	}
	secret := func() string { text, _ := kinds.GenerateSecret("standard"); return text }
	for _, tenant := range []string{"acme", "globex"} {
		id, host, header, value := exampleEndpoint, "hooks.acme.example", "X-Team", canary("value")
		note := "ours"
		if tenant == "globex" {
			id, host, header, value, note = elsewhere, foreign("host")+".example", foreign("X-"), foreign("value"), foreign("note")
		}
		w.quiet = append(w.quiet, value)
		brought := secret()
		w.hidden = append(w.hidden, brought)
		at := "/v1/tenants/" + tenant
		seed("POST", "/v1/tenants", fmt.Sprintf(`{"id":%q,"description":%q}`, tenant, note))
		seed("POST", at+"/endpoints", fmt.Sprintf(`{"url":"https://%s/a","description":%q,"headers":{%q:%q},"secret":%q}`, host, note, header, value, brought))
		seed("POST", at+"/replays", fmt.Sprintf(`{"endpoint":%q,"since":%q,"events":["%s.*"]}`, id, ago(time.Hour), strings.ToLower(strings.ReplaceAll(note, "-", ""))))
	}
	seed("PUT", "/v1/tenants/globex/pause", fmt.Sprintf(`{"reason":%q}`, foreign("reason")))
	seed("POST", "/v1/event-types", `{"name":"order.created","examples":[{"total":1}]}`)
	w.hidden = append(w.hidden, w.admin, w.acme, others)
	w.seeded.endpoints, w.seeded.raw, w.seeded.audit = w.store.endpoints, w.store.raw, w.store.audit
	return w
}

// anew takes the world back to how it was seeded. What is stored is replaced as
// a whole by each change, never written to.
func (w *world) anew(t testing.TB) {
	w.t = t
	w.store.endpoints, w.store.raw, w.store.audit = w.seeded.endpoints, w.seeded.raw, w.seeded.audit
	w.belt.put, w.sealer.sealed = nil, nil
	w.log.Reset()
}

// send makes a request; headers are name, value, name, value, and those without
// a value are left out.
func (w *world) send(key, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("X-Auth-Token", key)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	a := httptest.NewRecorder()
	w.h.ServeHTTP(a, r)
	return a
}

// globex is all that is stored of it.
func (w *world) globex() string {
	var all []string
	for _, ep := range w.store.endpoints {
		if text, _ := json.Marshal(ep); ep.Tenant == "globex" {
			all = append(all, string(text))
		}
	}
	for id, value := range w.store.raw {
		if strings.Contains(id, "globex") || bytes.Contains(value, []byte("globex")) {
			all = append(all, id+" "+string(value))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// own is the ID of what acme has for a route with one.
func (w *world) own(r route) string {
	switch {
	case strings.HasPrefix(r.path, endpointPath):
		return exampleEndpoint
	case strings.HasPrefix(r.path, deliveryPath):
		return exampleDelivery
	case strings.HasPrefix(r.path, replayPath):
		for key := range w.seeded.raw {
			if id, ok := strings.CutPrefix(key, KindReplay+"/acme/"); ok {
				return id
			}
		}
	case strings.HasPrefix(r.path, eventTypePath):
		return "order.created"
	case strings.HasPrefix(r.path, keyPath):
		id, _ := keyIDOf(w.acme)
		return id
	}
	return DefaultContract
}

// keyPattern is that of every key that is issued.
var keyPattern = regexp.MustCompile(`ph_[a-z2-7]{16}_[a-z2-7]{52}`)

// texts is everything that an answer or a line of the log says, as it stands and
// with what JSON escapes.
func texts(raw string) string {
	if !strings.Contains(raw, `\`) {
		return raw
	}
	all := []string{raw}
	for line := range strings.Lines(raw) {
		var v any
		if json.Unmarshal([]byte(line), &v) == nil {
			walk(v, func(s string) { all = append(all, s) })
		}
	}
	return strings.Join(all, "\n")
}

// walk visits all names and strings of a JSON value.
func walk(v any, visit func(string)) {
	switch v := v.(type) {
	case string:
		visit(v)
	case []any:
		for _, item := range v {
			walk(item, visit)
		}
	case map[string]any:
		for name, item := range v {
			visit(name)
			walk(item, visit)
		}
	}
}
