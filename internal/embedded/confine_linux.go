package embedded

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confinedEnv marks an engine's process that is confined.
const confinedEnv = "POSTHORN_EMBEDDED_CLICKHOUSE_CONFINED"

// Rights to what lies below a path.
const (
	mayRead  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayRun   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE
	mayWrite = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	// ofFiles are the rights that a file can have; the others are a directory's.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// confine has the kernel (Landlock, landlock(7)) keep this process to the engine's
// directory, its library and what every program reads, and to the connections that
// others make, and runs the program again so, as a restriction of one thread becomes
// that of the process that it runs. Statements can name files, programs and addresses
// in more ways than a look at their text finds; here all of them end.
//
// It returns where the process is confined already, or can't be.
func confine(config string) error {
	if os.Getenv(confinedEnv) != "" {
		return nil
	}
	var opts ClickHouseOptions
	if err := json.Unmarshal([]byte(config), &opts); err != nil {
		return nil //nolint:nilerr // reported by who needs them
	}
	self, err := os.Executable()
	if err == nil {
		runtime.LockOSThread()
		if err = restrict(self, opts); err == nil {
			err = syscall.Exec(self, os.Args, append(os.Environ(), confinedEnv+"=1")) //nolint:gosec // this program itself
		}
	}
	return fmt.Errorf("confining the process: %w", err)
}

var errNoLandlock = errors.New("the kernel has no Landlock: statements can reach this user's files and programs")

// landlock is the version that the kernel has, 0 for none.
func landlock() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// restrict confines this thread and what it runs.
func restrict(self string, opts ClickHouseOptions) error {
	version := landlock()
	if version < 3 { // before, files couldn't be moved from one directory to another
		return errNoLandlock
	}
	all := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_TRUNCATE<<1 - 1}
	if version >= 4 {
		all.Handled_access_net = unix.LANDLOCK_ACCESS_NET_CONNECT_TCP // to nowhere
	}
	if version >= 5 {
		all.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		all.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&all)), unsafe.Sizeof(all), 0) //nolint:gosec // how system calls take structs
	if errno != 0 {
		return fmt.Errorf("making the rules: %w", errno)
	}
	defer func() { _ = unix.Close(int(fd)) }() // it is in force, or of no use
	rules := map[string]uint64{
		opts.DataDir: all.Handled_access_fs &^ unix.LANDLOCK_ACCESS_FS_EXECUTE,
		opts.Library: mayRead,
		self:         mayRun,
		"/dev/null":  mayWrite, "/dev/zero": mayWrite, "/dev/random": mayRead, "/dev/urandom": mayRead,
		"/sys":       mayRead, // processors, control groups
		"/proc/self": mayRead, // as the process stays the same
		"/proc/sys":  mayRead, "/proc/meminfo": mayRead, "/proc/cpuinfo": mayRead, "/proc/stat": mayRead,
		"/proc/loadavg": mayRead, "/proc/uptime": mayRead, "/proc/vmstat": mayRead, "/proc/filesystems": mayRead,
		"/etc/ld.so.cache": mayRead, "/etc/localtime": mayRead, "/usr/share/zoneinfo": mayRead,
		"/etc/nsswitch.conf": mayRead, "/etc/hosts": mayRead,
	}
	for _, dir := range libraries() {
		rules[dir] |= mayRead
	}
	if loader := interpreter(self); loader != "" {
		rules[loader] |= mayRun
	}
	for path, may := range rules {
		if err := allow(int(fd), path, may&all.Handled_access_fs); err != nil {
			return fmt.Errorf("allowing %s: %w", path, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("putting the rules in force: %w", errno)
	}
	return nil
}

// allow adds a rule. What isn't there needs none.
func allow(ruleset int, path string, may uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		may &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: may, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 { //nolint:gosec // how system calls take structs
		return errno
	}
	return nil
}

// libraries are the directories where shared libraries lie: the usual ones, and
// those of what this process has loaded.
func libraries() []string {
	dirs := []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return dirs
	}
	for line := range strings.SplitSeq(string(maps), "\n") {
		if at := strings.Index(line, "/"); at >= 0 && strings.Contains(line[at:], ".so") {
			dirs = append(dirs, filepath.Dir(line[at:]))
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// interpreter is the loader of a program that is linked to shared libraries, or
// empty.
func interpreter(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err == nil {
				return strings.TrimRight(string(name), "\x00")
			}
		}
	}
	return ""
}
