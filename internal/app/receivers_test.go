package app

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// capture is a delivery as a receiver got it, in files: headers, body, secrets.
type capture struct {
	contract, headers, body, secrets string
	at                               time.Time
}

// captureDeliveries has the line deliver one event under each contract, now, and
// keeps what arrived. Each file of secrets has another one in front, as during a rotation.
func captureDeliveries(t *testing.T) (captured []capture) {
	t.Helper()
	dir := t.TempDir()
	begin := time.Now()
	for _, contract := range []string{"standard", "bunship", "bunjang", "bigcommerce"} {
		onPlatformFrom(t, begin, contract, nil, func(p *platform) {
			p.hooks(nil)
			made := p.register("acme", "a", nil)
			other := p.register("acme", "b", nil)
			line := p.process()
			time.Sleep(settle)
			p.happen(happening{tenant: "acme", id: "e", kind: "order.created", data: `{"text":"Grüße, 100 %"}`})
			time.Sleep(settle)
			h := p.one("/a")
			line.terminate()
			var headers strings.Builder
			for name, values := range h.header {
				fmt.Fprintf(&headers, "%s: %s\n", name, strings.Join(values, ", "))
			}
			c := capture{contract: contract, at: h.at}
			for path, text := range map[*string]string{&c.headers: headers.String(), &c.body: h.body, &c.secrets: other.Secret + "\n" + made.Secret + "\n"} {
				f, err := os.CreateTemp(dir, contract)
				if err != nil {
					t.Fatal(err)
				}
				*path = f.Name()
				if _, err := f.WriteString(text); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			captured = append(captured, c)
		})
	}
	return captured
}

// needProgram skips a test without a program, or fails it where all has to run.
func needProgram(t *testing.T, problem string) {
	t.Helper()
	if os.Getenv("POSTHORN_REQUIRE_RECEIVERS") == "1" {
		t.Fatal(problem)
	}
	t.Skip("SKIPPED: " + problem)
}

// altered writes a file anew with one thing replaced.
func altered(t *testing.T, file string, replace func([]byte) []byte) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(name, replace(b), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReceiversVerifyDeliveriesAndRefuseForgeries(t *testing.T) {
	t.Parallel()
	captured := captureDeliveries(t)
	t.Run("snippets", func(t *testing.T) { testSnippets(t, captured) })
	t.Run("published libraries", func(t *testing.T) { testLibraries(t, captured) })
}

// testSnippets runs what docs/contracts shows.
func testSnippets(t *testing.T, captured []capture) {
	for _, program := range [][]string{{"node", "../../docs/contracts/verify.mjs"}, {"python3", "../../docs/contracts/verify.py"}, {"sh", "../../docs/contracts/verify.sh"}} {
		t.Run(program[0], func(t *testing.T) {
			for _, name := range []string{program[0], "openssl"} {
				if _, err := exec.LookPath(name); err != nil && (name == program[0] || program[0] == "sh") {
					needProgram(t, name+" is not installed")
				}
			}
			for _, c := range captured {
				run := func(c capture, late time.Duration) (bool, string) {
					cmd := exec.CommandContext(t.Context(), program[0], program[1], c.contract, c.headers, c.body, c.secrets)
					cmd.Env = append(os.Environ(), fmt.Sprintf("VERIFY_NOW=%d", c.at.Add(late).Unix()))
					out, err := cmd.CombinedOutput()
					return err == nil, strings.TrimSpace(string(out))
				}
				if ok, said := run(c, 0); !ok || said != "verified" {
					t.Errorf("%s: %s", c.contract, said)
				}
				forged, stranger, unsigned := c, c, c
				forged.body = altered(t, c.body, func(b []byte) []byte { return bytes.Replace(b, []byte("100"), []byte("900"), 1) })
				stranger.secrets = altered(t, c.secrets, func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] })
				unsigned.headers = altered(t, c.headers, func([]byte) []byte { return []byte("Content-Type: application/json\n") })
				for what, f := range map[string]func() (bool, string){
					"another body":   func() (bool, string) { return run(forged, 0) },
					"another secret": func() (bool, string) { return run(stranger, 0) },
					"no signature":   func() (bool, string) { return run(unsigned, 0) },
					"5 minutes old":  func() (bool, string) { return run(c, 5*time.Minute+2*time.Second) },
					"of tomorrow":    func() (bool, string) { return run(c, -24*time.Hour) },
				} {
					if ok, said := f(); ok || said == "" || strings.Contains(said, "Traceback") || strings.Contains(said, "at ") && strings.Contains(said, "node:") {
						t.Errorf("%s, %s: %q", c.contract, what, said)
					}
				}
			}
		})
	}
}

const npmVerifies = `
const { Webhook } = require("standardwebhooks");
const fs = require("node:fs");
const [, headersFile, bodyFile, secretsFile] = process.argv.slice(1);
const headers = Object.fromEntries(fs.readFileSync(headersFile, "utf8").trim().split("\n").map((l) => [l.slice(0, l.indexOf(":")).toLowerCase(), l.slice(l.indexOf(":") + 1).trim()]));
const secret = fs.readFileSync(secretsFile, "utf8").trim().split("\n").pop();
new Webhook(secret).verify(fs.readFileSync(bodyFile, "utf8"), headers);
`

const pypiVerifies = `
import sys
from standardwebhooks.webhooks import Webhook
headers = dict((p.strip() for p in l.split(":", 1)) for l in open(sys.argv[2]) if l.strip())
Webhook(open(sys.argv[4]).read().split()[-1]).verify(open(sys.argv[3], "rb").read().decode(), {k.lower(): v for k, v in headers.items()})
`

// testLibraries runs those of Standard Webhooks as npm and PyPI have them.
func testLibraries(t *testing.T, captured []capture) {
	cache, err := filepath.Abs("../../.cache/receivers")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cache, "node_modules", "standardwebhooks")); err != nil {
		needProgram(t, "the packages are not there: make receivers fetches them")
	}
	for _, c := range captured {
		if c.contract != "standard" && c.contract != "bigcommerce" {
			continue
		}
		forged := c
		forged.body = altered(t, c.body, func(b []byte) []byte { return bytes.Replace(b, []byte("100"), []byte("900"), 1) })
		for _, program := range [][]string{{"node", "-e", npmVerifies, "--"}, {filepath.Join(cache, "py", "bin", "python3"), "-c", pypiVerifies}} {
			run := func(c capture) error {
				cmd := exec.CommandContext(t.Context(), program[0], append(program[1:], c.contract, c.headers, c.body, c.secrets)...)
				cmd.Dir = cache
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}
			if err := run(c); err != nil {
				t.Errorf("%s, %s: %v", filepath.Base(program[0]), c.contract, err)
			}
			if err := run(forged); err == nil || !strings.Contains(err.Error(), "No matching signature") && !strings.Contains(err.Error(), "WebhookVerificationError") {
				t.Errorf("%s, %s, another body: %v", filepath.Base(program[0]), c.contract, err)
			}
		}
	}
}
