package clickhousetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Server is a process of Debian's clickhouse-server.
type Server struct {
	tb     testing.TB
	binary string
	dir    string
	Addr   string // of the native protocol, host:port
	cmd    *exec.Cmd
}

// NewServer starts one, which ends with the test; without the package the test is
// skipped.
func NewServer(tb testing.TB) *Server {
	tb.Helper()
	binary, err := exec.LookPath("clickhouse-server")
	if err != nil {
		binary, err = exec.LookPath("/usr/sbin/clickhouse-server")
	}
	if err != nil {
		if os.Getenv("POSTHORN_REQUIRE_CLICKHOUSE") == "1" {
			tb.Fatal("clickhouse-server isn't installed, and POSTHORN_REQUIRE_CLICKHOUSE is set")
		}
		tb.Skip("SKIPPED, as clickhouse-server (Debian's package of that name) isn't installed")
	}
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{tb: tb, binary: binary, dir: tb.TempDir(), Addr: l.Addr().String()}
	_ = l.Close()
	_, port, _ := net.SplitHostPort(s.Addr)
	config := fmt.Sprintf(`<yandex><logger><level>warning</level><console>1</console></logger><tcp_port>%s</tcp_port><http_port>0</http_port><listen_host>127.0.0.1</listen_host>
		<path>%s/data/</path><tmp_path>%s/tmp/</tmp_path><users_config>%s/users.xml</users_config><default_profile>default</default_profile>
		<default_database>default</default_database><mark_cache_size>104857600</mark_cache_size><timezone>UTC</timezone></yandex>`, port, s.dir, s.dir, s.dir)
	const users = `<yandex><profiles><default></default></profiles><quotas><default></default></quotas><users><default><password></password>
		<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>`
	for name, text := range map[string]string{"config.xml": config, "users.xml": users} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	s.Start()
	tb.Cleanup(s.Kill)
	return s
}

// Start starts it again, and returns when it listens.
func (s *Server) Start() {
	s.tb.Helper()
	s.cmd = exec.Command(s.binary, "--config-file="+filepath.Join(s.dir, "config.xml")) //nolint:gosec,noctx // the server itself, which Kill ends
	s.cmd.Dir = s.dir
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := new(net.Dialer).DialContext(s.tb.Context(), "tcp", s.Addr)
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("clickhouse-server doesn't listen: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Kill is kill -9.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
