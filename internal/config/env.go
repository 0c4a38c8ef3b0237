package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// EnvName returns the variable that overrides a key, given by its path.
func EnvName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// envReader applies variables to a configuration.
type envReader struct {
	set      map[string]string
	used     map[string]bool
	origins  map[string]Origin
	problems []Problem
	cut      bool // a variable has more values than are read
}

func (e *envReader) section(path, prefix string, v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		p, name, fv := join(path, f.key), prefix+strings.ToUpper(f.key), v.Field(f.index)
		switch t := fv.Type(); {
		case isScalar(t):
			e.scalar(p, name, fv)
		case t.Kind() == reflect.Slice && isScalar(t.Elem()):
			e.list(p, name, fv)
		case t.Kind() == reflect.Slice:
			e.yaml(p, name, fv)
		default:
			e.section(p, name+"_", fv)
		}
	}
}

func (e *envReader) lookup(name string) (string, bool) {
	text, ok := e.set[name]
	e.used[name] = true
	return text, ok
}

func (e *envReader) scalar(path, name string, v reflect.Value) {
	text, ok := e.lookup(name)
	if !ok {
		return
	}
	e.origins[path] = Origin{Env: name}
	if err := setScalar(v, text); err != nil {
		e.problems = append(e.problems, Problem{Origin{Env: name}, path, err.Error()})
	}
}

func (e *envReader) list(path, name string, v reflect.Value) {
	text, ok := e.lookup(name)
	if !ok {
		return
	}
	e.clear(path)
	e.origins[path] = Origin{Env: name}
	items := strings.Split(text, ",")
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		if err := setScalar(out.Index(i), strings.TrimSpace(item)); err != nil {
			e.problems = append(e.problems, Problem{Origin{Env: name}, fmt.Sprintf("%s[%d]", path, i), err.Error()})
		}
	}
	v.Set(out)
}

func (e *envReader) yaml(path, name string, v reflect.Value) {
	text, ok := e.lookup(name)
	if !ok {
		return
	}
	e.clear(path)
	d := &decoder{from: Origin{Env: name}, base: path, origins: e.origins}
	e.origins[path] = d.from
	d.document([]byte(text), v)
	e.problems = append(e.problems, d.problems...)
	e.cut = e.cut || d.nodes > maxNodes
}

// clear forgets where the elements of a list came from that is replaced.
func (e *envReader) clear(path string) {
	for p := range e.origins {
		if strings.HasPrefix(p, path+"[") {
			delete(e.origins, p)
		}
	}
}

// unknown warns of variables that no key has. Those that Kubernetes sets for a
// service called posthorn are passed over.
func (e *envReader) unknown() []Problem {
	var ps []Problem
	for name := range e.set {
		if e.used[name] || slices.Contains(commandVariables, name) || isServiceLink(name) {
			continue
		}
		ps = append(ps, Problem{Origin{Env: name}, "", "no key of the configuration has this variable; it is ignored"})
	}
	sortProblems(ps)
	return ps
}

// isServiceLink recognises NAME_SERVICE_HOST, NAME_SERVICE_PORT[_X], NAME_PORT
// and NAME_PORT_<n>_TCP[_ADDR|_PORT|_PROTO] (Kubernetes, "Accessing the
// Service", environment variables).
func isServiceLink(name string) bool {
	return strings.Contains(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}
