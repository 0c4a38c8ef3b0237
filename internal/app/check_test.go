package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/internal/config"
)

func TestAConfigurationIsHeldAgainstItsContracts(t *testing.T) {
	dir := t.TempDir()
	bunship, err := os.ReadFile("../../contract/contracts/bunship.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		t.Helper()
		d := filepath.Join(dir, name)
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		name   string
		change func(*config.Config)
		want   string // in the error; empty: there is none
	}{
		{"defaults", func(*config.Config) {}, ""},
		{"a long window", func(c *config.Config) { c.Breaker.Window = 30 * time.Minute }, ""},
		{"a window shorter than a timeout", func(c *config.Config) { c.Breaker.Window = 10 * time.Second }, "breaker.window is 10s, want 17s or more"},
		{"a contract's schedule longer than max_age", func(c *config.Config) {
			c.ContractsDir, c.Delivery.MaxAge = file("slow", string(bunship)), 10*time.Minute
		}, "contract slow: its schedule adds up to 21m"},
		{"a contract that can't be read", func(c *config.Config) { c.ContractsDir = file("broken", "signature: [") }, "contract \"broken\""},
	} {
		cfg := config.Default()
		c.change(cfg)
		err := Check(cfg)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
