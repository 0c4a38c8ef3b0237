//go:build !unix

package embedded

import "syscall"

func childGroup() *syscall.SysProcAttr { return nil }
