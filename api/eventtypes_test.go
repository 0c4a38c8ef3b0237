package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestTheCatalogueKeepsSchemasAndExamplesThatMeetThem(t *testing.T) {
	c := start(t)
	body := `{"name":"store/order/created","description":"an order","schema":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}},"examples":[{"id":1}]}`
	made := c.do("POST", eventTypesPath, body, "Idempotency-Key", "k").want(http.StatusCreated)
	path := made.Header.Get("Location")
	if path != eventTypesPath+"/"+url.PathEscape("store/order/created") {
		t.Fatalf("Location %s", path)
	}
	c.do("POST", eventTypesPath, body, "Idempotency-Key", "k").want(http.StatusOK)
	c.do("POST", eventTypesPath, body).want(http.StatusConflict)
	got := decode[EventType](c.do("GET", path, "").want(http.StatusOK))
	if got.Name != "store/order/created" || string(got.Examples[0]) != `{"id":1}` || !strings.Contains(string(got.Schema), `"required":["id"]`) {
		t.Errorf("%+v", got)
	}
	if e := decode[Problem](c.do("PATCH", path, `{"examples":[{"id":2},{"id":"sEcret"}]}`).wantFields("examples[1]")); strings.Contains(e.Errors[0].Problem, "sEcret") {
		t.Errorf("quoted: %+v", e)
	}
	c.do("PATCH", path, `{"schema":{"type":"string"}}`).wantFields("examples[0]") // the examples must go with it
	v := decode[EventType](c.do("PATCH", path, `{"schema":null,"examples":["any"],"deprecated":true}`, "If-Match", `"1"`).want(http.StatusOK))
	if v.Schema != nil || !v.Deprecated || v.Version != 2 {
		t.Errorf("%+v", v)
	}
	c.do("PATCH", path, `{"archived":true}`).want(http.StatusOK)
	for query, n := range map[string]int{"": 1, "?archived=true": 1, "?archived=false": 0} {
		if page := decode[Page[EventType]](c.do("GET", eventTypesPath+query, "").want(http.StatusOK)); len(page.Items) != n {
			t.Errorf("%s: %d items, want %d", query, len(page.Items), n)
		}
	}
	c.create(`{"url":"https://a.b","events":["nothing.that.is.listed"]}`) // the catalogue doesn't bind
	c.do("DELETE", path, "").want(http.StatusNoContent)
	c.do("GET", path, "").want(http.StatusNotFound)
}

func TestSchemasThatAreNoneAreRefused(t *testing.T) {
	c := start(t)
	for name, schema := range map[string]string{
		"no schema":      `{"type":"nonsense"}`,
		"not an object":  `[1]`,
		"elsewhere":      `{"$ref":"https://example.com/schema.json"}`,
		"a file":         `{"$ref":"file:///etc/passwd"}`,
		"a bad pattern":  `{"type":"string","pattern":"("}`,
		"an unknown ref": `{"$ref":"#/$defs/nothing"}`,
	} {
		t.Run(name, func(t *testing.T) {
			c.do("POST", eventTypesPath, `{"name":"a.b","schema":`+schema+`}`).wantFields("schema")
		})
	}
	c.do("POST", eventTypesPath, `{"name":"order.*"}`).wantFields("name")
	c.do("POST", eventTypesPath, `{"name":""}`).wantFields("name")
	c.do("POST", eventTypesPath, `{"name":"r","schema":{"$ref":"#"},"examples":[1]}`).wantFields("examples[0]") // never ends by itself
	c.do("POST", eventTypesPath, `{"name":"r","schema":{"type":"object","properties":{"a":{"$ref":"#"}}},"examples":[{"a":{"a":{}}}]}`).want(http.StatusCreated)
}

func TestTheAuditLogIsListedNewestFirstAndByTenant(t *testing.T) {
	c := start(t, locked)
	admin := []string{"X-Auth-Token", adminKey}
	for _, id := range []string{"acme", "globex"} {
		c.do("POST", tenantsPath, `{"id":"`+id+`"}`, admin...).want(http.StatusCreated)
	}
	c.do("PATCH", "/v1/tenants/acme", `{"description":"x"}`, admin...).want(http.StatusOK)
	var got []string
	for cursor := ""; ; {
		page := decode[Page[AuditEntry]](c.do("GET", "/v1/audit?limit=2&cursor="+cursor, "", admin...).want(http.StatusOK))
		for _, e := range page.Items {
			got = append(got, e.Operation+" "+e.ID+" "+e.Actor)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if s := strings.Join(got, "|"); s != "updateTenant acme config-0|createTenant globex config-0|createTenant acme config-0" {
		t.Errorf("got %s", s)
	}
	if page := decode[Page[AuditEntry]](c.do("GET", "/v1/tenants/globex/audit", "", admin...).want(http.StatusOK)); len(page.Items) != 1 {
		t.Errorf("globex has %+v", page)
	}
	for _, cursor := range []string{"nonsense", encodeCursor("-1"), encodeCursor("x")} {
		c.do("GET", "/v1/audit?cursor="+cursor, "", admin...).wantFields("query.cursor")
	}
}

func TestAnAddressThatAHostHasIsCheckedBeforeAnythingIsWritten(t *testing.T) {
	asked := 0
	c := start(t, func(cfg *Config) {
		cfg.CheckAddress = func(_ context.Context, url string) []FieldError {
			if asked++; strings.Contains(url, "inside") {
				return []FieldError{{"url", "it is inside"}}
			}
			return nil
		}
	})
	made := c.create(plainBody)
	c.do("POST", acme, `{"url":"https://inside.example.com"}`).wantFields("url")
	c.do("PATCH", acme+"/"+made.ID, `{"url":"https://inside.example.com"}`).wantFields("url")
	c.do("PATCH", acme+"/"+made.ID, `{"description":"x"}`).want(http.StatusOK)
	if asked != 3 {
		t.Errorf("asked %d times, want 3: what doesn't name the URL asks nothing", asked)
	}
}

func TestEndpointsOfAllTenantsAreListedForAdministrators(t *testing.T) {
	c := start(t)
	for i, tenant := range []string{"acme", "globex", "acme", "initech"} {
		body := plainBody
		if i == 2 {
			body = `{"url":"https://a.b","disabled":true}`
		}
		c.do("POST", "/v1/tenants/"+tenant+"/endpoints", body).want(http.StatusCreated)
	}
	for query, want := range map[string]int{"": 4, "?status=enabled": 3, "?status=disabled": 1, "?limit=2": 2} {
		page := decode[EndpointList](c.do("GET", "/v1/endpoints"+query, "").want(http.StatusOK))
		if len(page.Items) != want {
			t.Errorf("%s: %d, want %d", query, len(page.Items), want)
		}
	}
}

func TestContractsSayWhatTheyPromise(t *testing.T) {
	c := start(t)
	if page := decode[Page[Contract]](c.do("GET", "/v1/contracts", "").want(http.StatusOK)); len(page.Items) != 2 {
		t.Errorf("%+v", page)
	}
	c.do("GET", "/v1/contracts/standard", "").want(http.StatusOK)
	c.do("GET", "/v1/contracts/nosuch", "").want(http.StatusNotFound)
}
