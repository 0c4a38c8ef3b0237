package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

const adminKey = "an administrator's key of the configuration"

// issue puts a key into the registry and returns it.
func (m *memory) issue(k webhook.APIKey) string {
	k.ID = NewKeyID()
	key := IssueKey(&k)
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memoryTx{memoryRecords: memoryRecords{m.raw}}
	if err := keys.put(tx, k.ID, &k); err != nil {
		panic(err)
	}
	m.raw = tx.raw
	return key
}

func locked(cfg *Config) { cfg.AuthRequired, cfg.AdminKeys = true, []string{adminKey} }

func TestAKeyIsAskedForAndWhoeverHasNoneLearnsNothing(t *testing.T) {
	c := start(t, locked)
	good := c.store.issue(webhook.APIKey{})
	old := c.store.issue(webhook.APIKey{ExpiresAt: time.Now().Add(-time.Second)})
	forged := good[:len(good)-1] + map[bool]string{true: "b", false: "a"}[strings.HasSuffix(good, "a")]
	for name, headers := range map[string][]string{
		"no key":            {},
		"an unknown key":    {"Authorization", "Bearer ph_" + strings.Repeat("a", 16) + "_" + strings.Repeat("a", 52)},
		"a forged key":      {"Authorization", "Bearer " + forged},
		"an expired key":    {"Authorization", "Bearer " + old},
		"another scheme":    {"Authorization", "Basic " + good},
		"an empty key":      {"Authorization", "Bearer "},
		"several keys":      {"Authorization", "Bearer " + good, "X-Auth-Token", good},
		"part of a key":     {"X-Auth-Token", good[:20]},
		"an admin key's ID": {"X-Auth-Token", "config-0"},
	} {
		a := c.do("GET", acme, "", headers...).want(http.StatusUnauthorized)
		if a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
		if strings.Contains(a.body, good[len(good)-20:]) {
			t.Errorf("%s: the answer quotes the key", name)
		}
		c.do("GET", acme+"/ep_1", "", headers...).want(http.StatusUnauthorized)
		c.do("POST", acme, `{`, headers...).want(http.StatusUnauthorized)
	}
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + good}, {"Authorization", "bearer  " + good}, {"X-Auth-Token", good}, {"X-Auth-Token", adminKey},
	} {
		c.do("GET", acme, "", headers...).want(http.StatusOK)
	}
	c.do("GET", "/openapi.json", "").want(http.StatusOK)
	if strings.Contains(c.log.String(), "ph_") {
		t.Errorf("logged: %s", c.log)
	}
}

func TestReadOnlyKeysChangeNothing(t *testing.T) {
	c := start(t, locked)
	made := decode[CreatedEndpoint](c.do("POST", acme, plainBody, "X-Auth-Token", adminKey).want(http.StatusCreated))
	for _, k := range []webhook.APIKey{{ReadOnly: true}, {ReadOnly: true, Tenant: "acme"}} {
		key := c.store.issue(k)
		c.do("GET", acme+"/"+made.ID, "", "X-Auth-Token", key).want(http.StatusOK)
		c.do("POST", acme, plainBody, "X-Auth-Token", key).want(http.StatusForbidden)
		c.do("PATCH", acme+"/"+made.ID, `{}`, "X-Auth-Token", key).want(http.StatusForbidden)
		c.do("DELETE", acme+"/"+made.ID, "", "X-Auth-Token", key).want(http.StatusForbidden)
	}
}

func TestEveryChangeIsAuditedWithoutValues(t *testing.T) {
	c := start(t, locked)
	key := c.store.issue(webhook.APIKey{Tenant: "acme"})
	auth := []string{"X-Auth-Token", key}
	made := decode[CreatedEndpoint](c.do("POST", acme, `{"url":"https://hooks.example.com/a","headers":{"X-Team":"s3cret"},"secret":"whsec_brought"}`, auth...).want(http.StatusCreated))
	path := acme + "/" + made.ID
	c.do("PATCH", path, `{"headers":{"X-Team":"other"},"disabled":true}`, auth...).want(http.StatusOK)
	c.do("PATCH", path, `{"disabled":true}`, auth...).want(http.StatusOK) // nothing changes
	c.do("PATCH", path, `{"url":"nonsense"}`, auth...).want(http.StatusBadRequest)
	c.do("DELETE", path, "", auth...).want(http.StatusNoContent)
	var got []string
	for _, e := range c.store.audit {
		if e.Tenant != "acme" || e.ID != made.ID || e.Kind != "endpoint" || e.Actor != "key_"+key[3:19] || e.At.IsZero() {
			t.Errorf("entry %+v", e)
		}
		got = append(got, e.Operation+" "+strings.Join(e.Fields, ","))
	}
	want := "createEndpoint contract,headers,secrets,url|updateEndpoint disabled,headers|deleteEndpoint "
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func TestAChangeWithoutAnAuditEntryFails(t *testing.T) {
	c := start(t)
	s := newServer((&Config{Writer: c.store}).withDefaults())
	err := s.update(t.Context(), func(tx Tx) (*note, error) { return nil, tx.PutRaw("x", "1", []byte(`{}`)) })
	if err == nil || len(c.store.raw) != 0 {
		t.Errorf("error %v, %d records", err, len(c.store.raw))
	}
}

func TestAKeysRateIsItsOwnAndTheMemoryOfRatesBounded(t *testing.T) {
	c := start(t, locked, func(cfg *Config) { cfg.RateLimit = 0.1 })
	one, two := c.store.issue(webhook.APIKey{}), c.store.issue(webhook.APIKey{})
	c.do("GET", acme, "", "X-Auth-Token", one).want(http.StatusOK)
	a := c.do("GET", acme, "", "X-Auth-Token", one).want(http.StatusTooManyRequests)
	if s := a.Header.Get("Retry-After"); s != "10" {
		t.Errorf("Retry-After %q, want 10", s)
	}
	c.do("GET", acme, "", "X-Auth-Token", two).want(http.StatusOK)

	r := rates{perSecond: 1}
	at := time.Now()
	for i := range 3 * maxBuckets {
		r.take(string(rune('a'+i%26))+time.Duration(i).String(), at)
	}
	if n := len(r.now) + len(r.past); n > maxBuckets {
		t.Errorf("%d buckets", n)
	}
}
