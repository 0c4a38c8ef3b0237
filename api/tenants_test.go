package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

func planned(cfg *Config) {
	cfg.Plans, cfg.DefaultPlan = map[string]Plan{"free": {1}, "pro": {2}, "any": {}}, "any"
}

func TestATenantIsCreatedChangedAndDeleted(t *testing.T) {
	c := start(t, planned)
	body := `{"id":"acme","description":"a shop","plan":"pro"}`
	made := c.do("POST", tenantsPath, body, "Idempotency-Key", "k").want(http.StatusCreated)
	got := decode[Tenant](made)
	if got.ID != "acme" || got.Plan != "pro" || got.EndpointLimit != 2 || got.Version != 1 || made.Header.Get("ETag") != `"1"` || made.Header.Get("Location") != "/v1/tenants/acme" {
		t.Errorf("%s %v", made.body, made.Header)
	}
	c.do("POST", tenantsPath, body, "Idempotency-Key", "k").want(http.StatusOK)
	c.do("POST", tenantsPath, `{"id":"acme"}`, "Idempotency-Key", "k").want(http.StatusUnprocessableEntity)
	c.do("POST", tenantsPath, body).want(http.StatusConflict)
	c.do("POST", tenantsPath, `{"id":"a b","plan":"gold","max_endpoints":2}`).wantFields("id", "plan")
	c.do("PATCH", "/v1/tenants/acme", `{"plan":"free"}`, "If-Match", `"7"`).want(http.StatusPreconditionFailed)
	changed := c.do("PATCH", "/v1/tenants/acme", `{"plan":null,"max_endpoints":5,"suspended":true}`, "If-Match", `"1"`).want(http.StatusOK)
	if v := decode[Tenant](changed); v.Plan != "any" || v.EndpointLimit != 5 || !v.Suspended || v.Version != 2 || v.Description != "a shop" {
		t.Errorf("%s", changed.body)
	}
	if v := decode[Tenant](c.do("PATCH", "/v1/tenants/acme", `{"suspended":true}`).want(http.StatusOK)); v.Version != 2 {
		t.Errorf("a patch that changes nothing makes version %d", v.Version)
	}
	c.do("PATCH", "/v1/tenants/acme", `{"plan":"gold"}`).wantFields("plan")
	c.do("PATCH", "/v1/tenants/globex", `{}`).want(http.StatusNotFound)

	ep := c.create(plainBody)
	key := c.store.issue(webhook.APIKey{Tenant: "acme"})
	c.do("GET", acme, "", "X-Auth-Token", key).want(http.StatusOK)
	c.do("DELETE", "/v1/tenants/acme", "").want(http.StatusConflict)
	c.do("DELETE", acme+"/"+ep.ID, "").want(http.StatusNoContent)
	c.do("DELETE", "/v1/tenants/acme", "").want(http.StatusNoContent)
	c.do("GET", "/v1/tenants/acme", "").want(http.StatusNotFound)
	c.do("GET", acme, "", "X-Auth-Token", key).want(http.StatusUnauthorized)
	c.create(plainBody) // as any tenant that was never created

	var ops []string
	for _, e := range c.store.audit {
		if e.Kind == kindTenant {
			ops = append(ops, e.Operation+" "+e.Tenant+" "+strings.Join(e.Fields, ","))
		}
	}
	want := "createTenant acme description,plan|updateTenant acme max_endpoints,plan,suspended|deleteTenant acme "
	if s := strings.Join(ops, "|"); s != want {
		t.Errorf("audit log %s, want %s", s, want)
	}
}

func TestATenantThatComesAgainMeetsNothingOfTheOneBefore(t *testing.T) {
	c := start(t, onBelt(&belt{}, nil))
	for _, tenant := range []string{"acme", "acme2"} { // one's name begins with the other's
		path := "/v1/tenants/" + tenant
		c.do("POST", tenantsPath, `{"id":"`+tenant+`"}`).want(http.StatusCreated)
		ep := decode[CreatedEndpoint](c.do("POST", path+"/endpoints", plainBody).want(http.StatusCreated))
		c.do("POST", path+"/endpoints/"+ep.ID+"/test", "", "Idempotency-Key", "k").want(http.StatusAccepted)
		r := decode[Replay](c.do("POST", path+"/replays", fmt.Sprintf(`{"endpoint":%q,"since":%q}`, ep.ID, ago(time.Hour))).want(http.StatusAccepted))
		if err := c.store.Update(t.Context(), func(tx Tx) error {
			return tx.PutRaw(KindProgress, replayKey(tenant, r.ID), []byte(`{"state":"completed"}`))
		}); err != nil {
			t.Fatal(err)
		}
		c.do("PUT", path+"/pause", "").want(http.StatusOK)
		c.store.issue(webhook.APIKey{Tenant: tenant})
		c.do("DELETE", path+"/endpoints/"+ep.ID, "").want(http.StatusNoContent)
	}
	c.do("DELETE", "/v1/tenants/acme", "").want(http.StatusNoContent)
	left := map[string]int{}
	for key, value := range c.store.raw {
		kind, _, _ := strings.Cut(key, "/")
		left[kind]++
		if kind != "started" && (strings.Contains(key+"/", "/acme/") || strings.Contains(string(value), `"acme"`)) {
			t.Errorf("%s is still there: %s", key, value)
		}
	}
	for _, kind := range []string{kindTenant, KindKey, webhook.KindPause, KindReplay, KindProgress, KindOnce} {
		if left[kind] != 1 {
			t.Errorf("%d of kind %s are left, want that of the other tenant", left[kind], kind)
		}
	}
	c.do("POST", tenantsPath, `{"id":"acme"}`).want(http.StatusCreated)
	if decode[Pause](c.do("GET", "/v1/tenants/acme/pause", "").want(http.StatusOK)).Paused {
		t.Error("the one that came again is paused")
	}
}

func TestTenantsAreListedPageByPage(t *testing.T) {
	c := start(t)
	for _, id := range []string{"d", "b", "a", "c", "e"} {
		c.do("POST", tenantsPath, `{"id":"`+id+`"}`).want(http.StatusCreated)
	}
	var got []string
	for cursor, pages := "", 0; ; pages++ {
		page := decode[Page[Tenant]](c.do("GET", tenantsPath+"?limit=2&cursor="+cursor, "").want(http.StatusOK))
		for _, item := range page.Items {
			got = append(got, item.ID)
		}
		if cursor = page.Next; cursor == "" {
			if pages != 2 {
				t.Errorf("%d pages behind the first, want 2", pages)
			}
			break
		}
	}
	if s := strings.Join(got, ""); s != "abcde" {
		t.Errorf("listed %s", s)
	}
	c.do("GET", tenantsPath+"?cursor=nonsense", "").wantFields("query.cursor")
}

func TestTheLimitThatCountsIsNamed(t *testing.T) {
	c := start(t, planned)
	c.create(plainBody)
	c.create(plainBody)
	c.create(plainBody) // no limit by default
	c.do("POST", tenantsPath, `{"id":"acme","plan":"pro"}`).want(http.StatusCreated)
	refused := func(words string) {
		t.Helper()
		a := c.do("POST", acme, plainBody).want(http.StatusForbidden)
		if p := decode[Problem](a); p.Type != TypeLimitReached || !strings.Contains(p.Detail, words) {
			t.Errorf("want %q: %s", words, a.body)
		}
	}
	refused(`Plan "pro" of tenant "acme" allows 2 endpoints, and it has 3`)
	c.do("PATCH", "/v1/tenants/acme", `{"max_endpoints":3}`).want(http.StatusOK)
	refused(`own limit of tenant "acme" allows 3`)
	c.do("PATCH", "/v1/tenants/acme", `{"max_endpoints":0}`).want(http.StatusOK)
	c.create(plainBody)
	c.store.raw["tenant/acme"] = []byte(`{"id":"acme","plan":"gone"}`)
	refused(`"gone"`)
}

func TestATenantsKeyReadsItsTenantAndChangesNothingOfIt(t *testing.T) {
	c := start(t, locked)
	c.do("POST", tenantsPath, `{"id":"acme"}`, "X-Auth-Token", adminKey).want(http.StatusCreated)
	key := c.store.issue(webhook.APIKey{Tenant: "acme"})
	c.do("GET", "/v1/tenants/acme", "", "X-Auth-Token", key).want(http.StatusOK)
	for _, method := range []string{"PATCH", "DELETE"} {
		c.do(method, "/v1/tenants/acme", `{"suspended":true}`, "X-Auth-Token", key).want(http.StatusForbidden)
	}
}
