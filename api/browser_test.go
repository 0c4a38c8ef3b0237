package api

import (
	"net/http"
	"strings"
	"testing"
)

// send is do with every header as given, and a Host of its own.
func (c *client) send(method, path, host, body string, header http.Header) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Host, r.Header = host, header
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return read(c.t, resp)
}

func TestBodiesThatAreNotDeclaredAsJSONAreRefused(t *testing.T) {
	c := start(t)
	for _, declared := range [][]string{
		nil, {""}, {"text/plain"}, {"application/x-www-form-urlencoded"}, {"multipart/form-data; boundary=x"}, {"text/json"},
		{"application/vnd.api+json"}, {"text/plain; a=application/json"}, {"application/json,text/plain"}, {"application/json/x"},
		{"application/json", "text/plain"}, {"text/plain", "application/json"},
	} {
		a := c.send("POST", acme, "", plainBody, http.Header{"Content-Type": declared}).want(http.StatusUnsupportedMediaType)
		if len(c.store.endpoints) != 0 || strings.Contains(a.body, "generated") {
			t.Fatalf("%q registered an endpoint: %s", declared, a.body)
		}
	}
	for _, declared := range []string{"application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"} {
		c.send("POST", acme, "", plainBody, http.Header{"Content-Type": {declared}}).want(http.StatusCreated)
	}
}

func TestPagesOfOtherOriginsCanNotChangeAnything(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID
	json := []string{"application/json"}
	for _, header := range []http.Header{
		{"Origin": {"https://evil.example"}, "Content-Type": json},
		{"Origin": {"null"}, "Content-Type": json},
		{"Sec-Fetch-Site": {"cross-site"}, "Content-Type": json},
		{"Sec-Fetch-Site": {"same-site"}, "Content-Type": json},
	} {
		c.send("POST", acme, "", plainBody, header).want(http.StatusForbidden)
		c.send("PATCH", path, "", `{"disabled":true}`, header).want(http.StatusForbidden)
		c.send("DELETE", path, "", "", header).want(http.StatusForbidden)
	}
	if len(c.store.endpoints) != 1 || c.store.endpoints[made.ID].Version != 1 {
		t.Errorf("changed: %v", c.store.endpoints)
	}
	c.send("POST", acme, "", plainBody, http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {c.base}, "Content-Type": json}).want(http.StatusCreated)
}

func TestOnLoopbackOnlyItsOwnHostsAreServed(t *testing.T) {
	c := start(t, func(cfg *Config) {
		cfg.RestrictHosts, cfg.AllowedHosts = true, []string{"Posthorn.internal", "192.0.2.7"}
	})
	json := http.Header{"Content-Type": {"application/json"}}
	for _, host := range []string{"evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.8", "[::2]:80", "localhost:1:2", ".localhost"} {
		c.send("POST", acme, host, plainBody, json).want(http.StatusMisdirectedRequest)
		c.send("GET", acme, host, "", nil).want(http.StatusMisdirectedRequest)
		c.send("GET", "/openapi.json", host, "", nil).want(http.StatusMisdirectedRequest)
	}
	if len(c.store.endpoints) != 0 {
		t.Errorf("registered: %v", c.store.endpoints)
	}
	for _, host := range []string{"", "localhost", "LOCALHOST:9464", "127.0.0.1:1", "127.1.2.3", "[::1]:9464", "[::1]", "posthorn.internal:80", "192.0.2.7"} {
		c.send("POST", acme, host, plainBody, json).want(http.StatusCreated)
	}
	anywhere := start(t)
	anywhere.send("GET", acme, "posthorn.example", "", nil).want(http.StatusOK)
}
