package contract

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
)

// Default is the name of the contract of endpoints that name none.
const Default = "standard"

//go:embed contracts/*.yaml
var contractFiles embed.FS

// Set holds contracts by name. It is immutable.
type Set struct {
	byName map[string]*Contract
}

// Get returns the contract of that name.
func (s Set) Get(name string) (*Contract, bool) {
	c, ok := s.byName[name]
	return c, ok
}

// Names returns the names of the set's contracts, sorted.
func (s Set) Names() []string { return slices.Sorted(maps.Keys(s.byName)) }

var builtin = sync.OnceValue(func() Set {
	dir, err := fs.Sub(contractFiles, "contracts")
	if err != nil {
		panic(err)
	}
	s, err := loadDir(dir, nil)
	if err != nil {
		panic(err) // the files are part of the program and tested
	}
	return s
})

// Builtin returns the contracts that ship: standard, bunship, bunjang and
// bigcommerce.
func Builtin() Set { return builtin() }

// LoadDir reads every *.yaml and *.yml file at the top of a directory, each a
// contract called after its file, and returns them over the builtin ones: a
// file called as a builtin replaces it. The error joins the [*LoadError] of
// each file that has mistakes.
func LoadDir(fsys fs.FS) (Set, error) { return loadDir(fsys, builtin().byName) }

func loadDir(fsys fs.FS, under map[string]*Contract) (Set, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return Set{}, fmt.Errorf("reading contracts: %w", err)
	}
	byName := maps.Clone(under)
	if byName == nil {
		byName = map[string]*Contract{}
	}
	fileOf := map[string]string{}
	var errs []error
	for _, entry := range entries {
		file := entry.Name()
		extension := path.Ext(file)
		if entry.IsDir() || extension != ".yaml" && extension != ".yml" {
			continue
		}
		name := file[:len(file)-len(extension)]
		if other, twice := fileOf[name]; twice {
			errs = append(errs, fmt.Errorf("reading contracts: %s and %s are both contract %q", other, file, name))
			continue
		}
		fileOf[name] = file
		text, err := fs.ReadFile(fsys, file)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading contracts: %w", err))
			continue
		}
		c, err := Load(name, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		byName[name] = c
	}
	if len(errs) > 0 {
		return Set{}, errors.Join(errs...)
	}
	return Set{byName: byName}, nil
}
