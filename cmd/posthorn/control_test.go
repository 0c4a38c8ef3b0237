package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/internal/app"
	"posthorn/internal/config"
)

// The whole way in: no key, then the first one straight from the registry, then
// everything that it may do, by the command line alone.
func TestTheFirstKeyIsBootstrappedAndManagesTheRest(t *testing.T) {
	cfg := config.Default()
	cfg.Partitions = config.Partitions{Deliveries: 1, Fanout: 1, Attempts: 1, Dead: 1, Events: 1, Invalid: 1}
	cfg.HTTP.Auth = config.AuthRequired
	cfg.ClickHouse.Addr = nil
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	running := make(chan app.Addresses, 1)
	go func() {
		ended <- app.Dev(ctx, app.DevOptions{Options: app.Options{Config: cfg, Log: slog.New(slog.DiscardHandler),
			Roles: app.Roles{app.RoleAPI}}, DataDir: t.TempDir(), Running: func(a app.Addresses) { running <- a }})
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var at app.Addresses
	select {
	case at = <-running:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(file, []byte("kafka: {brokers: [\""+at.Kafka+"\"]}\ntopics: {replication_factor: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// both returns what a command writes and what it logs.
	both := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := execute(t.Context(), args, streams{strings.NewReader(""), &out, &errs}); code != want {
			t.Fatalf("%q: exit code %d, want %d: %s%s", args, code, want, &out, &errs)
		}
		return out.String(), errs.String()
	}
	run := func(want int, args ...string) string {
		t.Helper()
		out, errs := both(want, args...)
		return out + errs
	}
	decode := func(into any, args ...string) {
		t.Helper()
		out, errs := both(0, args...)
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%q: %v: %s%s", args, err, out, errs)
		}
	}
	t.Setenv("POSTHORN_API", at.Admin)
	if out := run(1, "tenant", "list"); !strings.Contains(out, "401") {
		t.Errorf("without a key: %s", out)
	}
	var issued struct{ ID, Key string }
	decode(&issued, "key", "bootstrap", "--json", "-c", file, "--description", "first", "--expires", "1h")
	// The line follows the registry, so give it the moment that takes.
	t.Setenv("POSTHORN_API_KEY", issued.Key)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var out, errs bytes.Buffer
		if execute(t.Context(), []string{"tenant", "list"}, streams{strings.NewReader(""), &out, &errs}) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the key isn't known: %s", &errs)
		}
	}
	run(0, "tenant", "create", "acme", "--plan", "free", "--description", "a shop")
	run(0, "endpoint", "create", "--tenant", "acme", "--url", "https://192.0.43.8/hook")
	if out := run(1, "endpoint", "create", "--tenant", "acme", "--url", "https://192.0.43.8/hook"); !strings.Contains(out, `Plan "free"`) {
		t.Errorf("beyond the plan: %s", out)
	}
	run(0, "tenant", "update", "acme", "--max-endpoints", "0", "--if-match", "1")
	run(0, "tenant", "update", "acme", "--plans-limit", "--suspended")
	if out := run(0, "tenant", "get", "acme"); !strings.Contains(out, "suspended       true") || !strings.Contains(out, "a shop") {
		t.Errorf("tenant get: %s", out)
	}
	run(1, "tenant", "delete", "acme") // it has an endpoint
	run(0, "event-type", "create", "order.created", "--schema", `{"type":"object"}`, "--example", `{"id":1}`)
	run(2, "event-type", "update", "order.created", "--schema", `{`)
	run(0, "event-type", "update", "order.created", "--deprecated")
	if out := run(0, "event-type", "list"); !strings.Contains(out, "order.created  true") {
		t.Errorf("event-type list: %s", out)
	}
	run(0, "event-type", "get", "order.created")
	run(0, "event-type", "delete", "order.created")
	if out := run(0, "contract", "list"); !strings.Contains(out, "bunship") {
		t.Errorf("contract list: %s", out)
	}
	run(0, "contract", "get", "bunjang")

	var second struct{ ID, Key string }
	decode(&second, "key", "create", "--json", "--tenant", "acme", "--read-only")
	if out := run(1, "tenant", "list", "--key", second.Key); !strings.Contains(out, "403") {
		t.Errorf("a tenant's key lists tenants: %s", out)
	}
	run(0, "tenant", "get", "acme", "--key", second.Key)
	if out := run(0, "key", "list"); !strings.Contains(out, second.ID) || strings.Contains(out, second.Key) {
		t.Errorf("key list: %s", out)
	}
	run(0, "key", "revoke", second.ID)
	run(1, "tenant", "get", "acme", "--key", second.Key)
	if out := run(0, "audit", "list", "--limit", "3"); !strings.Contains(out, "revokeKey") || !strings.Contains(out, issued.ID) {
		t.Errorf("audit list: %s", out)
	}
	if out := run(0, "audit", "list", "--limit", "0"); !strings.Contains(out, "bootstrapKey") || strings.Contains(out, issued.Key) {
		t.Errorf("audit list: %s", out)
	}
	if out := run(0, "audit", "list", "--tenant", "acme", "--json"); strings.Contains(out, "createEventType") {
		t.Errorf("another's change among the tenant's: %s", out)
	}
}
