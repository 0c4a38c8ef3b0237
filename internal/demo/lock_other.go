//go:build !unix

package demo

import "os"

// lock locks nothing: there is no flock here. The embedded broker of a demo that
// runs still refuses its directory to another.
func lock(*os.File) (taken bool, err error) { return true, nil }
