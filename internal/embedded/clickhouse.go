package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout bounds loading the library and opening the data directory.
	// Both take well under a second; a directory with many parts takes longer.
	startTimeout = 2 * time.Minute
	// closeTimeout bounds an orderly end: statements that run, then the engine.
	closeTimeout = 15 * time.Second
)

// ClickHouseOptions configures [StartClickHouse] and [ServeClickHouse].
type ClickHouseOptions struct {
	// Library is the path of libchdb; empty means what [FindLibrary] finds.
	Library string `json:"library"`
	// DataDir keeps everything; it is created with mode 0700.
	DataDir string `json:"data_dir"`
	// Port on 127.0.0.1; 0 chooses a free one.
	Port int `json:"port"`
	// Memory that the engine may use, in bytes; 0 means the engine's own rule,
	// nine tenths of the machine's. A statement that would need more fails.
	Memory int64 `json:"memory"`
	// Logger takes what the engine writes to its standard error, at level Debug
	// (it logs every statement that fails, too); nil discards it.
	Logger *slog.Logger `json:"-"`
}

// ClickHouse is a running engine, in a process of its own. Its methods may be
// called by several goroutines.
//
// What DataDir promises: everything acknowledged survives Close, a crash and a
// kill of the process, as do the blocks that deduplication remembers, as all of it
// has been written to the operating system by then; after a power failure the last
// moments may be missing (ClickHouse's own default has no fsync either).
//
// Statements run at the same time, up to a hundred.
type ClickHouse struct {
	addr  string // empty until it answers; written under mu
	cmd   *exec.Cmd
	stdin io.Closer
	tail  *tail
	done  chan struct{}
	err   error // valid after done
	mu    sync.Mutex
	ended bool // Close or Kill was called
}

// StartClickHouse runs this very program again as the engine's process, and returns
// when it answers. The program's main (in tests: TestMain) must call
// [ClickHouseChild] first of all. A DataDir that another engine has open is an error.
//
// A port that is taken is an error that is syscall.EADDRINUSE.
//
// The context bounds the start alone. The engine ends with Close, or with this
// process, however that ends.
func StartClickHouse(ctx context.Context, opts ClickHouseOptions) (_ *ClickHouse, err error) {
	if os.Getenv(childEnv) != "" {
		return nil, errors.New("starting embedded ClickHouse: this process was itself started as the engine: its main must call embedded.ClickHouseChild first")
	}
	if opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("starting embedded ClickHouse: port %d: want 1 to 65535, or 0 for a free one", opts.Port)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Library == "" {
		if opts.Library, err = FindLibrary(); err != nil {
			return nil, fmt.Errorf("starting embedded ClickHouse: %w", err)
		}
	}
	for _, path := range []*string{&opts.Library, &opts.DataDir} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, fmt.Errorf("starting embedded ClickHouse: %w", err)
		}
	}
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the embedded ClickHouse's directory: %w", err)
	}
	c, hello, err := spawn(opts)
	if err != nil {
		return nil, fmt.Errorf("starting embedded ClickHouse: %w", err)
	}
	defer func() {
		if err != nil {
			c.Kill()
		}
	}()
	select {
	case h := <-hello:
		if h.Error != "" {
			<-c.done
			if h.PortTaken {
				return nil, fmt.Errorf("starting embedded ClickHouse on port %d: %w", opts.Port, syscall.EADDRINUSE)
			}
			return nil, fmt.Errorf("starting embedded ClickHouse: %s%s", h.Error, c.tail.suffix())
		}
		c.mu.Lock()
		c.addr = h.Addr
		c.mu.Unlock()
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("starting embedded ClickHouse: %w", context.Cause(ctx))
	case <-time.After(startTimeout):
		return nil, fmt.Errorf("starting embedded ClickHouse: no answer within %v%s", startTimeout, c.tail.suffix())
	}
}

// hello is what the child says when it is ready, or why it won't be.
type hello struct {
	Addr  string `json:"addr,omitempty"`
	Error string `json:"error,omitempty"`
	// PortTaken says that the error is that of a port in use.
	PortTaken bool `json:"port_taken,omitempty"`
}

// spawn starts the child. Its first word comes on the channel, once.
func spawn(opts ClickHouseOptions) (*ClickHouse, <-chan hello, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("finding this program: %w", err)
	}
	config, err := json.Marshal(opts)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the options: %w", err)
	}
	said, say, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = say.Close() }() // the child has its own
	c := &ClickHouse{done: make(chan struct{}), tail: new(tail)}
	c.cmd = exec.Command(self, "embedded-clickhouse") //nolint:gosec,noctx // this program itself; it outlives the context of the start
	c.cmd.Env = append(childEnviron(), childEnv+"="+string(config), "TZ=UTC")
	c.cmd.Dir = opts.DataDir
	c.cmd.ExtraFiles = []*os.File{say}
	c.cmd.SysProcAttr = childAttributes()
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, nil, fmt.Errorf("making a pipe: %w", err)
	}
	started := make(chan error)
	go c.watch(started, stderr, opts.Logger)
	if err := <-started; err != nil {
		_ = said.Close() // nothing was read yet
		return nil, nil, fmt.Errorf("running %s: %w", self, err)
	}
	words := make(chan hello, 1)
	go func() {
		defer func() { _ = said.Close() }() // only read
		var h hello
		if err := json.NewDecoder(said).Decode(&h); err != nil {
			h.Error = "the process ended before it answered"
		}
		words <- h
	}()
	return c, words, nil
}

// childEnviron is what the engine gets of our environment: what its loader and its
// runtime heed, and none of our secrets.
func childEnviron() (env []string) {
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if slices.Contains([]string{"HOME", "PATH", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "LANG", "LC_ALL"}, name) || strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "MALLOC_") {
			env = append(env, e)
		}
	}
	return env
}

// watch starts the child and waits for its end. It holds on to its thread: on Linux
// the kernel kills the child when the thread that started it ends.
func (c *ClickHouse) watch(started chan<- error, stderr io.Reader, log *slog.Logger) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	if err := c.cmd.Start(); err != nil {
		c.err = err
		started <- err
		return
	}
	started <- nil
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c.tail.add(lines.Text())
		log.Debug("embedded clickhouse", "line", lines.Text())
	}
	_, _ = io.Copy(io.Discard, stderr) // past a line that was too long
	err := c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.err = fmt.Errorf("embedded ClickHouse ended by itself: %w%s", cmpError(err), c.tail.suffix())
		if c.addr != "" { // else who starts it is told why
			log.Error("embedded ClickHouse ended by itself", "error", cmpError(err).Error()+c.tail.suffix())
		}
	}
}

func cmpError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Addr is where the HTTP interface listens, "127.0.0.1:port".
func (c *ClickHouse) Addr() string { return c.addr }

// Done is closed when the process has ended.
func (c *ClickHouse) Done() <-chan struct{} { return c.done }

// Err says why the process ended, once Done is closed; nil after Close and Kill.
func (c *ClickHouse) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// PID is the process's ID.
func (c *ClickHouse) PID() int { return c.cmd.Process.Pid }

// Close lets the statements that run end, closes the data directory and waits for
// the process, which is killed after 15 seconds. It may be called more than once.
func (c *ClickHouse) Close() error {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	_ = c.stdin.Close() // its end is the signal
	timeout := time.NewTimer(closeTimeout + time.Second)
	defer timeout.Stop()
	select {
	case <-c.done:
		return nil
	case <-timeout.C:
		c.Kill()
		return fmt.Errorf("closing embedded ClickHouse: it did not end within %v and was killed", closeTimeout)
	}
}

// Kill ends the process at once, as a crash would, and waits for it.
func (c *ClickHouse) Kill() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	_ = c.cmd.Process.Kill() // it has ended already otherwise
	_ = c.stdin.Close()
	<-c.done
}

// tail keeps the last lines of the engine's log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines = append(t.lines, line); len(t.lines) > 20 {
		t.lines = t.lines[1:]
	}
}

func (t *tail) suffix() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return "\n" + strings.Join(t.lines, "\n")
}
