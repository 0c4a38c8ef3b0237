package embedded

import "syscall"

// childAttributes: a process group of its own, so that a terminal's Ctrl-C reaches
// the parent alone, which ends the engine after itself; and the kernel kills the
// engine with its parent.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
