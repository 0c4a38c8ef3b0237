//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// terminal is a shell that is given blocks of commands, one after the other, and
// shows what they write on its screen.
type terminal struct {
	t      *testing.T
	name   string
	shell  *exec.Cmd
	blocks io.WriteCloser
	ended  chan error // of each block
	screen string     // a file
	files  int
	seen   int  // how much of the screen the document has told of
	busy   bool // a block hasn't ended
}

// patience bounds each wait for a block or for what it shows: a machine may have to
// compile all first, which make unit does before.
const patience = 3 * time.Minute

// The shell outlives Ctrl-C, what it runs doesn't. A command that fails ends it, also
// one in front of a pipe.
const shell = `trap : INT
set -o pipefail
while IFS= read -r block <&3; do
	set -eu
	. "$block" </dev/null 3<&- 4>&-
	echo >&4
done`

// openTerminal starts a shell in a directory. It and all that it runs end with the
// test.
func openTerminal(t *testing.T, name, dir string, env []string) *terminal {
	t.Helper()
	files := t.TempDir()
	x := &terminal{t: t, name: name, screen: filepath.Join(files, "screen"), ended: make(chan error)}
	screen, err := os.Create(x.screen)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	typed, blocks, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer typed.Close()
	ended, ends, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ends.Close()
	x.blocks = blocks
	x.shell = exec.Command("bash", "-c", shell)
	x.shell.Dir, x.shell.Env = dir, env
	x.shell.Stdout, x.shell.Stderr = screen, screen
	x.shell.ExtraFiles = []*os.File{typed, ends}
	x.shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := x.shell.Start(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(x.ended)
		defer ended.Close()
		for s := bufio.NewScanner(ended); s.Scan(); {
			select {
			case x.ended <- nil:
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		_ = syscall.Kill(-x.shell.Process.Pid, syscall.SIGKILL)
		_ = x.shell.Wait()
		blocks.Close()
		for range x.ended {
		}
	})
	return x
}

// begin has the shell run a block.
func (x *terminal) begin(text string) {
	x.t.Helper()
	x.files++
	file := fmt.Sprintf("%s.%d", x.screen, x.files)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
	if _, err := fmt.Fprintln(x.blocks, file); err != nil {
		x.t.Fatal(err)
	}
	x.busy = true
}

// end waits until the block has ended, and fails unless all of it succeeded.
func (x *terminal) end(of *block) {
	x.t.Helper()
	select {
	case _, ok := <-x.ended:
		if !ok {
			x.t.Fatalf("%v: a command failed:\n%s\n%s", of, of.text, x.shown())
		}
	case <-time.After(patience):
		x.t.Fatalf("%v: no end after %s:\n%s\n%s", of, patience, of.text, x.shown())
	}
	x.busy = false
}

// interrupt is Ctrl-C.
func (x *terminal) interrupt() {
	x.t.Helper()
	if err := syscall.Kill(-x.shell.Process.Pid, syscall.SIGINT); err != nil {
		x.t.Fatal(err)
	}
}

// shown is what is on the screen and was not told of yet.
func (x *terminal) shown() string {
	x.t.Helper()
	text, err := os.ReadFile(x.screen)
	if err != nil {
		x.t.Fatal(err)
	}
	return string(text[x.seen:])
}
