package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"posthorn/webhook"
)

func TestGeneratedSecretIsInTheResponseToItsCreateAlone(t *testing.T) {
	c := start(t)
	c.store.rivals = 2
	made := c.create(plainBody, "Idempotency-Key", "k")
	path := acme + "/" + made.ID
	if !slices.Equal(c.secret.generated, []string{made.Secret}) || !slices.Equal(c.sealer.sealed, c.secret.generated) {
		t.Fatalf("secret %q, generated %q, sealed %q", made.Secret, c.secret.generated, c.sealer.sealed)
	}
	for _, a := range []answer{
		c.do("GET", path, "").want(http.StatusOK),
		c.do("GET", acme, "").want(http.StatusOK),
		c.do("PATCH", path, `{"description":"x"}`).want(http.StatusOK),
		c.do("PATCH", path, `{"description":"x"}`, "If-Match", `"1"`).want(http.StatusPreconditionFailed),
		c.do("POST", acme, plainBody, "Idempotency-Key", "k").want(http.StatusOK),
		c.do("POST", acme, `{"url":"https://a.b"}`, "Idempotency-Key", "k").want(http.StatusUnprocessableEntity),
		c.do("GET", "/v1/tenants/globex/endpoints/"+made.ID, "").want(http.StatusNotFound),
		c.do("DELETE", path, "").want(http.StatusNoContent),
	} {
		if strings.Contains(a.body, "generated") || strings.Contains(a.body, "secret") {
			t.Errorf("%s %s shows it: %s", a.Request.Method, a.Request.URL.Path, a.body)
		}
		if a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s may be cached", a.Request.Method, a.Request.URL.Path)
		}
	}
	if log := c.log.String(); strings.Contains(log, "generated") || strings.Count(log, "\n") != 3 {
		t.Errorf("want three lines (created, updated, deleted) and no secret: %s", log)
	}
}

func TestBroughtSecretIsSealedAndNeverQuoted(t *testing.T) {
	const secret = "whsec_broughtalong"
	c := start(t)
	valid := c.do("POST", acme, `{"url":"https://a.b","secret":"`+secret+`"}`).want(http.StatusCreated)
	if !slices.Equal(c.sealer.sealed, []string{secret}) || len(c.secret.generated) != 0 {
		t.Errorf("sealed %q, generated %q", c.sealer.sealed, c.secret.generated)
	}
	answers := []answer{valid}
	for _, body := range []string{
		`{"url":"https://a.b","secret":"` + secret + `","nosuch":1}`,
		`{"url":"https://a.b","contract":"plain","secret":"` + secret + `"}`,
		`{"url":"https://a.b","secret":["` + secret + `"]}`,
		`{"url":"https://a.b","secret":{"` + "a" + `":"` + secret + `"}}`,
		`{"url":1,"secret":"` + secret + `"}`,
		`{"secret":"` + secret + `"}`,
		`{"url":"https://a.b","max_in_flight":1e300,"secret":"` + secret + `"}`,
		`{"url":"https://a.b","secret":"` + secret + `"`,
		`"` + secret + `"`,
		`["` + secret + `"]`,
		secret,
		"\xff" + secret,
	} {
		answers = append(answers, c.do("POST", acme, body).want(http.StatusBadRequest))
	}
	answers = append(answers,
		c.do("POST", acme, `{"secret":"`+secret+`"}`, "Content-Type", "text/plain").want(http.StatusUnsupportedMediaType),
		c.do("POST", acme, `{"url":"https://a.b","secret":"`+secret+strings.Repeat(" ", maxBody)+`"}`).want(http.StatusRequestEntityTooLarge),
		c.do("PATCH", acme+"/ep_1", `{"secret":"`+secret+`"}`).want(http.StatusBadRequest))
	for _, a := range answers {
		if strings.Contains(a.body, secret) {
			t.Errorf("quoted: %s", a.body)
		}
	}
	if strings.Contains(c.log.String(), secret) {
		t.Errorf("logged: %s", c.log)
	}
}

func TestWhoGivesASecretOrAKeyForItsIDIsNotQuoted(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	key := c.store.issue(webhook.APIKey{})
	for _, a := range []answer{
		c.do("DELETE", acme+"/"+made.ID+"/secrets/"+made.Secret, "").want(http.StatusNotFound),
		c.do("GET", keysPath+"/"+key[:60], "").want(http.StatusNotFound),
		c.do("DELETE", keysPath+"/"+key[:60], "").want(http.StatusNotFound),
		c.do("GET", keysPath+"/"+key, "").want(http.StatusBadRequest), // longer than an ID may be
	} {
		if strings.Contains(a.body, made.Secret) || strings.Contains(a.body, key[:60]) {
			t.Errorf("%s %s: %s", a.Request.Method, a.Request.URL.Path, a.body)
		}
	}
	if log := c.log.String(); strings.Contains(log, made.Secret) || strings.Contains(log, key[:60]) {
		t.Errorf("logged: %s", log)
	}
}

func TestInternalErrorsAreLoggedAndNotTold(t *testing.T) {
	c := start(t)
	c.store.after = func() { panic("panicked inside") }
	c.do("POST", acme, plainBody).want(http.StatusInternalServerError)
	if a := c.do("POST", acme, plainBody).want(http.StatusInternalServerError); strings.Contains(a.body, "inside") {
		t.Errorf("told: %s", a.body)
	}
	c = start(t)
	c.store.before = func(ctx context.Context) error { return errors.New("broker 7 has no leader") }
	path := acme + "/ep_1"
	for _, a := range []answer{c.do("POST", acme, plainBody), c.do("PATCH", path, `{}`), c.do("DELETE", path, "")} {
		if a.want(http.StatusInternalServerError); strings.Contains(a.body, "broker") {
			t.Errorf("told: %s", a.body)
		}
	}
	if n := strings.Count(c.log.String(), "broker 7 has no leader"); n != 3 {
		t.Errorf("logged %d times, want 3: %s", n, c.log)
	}
}
