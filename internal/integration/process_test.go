//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startWithin = 60 * time.Second // a start beside other tests, after a kill of its predecessor
	endWithin   = 60 * time.Second
)

// process is one process of the product.
type process struct {
	t        testing.TB
	cmd      *exec.Cmd
	watchdog *exec.Cmd
	admin    string // URL
	done     chan struct{}
	err      error // its exit, after done
	lines    *tail
}

// watchScript kills the process when its standard input ends, which is when
// the test process does, however that happens.
const watchScript = `read -r _; kill -s KILL "$1"`

// launch starts a command of the product that logs JSON.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{}), lines: &tail{admin: make(chan string, 1)}}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Env = append(os.Environ(), "POSTHORN_LOG_FORMAT=json", "POSTHORN_HTTP_LISTEN=127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, env...)
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.watchdog = exec.Command("sh", "-c", watchScript, "sh", strconv.Itoa(p.cmd.Process.Pid))
	p.watchdog.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := p.watchdog.StdinPipe()
	if err == nil {
		err = p.watchdog.Start()
	}
	if err != nil {
		_ = p.cmd.Process.Kill()
		t.Fatal(err)
	}
	go func() {
		p.lines.read(errs)
		p.err = p.cmd.Wait()
		_ = p.watchdog.Process.Kill() // before the process ID can be another's
		_ = p.watchdog.Wait()
		_ = in.Close()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of the log of %s %s:\n%s", binary, strings.Join(args, " "), p.lines)
		}
	})
	return p
}

// started waits until the process says that it runs.
func (p *process) started() *process {
	p.t.Helper()
	select {
	case addr := <-p.lines.admin:
		p.admin = "http://" + addr
	case <-p.done:
		p.t.Fatalf("the process ended: %v\n%s", p.err, p.lines)
	case <-time.After(startWithin):
		p.t.Fatalf("the process didn't start within %v\n%s", startWithin, p.lines)
	}
	return p
}

// kill is kill -9.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// terminate is SIGTERM; the process has to end well, in time.
func (p *process) terminate() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.exits(0)
}

// exits waits for the end and wants that exit code.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(endWithin):
		p.t.Fatalf("the process didn't end within %v\n%s", endWithin, p.lines)
	}
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		got = exit.ExitCode()
	}
	if got != code {
		p.t.Errorf("exit code %d (%v), want %d\n%s", got, p.err, code, p.lines)
	}
}

// metrics returns the process's metrics, each series by its name and labels as
// they are written; nil when it doesn't answer.
func (p *process) metrics() map[string]float64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.admin+"/metrics", nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	out := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
				out[line[:i]] = v
			}
		}
	}
	return out
}

// command runs a command of the product to its end.
func command(t testing.TB, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("posthorn %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// must runs a command of the product that has to succeed.
func must(t testing.TB, args ...string) {
	t.Helper()
	if code, out := command(t, args...); code != 0 {
		t.Fatalf("posthorn %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
}

// tail keeps the last lines of a log, and finds out where the admin port is.
type tail struct {
	admin chan string

	mu    sync.Mutex
	lines [][]byte
}

const tailLines = 60

func (l *tail) read(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			l.take(line)
		}
		if err != nil {
			return
		}
	}
}

func (l *tail) take(line []byte) {
	if bytes.Contains(line, []byte(`"msg":"running"`)) {
		var said struct{ Admin string }
		if json.Unmarshal(line, &said) == nil {
			select {
			case l.admin <- said.Admin:
			default:
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, line); len(l.lines) > tailLines {
		l.lines = l.lines[1:]
	}
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, nil))
}
