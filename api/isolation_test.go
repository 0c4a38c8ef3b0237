package api

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"posthorn/webhook"
)

// routes lists every operation of the OpenAPI document.
func routes(t testing.TB) (out []route) {
	t.Helper()
	b, err := os.ReadFile("openapi.json") // which is the one served, another test says
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method, text := range methods {
			var op struct {
				OperationID string
				Access      access `json:"x-posthorn-access"`
				Parameters  []struct{ Name, In string }
				RequestBody struct {
					Content map[string]struct{ Schema schema }
				}
			}
			if err := json.Unmarshal(text, &op); err != nil {
				t.Fatal(err)
			}
			r := route{id: op.OperationID, method: strings.ToUpper(method), path: path, access: op.Access}
			for _, p := range op.Parameters {
				if p.In == "header" {
					r.headers = append(r.headers, p.Name)
				}
			}
			for _, content := range op.RequestBody.Content {
				r.body = doc.Components.Schemas[strings.TrimPrefix(content.Schema.Ref, "#/components/schemas/")]
				if r.body == nil {
					t.Fatalf("%s: the body's schema is not among the components", r.id)
				}
			}
			out = append(out, r)
		}
	}
	return out
}

type route struct {
	id, method, path string
	access           access
	headers          []string // that it declares
	body             *schema  // nil for none
}

func (r route) takes(header string) bool { return slices.Contains(r.headers, header) }

// at fills the placeholders of a route's path.
func (r route) at(tenant, id string) string {
	path := strings.ReplaceAll(r.path, "{tenant}", tenant)
	for {
		before, rest, ok := strings.Cut(path, "{")
		if !ok {
			return path
		}
		_, after, _ := strings.Cut(rest, "}")
		path = before + id + after
	}
}

// The law is driven over the document, so that a route that is added later is
// held to it.
func TestATenantsKeySeesNoOtherTenantOnAnyRoute(t *testing.T) {
	c := start(t, locked)
	ours := c.store.issue(webhook.APIKey{Tenant: "acme"})
	made := decode[CreatedEndpoint](c.do("POST", "/v1/tenants/globex/endpoints", `{"url":"https://hooks.globex.example/a"}`, "X-Auth-Token", adminKey).want(http.StatusCreated))
	changes := len(c.store.audit)
	for _, r := range routes(t) {
		body := ""
		if r.method == "POST" || r.method == "PATCH" || r.method == "PUT" {
			body = `{}`
		}
		switch r.access {
		case accessTenant:
			if !strings.Contains(r.path, "/tenants/{tenant}") {
				t.Errorf("%s: a tenant's resource has its tenant in the path, not %s", r.id, r.path)
			}
			// The same answer whether or not there is anything.
			for _, id := range []string{made.ID, "nosuch"} {
				for _, tenant := range []string{"globex", "nosuch", "ACME", "acme%20", "%2e%2e"} {
					a := c.do(r.method, r.at(tenant, id), body, "X-Auth-Token", ours).want(http.StatusForbidden)
					if p := decode[Problem](a); p.Type != TypeForbidden || strings.Contains(a.body, "globex") {
						t.Errorf("%s of %s: %s", r.id, tenant, a.body)
					}
				}
			}
			// In its own tenant it finds nothing of the other's.
			if strings.Contains(r.path, "{id}") {
				a := c.do(r.method, r.at("acme", made.ID), body, "X-Auth-Token", ours)
				if a.StatusCode < 400 || strings.Contains(a.body, "globex") {
					t.Errorf("%s finds another tenant's resource in its own: %d %s", r.id, a.StatusCode, a.body)
				}
			}
		case accessAdmin:
			a := c.do(r.method, r.at("acme", made.ID), body, "X-Auth-Token", ours).want(http.StatusForbidden)
			if strings.Contains(a.body, "globex") {
				t.Errorf("%s: %s", r.id, a.body)
			}
		case accessAll:
			if r.method != "GET" {
				t.Errorf("%s: %s is open to every key and changes something", r.id, r.method)
			}
			a := c.do(r.method, r.at("acme", made.ID), "", "X-Auth-Token", ours)
			if strings.Contains(a.body, "globex") {
				t.Errorf("%s shows another tenant: %s", r.id, a.body)
			}
		default:
			t.Errorf("%s: the document doesn't say who may call it", r.id)
		}
		c.do(r.method, r.at("acme", made.ID), body).want(http.StatusUnauthorized)
	}
	if n := len(c.store.audit); n != changes {
		t.Errorf("%d changes were made", n-changes)
	}
}

func TestAKeyIsShownOnceAndEndsWhenRevoked(t *testing.T) {
	c := start(t, locked)
	admin := []string{"X-Auth-Token", adminKey}
	body := `{"description":"the shop's","tenant":"acme","expires_at":"2999-01-01T00:00:00+01:00"}`
	once := append([]string{"Idempotency-Key", "k"}, admin...)
	made := decode[CreatedKey](c.do("POST", keysPath, body, once...).want(http.StatusCreated))
	if !strings.HasPrefix(made.Text, "ph_") || made.LastFour != made.Text[len(made.Text)-4:] || made.Tenant != "acme" {
		t.Fatalf("%+v", made)
	}
	secret := made.Text[len(made.Text)-30:]
	again := c.do("POST", keysPath, body, once...).want(http.StatusOK)
	if decode[CreatedKey](again).ID != made.ID {
		t.Errorf("a repeat made another: %s", again.body)
	}
	c.do("POST", keysPath, `{}`, once...).want(http.StatusUnprocessableEntity)
	answers := []answer{again, c.do("GET", keysPath, "", admin...).want(http.StatusOK), c.do("GET", keysPath+"/"+made.ID, "", admin...).want(http.StatusOK)}
	me := decode[WhoAmI](c.do("GET", "/v1/whoami", "", "X-Auth-Token", made.Text).want(http.StatusOK))
	if me.ID != made.ID || me.Tenant != "acme" || me.ReadOnly {
		t.Errorf("whoami: %+v", me)
	}
	for _, value := range c.store.raw {
		if strings.Contains(string(value), secret) {
			t.Errorf("the registry has it: %s", value)
		}
	}
	for _, a := range answers {
		if strings.Contains(a.body, secret) || strings.Contains(a.body, "hash") {
			t.Errorf("%s %s: %s", a.Request.Method, a.Request.URL.Path, a.body)
		}
	}
	if strings.Contains(c.log.String(), secret) {
		t.Errorf("logged: %s", c.log)
	}
	c.do("DELETE", keysPath+"/"+made.ID, "", admin...).want(http.StatusNoContent)
	c.do("GET", "/v1/whoami", "", "X-Auth-Token", made.Text).want(http.StatusUnauthorized)
	c.do("DELETE", keysPath+"/"+made.ID, "", admin...).want(http.StatusNotFound)
	c.do("POST", keysPath, `{"expires_at":"2001-01-01T00:00:00Z","tenant":"a b"}`, admin...).wantFields("expires_at", "tenant")
}
