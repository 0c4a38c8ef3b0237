package contract

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestBuiltinPolicies(t *testing.T) {
	if got := Builtin().Names(); !slices.Equal(got, []string{"bigcommerce", "bunjang", "bunship", "standard"}) {
		t.Fatalf("builtin contracts %v", got)
	}
	for _, tt := range []struct {
		name               string
		timeout, overlap   time.Duration
		inactive           time.Duration
		https              bool
		retried, permanent []int
		gone               []int
		schedule           []time.Duration
		scheduled          bool
		immediate          *Immediate
	}{
		{name: "standard", timeout: 15 * time.Second, overlap: 24 * time.Hour,
			retried: []int{0, 100, 199, 300, 404, 409, 411, 429, 500, 599, 600, 999, 1000, -1}, permanent: []int{200, 204, 299, 410}, gone: []int{410}},
		{name: "bunship", timeout: 15 * time.Second,
			retried: []int{0, 301, 400, 410, 429, 500, 600}, permanent: []int{200, 299},
			schedule: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}, scheduled: true},
		{name: "bunjang", timeout: 10 * time.Second, https: true,
			retried: []int{0, 429, 500, 503, 599}, permanent: []int{100, 200, 301, 400, 404, 410, 428, 430, 499, 600, 999, -1},
			scheduled: true, immediate: &Immediate{Retries: 3, Initial: time.Second, Multiplier: 2, Jitter: 0.5, Total: time.Minute}},
		{name: "bigcommerce", timeout: 10 * time.Second, overlap: 24 * time.Hour, https: true, inactive: 90 * 24 * time.Hour,
			retried: []int{0, 301, 400, 404, 410, 429, 500}, permanent: []int{200, 201, 299}},
	} {
		c := builtinContract(t, tt.name)
		if c.Name() != tt.name || c.Description() == "" || c.Timeout() != tt.timeout || c.RotationOverlap() != tt.overlap || c.HTTPSOnly() != tt.https || c.MinTLS() != tls.VersionTLS12 {
			t.Errorf("%s: %q timeout %v overlap %v https only %v TLS %x", c.Name(), c.Description(), c.Timeout(), c.RotationOverlap(), c.HTTPSOnly(), c.MinTLS())
		}
		if c.InactiveAfter() != tt.inactive {
			t.Errorf("%s: inactive after %v", tt.name, c.InactiveAfter())
		}
		for _, status := range tt.retried {
			if !c.Retryable(status) {
				t.Errorf("%s: %d isn't retried", tt.name, status)
			}
		}
		for _, status := range tt.permanent {
			if c.Retryable(status) {
				t.Errorf("%s: %d is retried", tt.name, status)
			}
		}
		for status := range 600 {
			if c.Gone(status) != slices.Contains(tt.gone, status) {
				t.Errorf("%s: Gone(%d) = %v", tt.name, status, c.Gone(status))
			}
		}
		if schedule, scheduled := c.Schedule(); !slices.Equal(schedule, tt.schedule) || scheduled != tt.scheduled {
			t.Errorf("%s: schedule %v, %v", tt.name, schedule, scheduled)
		}
		if got := c.Immediate(); (got == nil) != (tt.immediate == nil) || got != nil && *got != *tt.immediate {
			t.Errorf("%s: immediate %+v", tt.name, got)
		}
	}
}

func TestContractIsImmutable(t *testing.T) {
	c := builtinContract(t, "bunship")
	schedule, _ := c.Schedule()
	schedule[0] = 0
	if again, _ := c.Schedule(); again[0] != time.Minute {
		t.Error("a caller changed the schedule")
	}
	builtinContract(t, "bunjang").Immediate().Retries = 9
	if builtinContract(t, "bunjang").Immediate().Retries != 3 {
		t.Error("a caller changed the immediate retries")
	}
}

func TestEveryMistakeIsListedWithItsLine(t *testing.T) {
	const file = `descriptions: typo
body:
  form: object
  fields:
    - {name: a, from: typo}
    - {name: a, from: [id, 7]}
    - {name: b, from: time}
    - {name: c, from: id, const: x}
    - {name: d, sha1: [zz, d, b, b]}
    - {name: e, const: 1.5, optional: true}
    - {name: f, template: "{id"}
    - {from: data, format: unix, default: x}
signature:
  scheme: t-v1
headers:
  X-A: "{subject}"
  x-a: again
  Host: evil
  "a b": c
secret:
  format: hex
  generate: ed25519
  rotation_overlap: 200h
timeout: 15
https_only: yes please
min_tls: "1.1"
retry:
  on: [5xx, 6xx]
  except: 410
  gone: [429, 503]
  schedule: [1m, 0s]
  immediate: {retries: 0, initial: 1s, multiplier: .inf, jitter: 1, totals: 60s}
unknown: {}
unknown: {}
`
	want := map[int][]string{
		1:  {"descriptions: unknown key: want one of description, body,"},
		5:  {"body.fields[0].from: unknown name \"typo\": want one of id, source, subject, tenant, type, extension.NAME"},
		6:  {"body.fields[1].from[1]: want text, not a number", "body.fields[1]: field \"a\" is there twice"},
		7:  {"body.fields[2]: a field from: time needs a format"},
		8:  {"body.fields[3]: want exactly one of from, template, const, sha1, not 2"},
		9:  {"body.fields[4].sha1[0]: no field is called \"zz\"", "body.fields[4].sha1[1]: a digest can't", "body.fields[4].sha1[3]: field \"b\" is there twice"},
		10: {"body.fields[5].const: want text, a whole number, true or false, not a number", "body.fields[5].optional: the field always has a value"},
		11: {"body.fields[6].template: unpaired '{'"},
		12: {"body.fields[7]: key \"name\" is missing", "body.fields[7].format: only a field from: time", "body.fields[7].default: only a text field"},
		14: {"signature: scheme t-v1 needs a header"},
		16: {"headers.X-A: unknown name \"subject\": want one of attempt, delivery_id,"},
		17: {"headers.x-a: the header is set already"},
		18: {"headers.Host: Host belongs to the transport"},
		19: {"headers.a b: \"a b\" is no header name"},
		22: {"secret.generate: only format standard has a choice"},
		23: {"secret.rotation_overlap: 200h0m0s is not within 0s to 168h0m0s"},
		24: {"timeout: want a duration such as 15s"},
		25: {"https_only: want true or false, not text"},
		26: {"min_tls: unknown name \"1.1\": want one of 1.2, 1.3"},
		28: {"retry.on[1]: want a status from 100 to 599"},
		29: {"retry.except: want a list, not a number"},
		30: {"retry.gone: status 503 disables the endpoint but is also retried"},
		31: {"retry.schedule[1]: 0s is not within 1s"},
		32: {"retry.immediate.retries: want a whole number from 1 to 10", "retry.immediate.multiplier: want a number from 1 to below 10",
			"retry.immediate.jitter: want a number from 0 to below 1", "retry.immediate.totals: unknown key", "retry.immediate: key \"total\" is missing"},
		33: {"unknown: unknown key"},
		34: {"unknown: the key is there twice"},
	}
	c, err := Load("test", []byte(file))
	var loadErr *LoadError
	if c != nil || !errors.As(err, &loadErr) {
		t.Fatalf("got %v, %v; want a *LoadError", c, err)
	}
	for line, texts := range want {
		for _, text := range texts {
			if !slices.ContainsFunc(loadErr.Problems, func(p Problem) bool {
				return p.Line == line && strings.Contains(p.String(), text)
			}) {
				t.Errorf("no problem %q at line %d", text, line)
			}
		}
	}
	if t.Failed() {
		t.Log(err)
	}
	for _, p := range loadErr.Problems {
		if !strings.Contains(err.Error(), p.String()) {
			t.Errorf("the error's text lacks %v", p)
		}
	}
}

func TestWholeFilesThatAreRefused(t *testing.T) {
	good := withBody("{form: data}")
	for file, want := range map[string]string{
		"":                          "line 1: the file is empty",
		"# nothing\n":               "line 1: the file is empty",
		"- a\n":                     "want keys with values, not a list",
		"a: [\n":                    "not YAML",
		"a: b: c\n":                 "line 1: not YAML",
		good + "---\n" + good:       "a second document",
		good + "x: &a 1\ny: *a\n":   "unknown key",
		"body: &b {form: data}\n":   "body: want keys with values, not an anchor, alias or tag",
		"1: b\n":                    "a key must be plain text",
		"{}\n":                      `key "body" is missing`,
		strings.Repeat("#", 70_000): "more than 65536",
		strings.Replace(good, "{form: data}", "{form: data, fields: []}", 1):                                                                                     "only form object has fields",
		strings.Replace(good, "{form: data}", "{form: object}", 1):                                                                                               "form object needs fields",
		strings.Replace(good, "{form: data}", "{form: object, fields: []}", 1):                                                                                   "want at least one field",
		strings.Replace(good, "{form: data}", "{form: object, fields: [{name: a, from: []}]}", 1):                                                                "want at least one attribute",
		strings.Replace(good, "{form: data}", "{form: object, fields: [{name: a, from: [data]}]}", 1):                                                            "time and data stand alone",
		strings.Replace(good, "{form: data}", "{form: object, fields: [{name: a, from: extension.A}]}", 1):                                                       "lower-case letters and digits",
		strings.Replace(good, "scheme: standard", "scheme: standard, header: X-A", 1):                                                                            "its own header names",
		strings.Replace(good, "scheme: standard", "scheme: t-v1, header: Content-Type", 1):                                                                       "Content-Type follows from the body",
		strings.Replace(good, "format: standard", "format: standard, prefix: a", 1):                                                                              "its own prefixes",
		strings.Replace(good, "format: standard", "format: hex, prefix: 'a b'", 1):                                                                               "printable ASCII",
		strings.Replace(good, "retry: {}", "retry: {gone: [all], except: [all]}", 1):                                                                             "only an answer other than 2xx",
		strings.Replace(good, "retry: {}", "retry: {schedule: ["+strings.Repeat("1s,", 25)+"]}", 1):                                                              "25 retries, more than 24",
		strings.Replace(good, "{}", "{immediate: {retries: 1, initial: 1s, multiplier: 1, jitter: 0, total: 1s}}", 1):                                            "say schedule: [] beside immediate",
		good + "inactive_after: 23h59m\n":                                                                                                                        "inactive_after: 23h59m0s is not within 24h0m0s to 87600h0m0s",
		good + "inactive_after: 90\n":                                                                                                                            "inactive_after: want",
		good + "inactive_after: 0s\n":                                                                                                                            "inactive_after: 0s is not within 24h0m0s to 87600h0m0s",
		good + "headers: {webhook-id: x}\n":                                                                                                                      "the header is set already",
		good + "headers: {X-A: \"a\\nb\"}\n":                                                                                                                     "control characters",
		strings.Replace(strings.Replace(good, "scheme: standard", "scheme: t-v1, header: X-S", 1), "format: standard", "format: standard, generate: ed25519", 1): "scheme t-v1 can't use ed25519",
	} {
		if c, err := Load("test", []byte(file)); c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q:\n got %v\nwant %q", file, err, want)
		}
	}
	for _, name := range []string{"", "Acme", "a/b", "a.b", "1a", "-a", strings.Repeat("a", 65)} {
		if _, err := Load(name, []byte(good)); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
}

func TestOperatorsContractsStandOverTheBuiltin(t *testing.T) {
	acme := strings.NewReplacer("scheme: standard", "scheme: t-v1, header: x-acme", "timeout: 1s", "timeout: 7s\nmin_tls: '1.3'").Replace(withBody("{form: data}"))
	set, err := LoadDir(fstest.MapFS{
		"acme.yaml": {Data: []byte(acme)}, "standard.yml": {Data: []byte(withBody("{form: cloudevents}"))},
		"README.md": {Data: []byte("no contract")}, "old/acme2.yaml": {Data: []byte("no contract either")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Names(); !slices.Equal(got, []string{"acme", "bigcommerce", "bunjang", "bunship", "standard"}) {
		t.Errorf("names %v", got)
	}
	c, ok := set.Get("acme")
	if !ok || c.Timeout() != 7*time.Second || c.MinTLS() != tls.VersionTLS13 || !c.Reserved("X-Acme") {
		t.Errorf("acme: %v, %v", c, ok)
	}
	if c, _ := set.Get("standard"); c.form != formCloudEvents {
		t.Error("the operator's standard doesn't replace the builtin")
	}
	if builtinContract(t, "standard").form != formData {
		t.Error("the builtin set was changed")
	}
	if _, ok := set.Get("none"); ok {
		t.Error("Get finds what isn't there")
	}
}

func TestLoadDirListsTheMistakesOfEveryFile(t *testing.T) {
	_, err := LoadDir(fstest.MapFS{
		"a.yaml": {Data: []byte("{}")}, "B.yaml": {Data: []byte("{}")},
		"c.yaml": {Data: []byte(withBody("{form: data}"))}, "c.yml": {Data: []byte(withBody("{form: data}"))},
	})
	for _, want := range []string{`reading contract "a":`, `reading contract "B":`, `c.yaml and c.yml are both contract "c"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q in it", err, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, name := range Builtin().Names() {
		text, err := contractFiles.ReadFile("contracts/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("a: &x [*x]\n<<: *x\n? {a: b}\n: !!str |\n  x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Load("fuzz", text)
		if err != nil {
			var loadErr *LoadError
			if c != nil || !errors.As(err, &loadErr) || len(loadErr.Problems) == 0 {
				t.Fatalf("%v, %v", c, err)
			}
			for _, p := range loadErr.Problems {
				if p.Line < 1 || p.Text == "" {
					t.Fatalf("problem %+v", p)
				}
			}
			return
		}
		// What loads can be used.
		secret, err := c.ParseSecret(c.GenerateSecret())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Headers(delivery(), vectorTime, []Secret{secret}); err != nil {
			t.Fatal(err)
		}
		body, _, err := c.Body(order())
		if err == nil && c.form != formData && !validJSON(body) {
			t.Fatalf("body %q", body)
		}
		if c.Retryable(200) || c.Timeout() <= 0 {
			t.Fatal(fmt.Sprint(c.Retryable(200), c.Timeout()))
		}
	})
}
