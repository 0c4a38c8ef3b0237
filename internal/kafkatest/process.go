package kafkatest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a command in its own process group, which a watchdog kills when
// this process ends without having stopped it.
type process struct {
	cmd      *exec.Cmd
	watchdog *exec.Cmd
	pipe     io.Closer     // its writing end is held by nobody else
	done     chan struct{} // closed when the command has ended
	err      error         // its exit, after done
}

// watchScript waits for the end of its standard input, then kills the group and
// removes the broker's directory. The signal is written as POSIX has it: dash
// takes no "--" after "-9". If the kill fails the directory stays, as pulling it
// away from under a live broker would only make it end late.
const watchScript = `read -r _; kill -s KILL -- "-$1" && rm -rf -- "$2"`

func startProcess(cmd *exec.Cmd, dir string) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.watchdog = exec.Command("sh", "-c", watchScript, "sh", fmt.Sprint(cmd.Process.Pid), dir)
	// In a group of its own, so that a ^C at the terminal doesn't end it before
	// it has done its work.
	p.watchdog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := p.watchdog.StdinPipe()
	if err == nil {
		p.pipe = in
		err = p.watchdog.Start()
	}
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	go func() {
		p.err = cmd.Wait()
		// Before the process ID can be given to another: the watchdog must not
		// outlive the group that it watches.
		_ = p.watchdog.Process.Kill()
		_ = p.watchdog.Wait()
		_ = p.pipe.Close()
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and kills it when it has not within grace.
func (p *process) stop(grace time.Duration) {
	if grace > 0 {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
			return
		case <-time.After(grace):
		}
	}
	select {
	case <-p.done: // already gone: its group ID may be another's by now
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// logTail returns the end of a log file, for a test that failed.
func logTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return tail(b, 8<<10)
}
