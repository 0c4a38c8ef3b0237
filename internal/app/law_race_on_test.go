//go:build race

package app

// underRace says that the race detector watches: the largest cases are a tenth
// then, since it makes them ten times slower.
const underRace = true
