package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// decoder walks a YAML document beside the configuration's types. It is our own
// because the library's strict mode ends at the first mistake.
type decoder struct {
	from     Origin // of the document; lines are added
	base     string // path of the document's root
	origins  map[string]Origin
	problems []Problem
	anchors  map[string]ast.Node
	nodes    int // read so far, those behind an alias each time it is followed
}

// Bounds of a file. Without that of the nodes, a few aliases of lists of aliases
// would be millions of values.
const (
	maxFileBytes = 1 << 20
	maxNodes     = 100_000
	maxProblems  = 100 // that are listed
)

// maxAliasHops ends the resolution of an alias that leads back to itself.
const maxAliasHops = 16

func (d *decoder) at(n ast.Node) Origin {
	o := d.from
	if t := n.GetToken(); t != nil && t.Position != nil {
		o.Line = t.Position.Line
	}
	return o
}

func (d *decoder) fail(o Origin, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{o, path, fmt.Sprintf(format, args...)})
}

// document decodes text into v, the value of the key d.base.
func (d *decoder) document(text []byte, v reflect.Value) {
	switch {
	case len(text) > maxFileBytes:
		d.fail(d.from, d.base, "has %d bytes, more than %d", len(text), maxFileBytes)
		return
	case nestedTooDeep(text):
		d.fail(d.from, d.base, "has lists or keys within each other more than %d levels deep", maxNesting)
		return
	}
	file, err := parseYAML(text)
	if err != nil {
		// The parser's own words quote the file, and a password may be there.
		o, where := d.from, ""
		if ye, ok := errors.AsType[yaml.Error](err); ok {
			if t := ye.GetToken(); t != nil && t.Position != nil {
				o.Line, where = t.Position.Line, fmt.Sprintf(" at column %d", t.Position.Column)
			}
		}
		d.fail(o, d.base, "not valid YAML%s: look at the indentation, the quotes and the brackets here and just before", where)
		return
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return
	case len(bodies) > 1:
		d.fail(d.at(bodies[1]), d.base, "a second YAML document begins here; want one")
		return
	}
	d.anchors = map[string]ast.Node{}
	ast.Walk(anchorVisitor(d.anchors), bodies[0])
	d.value(d.base, bodies[0], v)
}

type anchorVisitor map[string]ast.Node

// Visit collects the anchors.
func (a anchorVisitor) Visit(n ast.Node) ast.Visitor {
	if an, ok := n.(*ast.AnchorNode); ok && an.Name != nil {
		a[an.Name.GetToken().Value] = an.Value
	}
	return a
}

// resolve looks through anchors, aliases and tags; nil when an alias leads
// nowhere, which it reports.
func (d *decoder) resolve(path string, n ast.Node) ast.Node {
	first := n
	for range maxAliasHops {
		switch t := n.(type) {
		case *ast.AnchorNode:
			n = t.Value
		case *ast.TagNode:
			n = t.Value
		case *ast.AliasNode:
			target, ok := d.anchors[t.Value.GetToken().Value]
			if !ok {
				// Not its name: it may be a secret that begins with a star.
				d.fail(d.at(first), path, "an alias (*) without an anchor (&); quote the value if it begins with a star")
				return nil
			}
			n = target
		default:
			return n
		}
	}
	d.fail(d.at(first), path, "the alias leads back to itself")
	return nil
}

func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.fail(d.at(n), path, "more than %d values, those behind an alias counted each time; the rest is not read", maxNodes)
		}
		return
	}
	n = d.resolve(path, n)
	if n == nil {
		return
	}
	t := v.Type()
	if _, null := n.(*ast.NullNode); null {
		// A section whose keys are all commented out keeps its defaults; a
		// key without a value is more likely forgotten than meant.
		if isScalar(t) {
			d.fail(d.at(n), path, "has no value; give it one or remove the key")
		}
		return
	}
	switch {
	case isScalar(t):
		d.scalar(path, n, v)
	case t.Kind() == reflect.Slice:
		d.list(path, n, v)
	default:
		d.section(path, n, v)
	}
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	text, ok := scalarText(n)
	if !ok && v.Type() == reflect.TypeFor[Ports]() {
		text, ok = d.joined(path, n)
	}
	if !ok {
		hint := ""
		if _, isMap := n.(ast.MapNode); isMap {
			hint = " (a value that holds a colon may need quotes)"
		}
		d.fail(d.at(n), path, "want a single value, got %s%s", nounOf(n), hint)
		return
	}
	if err := setScalar(v, text); err != nil {
		d.fail(d.at(n), path, "%v", err)
	}
}

// joined returns the plain values of a list, comma separated.
func (d *decoder) joined(path string, n ast.Node) (string, bool) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return "", false
	}
	var texts []string
	for _, e := range list.Values {
		e = d.resolve(path, e)
		text, ok := scalarText(e)
		if !ok {
			return "", false
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ","), true
}

func scalarText(n ast.Node) (string, bool) {
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value, true
	case *ast.LiteralNode:
		return t.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

func nounOf(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "keys of its own"
	case *ast.NullNode:
		return "nothing"
	default:
		return "a single value"
	}
}

func (d *decoder) list(path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(d.at(n), path, "want a list (lines that begin with -, or [a, b]), got %s", nounOf(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, e := range seq.Values {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.origins[p] = d.at(e)
		if s, ok := reflect.TypeAssert[interface{ setDefaults() }](out.Index(i).Addr()); ok {
			s.setDefaults()
		}
		d.value(p, e, out.Index(i))
	}
	v.Set(out)
}

func (d *decoder) section(path string, n ast.Node, v reflect.Value) {
	fs := fieldsOf(v.Type())
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(d.at(n), path, "want keys of its own (%s), got %s", keyList(fs), nounOf(n))
		return
	}
	seen := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		key := d.resolve(path, it.Key())
		if key == nil {
			continue
		}
		o := d.at(key)
		if _, merge := key.(*ast.MergeKeyNode); merge {
			d.fail(o, path, "merge keys (<<) are not read; write the keys out")
			continue
		}
		name, ok := scalarText(key)
		if !ok {
			d.fail(o, path, "a key must be plain text; want one of %s", keyList(fs))
			continue
		}
		p := join(path, fmt.Sprintf("%.64s", name))
		if first, twice := seen[name]; twice {
			d.fail(o, p, "given twice, first on line %d; remove one", first)
			continue
		}
		seen[name] = o.Line
		i := indexOf(fs, name)
		if i < 0 {
			hint := "want one of " + keyList(fs)
			if near := nearest(name, fs); near != "" {
				hint = fmt.Sprintf("did you mean %s?", near)
			}
			d.fail(o, p, "unknown key; %s", hint)
			continue
		}
		d.origins[p] = o
		d.value(p, it.Value(), v.Field(fs[i].index))
	}
}

func indexOf(fs []field, key string) int {
	for i, f := range fs {
		if f.key == key {
			return i
		}
	}
	return -1
}

func keyList(fs []field) string {
	keys := make([]string, len(fs))
	for i, f := range fs {
		keys[i] = f.key
	}
	return strings.Join(keys, ", ")
}
