package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminConfig of an [Admin] server.
type AdminConfig struct {
	// Addr is where to listen, "host:port"; port 0 takes a free one.
	Addr string
	// Metrics is what /metrics shows.
	Metrics prometheus.Gatherer
	// Pprof serves /debug/pprof/, which shows memory and costs CPU to whoever
	// reaches the port.
	Pprof bool
	// Logger takes the server's own complaints; the default logger if nil.
	Logger *slog.Logger
}

// Validate reports every mistake in the configuration.
func (c AdminConfig) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		errs = append(errs, fmt.Errorf("admin address %q: %w; want host:port, for instance 127.0.0.1:9090", c.Addr, err))
	}
	if c.Metrics == nil {
		errs = append(errs, errors.New("admin server: no metrics given"))
	}
	return errors.Join(errs...)
}

// Admin is the process's one HTTP server for its operators:
//
//   - /healthz answers 200 as long as the process can answer at all;
//   - /readyz answers 200 when every registered check passes, else 503; the
//     body is {"ready": …, "failing": {"check": "why", …}, "warnings": {…}} and
//     lists all of them; warnings leave the status as it is;
//   - /metrics is the Prometheus exposition;
//   - /debug/pprof/, by option;
//   - and what [Admin.Mount] adds.
//
// Its methods are safe for concurrent use.
type Admin struct {
	mux    *http.ServeMux
	server *http.Server

	mu       sync.Mutex
	listener net.Listener
	checks   map[string]func() error
	warnings map[string]func() string
	mounts   []string
}

// NewAdmin returns a server that doesn't listen yet.
func NewAdmin(cfg AdminConfig) (*Admin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	errorLog := slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn)
	a := &Admin{
		mux:    http.NewServeMux(),
		checks: make(map[string]func() error), warnings: make(map[string]func() string),
		mounts: []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/"},
	}
	a.server = &http.Server{
		Addr:    cfg.Addr,
		Handler: a.mux,
		// A client that sends or reads a byte at a time must not keep a
		// connection for long.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s by default
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          errorLog,
	}
	a.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "ok")
	})
	a.mux.HandleFunc("GET /readyz", a.readyz)
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
		ErrorLog: errorLog,
		// One broken collector mustn't hide the others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
	}))
	if cfg.Pprof {
		a.mux.HandleFunc("/debug/pprof/", pprof.Index)
		a.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		a.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		a.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		a.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return a, nil
}

// Ready registers a check of readiness under a name; a later one of that name
// takes its place. The error is shown to whoever asks: no secrets in it. Checks
// run on every probe, one after another, so they must not block.
func (a *Admin) Ready(name string, check func() error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checks[name] = check
}

// Warn registers a warning that /readyz shows beside the checks, under a name; a
// later one of that name takes its place. An empty text is no warning. What holds
// for the checks of [Admin.Ready] holds for it.
func (a *Admin) Warn(name string, warning func() string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.warnings[name] = warning
}

// Mount serves a handler at a path ("/openapi.json") or, when it ends in a
// slash, at everything below it ("/v1/"). The handler sees the whole path. A
// path that is taken, or lies below one that is, is an error.
func (a *Admin) Mount(at string, h http.Handler) error {
	clean := path.Clean(at)
	if strings.HasSuffix(at, "/") && clean != "/" {
		clean += "/"
	}
	// ServeMux panics on an unclean path, and takes a space for a method's and
	// a brace for a wildcard's.
	if !strings.HasPrefix(at, "/") || at != clean || strings.ContainsAny(at, " \t{}") {
		return fmt.Errorf("mounting %q: want a path such as /openapi.json or /v1/", at)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, taken := range a.mounts {
		if at == taken || strings.HasSuffix(taken, "/") && taken != "/" && strings.HasPrefix(at, taken) {
			return fmt.Errorf("mounting %q: %s is taken", at, taken)
		}
	}
	a.mounts = append(a.mounts, at)
	a.mux.Handle(at, h)
	return nil
}

// Listen opens the port. Call it before [Admin.Serve]; a port that is taken is
// then an error of the start and not of a goroutine.
func (a *Admin) Listen(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.server.Addr)
	if err != nil {
		return fmt.Errorf("opening admin port: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listener = l
	return nil
}

// Addr is the address that the server listens on; empty before Listen.
func (a *Admin) Addr() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listener == nil {
		return ""
	}
	return a.listener.Addr().String()
}

// Serve answers requests until Shutdown, and then returns nil.
func (a *Admin) Serve() error {
	a.mu.Lock()
	l := a.listener
	a.mu.Unlock()
	if l == nil {
		return errors.New("serving admin port: it is not open")
	}
	if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving admin port: %w", err)
	}
	return nil
}

// Shutdown closes the port and waits for running requests until ctx is done;
// then it cuts them and says so.
func (a *Admin) Shutdown(ctx context.Context) error {
	err := a.server.Shutdown(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listener != nil {
		a.listener.Close() // Serve may never have run
	}
	if err != nil {
		return errors.Join(fmt.Errorf("closing admin port: requests were cut: %w", err), a.server.Close())
	}
	return nil
}

type readiness struct {
	Ready    bool              `json:"ready"`
	Failing  map[string]string `json:"failing,omitempty"`
	Warnings map[string]string `json:"warnings,omitempty"`
}

func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	r := a.judge()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) // the client is gone
}

// judge runs every check and warning, without the lock.
func (a *Admin) judge() readiness {
	a.mu.Lock()
	checks, warnings := maps.Clone(a.checks), maps.Clone(a.warnings)
	a.mu.Unlock()
	r := readiness{Failing: make(map[string]string), Warnings: make(map[string]string)}
	for name, check := range checks {
		if err := check(); err != nil {
			r.Failing[name] = err.Error()
		}
	}
	for name, warning := range warnings {
		if text := warning(); text != "" {
			r.Warnings[name] = text
		}
	}
	r.Ready = len(r.Failing) == 0
	return r
}
