package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// One target for every body that the OpenAPI document describes; its name says
// which operation's.

func FuzzCreateEndpointBody(f *testing.F)  { fuzzBody(f) }
func FuzzUpdateEndpointBody(f *testing.F)  { fuzzBody(f) }
func FuzzPurgeEndpointBody(f *testing.F)   { fuzzBody(f) }
func FuzzTestEndpointBody(f *testing.F)    { fuzzBody(f) }
func FuzzRotateSecretBody(f *testing.F)    { fuzzBody(f) }
func FuzzCreateReplayBody(f *testing.F)    { fuzzBody(f) }
func FuzzDryRunBody(f *testing.F)          { fuzzBody(f) }
func FuzzCreateTenantBody(f *testing.F)    { fuzzBody(f) }
func FuzzUpdateTenantBody(f *testing.F)    { fuzzBody(f) }
func FuzzPauseTenantBody(f *testing.F)     { fuzzBody(f) }
func FuzzPauseEverythingBody(f *testing.F) { fuzzBody(f) }
func FuzzCreateKeyBody(f *testing.F)       { fuzzBody(f) }
func FuzzCreateEventTypeBody(f *testing.F) { fuzzBody(f) }
func FuzzUpdateEventTypeBody(f *testing.F) { fuzzBody(f) }

func TestEveryBodyOfTheDocumentHasAFuzzTarget(t *testing.T) {
	source, err := os.ReadFile("fuzz_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var have, want []string
	for _, m := range regexp.MustCompile(`(?m)^func Fuzz(\w+)Body\(`).FindAllStringSubmatch(string(source), -1) {
		have = append(have, m[1])
	}
	for _, r := range routes(t) {
		if r.body != nil {
			want = append(want, targetOf(r))
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) || len(want) == 0 {
		t.Errorf("there are Fuzz…Body for %q, the document has bodies of %q", have, want)
	}
}

func targetOf(r route) string { return strings.ToUpper(r.id[:1]) + r.id[1:] }

// fuzzBody sends a body to the operation that its target is named after, from an
// administrator and from acme's key. Whatever it is: nothing fails inside, acme's
// key neither sees nor changes anything of globex, and secrets and keys are in no
// answer but the one to the request that made them, and never in the log.
func fuzzBody(f *testing.F) {
	all := routes(f)
	at := slices.IndexFunc(all, func(r route) bool { return "Fuzz"+targetOf(r)+"Body" == f.Name() })
	if at < 0 || all[at].body == nil {
		f.Fatal("the document has no such body")
	}
	op := all[at]
	reads := slices.DeleteFunc(all, func(r route) bool { return r.method != http.MethodGet })
	seeds := seedsOf(f, op.body)
	for _, body := range seeds {
		f.Add("application/json", "", "", body)
	}
	f.Add("application/json", "key", "", seeds[0])
	f.Add("application/json", "key", "", seeds[1])
	for _, body := range seeds[:2] {
		f.Add("application/json", "", "", strings.ReplaceAll(body, exampleEndpoint, elsewhere))
	}
	f.Add("application/merge-patch+json", "key", `"1"`, seeds[0])
	f.Add("", "key", "*", "")
	f.Add("a+b;c", "\x7f", "W/1", seeds[0])

	w := worldOf(f)
	own := op.at("acme", w.own(op))
	f.Fuzz(func(t *testing.T, mediaType, once, ifMatch, body string) {
		w.anew(t)
		c := newCall(w, op, reads, body, "Content-Type", mediaType, "Idempotency-Key", once, "If-Match", ifMatch)
		if c.send(w.admin, own) < 300 {
			if once != "" && op.takes("Idempotency-Key") {
				c.repeat = true
				if status := c.send(w.admin, own); status >= 300 {
					t.Errorf("a repeat is answered %d", status)
				}
				c.repeat = false
			}
			c.readBack(w.admin)
		}
		c.checkLog()
		c.checkSecrets()

		w.anew(t)
		before := w.globex()
		if c.send(w.acme, own) < 300 {
			if op.access == accessAdmin {
				t.Error("a tenant's key may do what is an administrator's")
			}
			c.readBack(w.acme)
		}
		for _, path := range []string{op.at("acme", elsewhere), op.at("globex", elsewhere)} {
			if op.access == accessTenant && path != own && c.send(w.acme, path) < 300 {
				t.Errorf("acme's key may %s %s", op.method, path)
			}
		}
		if after := w.globex(); after != before {
			t.Errorf("acme's key changed globex:\n%s\nwhich was:\n%s", after, before)
		}
		for _, d := range w.belt.put {
			if d.Tenant != "acme" || d.EndpointID != exampleEndpoint {
				t.Errorf("acme's key sent a delivery to %s of %s", d.EndpointID, d.Tenant)
			}
		}
		for id, r := range replays.all(w.store, "acme/", "") {
			if r.EndpointID != exampleEndpoint {
				t.Errorf("acme's replay %s is to %s", id, r.EndpointID)
			}
		}
		c.checkLog()
		c.checkSecrets()
	})
}

// mayShow are the operations that show a secret or a key: once, in the answer to
// the request that made it.
var mayShow = map[string]string{"createEndpoint": "secret", "rotateSecret": "secret", "createKey": "key"}

// call is a fuzzed request and what must hold of the answers to it.
type call struct {
	w       *world
	op      route
	reads   []route // what there is to read
	body    string
	headers []string
	repeat  bool
	// brought is what the body holds that nobody is told: the secret, and with an
	// error the values of custom headers.
	brought, values []string
	issued          []string
}

func newCall(w *world, op route, reads []route, body string, headers ...string) *call {
	c := &call{w: w, op: op, reads: reads, body: body, headers: headers}
	var members map[string]any
	if json.Unmarshal([]byte(body), &members) != nil {
		// What isn't understood isn't quoted.
		if strings.Contains(body, seedSecret) {
			c.brought = []string{seedSecret}
		}
		return c
	}
	said := map[string]int{}
	walk(members, func(s string) { said[s]++ })
	alone := func(v any) []string {
		text, ok := v.(string)
		if !ok || len(text) < 12 {
			return nil
		}
		for other, n := range said {
			if strings.Contains(other, text) && (other != text || n > 1) {
				return nil
			}
		}
		return []string{text}
	}
	c.brought = alone(members["secret"])
	if custom, ok := members["headers"].(map[string]any); ok {
		for _, value := range custom {
			c.values = append(c.values, alone(value)...)
		}
	}
	return c
}

// send makes the request and holds the answer to the laws.
func (c *call) send(key, path string) (status int) {
	a := c.w.send(key, c.op.method, path, c.body, c.headers...)
	shows := ""
	if a.Code == http.StatusCreated && !c.repeat {
		shows = mayShow[c.op.id]
	}
	c.check(key, c.op.method+" "+path, a, shows)
	return a.Code
}

// readBack reads everything that the key may of acme: what was stored is shown as
// well as anything else, and nothing of globex is among it.
func (c *call) readBack(key string) {
	for _, r := range c.reads {
		if key == c.w.acme && r.access == accessAdmin {
			continue
		}
		path := r.at("acme", c.w.own(r))
		a := c.w.send(key, r.method, path, "")
		c.check(key, r.method+" "+path, a, "")
		if key == c.w.acme && strings.Contains(a.Body.String(), elsewhere) && !strings.Contains(c.body, elsewhere) {
			c.w.t.Errorf("%s shows acme's key globex's endpoint: %s", path, a.Body)
		}
	}
}

// check holds an answer to the laws. shows is the member that may show what was
// made.
func (c *call) check(key, what string, a *httptest.ResponseRecorder, shows string) {
	t, body := c.w.t, a.Body.Bytes()
	fail := func(why string) { t.Errorf("%s: %s: %d %v %s", what, why, a.Code, a.Header(), body) }
	if a.Code >= 500 {
		fail("it failed inside: " + c.w.log.String())
	}
	var members map[string]any
	if err := json.Unmarshal(body, &members); err != nil && a.Code != http.StatusNoContent {
		fail("no JSON object")
	}
	if a.Code >= 400 && (a.Header().Get("Content-Type") != problemType || members["status"] != float64(a.Code)) {
		fail("no Problem")
	}
	if shows != "" {
		if text, ok := members[shows].(string); ok {
			c.issued = append(c.issued, text)
			delete(members, shows)
			body, _ = json.Marshal(members)
		}
	}
	said := texts(string(body))
	for _, values := range a.Header() {
		said += "\n" + strings.Join(values, "\n")
	}
	hidden := slices.Concat(c.w.hidden, c.brought, c.issued, c.sealed())
	if key == c.w.acme {
		hidden = append(hidden, c.w.foreign...)
	}
	if a.Code >= 400 {
		hidden = append(hidden, c.values...)
	}
	for _, text := range hidden {
		if strings.Contains(said, text) {
			fail("it shows " + text)
		}
	}
	if key := keyPattern.FindString(said); key != "" && !strings.Contains(c.body, key) {
		fail("it shows the key " + key)
	}
}

// sealed is the secrets that were made for the call.
func (c *call) sealed() []string {
	return slices.DeleteFunc(slices.Clone(c.w.sealer.sealed), func(s string) bool { return strings.Contains(texts(c.body), s) })
}

func (c *call) checkLog() {
	log := texts(c.w.log.String())
	for _, text := range slices.Concat(c.w.hidden, c.w.quiet, c.brought, c.values, c.issued, c.sealed()) {
		if strings.Contains(log, text) {
			c.w.t.Errorf("the log shows %s: %s", text, log)
		}
	}
	c.issued = nil
}

// checkSecrets counts those of every endpoint: nothing is sent unsigned.
func (c *call) checkSecrets() {
	for id, ep := range c.w.store.endpoints {
		if n := len(ep.Secrets); n < 1 || n > maxLiveSecrets {
			c.w.t.Errorf("%s has %d secrets", id, n)
		}
	}
}
