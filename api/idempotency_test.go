package api

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/webhook"
)

func TestRepeatedCreateFindsWhatTheFirstMade(t *testing.T) {
	c := start(t)
	const body = `{"url":"https://a.b","events":["x"],"headers":{"A":"1","B":"2"}}`
	first := c.create(body, "Idempotency-Key", "k1")
	c.do("PATCH", acme+"/"+first.ID, `{"url":"https://changed.example.com","disabled":true}`).want(http.StatusOK)
	// What is the same request is a matter of meaning, not of bytes.
	for _, again := range []string{body, ` {"headers":{"B":"2","A":"1"}, "contract":"standard", "events":["x"], "disabled":false, "url":"https://a.b"} `} {
		a := c.do("POST", acme, again, "Idempotency-Key", "k1").want(http.StatusOK)
		got := decode[CreatedEndpoint](a)
		if got.ID != first.ID || got.Secret != "" || got.URL != "https://changed.example.com" || a.Header.Get("ETag") != `"2"` ||
			a.Header.Get("Location") != acme+"/"+first.ID {
			t.Errorf("repeat: %v %s", a.Header, a.body)
		}
	}
	if len(c.store.endpoints) != 1 {
		t.Errorf("%d endpoints, want 1", len(c.store.endpoints))
	}
}

func TestKeyOfAnotherBodyIsRefusedAlsoAfterAnUpdate(t *testing.T) {
	c := start(t)
	first := c.create(plainBody, "Idempotency-Key", "k1")
	for range 2 {
		for _, other := range []string{
			`{"url":"https://other.example.com"}`,
			`{"url":"https://hooks.example.com/a","disabled":true}`,
			`{"url":"https://hooks.example.com/a","secret":"whsec_brought"}`,
		} {
			a := c.do("POST", acme, other, "Idempotency-Key", "k1").want(http.StatusUnprocessableEntity)
			if p := decode[Problem](a); p.Type != TypeKeyReused {
				t.Errorf("type %s", p.Type)
			}
		}
		c.do("PATCH", acme+"/"+first.ID, `{"url":"https://other.example.com"}`).want(http.StatusOK)
	}
	if len(c.store.endpoints) != 1 {
		t.Errorf("%d endpoints, want 1", len(c.store.endpoints))
	}
}

func TestRotatedEndpointIsStillFoundByItsKey(t *testing.T) {
	c := start(t)
	first := c.create(plainBody, "Idempotency-Key", "k1")
	ep := c.store.endpoints[first.ID]
	// During the overlap the first secret is there beside the new one.
	ep.Secrets = append([]webhook.SealedSecret{{ID: newSecretID(), CreatedAt: time.Now()}}, ep.Secrets...)
	c.do("POST", acme, plainBody, "Idempotency-Key", "k1").want(http.StatusOK)
	c.do("POST", acme, `{"url":"https://other.example.com"}`, "Idempotency-Key", "k1").want(http.StatusUnprocessableEntity)
	ep.Secrets = ep.Secrets[:1]
	if got := decode[Endpoint](c.do("POST", acme, plainBody, "Idempotency-Key", "k1").want(http.StatusOK)); got.ID != first.ID {
		t.Errorf("found %s, want %s", got.ID, first.ID)
	}
}

func TestKeysOfDifferentTenantsAndDifferentKeysAreApart(t *testing.T) {
	c := start(t)
	ids := map[string]bool{}
	for _, tenant := range []string{"acme", "globex", "acmek", "a"} {
		for _, key := range []string{"k", "k1", "1"} {
			a := c.do("POST", "/v1/tenants/"+tenant+"/endpoints", plainBody, "Idempotency-Key", key).want(http.StatusCreated)
			ids[decode[CreatedEndpoint](a).ID] = true
		}
	}
	if len(ids) != 12 {
		t.Errorf("%d different IDs, want 12: %v", len(ids), ids)
	}
	for id := range ids {
		if !strings.HasPrefix(id, webhook.EndpointPrefix) || len(id) != len(webhook.EndpointPrefix)+26 {
			t.Errorf("ID %q", id)
		}
	}
}

func TestIDsOfOtherProcessesKeysCantBeTold(t *testing.T) {
	a, b := start(t), start(t, func(cfg *Config) { cfg.IdempotencyKey = []byte("another key of 16 bytes or more") })
	if x, y := a.create(plainBody, "Idempotency-Key", "k"), b.create(plainBody, "Idempotency-Key", "k"); x.ID == y.ID {
		t.Errorf("ID %s doesn't depend on the key", x.ID)
	}
}

func TestConcurrentRepeatsMakeOneEndpointAndShowItsOwnSecret(t *testing.T) {
	c := start(t, func(cfg *Config) { cfg.Plans, cfg.DefaultPlan = map[string]Plan{"one": {1}}, "one" })
	var mu sync.Mutex
	var shown []string
	count := map[int]int{}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a := c.do("POST", acme, plainBody, "Idempotency-Key", "k")
			mu.Lock()
			defer mu.Unlock()
			count[a.StatusCode]++
			if secret := decode[CreatedEndpoint](a).Secret; secret != "" {
				shown = append(shown, secret)
			}
		})
	}
	wg.Wait()
	if count[201] != 1 || count[200] != 19 || len(shown) != 1 {
		t.Fatalf("statuses %v, secrets shown %q; want one 201 with one", count, shown)
	}
	for _, ep := range c.store.endpoints {
		plain := unseal(ep.Secrets[0].Sealed)
		if plain != shown[0] {
			t.Errorf("the endpoint signs with %q, but %q was shown", plain, shown[0])
		}
	}
}

func TestOfSeveralTriesTheLastIsAnswered(t *testing.T) {
	c := start(t)
	c.store.rivals = 1
	// A rival of the same key was faster.
	first := c.create(plainBody, "Idempotency-Key", "k")
	taken := c.store.endpoints[first.ID]
	delete(c.store.endpoints, first.ID)
	c.store.rival = func(state map[string]*webhook.Endpoint) { state[taken.ID] = taken }
	if a := c.do("POST", acme, plainBody, "Idempotency-Key", "k").want(http.StatusOK); decode[CreatedEndpoint](a).Secret != "" {
		t.Errorf("a secret that was never stored is shown: %s", a.body)
	}
	// What the first try found has been deleted by the second.
	c.store.rival = func(state map[string]*webhook.Endpoint) { delete(state, taken.ID) }
	made := c.create(plainBody, "Idempotency-Key", "k")
	if got := unseal(c.store.endpoints[made.ID].Secrets[0].Sealed); made.Secret != got {
		t.Errorf("secret %q is shown, and %q stored", made.Secret, got)
	}
}

func unseal(b []byte) string {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0xff
	}
	return string(out)
}

func TestDeletedEndpointsKeyCreatesAnew(t *testing.T) {
	c := start(t)
	first := c.create(plainBody, "Idempotency-Key", "k")
	c.do("DELETE", acme+"/"+first.ID, "").want(http.StatusNoContent)
	if again := c.create(plainBody, "Idempotency-Key", "k"); again.Secret == "" || again.Secret == first.Secret {
		t.Errorf("secret %q, want a new one", again.Secret)
	}
}

func TestKeysThatAreNoKeysAreRefused(t *testing.T) {
	c := start(t)
	c.do("POST", acme, plainBody, "Idempotency-Key", strings.Repeat("k", 256)).wantFields("header.Idempotency-Key")
	c.do("POST", acme, plainBody, "Idempotency-Key", "kéy").wantFields("header.Idempotency-Key")
	c.create(plainBody, "Idempotency-Key", strings.Repeat("k", 255))
	c.create(plainBody, "Idempotency-Key", `"8e03978e-40d5-43e8-bc93-6894a57f9324"`)
}

func TestWithoutAKeyEveryCreateIsANewEndpoint(t *testing.T) {
	c := start(t)
	if a, b := c.create(plainBody), c.create(plainBody); a.ID == b.ID || a.Secret == b.Secret {
		t.Errorf("%s and %s", a.ID, b.ID)
	}
}
