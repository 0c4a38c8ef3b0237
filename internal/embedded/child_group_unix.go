//go:build unix && !linux

package embedded

import "syscall"

// childGroup is a process group of its own, so that a terminal's Ctrl-C reaches
// the parent alone, which ends the engine after itself.
func childGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
