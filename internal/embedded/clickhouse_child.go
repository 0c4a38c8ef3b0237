package embedded

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childEnv marks a process as the engine's; it holds the options.
const childEnv = "POSTHORN_EMBEDDED_CLICKHOUSE"

// ClickHouseChild must be called first in main, and in the TestMain of every test
// binary that starts an engine: in the process that [StartClickHouse] started it
// becomes the engine and never returns; anywhere else it does nothing.
func ClickHouseChild() {
	config := os.Getenv(childEnv)
	if config == "" {
		return
	}
	os.Exit(runChild(config, confine(config)))
}

// runChild is the engine's process; unconfined says why it can reach more than it
// should, if it can.
func runChild(config string, unconfined error) int {
	say := os.NewFile(3, "hello")
	fail := func(err error) int {
		_ = json.NewEncoder(say).Encode(hello{Error: err.Error(), PortTaken: errors.Is(err, syscall.EADDRINUSE)}) // nobody else could be told
		return 1
	}
	var opts ClickHouseOptions
	if err := json.Unmarshal([]byte(config), &opts); err != nil {
		return fail(fmt.Errorf("reading %s: %w", childEnv, err))
	}
	opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if unconfined != nil {
		opts.Logger.Warn("the engine's process is not confined", "err", unconfined)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		// The parent closes it, or has ended.
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
		time.Sleep(closeTimeout)
		os.Exit(1)
	}()
	err := serveClickHouse(ctx, opts, func(addr string) {
		_ = json.NewEncoder(say).Encode(hello{Addr: addr}) // a parent that has gone is noticed at stdin
		_ = say.Close()
	})
	if err != nil {
		return fail(err)
	}
	return 0
}

// ServeClickHouse loads the engine into this process and serves it until the
// context ends; then the statements that run have seconds to end. Use
// [StartClickHouse] instead unless the process has no other task: the engine takes
// memory and signals of its own, and what crashes it crashes the process. One
// process serves one directory, once.
func ServeClickHouse(ctx context.Context, opts ClickHouseOptions) error {
	return serveClickHouse(ctx, opts, func(string) {})
}

func serveClickHouse(ctx context.Context, opts ClickHouseOptions, ready func(addr string)) error {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return fmt.Errorf("creating the data directory: %w", err)
	}
	lock, err := lockDir(filepath.Join(opts.DataDir, "lock"))
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // nothing is ever written to it
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.Port)))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer listener.Close()
	lib, err := loadCHDB(opts.Library)
	if err != nil {
		return err
	}
	config, err := writeConfig(opts)
	if err != nil {
		return err
	}
	lib.connectArguments = []string{"clickhouse", "--path=" + filepath.Join(opts.DataDir, "data"), "--config-file=" + config}
	// Open as long as the process serves: the engine ends with its last connection.
	engine, err := lib.open()
	if err != nil {
		return err
	}
	defer engine.close()
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	server := &http.Server{
		Handler: newClickHouseHandler(lib, opts.Logger, name),
		// Statements come in URLs too; a server of ClickHouse's allows as much.
		MaxHeaderBytes:    1 << 20,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Minute, // longer than clients keep theirs, so that they never meet one that closes
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ready(listener.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout/3)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		// Closing their connections has the statements killed.
		_ = server.Close()
		time.Sleep(time.Second)
	}
	<-served //nolint:errcheck // it ends as it was told to
	return nil
}

// writeConfig writes the engine's configuration. There is one so that the engine
// reads none of the machine's own (./config.xml, ~/.clickhouse-local, /etc).
func writeConfig(opts ClickHouseOptions) (string, error) {
	users := filepath.Join(opts.DataDir, "users.xml")
	if err := os.WriteFile(users, []byte(usersXML), 0o600); err != nil {
		return "", fmt.Errorf("writing the engine's users: %w", err)
	}
	var b strings.Builder
	b.WriteString("<clickhouse>\n")
	for _, e := range [][2]string{
		{"users_config", users},
		{"log-level", "error"},
		{"timezone", "UTC"},
	} {
		b.WriteString("  <" + e[0] + ">")
		if err := xml.EscapeText(&b, []byte(e[1])); err != nil {
			return "", errors.New("writing the engine's configuration: a path that XML can't hold")
		}
		b.WriteString("</" + e[0] + ">\n")
	}
	if opts.Memory > 0 {
		fmt.Fprintf(&b, "  <max_server_memory_usage>%d</max_server_memory_usage>\n", opts.Memory)
	}
	b.WriteString("  <logger><console>1</console></logger>\n</clickhouse>\n")
	path := filepath.Join(opts.DataDir, "config.xml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return "", fmt.Errorf("writing the engine's configuration: %w", err)
	}
	return path, nil
}

// usersXML is the one user. It may do everything but reach out of the engine: no
// files, addresses, programs or other databases (ClickHouse's "sources"), since there
// is no password and any process of the machine can connect, with rights less than
// those of the user whom the engine runs as. Functions and dictionaries get around
// that: the process is confined too, see confine.
const usersXML = `<clickhouse>
  <profiles><default></default></profiles>
  <quotas><default></default></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>::/0</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SHOW, SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK, KILL QUERY, SYSTEM, dictGet, INTROSPECTION ON *.*</query>
      </grants>
    </default>
  </users>
</clickhouse>
`
