package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"posthorn/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a registry of one process: a map behind a mutex.
type memory struct {
	mu        sync.Mutex
	endpoints map[string]*webhook.Endpoint
	raw       map[string][]byte // by "kind/ID"
	audit     []webhook.AuditEntry
	ids       int
	// rivals is how many times an Update loses its lock and runs its change again.
	rivals int
	// rival is what another process commits before the change runs again.
	rival func(state map[string]*webhook.Endpoint)
	// before runs in front of each Update, and fails it.
	before func(ctx context.Context) error
	after  func() // behind each commit
	// clock is the time of every change, if it is set.
	clock time.Time
}

func newMemory() *memory { return &memory{endpoints: map[string]*webhook.Endpoint{}} }

func (m *memory) Get(id string) (*webhook.Endpoint, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return pick(m.endpoints, id)
}

func pick(from map[string]*webhook.Endpoint, id string) (*webhook.Endpoint, bool) {
	ep, ok := from[id]
	if !ok {
		return nil, false
	}
	return cloneOf(ep), true
}

func (m *memory) List(tenant, after string, limit int) (page []*webhook.Endpoint, next string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(m.endpoints)) {
		if id <= after || m.endpoints[id].Tenant != tenant {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].ID
		}
		page = append(page, cloneOf(m.endpoints[id]))
	}
	return page, ""
}

func (m *memory) ListAll(after string, limit int) (page []*webhook.Endpoint, next string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(m.endpoints)) {
		if id <= after {
			continue
		}
		if len(page) == limit {
			return page, page[limit-1].ID
		}
		page = append(page, cloneOf(m.endpoints[id]))
	}
	return page, ""
}

// Read is the audit log; places are numbers of entries.
func (m *memory) Read(_ context.Context, tenant string, before int64, limit int) (out []webhook.AuditEntry, next int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before == 0 {
		before = int64(len(m.audit))
	}
	for i := before - 1; i >= 0; i-- {
		if e := m.audit[i]; tenant == "" || e.Tenant == tenant {
			if out = append(out, e); len(out) == limit {
				return out, i, nil
			}
		}
	}
	return out, 0, nil
}

func (m *memory) Count(tenant string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return (&memoryTx{state: m.endpoints}).Count(tenant)
}

func (m *memory) Update(ctx context.Context, change func(Tx) error) error {
	if m.before != nil {
		if err := m.before(ctx); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var tx *memoryTx
	for try := range m.rivals + 1 {
		if try > 0 && m.rival != nil {
			m.rival(m.endpoints)
		}
		now := m.clock
		if now.IsZero() {
			now = time.Now().UTC()
		}
		tx = &memoryTx{now: now, state: maps.Clone(m.endpoints), memoryRecords: memoryRecords{maps.Clone(m.raw)}}
		if err := change(tx); err != nil {
			return fmt.Errorf("changing registry: %w", err)
		}
	}
	m.endpoints, m.raw, m.audit = tx.state, tx.raw, append(m.audit, tx.audit...)
	if m.after != nil {
		m.after()
	}
	return nil
}

// Raw and Records are those of the other kinds.
func (m *memory) Raw(kind, id string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return memoryRecords{m.raw}.Raw(kind, id)
}

func (m *memory) Records(kind, prefix, after string) iter.Seq2[string, []byte] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return memoryRecords{maps.Clone(m.raw)}.Records(kind, prefix, after)
}

type memoryRecords struct{ raw map[string][]byte }

func (m memoryRecords) Raw(kind, id string) ([]byte, bool) {
	value, ok := m.raw[kind+"/"+id]
	return value, ok
}

func (m memoryRecords) Records(kind, prefix, after string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, key := range slices.Sorted(maps.Keys(m.raw)) {
			id, ok := strings.CutPrefix(key, kind+"/")
			if ok && strings.HasPrefix(id, prefix) && id > after && !yield(id, m.raw[key]) {
				return
			}
		}
	}
}

type memoryTx struct {
	now   time.Time
	state map[string]*webhook.Endpoint
	memoryRecords
	audit []webhook.AuditEntry
}

func (tx *memoryTx) Now() time.Time { return tx.now }

func (tx *memoryTx) StartReplay(key string) error { return tx.PutRaw("started", key, []byte("{}")) }

func (tx *memoryTx) Audit(e *webhook.AuditEntry) error {
	tx.audit = append(tx.audit, *e)
	return nil
}

func (tx *memoryTx) PutRaw(kind, id string, value []byte) error {
	if tx.raw == nil {
		tx.raw = map[string][]byte{}
	}
	if value == nil {
		delete(tx.raw, kind+"/"+id)
		return nil
	}
	tx.raw[kind+"/"+id] = value
	return nil
}

func (tx *memoryTx) Get(id string) (*webhook.Endpoint, bool) { return pick(tx.state, id) }

func (tx *memoryTx) Count(tenant string) (n int) {
	for _, ep := range tx.state {
		if ep.Tenant == tenant {
			n++
		}
	}
	return n
}

func (tx *memoryTx) Put(ep *webhook.Endpoint) error {
	old, ok := tx.state[ep.ID]
	ep.Version, ep.CreatedAt, ep.UpdatedAt = 1, tx.now, tx.now
	if ok {
		ep.Version, ep.CreatedAt = old.Version+1, old.CreatedAt
	}
	tx.state[ep.ID] = cloneOf(ep)
	return nil
}

func (tx *memoryTx) Delete(id string) error {
	if _, ok := tx.state[id]; !ok {
		return errors.New("deleting what is not there")
	}
	delete(tx.state, id)
	return nil
}

// contracts are two contracts with secrets of different forms.
type contracts struct {
	mu        sync.Mutex
	generated []string
}

var secretForms = map[string]string{"standard": "whsec_", "plain": "plain_"}

func (c *contracts) Describe() []Contract {
	return []Contract{{Name: "plain", Schedule: []string{}}, {Name: "standard", Schedule: []string{"1m0s"}}}
}

func (c *contracts) GenerateSecret(contract string) (string, error) {
	form, ok := secretForms[contract]
	if !ok {
		return "", fmt.Errorf("no contract %q", contract)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	secret := fmt.Sprintf("%sgenerated%04d", form, len(c.generated))
	c.generated = append(c.generated, secret)
	return secret, nil
}

func (c *contracts) CheckSecret(contract, secret string) error {
	if form := secretForms[contract]; !strings.HasPrefix(secret, form) {
		return fmt.Errorf("want %q first", form)
	}
	return nil
}

func (c *contracts) Overlap(contract string) (time.Duration, error) {
	if contract == "plain" { // as of a platform that invalidates at once
		return 0, nil
	}
	return 24 * time.Hour, nil
}

// sealer turns a secret's bytes over, and remembers what it was asked to seal.
type sealer struct {
	mu     sync.Mutex
	sealed []string
}

func (s *sealer) Seal(ep *webhook.Endpoint, secretID, plaintext string) (webhook.SealedSecret, error) {
	if ep.ID == "" || ep.Tenant == "" || secretID == "" {
		return webhook.SealedSecret{}, errors.New("nothing to bind the secret to")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = append(s.sealed, plaintext)
	b := []byte(plaintext)
	for i := range b {
		b[i] ^= 0xff
	}
	return webhook.SealedSecret{ID: secretID, Sealed: b, CreatedAt: time.Now().UTC()}, nil
}

// check is a small version of the registry's rules.
func check(ep *webhook.Endpoint) (errs []FieldError) {
	add := func(field, problem string) { errs = append(errs, FieldError{field, problem}) }
	if strings.ContainsAny(ep.Tenant, " /") {
		add("tenant", "it may hold only letters")
	}
	if u, err := url.Parse(ep.URL); err != nil || u.Scheme != "https" && u.Scheme != "http" || !strings.Contains(u.Host, ".") {
		add("url", "it must be public")
	}
	for i, p := range ep.Events {
		if p == "" || strings.Contains(p, " ") {
			add(fmt.Sprintf("events[%d]", i), "it is no pattern")
		}
	}
	if secretForms[ep.Contract] == "" {
		add("contract", "it does not exist")
	}
	for name := range ep.Headers {
		if strings.EqualFold(name, "Host") || strings.Contains(name, " ") {
			add("headers["+name+"]", "it can't be set")
		}
	}
	if ep.MaxInFlight > 1000 {
		add("max_in_flight", "at most 1000")
	}
	return errs
}

func covers(pattern, eventType string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == eventType || open && strings.HasPrefix(eventType, prefix)
}

// client is the API over a real connection, with everything that it said.
type client struct {
	t      testing.TB
	base   string
	http   *http.Client
	store  *memory
	secret *contracts
	sealer *sealer
	log    *bytes.Buffer
}

func config(store *memory, c *contracts, s *sealer, log io.Writer) Config {
	return Config{
		Endpoints: store, AuditLog: store, Records: store, Writer: store, Contracts: c, Sealer: s, CheckEndpoint: check, Covers: covers,
		NewEndpointID: func() string {
			store.mu.Lock()
			defer store.mu.Unlock()
			store.ids++
			return fmt.Sprintf("ep_%05d", store.ids)
		},
		IdempotencyKey: []byte("0123456789abcdef"),
		Logger:         slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func start(t testing.TB, adjust ...func(*Config)) *client {
	t.Helper()
	c := &client{t: t, store: newMemory(), secret: &contracts{}, sealer: &sealer{}, log: &bytes.Buffer{}}
	cfg := config(c.store, c.secret, c.sealer, c.log)
	for _, a := range adjust {
		a(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c.base, c.http = srv.URL, srv.Client()
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// answer is a response that has been read.
type answer struct {
	t testing.TB
	*http.Response
	body string
}

// do sends a request; headers are name, value, name, value.
func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return read(c.t, resp)
}

func read(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{t, resp, string(b)}
}

const acme = "/v1/tenants/acme/endpoints"

const plainBody = `{"url":"https://hooks.example.com/a"}`

func (c *client) create(body string, headers ...string) CreatedEndpoint {
	c.t.Helper()
	return decode[CreatedEndpoint](c.do("POST", acme, body, headers...).want(http.StatusCreated))
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("%s %s: status %d, want %d: %s", a.Request.Method, a.Request.URL.Path, a.StatusCode, status, a.body)
	}
	if status >= 400 {
		p := decode[Problem](a)
		if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" || p.Status != status || p.Type == "" || p.Title == "" {
			a.t.Fatalf("%s %s: %q %s is not a whole Problem", a.Request.Method, a.Request.URL.Path, ct, a.body)
		}
	}
	return a
}

// wantFields is want(400), for exactly these fields.
func (a answer) wantFields(fields ...string) answer {
	a.t.Helper()
	p := decode[Problem](a.want(http.StatusBadRequest))
	var got []string
	for _, e := range p.Errors {
		if e.Problem == "" {
			a.t.Errorf("%s: no problem is given: %s", e.Field, a.body)
		}
		got = append(got, e.Field)
	}
	if slices.Sort(fields); !slices.Equal(got, fields) || p.Type != TypeInvalidRequest {
		a.t.Errorf("fields %q of %s, want %q: %s", got, p.Type, fields, a.body)
	}
	return a
}

func decode[T any](a answer) (v T) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%s %s: %v in %s", a.Request.Method, a.Request.URL.Path, err, a.body)
	}
	return v
}
