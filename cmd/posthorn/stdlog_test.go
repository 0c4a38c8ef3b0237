package main

import (
	"bufio"
	"io"
	"log" //nolint:depguard // it stands for a library that uses it
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// lines hands each write on.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func routed(t *testing.T) lines {
	t.Helper()
	before, flags, to := slog.Default(), log.Flags(), log.Writer()
	t.Cleanup(func() { slog.SetDefault(before); log.SetFlags(flags); log.SetOutput(to) })
	out := make(lines, 100)
	routeLog(slog.New(slog.NewTextHandler(out, nil)))
	return out
}

// pushy answers a request and adds bytes that nobody asked for.
func pushy(t *testing.T, more string) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"+more)
			}
			io.Copy(io.Discard, conn) // until the client hangs up
			conn.Close()
		}
	}()
	return "http://" + ln.Addr().String()
}

func TestNoBytesOfReceiversReachTheLog(t *testing.T) {
	out := routed(t)
	url := pushy(t, "Authorization: Bearer s3cr3t"+strings.Repeat("s3cr3t\r\n", 400))
	var got []string
	for n := 1; n <= 4; n++ {
		transport := &http.Transport{} // of its own: it might reuse the connection before it looks
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if n != 3 { // it is said at powers of two
			if line := <-out; strings.Contains(line, "s3cr3t") || !strings.Contains(line, "receivers sent bytes") {
				t.Fatalf("logged %q", line)
			} else {
				got = append(got, line)
			}
		}
	}
	if !strings.Contains(got[0], "times=1") || !strings.Contains(got[2], "times=4") {
		t.Errorf("logged %q", got)
	}
}

func TestLinesOfLibrariesAreCutAndLoggedOnce(t *testing.T) {
	out := routed(t)
	log.Printf("library: %s\nsecond line %s", strings.Repeat("ü", 50), strings.Repeat("x", 1000))
	slog.Default().Info("own")
	if line := <-out; strings.Count(line, "\n") != 1 || !strings.Contains(line, "library: ü") ||
		strings.Count(line, "x") < 100 || len([]rune(line)) > 350 {
		t.Errorf("logged %q", line)
	}
	if line := <-out; !strings.Contains(line, "msg=own") {
		t.Errorf("logged %q", line)
	}
	if len(out) != 0 {
		t.Errorf("and then %q", <-out)
	}
}
