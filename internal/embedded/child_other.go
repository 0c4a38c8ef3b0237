//go:build !linux

package embedded

import "syscall"

// childAttributes: the engine notices the end of its parent at its standard input.
func childAttributes() *syscall.SysProcAttr { return childGroup() }
