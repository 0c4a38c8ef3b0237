package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"posthorn/webhook"
)

func TestCreatedEndpointIsRegisteredAsAsked(t *testing.T) {
	c := start(t)
	a := c.do("POST", acme, `{"url":"https://hooks.example.com/a","description":"d","events":["order.*","*"],"contract":"plain",
		"headers":{"X-Team":"red"},"disabled":true,"rate_limit":2.5,"max_in_flight":7}`).want(http.StatusCreated)
	made := decode[CreatedEndpoint](a)
	if a.Header.Get("Location") != acme+"/"+made.ID || a.Header.Get("ETag") != `"1"` || made.Version != 1 || made.CreatedAt.IsZero() {
		t.Errorf("headers %v, body %s", a.Header, a.body)
	}
	ep, _ := c.store.Get(made.ID)
	if ep == nil || ep.Tenant != "acme" || ep.URL != "https://hooks.example.com/a" || ep.Description != "d" ||
		!slices.Equal(ep.Events, []string{"order.*", "*"}) || ep.Contract != "plain" || ep.Headers["X-Team"] != "red" ||
		!ep.Disabled || ep.RateLimit != 2.5 || ep.MaxInFlight != 7 || len(ep.Secrets) != 1 {
		t.Errorf("registered %+v", ep)
	}
	got := decode[Endpoint](c.do("GET", a.Header.Get("Location"), "").want(http.StatusOK))
	if fmt.Sprint(got) != fmt.Sprint(made.Endpoint) {
		t.Errorf("read   %+v\ncreated %+v", got, made.Endpoint)
	}
}

func TestAllButTheURLHasADefault(t *testing.T) {
	c := start(t)
	a := c.do("POST", acme, plainBody).want(http.StatusCreated)
	made := decode[CreatedEndpoint](a)
	if made.Contract != DefaultContract || made.Disabled || !strings.Contains(a.body, `"events":[]`) || !strings.Contains(a.body, `"headers":{}`) {
		t.Errorf("created %s", a.body)
	}
	c.do("POST", acme, `{"url":"https://hooks.example.com/a","events":null,"contract":null,"headers":null,"disabled":null}`).want(http.StatusCreated)
}

func TestAnotherTenantsEndpointIsNotThere(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	for _, id := range []string{made.ID, "ep_nosuch", "%2e%2e%2fx"} {
		path := "/v1/tenants/globex/endpoints/" + id
		for _, r := range []answer{
			c.do("GET", path, ""), c.do("PATCH", path, `{"disabled":true}`), c.do("DELETE", path, ""),
			c.do("PATCH", path, `{"disabled":true}`, "If-Match", `"1"`), c.do("DELETE", path, "", "If-Match", `"9"`),
		} {
			r.want(http.StatusNotFound)
		}
	}
	if ep, ok := c.store.Get(made.ID); !ok || ep.Version != 1 {
		t.Errorf("it was changed: %+v", ep)
	}
	if list := decode[EndpointList](c.do("GET", "/v1/tenants/globex/endpoints", "").want(http.StatusOK)); len(list.Items) != 0 {
		t.Errorf("listed for another tenant: %+v", list)
	}
}

func TestDeleteIsFinal(t *testing.T) {
	c := start(t)
	path := acme + "/" + c.create(plainBody).ID
	c.do("DELETE", path, "", "If-Match", `"2"`).want(http.StatusPreconditionFailed)
	if a := c.do("DELETE", path, "", "If-Match", `"1"`).want(http.StatusNoContent); a.body != "" {
		t.Errorf("204 with a body: %s", a.body)
	}
	c.do("GET", path, "").want(http.StatusNotFound)
	c.do("DELETE", path, "").want(http.StatusNotFound)
}

func TestPatchIsAMergePatch(t *testing.T) {
	const whole = `{"url":"https://hooks.example.com/a","description":"d","events":["a","b"],"headers":{"X-Team":"red","X-Run":"1"},
		"disabled":true,"rate_limit":2,"max_in_flight":7}`
	base := webhook.Endpoint{URL: "https://hooks.example.com/a", Description: "d", Events: []string{"a", "b"},
		Headers: map[string]string{"X-Team": "red", "X-Run": "1"}, Disabled: true, RateLimit: 2, MaxInFlight: 7, Contract: "standard"}
	for name, test := range map[string]struct {
		patch string
		want  func(*webhook.Endpoint)
	}{
		"absent fields stay":        {`{"description":"e"}`, func(e *webhook.Endpoint) { e.Description = "e" }},
		"null is the default":       {`{"description":null,"events":null,"disabled":null,"rate_limit":null,"max_in_flight":null}`, func(e *webhook.Endpoint) { *e = webhook.Endpoint{URL: e.URL, Contract: e.Contract, Headers: e.Headers} }},
		"zero is a value":           {`{"disabled":false,"rate_limit":0,"max_in_flight":0,"description":""}`, func(e *webhook.Endpoint) { e.Disabled, e.RateLimit, e.MaxInFlight, e.Description = false, 0, 0, "" }},
		"arrays are replaced":       {`{"events":["c"]}`, func(e *webhook.Endpoint) { e.Events = []string{"c"} }},
		"headers are merged":        {`{"headers":{"X-Team":null,"X-New":"2"}}`, func(e *webhook.Endpoint) { e.Headers = map[string]string{"X-Run": "1", "X-New": "2"} }},
		"header names have no case": {`{"headers":{"x-team":null,"x-run":"2"}}`, func(e *webhook.Endpoint) { e.Headers = map[string]string{"x-run": "2"} }},
		"null removes all headers":  {`{"headers":null}`, func(e *webhook.Endpoint) { e.Headers = nil }},
		"the same contract is fine": {`{"contract":"standard","url":"https://hooks.example.com/b"}`, func(e *webhook.Endpoint) { e.URL = "https://hooks.example.com/b" }},
	} {
		for _, mediaType := range []string{"application/json", "application/merge-patch+json", "application/merge-patch+json; charset=utf-8"} {
			t.Run(name+" as "+mediaType, func(t *testing.T) {
				c := start(t)
				c.store.rivals = 1
				made := c.create(whole)
				a := c.do("PATCH", acme+"/"+made.ID, test.patch, "Content-Type", mediaType).want(http.StatusOK)
				want := cloneOf(&base)
				test.want(want)
				ep, _ := c.store.Get(made.ID)
				if !sameSettings(ep, want) {
					t.Errorf("got  %+v\nwant %+v", ep, want)
				}
				if a.Header.Get("ETag") != `"2"` || ep.Version != 2 || len(ep.Secrets) != 1 || ep.CreatedAt != made.CreatedAt {
					t.Errorf("ETag %s, %+v", a.Header.Get("ETag"), ep)
				}
			})
		}
	}
}

func TestPatchThatChangesNothingKeepsTheVersion(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	for _, patch := range []string{`{}`, plainBody, `{"events":[],"headers":{"X-A":null}}`} {
		if a := c.do("PATCH", acme+"/"+made.ID, patch).want(http.StatusOK); a.Header.Get("ETag") != `"1"` {
			t.Errorf("%s: ETag %s", patch, a.Header.Get("ETag"))
		}
	}
}

func TestPatchNamesWhatIsWrongAndChangesNothing(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	for patch, fields := range map[string][]string{
		`{"url":null}`:                                {"url"},
		`{"url":"https://nodot/"}`:                    {"url"},
		`{"contract":"plain"}`:                        {"contract"},
		`{"contract":null,"events":"a"}`:              {"events"},
		`{"headers":{"X-A":"1","x-a":"2","X-B":"1"}}`: {"headers[x-a]"},
		`{"headers":{"Host":"a"}}`:                    {"headers[Host]"},
		`{"headers":{"X-A":1}}`:                       {"headers[X-A]"},
		`{"events":["a",""],"max_in_flight":5000}`:    {"events[1]", "max_in_flight"},
		`{"secret":"whsec_x"}`:                        {"secret"},
		`{"version":7}`:                               {"version"},
		`{"URL":"https://a.example.com"}`:             {"URL"},
		`[]`:                                          {"body"},
		`null`:                                        {"body"},
	} {
		c.do("PATCH", acme+"/"+made.ID, patch).wantFields(fields...)
	}
	if ep, _ := c.store.Get(made.ID); ep.Version != 1 {
		t.Errorf("changed to %+v", ep)
	}
}

func TestStricterRulesDoNotKeepAnEndpointFromBeingDisabled(t *testing.T) {
	c := start(t)
	path := acme + "/" + c.create(plainBody).ID
	c.store.endpoints[path[len(acme)+1:]].URL = "https://nodot/"
	c.do("PATCH", path, `{"disabled":true}`).want(http.StatusOK)
	c.do("PATCH", path, `{"disabled":true,"url":"https://nodot/b"}`).wantFields("url")
}

func TestIfMatchLetsOnlyTheVersionThatWasReadBeChanged(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path, n := acme+"/"+made.ID, int64(1)
	for _, test := range []struct {
		header string
		status int
	}{
		{`"%d"`, 200}, {`"0", "%d"`, 200}, {`W/"9" ,"%d"`, 200}, {`*`, 200}, {``, 200}, {`"a,b", "%d"`, 200},
		{`W/"%d"`, 412}, {`"0"`, 412}, {`"99"`, 412}, {`"0%d"`, 412}, {`""`, 412},
		{`%d`, 400}, {`"%d`, 400}, {`"%d",`, 400}, {`"%d" "0"`, 400}, {`"0",%d`, 400}, {`W/`, 400}, {`*, "%d"`, 400},
	} {
		header := strings.ReplaceAll(test.header, "%d", fmt.Sprint(n))
		a := c.do("PATCH", path, fmt.Sprintf(`{"description":"after %d"}`, n), "If-Match", header)
		switch test.status {
		case 400:
			a.wantFields("header.If-Match")
		default:
			a.want(test.status)
		}
		if test.status == 200 {
			n++
		}
		if ep, _ := c.store.Get(made.ID); ep.Version != n {
			t.Errorf("If-Match %s: version %d, want %d", header, ep.Version, n)
		}
	}
}

func TestOfTwoWhoReadTheSameVersionOneIsRefused(t *testing.T) {
	c := start(t)
	path := acme + "/" + c.create(plainBody).ID
	var statuses sync.Map
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			statuses.Store(i, c.do("PATCH", path, fmt.Sprintf(`{"description":"%d"}`, i), "If-Match", `"1"`).StatusCode)
		})
	}
	wg.Wait()
	count := map[any]int{}
	statuses.Range(func(_, status any) bool { count[status]++; return true })
	if count[200] != 1 || count[412] != 19 {
		t.Errorf("statuses %v, want one 200", count)
	}
}

func TestPlanLimitIsExactHoweverManyCreateAtOnce(t *testing.T) {
	c := start(t, func(cfg *Config) { cfg.Plans, cfg.DefaultPlan = map[string]Plan{"three": {3}, "any": {}}, "any" })
	c.do("POST", tenantsPath, `{"id":"acme","plan":"three"}`).want(http.StatusCreated)
	var mu sync.Mutex
	count := map[int]int{}
	var refusal answer
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			a := c.do("POST", acme, plainBody)
			mu.Lock()
			defer mu.Unlock()
			if count[a.StatusCode]++; a.StatusCode == http.StatusForbidden {
				refusal = a
			}
		})
	}
	wg.Wait()
	if count[201] != 3 || count[403] != 47 {
		t.Fatalf("statuses %v, want 3 created of 50", count)
	}
	if p := decode[Problem](refusal.want(403)); p.Type != TypeLimitReached || !strings.Contains(p.Detail, "3 endpoints") {
		t.Errorf("the limit is not named: %s", refusal.body)
	}
	for range 4 {
		c.do("POST", "/v1/tenants/globex/endpoints", plainBody).want(http.StatusCreated)
	}
	c.do("DELETE", acme+"/"+decode[EndpointList](c.do("GET", acme, "")).Items[0].ID, "").want(http.StatusNoContent)
	c.create(plainBody)
}
