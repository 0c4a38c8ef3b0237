package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

func (c *client) secrets(id string) []Secret {
	c.t.Helper()
	return decode[SecretList](c.do("GET", acme+"/"+id+"/secrets", "").want(http.StatusOK)).Items
}

func TestARotatedSecretSignsBesideTheOneBeforeForTheOverlap(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID + "/secrets"
	begun := time.Now()
	for _, tc := range []struct {
		body    string
		overlap time.Duration
	}{{"", 24 * time.Hour}, {`{}`, 24 * time.Hour}, {`{"overlap_seconds":604800}`, 7 * 24 * time.Hour}, {`{"overlap_seconds":60,"secret":"whsec_brought"}`, time.Minute}} {
		before := c.secrets(made.ID)
		a := c.do("POST", path, tc.body).want(http.StatusCreated)
		got := decode[RotatedSecret](a)
		after := c.secrets(made.ID)
		if len(after) != len(before)+1 || after[0].ID != got.ID || !after[0].Current || !got.ExpiresAt.IsZero() {
			t.Fatalf("%s: listed %+v after %+v", a.body, after, before)
		}
		if brought := strings.Contains(tc.body, "brought"); (got.Text == "") != brought || strings.Contains(a.body, "whsec_brought") {
			t.Errorf("%s was answered %s", tc.body, a.body)
		}
		old := after[1]
		if end := old.ExpiresAt.Sub(begun); old.ID != before[0].ID || old.Current || end < tc.overlap || end > tc.overlap+time.Minute {
			t.Errorf("%s: the one before ends in %s, want %s", tc.body, end, tc.overlap)
		}
		if ep, _ := c.store.Get(made.ID); a.Header.Get("ETag") != etag(ep.Version) || a.Header.Get("Location") != path+"/"+got.ID {
			t.Errorf("headers %v", a.Header)
		}
	}
	// Five sign by now.
	p := decode[Problem](c.do("POST", path, "").want(http.StatusConflict))
	if p.Type != TypeTooManySecrets || len(c.secrets(made.ID)) != 5 {
		t.Errorf("the sixth was answered %+v", p)
	}
	if now := decode[RotatedSecret](c.do("POST", path, `{"overlap_seconds":0}`).want(http.StatusCreated)); c.secrets(made.ID)[0].ID != now.ID || len(c.secrets(made.ID)) != 5 {
		t.Errorf("without overlap: %+v", c.secrets(made.ID))
	}
}

func TestAContractWithoutOverlapInvalidatesAtOnce(t *testing.T) {
	c := start(t)
	made := c.create(`{"url":"https://a.b","contract":"plain"}`)
	path := acme + "/" + made.ID + "/secrets"
	c.do("POST", path, `{"overlap_seconds":60}`).wantFields("overlap_seconds")
	got := decode[RotatedSecret](c.do("POST", path, "").want(http.StatusCreated))
	if ss := c.secrets(made.ID); len(ss) != 1 || ss[0].ID != got.ID {
		t.Errorf("listed %+v", ss)
	}
	c.do("POST", path, `{"secret":"whsec_ofanothercontract"}`).wantFields("secret")
	c.do("POST", path, `{"overlap_seconds":-1}`).wantFields("overlap_seconds")
	c.do("POST", path, `{"overlap_seconds":604801}`).wantFields("overlap_seconds")
}

func TestASecretInItsOverlapIsRevokedAtOnceTheCurrentOneNever(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID + "/secrets/"
	first := c.secrets(made.ID)[0].ID
	p := decode[Problem](c.do("DELETE", path+first, "").want(http.StatusConflict))
	if p.Type != TypeSecretNeeded {
		t.Errorf("answered %+v", p)
	}
	now := decode[RotatedSecret](c.do("POST", acme+"/"+made.ID+"/secrets", "").want(http.StatusCreated))
	c.do("DELETE", path+now.ID, "").want(http.StatusConflict)
	c.do("DELETE", path+first, "", "If-Match", `"1"`).want(http.StatusPreconditionFailed)
	c.do("DELETE", path+first, "").want(http.StatusNoContent)
	c.do("DELETE", path+first, "").want(http.StatusNotFound)
	if ss := c.secrets(made.ID); len(ss) != 1 || ss[0].ID != now.ID {
		t.Errorf("listed %+v", ss)
	}
}

func TestWhatHasExpiredIsNeitherListedNorKeptByARotation(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	c.store.mu.Lock()
	ep := c.store.endpoints[made.ID]
	ep.Secrets = append(ep.Secrets, webhook.SealedSecret{ID: "sec_old", CreatedAt: time.Now().Add(-time.Hour), ExpiresAt: time.Now().Add(-time.Second)})
	c.store.mu.Unlock()
	if ss := c.secrets(made.ID); len(ss) != 1 {
		t.Errorf("listed %+v", ss)
	}
	c.do("DELETE", acme+"/"+made.ID+"/secrets/sec_old", "").want(http.StatusNotFound)
	c.do("POST", acme+"/"+made.ID+"/secrets", "").want(http.StatusCreated)
	if ep, _ := c.store.Get(made.ID); len(ep.Secrets) != 2 {
		t.Errorf("kept %+v", ep.Secrets)
	}
}

func TestARepeatedRotationRotatesOnce(t *testing.T) {
	c := start(t)
	c.store.rivals = 2
	made := c.create(plainBody)
	path := acme + "/" + made.ID + "/secrets"
	first := decode[RotatedSecret](c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusCreated))
	version := c.do("GET", acme+"/"+made.ID, "").Header.Get("ETag")
	for _, body := range []string{"", "{}"} {
		again := c.do("POST", path, body, "Idempotency-Key", "k", "If-Match", `"1"`).want(http.StatusOK)
		if got := decode[RotatedSecret](again); got.ID != first.ID || got.Text != "" || again.Header.Get("ETag") != version {
			t.Errorf("repeated: %s, first %+v", again.body, first)
		}
	}
	c.do("POST", path, `{"overlap_seconds":1}`, "Idempotency-Key", "k").want(http.StatusUnprocessableEntity)
	if other := decode[RotatedSecret](c.do("POST", path, "", "Idempotency-Key", "l").want(http.StatusCreated)); other.ID == first.ID {
		t.Error("another key found the first's secret")
	}
	if n := len(c.secrets(made.ID)); n != 3 {
		t.Errorf("%d secrets, want 3", n)
	}
	c.do("POST", path, "", "Idempotency-Key", "é").want(http.StatusBadRequest)
}

func TestAnotherTenantsSecretsAreNotThere(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := "/v1/tenants/globex/endpoints/" + made.ID + "/secrets"
	for _, a := range []answer{
		c.do("GET", path, ""), c.do("POST", path, ""), c.do("POST", path, "", "Idempotency-Key", "k"),
		c.do("DELETE", path+"/"+c.secrets(made.ID)[0].ID, ""),
	} {
		if a.want(http.StatusNotFound); strings.Contains(a.body, "sec_") {
			t.Errorf("told: %s", a.body)
		}
	}
}

func TestARotatedSecretIsInTheResponseToItsRotationAlone(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID + "/secrets"
	a := c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusCreated)
	if got := decode[RotatedSecret](a); got.Text != c.secret.generated[1] || c.sealer.sealed[1] != got.Text {
		t.Errorf("shown %s, generated %q", a.body, c.secret.generated)
	}
	const brought = "whsec_broughtalong"
	for _, a := range []answer{
		c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusOK),
		c.do("GET", path, "").want(http.StatusOK),
		c.do("GET", acme+"/"+made.ID, "").want(http.StatusOK),
		c.do("POST", path, `{"secret":"`+brought+`"}`).want(http.StatusCreated),
		c.do("POST", path, `{"secret":"`+brought+`","nosuch":1}`).want(http.StatusBadRequest),
		c.do("POST", path, `{"secret":["`+brought+`"]}`).want(http.StatusBadRequest),
		c.do("POST", path, `"`+brought+`"`).want(http.StatusBadRequest),
	} {
		if strings.Contains(a.body, "generated") || strings.Contains(a.body, brought) {
			t.Errorf("%s %s shows it: %s", a.Request.Method, a.Request.URL.Path, a.body)
		}
	}
	if log := c.log.String(); strings.Contains(log, "generated") || strings.Contains(log, brought) {
		t.Errorf("logged: %s", log)
	}
}
