//go:build unix

package registry

import (
	"os"
	"syscall"
)

// sameOwner gives a new file the owner and group of the one that it replaces:
// processes of another user could not read it otherwise.
func sameOwner(f *os.File, old os.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok || int(was.Uid) == os.Geteuid() && int(was.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}
