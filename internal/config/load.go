package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

// EnvPrefix begins the name of every variable that overrides a key.
const EnvPrefix = "POSTHORN_"

// commandVariables are read by the command line and name no key.
var commandVariables = []string{"POSTHORN_CONFIG", "POSTHORN_API", "POSTHORN_API_KEY", "POSTHORN_TENANT", "POSTHORN_LIBCHDB"}

// Load reads a file, applies the environment ("NAME=value" each, as
// [os.Environ] has it) and validates the whole. An empty path stands for an
// empty file. Mistakes are returned as an [*Error]; a file that can't be read
// is an error of its own.
func Load(path string, environ []string) (*Config, error) {
	var text []byte
	if path != "" {
		var err error
		if text, err = readBounded(path); err != nil {
			return nil, fmt.Errorf("reading configuration: %w", err)
		}
	}
	return Parse(path, text, environ)
}

// readBounded reads one byte more than a file may have, so that what is too
// long shows.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// Parse is [Load] for the text of a file; name is used in messages.
func Parse(name string, text []byte, environ []string) (*Config, error) {
	c := Default()
	c.origins = map[string]Origin{}
	d := &decoder{from: Origin{File: name}, origins: c.origins}
	d.document(text, reflect.ValueOf(c).Elem())

	e := &envReader{set: map[string]string{}, used: map[string]bool{}, origins: c.origins}
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, EnvPrefix) && v != "" {
			e.set[k] = v
		}
	}
	e.section("", EnvPrefix, reflect.ValueOf(c).Elem())
	problems := append(d.problems, e.problems...)

	if d.nodes > maxNodes || e.cut {
		return nil, errorOf(problems) // what was read isn't what is meant
	}
	// What could not be read kept its default: judging that would only repeat
	// the mistake in other words.
	unread := map[string]bool{}
	for _, p := range problems {
		unread[p.Path] = true
	}
	for _, p := range c.problems() {
		if !unread[p.Path] {
			problems = append(problems, p)
		}
	}
	c.warnings = append(c.warnings, e.unknown()...)
	if len(problems) > 0 {
		return nil, errorOf(problems)
	}
	return c, nil
}
