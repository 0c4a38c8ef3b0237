package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process of a run. It is told to die with this one.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu  sync.Mutex
	end []string // the last lines of its log
}

// start runs a program; every line of its output is shown to line.
func start(line func(string), env []string, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(name, args...), done: make(chan struct{})} //nolint:noctx,gosec // ended by stop; the programs are this one and the one to measure
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.SysProcAttr = dieWithParent()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stdout, c.cmd.Stderr = in, in
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), out.Close(), in.Close())
	}
	_ = in.Close()
	go func() {
		scan := bufio.NewScanner(out)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			text := scan.Text()
			c.mu.Lock()
			if c.end = append(c.end, text); len(c.end) > 30 {
				c.end = c.end[1:]
			}
			c.mu.Unlock()
			if line != nil {
				line(text)
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = out.Close()
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.end, "\n")
}

// stop ends the process, by force if it doesn't go within 25 seconds.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(25 * time.Second):
		c.kill()
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.done
}

// clockTick is USER_HZ, 100 on every Linux that Go runs on (time(7)).
const clockTick = 10 * time.Millisecond

// cpu returns the user and system time that the process has used so far.
func cpu(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading a process's CPU time: %w", err)
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; utime and stime are the 14th and 15th.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("reading a process's CPU time: /proc/PID/stat is too short")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// sleep waits unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until asks again and again whether something is so.
func until(ctx context.Context, within time.Duration, what string, is func() bool) error {
	deadline := time.Now().Add(within)
	for !is() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s", what, within)
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
