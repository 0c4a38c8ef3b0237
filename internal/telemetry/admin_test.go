package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func newAdmin(t *testing.T, pprof bool) *Admin {
	t.Helper()
	a, err := NewAdmin(AdminConfig{Addr: "127.0.0.1:0", Metrics: NewMetrics(), Pprof: pprof, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve runs the server until the test ends.
func serve(t *testing.T, a *Admin) {
	t.Helper()
	if err := a.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve() }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := a.Shutdown(context.Background()); err != nil {
			t.Errorf("shutting down: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
}

func get(t *testing.T, a *Admin, path string) (status int, body string) {
	t.Helper()
	resp, err := http.Get("http://" + a.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestReadyzListsEveryFailingCheckAndEveryWarning(t *testing.T) {
	a := newAdmin(t, false)
	serve(t, a)
	if status, body := get(t, a, "/readyz"); status != 200 || strings.TrimSpace(body) != `{"ready":true}` {
		t.Errorf("without checks: %d %s", status, body)
	}
	a.Ready("registry", func() error { return errors.New("1,200 records behind") })
	a.Ready("match", func() error { return nil })
	a.Ready("stage", func() error { return errors.New("not in its group") })
	a.Warn("clock", func() string { return "800ms ahead" })
	a.Warn("disk", func() string { return "" })
	status, body := get(t, a, "/readyz")
	var got readiness
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := readiness{Failing: map[string]string{"registry": "1,200 records behind", "stage": "not in its group"},
		Warnings: map[string]string{"clock": "800ms ahead"}}
	if status != 503 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d %s, want 503 and both failing checks", status, body)
	}
	if status, body := get(t, a, "/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("not ready is not unhealthy: %d %s", status, body)
	}
	a.Ready("registry", func() error { return nil })
	a.Ready("stage", func() error { return nil })
	if status, body := get(t, a, "/readyz"); status != 200 || strings.TrimSpace(body) != `{"ready":true,"warnings":{"clock":"800ms ahead"}}` {
		t.Errorf("all checks pass, one warning: %d %s", status, body)
	}
}

func TestMetricsAreServedAndPprofOnlyWhenAsked(t *testing.T) {
	plain, debug := newAdmin(t, false), newAdmin(t, true)
	serve(t, plain)
	serve(t, debug)
	if status, body := get(t, plain, "/metrics"); status != 200 || !strings.Contains(body, "posthorn_in_flight 0") {
		t.Errorf("/metrics: %d %.200s", status, body)
	}
	if status, _ := get(t, plain, "/debug/pprof/"); status != 404 {
		t.Errorf("pprof without being asked: %d", status)
	}
	if status, body := get(t, debug, "/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d %.200s", status, body)
	}
}

func TestAMountedHandlerSeesItsWholePathAndNeverTakesAnothers(t *testing.T) {
	a := newAdmin(t, false)
	serve(t, a)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	for _, path := range []string{"/v1/", "/openapi.json", "/"} {
		if err := a.Mount(path, echo); err != nil {
			t.Error(err)
		}
	}
	for _, path := range []string{"/v1/endpoints/ep_1", "/openapi.json", "/anything"} {
		if status, body := get(t, a, path); status != 200 || body != path {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := get(t, a, "/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("/healthz beside a mount of everything: %d %s", status, body)
	}
	for _, path := range []string{"/v1/", "/v1/endpoints", "/healthz", "/readyz", "/metrics", "/debug/pprof/heap", "", "v1/", "GET /x", "/{id}", "/a/../b", "//"} {
		if err := a.Mount(path, echo); err == nil {
			t.Errorf("mounting %q succeeded", path)
		}
	}
}

// A client that never ends its header, and one that never ends its body.
func TestASlowClientIsCutOff(t *testing.T) {
	a := newAdmin(t, false)
	for name, d := range map[string]time.Duration{"header": a.server.ReadHeaderTimeout, "read": a.server.ReadTimeout,
		"write": a.server.WriteTimeout, "idle": a.server.IdleTimeout} {
		if d <= 0 || d > 2*time.Minute {
			t.Errorf("the %s timeout is %v", name, d)
		}
	}
	a.server.ReadHeaderTimeout, a.server.ReadTimeout = 50*time.Millisecond, 100*time.Millisecond
	read := make(chan error, 1)
	if err := a.Mount("/v1/", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	})); err != nil {
		t.Fatal(err)
	}
	serve(t, a)
	for _, request := range []string{
		"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:",
		"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab",
	} {
		c, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(c) // ends only when the server closes the connection
	}
	if err := <-read; err == nil {
		t.Error("a body that never ended was read to its end")
	}
}

func TestShutdownWaitsForRunningRequestsAndThenCutsThem(t *testing.T) {
	for _, cut := range []bool{false, true} {
		a := newAdmin(t, false)
		started, release := make(chan struct{}), make(chan struct{})
		if err := a.Mount("/v1/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(started)
			select {
			case <-release:
			case <-r.Context().Done():
			}
			io.WriteString(w, "done")
		})); err != nil {
			t.Fatal(err)
		}
		if err := a.Listen(t.Context()); err != nil {
			t.Fatal(err)
		}
		served, answered := make(chan error, 1), make(chan string, 1)
		go func() { served <- a.Serve() }()
		go func() {
			resp, err := http.Get("http://" + a.Addr() + "/v1/")
			if err != nil {
				answered <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			answered <- string(body)
		}()
		<-started
		ctx, cancel := context.WithCancel(context.Background())
		if cut {
			cancel() // the deadline has passed
		}
		shut := make(chan error, 1)
		go func() { shut <- a.Shutdown(ctx) }()
		if err := <-served; err != nil { // the port is closed at once
			t.Errorf("serving: %v", err)
		}
		if !cut {
			close(release)
		}
		err, body := <-shut, <-answered
		if cut && (err == nil || body == "done") {
			t.Errorf("cut: error %v, body %q", err, body)
		}
		if !cut && (err != nil || body != "done") {
			t.Errorf("waited: error %v, body %q", err, body)
		}
		cancel()
		http.DefaultClient.CloseIdleConnections()
	}
}

func TestAPortThatIsTakenIsAnErrorOfListen(t *testing.T) {
	first := newAdmin(t, false)
	serve(t, first)
	second, err := NewAdmin(AdminConfig{Addr: first.Addr(), Metrics: NewMetrics()})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "opening admin port") {
		t.Errorf("error %v", err)
	}
	if err := second.Serve(); err == nil {
		t.Error("a server without a port serves")
	}
	if second.Addr() != "" {
		t.Errorf("address %q without a port", second.Addr())
	}
}

func TestAdminConfigErrorsNameEveryMistake(t *testing.T) {
	_, err := NewAdmin(AdminConfig{Addr: "9090"})
	if err == nil || !strings.Contains(err.Error(), `"9090"`) || !strings.Contains(err.Error(), "no metrics") {
		t.Errorf("error %v", err)
	}
}
