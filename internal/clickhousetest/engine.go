// Package clickhousetest gives tests a ClickHouse: the embedded engine, one for
// each test binary, and a database of its own for each test.
//
// Where there is no libchdb (make chdb fetches it), or no npm to fetch it with,
// tests are skipped and say so; POSTHORN_REQUIRE_CLICKHOUSE=1 makes that a failure.
package clickhousetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go.uber.org/goleak"

	"posthorn/internal/embedded"
)

const (
	requireEnv   = "POSTHORN_REQUIRE_CLICKHOUSE"
	startTimeout = 90 * time.Second // a library of half a gigabyte from a cold disk
)

// Library is the path of libchdb: what [embedded.FindLibrary] finds, or what lies in
// the repository's .cache. Without one it skips or fails the test.
func Library(tb testing.TB) string {
	tb.Helper()
	path, err := library()
	if err != nil {
		unavailable(tb, err)
	}
	return path
}

func library() (string, error) {
	path, err := embedded.FindLibrary()
	if !errors.Is(err, embedded.ErrNoLibrary) {
		return path, err
	}
	// Tests run in their package's directory.
	dir, wd := os.Getwd()
	if wd != nil {
		return "", fmt.Errorf("finding libchdb: %w", wd)
	}
	for {
		if path := embedded.LibraryIn(dir); path != "" {
			return path, nil
		}
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			return "", embedded.ErrNoLibrary
		}
		dir = filepath.Dir(dir)
	}
}

func unavailable(tb testing.TB, err error) {
	tb.Helper()
	if errors.Is(err, embedded.ErrNoLibrary) && os.Getenv(requireEnv) != "1" {
		tb.Skipf("SKIPPED, as there is no ClickHouse: %v (%s=1 makes this a failure)", err, requireEnv)
	}
	tb.Fatalf("starting ClickHouse: %v", err)
}

// Start runs an engine of the test's own on a directory, which may be that of an
// earlier one, and ends it with the test. TestMain must call
// [embedded.ClickHouseChild] first.
func Start(tb testing.TB, dir string) *embedded.ClickHouse {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	engine, err := embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{Library: Library(tb), DataDir: dir})
	if err != nil {
		unavailable(tb, err)
	}
	tb.Cleanup(func() {
		if err := engine.Close(); err != nil {
			tb.Error(err)
		}
	})
	return engine
}

var shared struct {
	sync.Mutex
	engine *embedded.ClickHouse
	dir    string
	err    error
}

// Shared is the one engine of this test binary, started at the first call. [Main]
// ends it. Its data is gone with it.
func Shared(tb testing.TB) *embedded.ClickHouse {
	tb.Helper()
	path := Library(tb)
	shared.Lock()
	defer shared.Unlock()
	if shared.engine == nil && shared.err == nil {
		shared.engine, shared.dir, shared.err = start(path)
	}
	if shared.err != nil {
		unavailable(tb, shared.err)
	}
	return shared.engine
}

func start(path string) (*embedded.ClickHouse, string, error) {
	dir, err := os.MkdirTemp("", "posthorn-clickhouse-")
	if err != nil {
		return nil, "", fmt.Errorf("creating data directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	engine, err := embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{Library: path, DataDir: dir})
	if err != nil {
		_ = os.RemoveAll(dir) // in the temporary directory all the same
		return nil, "", err
	}
	return engine, dir, nil
}

// Main is the whole of a TestMain: os.Exit(clickhousetest.Main(m)). In the engine's
// process it never returns. It ends the shared engine after the tests and fails if
// a goroutine is left.
func Main(m *testing.M, opts ...goleak.Option) int {
	embedded.ClickHouseChild()
	code := m.Run()
	Stop()
	if code == 0 {
		if err := goleak.Find(opts...); err != nil {
			fmt.Fprintf(os.Stderr, "goleak: %v\n", err)
			return 1
		}
	}
	return code
}

// Stop ends the shared engine and its goroutines, for a TestMain that can't use
// [Main].
func Stop() {
	shared.Lock()
	defer shared.Unlock()
	if shared.engine != nil {
		shared.engine.Kill()
		_ = os.RemoveAll(shared.dir) // in the temporary directory all the same
		shared.engine = nil
	}
}

var databases atomic.Int64

// Database makes an empty database on the shared engine and returns its name. It
// is dropped with the test.
func Database(tb testing.TB) string {
	tb.Helper()
	conn := Dial(tb, Shared(tb), "")
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := conn.Exec(tb.Context(), "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("creating database %s: %v", name, err)
	}
	tb.Cleanup(func() {
		if err := conn.Exec(context.Background(), "DROP DATABASE "+name); err != nil {
			tb.Errorf("dropping database %s: %v", name, err)
		}
	})
	return name
}

// Conn is a connection to a new database on the shared engine.
func Conn(tb testing.TB) driver.Conn {
	tb.Helper()
	return Dial(tb, Shared(tb), Database(tb))
}

// Dial connects to an engine over HTTP and closes the connection with the test. An
// empty database means default.
func Dial(tb testing.TB, engine *embedded.ClickHouse, database string, more ...func(*clickhouse.Options)) driver.Conn {
	tb.Helper()
	opts := &clickhouse.Options{
		Protocol: clickhouse.HTTP,
		Addr:     []string{engine.Addr()},
		Auth:     clickhouse.Auth{Database: database},
		// More than a test has goroutines.
		MaxOpenConns: 50,
		DialTimeout:  10 * time.Second,
	}
	for _, f := range more {
		f(opts)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		tb.Fatalf("connecting to ClickHouse: %v", err)
	}
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Errorf("closing the connection to ClickHouse: %v", err)
		}
	})
	return conn
}
