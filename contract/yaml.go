package contract

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Problem is one mistake in a contract file.
type Problem struct {
	Line int    // from 1
	Path string // of the key, such as "retry.schedule[1]"; "" for the file
	Text string // what is wrong and what would be right
}

func (p Problem) String() string {
	if p.Path == "" {
		return fmt.Sprintf("line %d: %s", p.Line, p.Text)
	}
	return fmt.Sprintf("line %d: %s: %s", p.Line, p.Path, p.Text)
}

// LoadError lists every mistake of a contract file, by line.
type LoadError struct {
	Name     string // of the contract
	Problems []Problem
}

func (e *LoadError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "reading contract %q:", e.Name)
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		b.WriteString(p.String())
	}
	return b.String()
}

// reader walks a YAML document and gathers what is wrong with it, where a
// decoder into structs would stop at the first mistake.
type reader struct {
	problems []Problem
}

func (r *reader) problem(n ast.Node, path, format string, args ...any) {
	line := 1
	if n != nil {
		if t := n.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
	}
	r.problems = append(r.problems, Problem{line, path, fmt.Sprintf(format, args...)})
}

// parse returns the document's root, nil when there is none to walk.
func (r *reader) parse(text []byte) (root ast.Node) {
	file, err := parseYAML(text)
	if err != nil {
		line, message := 1, err.Error()
		if located, ok := errors.AsType[yaml.Error](err); ok {
			message = located.GetMessage()
			if t := located.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
		}
		r.problems = append(r.problems, Problem{Line: line, Text: "not YAML: " + message})
		return nil
	}
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root != nil:
			r.problem(doc.Body, "", "a second document: a file holds one contract")
		default:
			root = doc.Body
		}
	}
	if root == nil && len(r.problems) == 0 {
		r.problem(nil, "", "the file is empty")
	}
	return root
}

// parseYAML turns a panic of the parser into an error: an operator's file must
// not stop the process without naming itself.
func parseYAML(text []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser failed on it: %v", p)
		}
	}()
	// A key that is there twice is listed beside the other mistakes, by entries.
	return parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
}

// key is one key of a mapping.
type key struct {
	name     string
	required bool
	read     func(n ast.Node, path string)
}

// mapping reads a mapping with these keys and no others.
func (r *reader) mapping(n ast.Node, path string, keys ...key) {
	seen := map[string]bool{}
	if !r.entries(n, path, func(name string, k, v ast.Node, at string) {
		seen[name] = true
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		if i >= 0 {
			keys[i].read(v, at)
			return
		}
		names := make([]string, len(keys))
		for i, k := range keys {
			names[i] = k.name
		}
		r.problem(k, at, "unknown key: want one of %s", strings.Join(names, ", "))
	}) {
		return
	}
	for _, k := range keys {
		if k.required && !seen[k.name] {
			r.problem(n, path, "key %q is missing", k.name)
		}
	}
}

// entries calls do for each entry of a mapping; at is the path of its value.
// It returns false when n is no mapping.
func (r *reader) entries(n ast.Node, path string, do func(name string, k, v ast.Node, at string)) bool {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.problem(n, path, "want keys with values, not %s", kindOf(n))
		return false
	}
	seen := map[string]bool{}
	for _, entry := range values {
		name, ok := textOf(entry.Key)
		if !ok {
			r.problem(entry.Key, path, "a key must be plain text")
			continue
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		if seen[name] {
			r.problem(entry.Key, at, "the key is there twice")
			continue
		}
		seen[name] = true
		do(name, entry.Key, entry.Value, at)
	}
	return true
}

// list calls do for each element of a list.
func (r *reader) list(n ast.Node, path string, do func(n ast.Node, path string)) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		r.problem(n, path, "want a list, not %s", kindOf(n))
		return
	}
	for i, element := range sequence.Values {
		do(element, fmt.Sprintf("%s[%d]", path, i))
	}
}

func (r *reader) text(n ast.Node, path string) (string, bool) {
	s, ok := textOf(n)
	if !ok {
		r.problem(n, path, "want text, not %s (quote it if it is meant as text)", kindOf(n))
	}
	return s, ok
}

// oneOf reads a text that must be a key of values.
func oneOf[V any](r *reader, n ast.Node, path string, values map[string]V) (v V, ok bool) {
	name, ok := r.text(n, path)
	if !ok {
		return v, false
	}
	if v, ok = values[name]; !ok {
		r.problem(n, path, "%v", unknownName(name, values))
	}
	return v, ok
}

func (r *reader) boolean(n ast.Node, path string) bool {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		r.problem(n, path, "want true or false, not %s", kindOf(n))
		return false
	}
	return b.Value
}

func (r *reader) duration(n ast.Node, path string, least, most time.Duration) time.Duration {
	s, isText := textOf(n)
	d, err := time.ParseDuration(s)
	if !isText || err != nil {
		r.problem(n, path, "want a duration such as 15s, 5m or 24h")
		return 0
	}
	if d < least || d > most {
		r.problem(n, path, "%v is not within %v to %v", d, least, most)
		return 0
	}
	return d
}

func (r *reader) integer(n ast.Node, path string, least, most int) (int, bool) {
	if i, ok := integerOf(n); ok && int64(least) <= i && i <= int64(most) {
		return int(i), true
	}
	r.problem(n, path, "want a whole number from %d to %d", least, most)
	return 0, false
}

// number reads a number from least up to, but not including, below.
func (r *reader) number(n ast.Node, path string, least, below float64) float64 {
	f := math.NaN()
	if i, ok := integerOf(n); ok {
		f = float64(i)
	} else if v, ok := n.(*ast.FloatNode); ok {
		f = v.Value
	}
	if !(least <= f && f < below) {
		r.problem(n, path, "want a number from %v to below %v", least, below)
		return 0
	}
	return f
}

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

func integerOf(n ast.Node) (int64, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	switch v := i.Value.(type) {
	case int64:
		return v, true
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v), true
		}
	}
	return 0, false
}

// kindOf names what a node is, for messages.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys with values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	default:
		return "an anchor, alias or tag"
	}
}
