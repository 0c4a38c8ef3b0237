//go:build unix

package demo

import (
	"errors"
	"os"
	"syscall"
)

// lock takes a file for this process, or says that another has it. The kernel
// gives it back when the file is closed or the process ends, however it does.
func lock(f *os.File) (taken bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
