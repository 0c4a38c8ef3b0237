package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"posthorn/internal/clickhousetest"
	"posthorn/internal/embedded"
)

func TestWhatWasAcknowledgedSurvivesAKillAndAClose(t *testing.T) {
	dir := t.TempDir()
	want := uint64(0)
	for round := range 4 {
		engine := clickhousetest.Start(t, dir)
		conn := clickhousetest.Dial(t, engine, "")
		if round == 0 {
			run(t, conn, tokenTable)
		}
		if got := count(t, conn, "SELECT count() FROM t"); got != want {
			t.Errorf("round %d begins with %d rows, want %d", round, got, want)
		}
		for i := range 5 {
			insertToken(t, conn, fmt.Sprintf("%d-%d", round, i), uint64(round))
			want++
			if round > 0 { // the window of the rounds before is there, too
				insertToken(t, conn, fmt.Sprintf("%d-%d", round-1, i), uint64(round))
			}
		}
		if round%2 == 0 {
			engine.Kill()
		} else if err := engine.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-engine.Done():
		default:
			t.Error("the process runs on")
		}
		if err := engine.Err(); err != nil {
			t.Errorf("an end that was asked for is reported: %v", err)
		}
	}
}

func TestASecondEngineOnADirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	clickhousetest.Start(t, dir)
	_, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{Library: clickhousetest.Library(t), DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("got %v", err)
	}
}

func TestAnEngineThatCannotStartSaysWhy(t *testing.T) {
	file := t.TempDir() + "/libchdb.so"
	if err := os.WriteFile(file, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{Library: file, DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "libchdb.so") {
		t.Errorf("a broken library: %v", err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	var logged bytes.Buffer // whole once the process has ended
	_, err = embedded.StartClickHouse(t.Context(), embedded.ClickHouseOptions{Library: clickhousetest.Library(t), DataDir: t.TempDir(),
		Port: busy.Addr().(*net.TCPAddr).Port, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), fmt.Sprintf("port %d", busy.Addr().(*net.TCPAddr).Port)) || logged.Len() > 0 {
		t.Errorf("a busy port: %v, and the log says %q", err, &logged)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{Library: clickhousetest.Library(t), DataDir: t.TempDir()}); err == nil {
		t.Error("a start that was cancelled succeeded")
	}
}

func TestAnUnexpectedEndIsReported(t *testing.T) {
	engine := clickhousetest.Start(t, t.TempDir())
	p, err := os.FindProcess(engine.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-engine.Done()
	if err := engine.Err(); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
}

const parentEnv = "POSTHORN_TEST_PARENT_DIR"

// TestParentOfAnEngine is the parent in the test below.
func TestParentOfAnEngine(t *testing.T) {
	dir := os.Getenv(parentEnv)
	if dir == "" {
		t.Skip("runs as a process of another test alone")
	}
	engine := clickhousetest.Start(t, dir)
	fmt.Println("addr", engine.Addr())
	select {} // until it is killed
}

func TestTheEngineEndsWithItsParent(t *testing.T) {
	dir := t.TempDir()
	parent := exec.Command(os.Args[0], "-test.run=^TestParentOfAnEngine$")
	parent.Env = append(os.Environ(), parentEnv+"="+dir, "POSTHORN_LIBCHDB="+clickhousetest.Library(t))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); {
		addr, _ = strings.CutPrefix(lines.Text(), "addr ")
		if addr == lines.Text() {
			addr = ""
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if addr == "" {
		t.Fatal("the parent never said where its engine is")
	}
	eventually(t, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	clickhousetest.Start(t, dir) // and its directory is free
}
