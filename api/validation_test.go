package api

import (
	"net/http"
	"strings"
	"testing"
)

func TestCreateNamesEachFieldThatIsWrong(t *testing.T) {
	c := start(t)
	for body, fields := range map[string][]string{
		`{}`:                             {"url"},
		`{"url":null}`:                   {"url"},
		`{"url":1}`:                      {"url"},
		`{"url":"ftp://a.example.com"}`:  {"url"},
		`{"url":"https://localhost/x"}`:  {"url"},
		`{"url":"x","url":null}`:         {"url"},
		`{"url":"https://a.b","urll":1}`: {"urll"},
		`{"URL":"https://a.b"}`:          {"URL", "url"},
		`{"url":"https://a.b","id":"ep_x","version":3,"tenant":"x"}`:                                           {"id", "tenant", "version"},
		`{"url":"https://a.b","events":{}}`:                                                                    {"events"},
		`{"url":"https://a.b","events":["a",1]}`:                                                               {"events[1]"},
		`{"url":"https://a.b","events":["a","b c",""]}`:                                                        {"events[1]", "events[2]"},
		`{"url":"https://a.b","contract":"nosuch"}`:                                                            {"contract"},
		`{"url":"https://a.b","contract":"nosuch","secret":"x"}`:                                               {"contract"},
		`{"url":"https://a.b","headers":{"Host":"x","X Y":"z"}}`:                                               {"headers[Host]", "headers[X Y]"},
		`{"url":"https://a.b","headers":{"X.Y":1}}`:                                                            {"headers[X.Y]"},
		`{"url":"https://a.b","secret":"bad"}`:                                                                 {"secret"},
		`{"url":"https://a.b","contract":"plain","secret":"whsec_x"}`:                                          {"secret"},
		`{"url":"https://a.b","rate_limit":-1}`:                                                                {"rate_limit"},
		`{"url":"https://a.b","rate_limit":"1"}`:                                                               {"rate_limit"},
		`{"url":"https://a.b","rate_limit":1e999}`:                                                             {"body"},
		`{"url":"https://a.b","max_in_flight":1.5}`:                                                            {"max_in_flight"},
		`{"url":"https://a.b","max_in_flight":1e300}`:                                                          {"body"},
		`{"url":"https://a.b","max_in_flight":5000}`:                                                           {"max_in_flight"},
		`{"url":"https://nodot","disabled":true,"events":[""],"contract":"plain","secret":"whsec_abcdefghij"}`: {"events[0]", "secret", "url"},
		`{"url":"https://a.b"`:                                                                                 {"body"},
		`{"url":"https://a.b"} {}`:                                                                             {"body"},
		"{\"url\":\"https://a.b/\xff\"}":                                                                       {"body"},
		`[]`:                                                                                                   {"body"},
		`null`:                                                                                                 {"body"},
		`"x"`:                                                                                                  {"body"},
		``:                                                                                                     {"body"},
		`   `:                                                                                                  {"body"},
	} {
		a := c.do("POST", acme, body)
		if a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %d", body, a.StatusCode)
			continue
		}
		a.wantFields(fields...)
	}
	c.do("POST", "/v1/tenants/a%20b/endpoints", plainBody).wantFields("tenant")
	c.do("POST", "/v1/tenants/"+strings.Repeat("a", 200)+"/endpoints", plainBody).wantFields("path.tenant")
	c.do("POST", acme+"?dry_run=true", plainBody).wantFields("query.dry_run")
	if len(c.store.endpoints) != 0 {
		t.Errorf("registered all the same: %d", len(c.store.endpoints))
	}
}

func TestOtherMediaTypesAreRefused(t *testing.T) {
	c := start(t)
	for _, mediaType := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense", "a;b+c"} {
		c.do("POST", acme, plainBody, "Content-Type", mediaType).want(http.StatusUnsupportedMediaType)
	}
	c.do("POST", acme, plainBody, "Content-Type", "application/json; charset=utf-8").want(http.StatusCreated)
	c.do("POST", acme, plainBody, "Accept", "text/html").want(http.StatusCreated)
}

func TestUnknownResourcesAndMethodsAreProblemsToo(t *testing.T) {
	c := start(t)
	c.do("GET", "/", "").want(http.StatusNotFound)
	c.do("GET", "/v1/tenant", "").want(http.StatusNotFound)
	c.do("GET", "/docs", "").want(http.StatusNotFound)
	c.do("GET", "/openapi.yaml", "").want(http.StatusNotFound)
	for path, methods := range map[string]string{acme: "GET, HEAD, POST", acme + "/ep_1": "DELETE, GET, HEAD, PATCH"} {
		if a := c.do("PUT", path, plainBody).want(http.StatusMethodNotAllowed); a.Header.Get("Allow") != methods {
			t.Errorf("%s: Allow %q, want %q", path, a.Header.Get("Allow"), methods)
		}
	}
}
