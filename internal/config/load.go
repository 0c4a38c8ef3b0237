package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
)

// EnvPrefix begins the name of every variable that overrides a key.
const EnvPrefix = "POSTHORN_"

// commandVariables are read by the command line and name no key.
var commandVariables = []string{"POSTHORN_CONFIG", "POSTHORN_API", "POSTHORN_TENANT"}

// Load reads a file, applies the environment ("NAME=value" each, as
// [os.Environ] has it) and validates the whole. An empty path stands for an
// empty file. Mistakes are returned as an [*Error]; a file that can't be read
// is an error of its own.
func Load(path string, environ []string) (*Config, error) {
	var text []byte
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("reading configuration: %w", err)
		}
	}
	return Parse(path, text, environ)
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
		sortProblems(problems)
		return nil, &Error{problems}
	}
	return c, nil
}
