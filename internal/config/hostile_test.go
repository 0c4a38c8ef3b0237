package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestOfAProxyOnlySchemeAndHostAreShown(t *testing.T) {
	for url, want := range map[string]string{
		"":                                     "",
		"http://proxy:3128":                    "http://proxy:3128",
		"https://proxy/":                       "https://proxy",
		"http://user:hunter2@proxy:3128/a?b#c": "http://(hidden)@proxy:3128",
		"http://hunter2@proxy":                 "http://(hidden)@proxy",
		"http://proxy/hunter2?token=hunter2":   "http://proxy",
		"user:hunter2@proxy:3128":              masked,
		"hunter2":                              masked,
		"socks5://user:hunter2@proxy":          masked,
		"http:user:hunter2@proxy":              masked,
		"http://:3128":                         masked,
		"http://user:hunter2%zz@proxy":         masked,
		"http://user:1/hunter2@proxy":          masked,
		"http://user#hunter2@proxy":            masked,
		"http://user?hunter2@proxy":            masked,
		"http://user:hun@ter/2@proxy":          masked,
	} {
		if got := ProxyURL(url).String(); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
		c := Default()
		c.Delivery.Proxy = ProxyURL(url)
		var b strings.Builder
		if err := c.Show(&b); err != nil {
			t.Fatal(err)
		}
		if text := b.String() + fmt.Sprint(c.Validate()); strings.Contains(text, "hunter2") {
			t.Errorf("%s: the password is shown", url)
		}
	}
}

func TestMistakesQuoteNothingThatMayBeASecret(t *testing.T) {
	for _, text := range []string{
		"kafka: {sasl: {password: *hunter2}}\n",
		"kafka:\n  sasl:\n    password: *hunter2 x\n",
		"kafka:\n  sasl:\n    password: hunter2: hunter2\n",
		"kafka:\n  sasl:\n    password: 'hunter2\n",
		"kafka:\n  sasl:\n    password: \"hunter2\\q\"\n",
		"kafka:\n  sasl:\n    password: @hunter2\n",
		"kafka:\n  sasl:\n    password: [hunter2\n",
		"kafka:\n  sasl:\n    password: %hunter2\n",
		"kafka:\n  sasl:\n    password: {hunter2\n",
		"kafka:\n  sasl:\n  \tpassword: hunter2\n",
		"kafka:\n  sasl:\n    password: !!int hunter2 : }\n",
		"kafka:\n  sasl:\n    password: [hunter2]\n",
		"kafka:\n  sasl:\n    password: |\nhunter2\n",
	} {
		_, err := Parse("p.yaml", []byte(text), nil)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q is quoted: %v", text, err)
		}
	}
	_, err := Parse("p.yaml", []byte("prefix: a\nkafka: [\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "p.yaml:2: not valid YAML at column 8: look at") {
		t.Errorf("the place is missing: %v", err)
	}
}

func TestHostileConfigurationsAreRefusedInLittleTimeAndMemory(t *testing.T) {
	bomb := "x: &a [" + strings.Repeat("t,", 1000) + "]\nsources:\n" + strings.Repeat("- {name: n, topics: *a, format: json}\n", 1000)
	for _, tt := range []struct{ name, text, want string }{
		{"too long", "#" + strings.Repeat("x", maxFileBytes), "more than 1048576"},
		{"aliases", bomb, "more than 100000 values"},
		{"brackets", strings.Repeat("[", 1<<20), "more than 1000 levels"},
		{"keys", strings.Repeat("{a: ", 1<<18), "more than 1000 levels"},
		{"lines of brackets", strings.Repeat("[\n", 1<<18), "more than 1000 levels"},
		{"dashes", strings.Repeat("- ", 1<<19), "more than 1000 levels"},
		{"mistakes", "sources:\n" + strings.Repeat("- {nosuch: 1}\n", 10_000), "more"},
	} {
		for _, env := range []bool{false, true} {
			text, environ := tt.text, []string(nil)
			if env {
				_, list, _ := strings.Cut(tt.text, "sources:\n")
				switch tt.name {
				case "aliases":
					list = strings.Replace(list, "*a", "&a ["+strings.Repeat("t,", 1000)+"]", 1)
				case "mistakes":
				default:
					list = tt.text
				}
				text, environ = "", []string{"POSTHORN_SOURCES=" + list}
			}
			_, err := Parse("p.yaml", []byte(text), environ)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %.300v, want %q", tt.name, err, tt.want)
				continue
			}
			if len(e.Problems) > maxProblems || len(err.Error()) > 32<<10 {
				t.Errorf("%s: %d problems in %d bytes are listed", tt.name, len(e.Problems), len(err.Error()))
			}
		}
	}
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte(strings.Repeat("#\n", maxFileBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file, nil); err == nil || !strings.Contains(err.Error(), "more than 1048576") {
		t.Errorf("a long file: %v", err)
	}
}

func FuzzNoConfigurationFailsInside(f *testing.F) {
	f.Add("kafka: &k {tls: *k}\n")
	f.Add("sources: [{name: a, pattern: '[', start: latest}]\n? - a\n")
	f.Fuzz(func(_ *testing.T, text string) {
		if c, err := Parse("p.yaml", []byte(text), nil); err == nil {
			c.SourceOf("orders")
		}
	})
}

func TestAllowedHostsAreNamesOrAddressesAlone(t *testing.T) {
	c, err := Parse("", nil, []string{"POSTHORN_HTTP_ALLOWED_HOSTS=posthorn.internal, 10.0.0.1,fd00::1,posthorn"})
	if err != nil || len(c.HTTP.AllowedHosts) != 4 {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"http://a", "a:80", "a/b", "*.example.com", "a b", "-a"} {
		c := Default()
		c.HTTP.AllowedHosts = []string{"fine.example", bad}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "http.allowed_hosts[1]: want the name or address") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func manySources() *Config {
	c := Default()
	c.Prefix = "a-prefix-that-is-longer-than-the-buffer-on-a-stack"
	c.Sources = []Source{{Name: "named", Topics: []string{"orders"}}, {Name: "broken", Pattern: "("},
		{Name: "tenants", Pattern: `tenant-[0-9]+\.(orders|members)`}, {Name: "any", Pattern: ".+"}}
	return c
}

func TestTheSourceOfARecordCostsNoMemory(t *testing.T) {
	c := manySources()
	c.Sources[1].Pattern = "x" // one that can't be compiled is never validated
	for topic, want := range map[string]string{"orders": "named", "tenant-17.members": "tenants", "else": "any",
		c.Prefix + ".deliveries": "", c.Prefix + ".events": "", c.Prefix: "any"} {
		name := func() string {
			if s := c.SourceOf(topic); s != nil {
				return s.Name
			}
			return ""
		}
		if got := name(); got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { name() }); n != 0 {
			t.Errorf("%s: %v allocations", topic, n)
		}
	}
}

func TestSourcesAreFoundByManyAtOnce(t *testing.T) {
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			for k := range 3 * maxCompiled / 4 {
				c := Config{Prefix: "p", Sources: []Source{{Name: "own", Pattern: fmt.Sprintf("t-%d-%d", i, k)}, {Name: "any", Pattern: ".+"}}}
				if s := c.SourceOf(fmt.Sprintf("t-%d-%d", i, k)); s == nil || s.Name != "own" {
					t.Errorf("got %v", s)
				}
			}
		})
	}
	asking.Wait()
	if n := len(*compiled.Load()); n > maxCompiled {
		t.Errorf("%d patterns are kept", n)
	}
}

func BenchmarkSourceOf(b *testing.B) {
	c := manySources()
	c.Sources[1].Pattern = "x"
	b.ReportAllocs()
	for b.Loop() {
		c.SourceOf("tenant-17.members")
	}
}
