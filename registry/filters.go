package registry

import "posthorn/registry/filter"

// filters holds one program for each expression that endpoints have, however
// many have it. What nobody has any more is dropped.
type filters map[string]*usedFilter

type usedFilter struct {
	program *filter.Program
	users   int
}

// use returns the program of an expression; nil for none.
func (f filters) use(expression string) *filter.Program {
	if expression == "" {
		return nil
	}
	u := f[expression]
	if u == nil {
		u = &usedFilter{program: filter.New(expression)}
		f[expression] = u
	}
	u.users++
	return u.program
}

// release gives back what use returned.
func (f filters) release(p *filter.Program) {
	if p == nil {
		return
	}
	if u := f[p.Source()]; u != nil {
		if u.users--; u.users == 0 {
			delete(f, p.Source())
		}
	}
}
