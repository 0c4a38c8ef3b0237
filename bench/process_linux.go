package main

import "syscall"

// dieWithParent has the kernel end a child when this process ends, however
// that happens (prctl(2), PR_SET_PDEATHSIG).
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
