package contract

import (
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"posthorn/webhook"
)

// field reads one field of the object form; digest is its sha1 list, to be
// resolved when every field is known.
func (l *loader) field(n ast.Node, path string) (f field, digest ast.Node) {
	var from, format, fallback, optional ast.Node
	var values []string // which of the four kinds of value were given
	l.mapping(n, path,
		key{"name", true, func(n ast.Node, path string) {
			f.name, _ = l.text(n, path)
			if f.name == "" {
				l.problem(n, path, "a field needs a name")
			}
			f.member = append(appendString(nil, f.name), ':')
		}},
		key{"from", false, func(n ast.Node, path string) { from = n; values = append(values, "from"); l.from(&f, n, path) }},
		key{"template", false, func(n ast.Node, path string) { values = append(values, "template"); l.template(&f, n, path) }},
		key{"const", false, func(n ast.Node, path string) { values = append(values, "const"); l.constant(&f, n, path) }},
		key{"sha1", false, func(n ast.Node, _ string) {
			values = append(values, "sha1")
			f.kind, digest = fieldSHA1, n
		}},
		key{"format", false, func(n ast.Node, path string) {
			format = n
			f.unix, _ = oneOf(&l.reader, n, path, map[string]bool{"rfc3339ms": false, "unix": true})
		}},
		key{"default", false, func(n ast.Node, path string) {
			fallback = n
			s, _ := l.text(n, path)
			f.fallback = &s
		}},
		key{"optional", false, func(n ast.Node, path string) { optional = n; f.optional = l.boolean(n, path) }},
	)
	if len(values) != 1 {
		l.problem(n, path, "want exactly one of from, template, const, sha1, not %d of them", len(values))
		return f, digest
	}
	if format != nil && f.kind != fieldTime {
		l.problem(format, path+".format", "only a field from: time has a format")
	}
	if from != nil && f.kind == fieldTime && format == nil {
		l.problem(n, path, "a field from: time needs a format: rfc3339ms or unix")
	}
	if fallback != nil && f.kind != fieldText {
		l.problem(fallback, path+".default", "only a text field has a default")
	}
	if optional != nil && f.kind != fieldText && f.kind != fieldData {
		l.problem(optional, path+".optional", "the field always has a value")
	}
	return f, digest
}

// from reads "time", "data", an attribute, or a list of attributes of which
// the first that the event has counts.
func (l *loader) from(f *field, n ast.Node, path string) {
	one := func(n ast.Node, path string) {
		name, ok := l.text(n, path)
		if !ok {
			return
		}
		get, err := eventAttribute(name)
		if err != nil {
			l.problem(n, path, "%v (time and data stand alone, not in a list)", err)
			return
		}
		f.alternatives = append(f.alternatives, template[webhook.Event]{{name: name, get: get}})
	}
	f.kind = fieldText
	if _, ok := n.(*ast.SequenceNode); ok {
		l.list(n, path, one)
		if len(f.alternatives) == 0 && len(l.problems) == 0 {
			l.problem(n, path, "want at least one attribute")
		}
		return
	}
	switch name, _ := textOf(n); name {
	case "time":
		f.kind = fieldTime
	case "data":
		f.kind = fieldData
	default:
		one(n, path)
	}
}

func (l *loader) template(f *field, n ast.Node, path string) {
	f.kind = fieldText
	text, ok := l.text(n, path)
	if !ok {
		return
	}
	t, err := parseTemplate(text, eventAttribute)
	if err != nil {
		l.problem(n, path, "%v", err)
	}
	f.alternatives = []template[webhook.Event]{t}
}

func (l *loader) constant(f *field, n ast.Node, path string) {
	f.kind = fieldConst
	if s, ok := textOf(n); ok {
		f.constant = appendString(nil, s)
	} else if i, ok := integerOf(n); ok {
		f.constant = strconv.AppendInt(nil, i, 10)
	} else if b, ok := n.(*ast.BoolNode); ok {
		f.constant = strconv.AppendBool(nil, b.Value)
	} else {
		l.problem(n, path, "want text, a whole number, true or false, not %s", kindOf(n))
	}
}

// digest resolves the names that field i digests, and puts them in the order
// of canonical JSON.
func (l *loader) digest(i int, n ast.Node, path string) {
	f := &l.c.fields[i]
	l.list(n, path, func(n ast.Node, path string) {
		name, ok := l.text(n, path)
		if !ok {
			return
		}
		j := slices.IndexFunc(l.c.fields, func(o field) bool { return o.name == name })
		switch {
		case j < 0:
			names := make([]string, 0, len(l.c.fields))
			for _, o := range l.c.fields {
				if o.kind != fieldSHA1 {
					names = append(names, o.name)
				}
			}
			l.problem(n, path, "no field is called %.60q: want one of %s", name, strings.Join(names, ", "))
		case l.c.fields[j].kind == fieldSHA1:
			l.problem(n, path, "a digest can't digest a digest")
		case slices.Contains(f.digested, j):
			l.problem(n, path, "field %q is there twice", name)
		default:
			f.digested = append(f.digested, j)
		}
	})
	slices.SortFunc(f.digested, func(a, b int) int { return compareUTF16(l.c.fields[a].name, l.c.fields[b].name) })
}
