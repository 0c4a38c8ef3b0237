package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Origin says where a value comes from. The zero Origin is the default.
type Origin struct {
	File string
	Line int // from 1
	Env  string
}

// String returns "file:line", the variable's name, or "default".
func (o Origin) String() string {
	switch {
	case o.Env != "" && o.Line > 0:
		return fmt.Sprintf("%s line %d", o.Env, o.Line)
	case o.Env != "":
		return o.Env
	case o.File != "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	default:
		return "default"
	}
}

// Problem is one mistake of a configuration.
type Problem struct {
	Origin Origin
	// Path of the key, such as "sources[0].start"; empty for the whole file.
	Path string
	// Text says what is wrong and what would be right. It holds no secret.
	Text string
}

// String returns one line for people.
func (p Problem) String() string {
	var b strings.Builder
	if p.Origin != (Origin{}) {
		b.WriteString(p.Origin.String())
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	return b.String()
}

// Error holds the mistakes of a configuration, in the order of the file.
type Error struct {
	// Problems are the first 100.
	Problems []Problem
	// More is how many there are besides.
	More int
}

func errorOf(ps []Problem) *Error {
	sortProblems(ps)
	listed := min(len(ps), maxProblems)
	return &Error{Problems: slices.Clone(ps[:listed]), More: len(ps) - listed}
}

func (e *Error) Error() string {
	if len(e.Problems) == 1 && e.More == 0 {
		return "configuration: " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration: %d mistakes:", len(e.Problems)+e.More)
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		b.WriteString(p.String())
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin.Env, b.Origin.Env), cmp.Compare(a.Origin.Line, b.Origin.Line), cmp.Compare(a.Path, b.Path))
	})
}

// Origin says where the value of a key comes from: the nearest of the key
// itself and what holds it that a file or a variable set.
func (c *Config) Origin(path string) Origin {
	for {
		if o, ok := c.origins[path]; ok {
			return o
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return Origin{}
		}
		path = path[:i]
	}
}

// Warnings are what may well be meant and yet deserves a look.
func (c *Config) Warnings() []Problem { return c.warnings }
