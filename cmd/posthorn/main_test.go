package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"posthorn/internal/embedded"
)

// stubborn makes the test binary a process that doesn't end at its first signal.
const stubborn = "POSTHORN_TEST_STUBBORN"

func TestMain(m *testing.M) {
	embedded.ClickHouseChild()
	switch os.Getenv(stubborn) {
	case "":
		os.Exit(m.Run())
	case "ends":
		main() // with the arguments that the test gives
	default:
		ctx, _ := watchSignals(context.Background(), os.Exit)
		fmt.Println("ready")
		<-ctx.Done()
		fmt.Println("stopping")
		select {}
	}
}

func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, streams{strings.NewReader(""), &out, &errs})
	return code, out.String(), errs.String()
}

func TestExitCodesTellMistakesFromFailures(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for file, text := range map[string]string{good: "prefix: hooks\n", bad: "prefux: hooks\nlog: {level: loud}\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"version", 0, "posthorn ", ""},
		{"--help", 0, "Exit codes", ""},
		{"listen --help", 0, "--fail-first", ""},
		{"config check " + good, 0, "good.yaml is valid", ""},
		{"config check --config " + good, 0, "good.yaml is valid", ""},
		{"config show -c " + good, 0, "prefix: hooks  # " + good + ":1", ""},
		{"config check " + bad, 2, "", "2 mistakes:\n  " + bad + ":1: prefux: unknown key; did you mean prefix?\n  " + bad + ":2: log.level"},
		{"run -c " + bad, 2, "", "2 mistakes"},
		{"config check " + dir + "/none.yaml", 1, "", "no such file"},
		{"", 2, "", "posthorn: expected one of"},
		{"nonsense", 2, "", "posthorn: unexpected argument nonsense"},
		{"run --roles nobody", 2, "", "--roles must be one of"},
		{"endpoint list", 2, "", "missing flags: --tenant"},
		{"endpoint get x --tenant a --api nowhere", 2, "", "--api \"nowhere\": want a URL"},
		{"endpoint get x --tenant a --api http://127.0.0.1:1", 1, "", "getting endpoint x: asking the API"},
		{"endpoint update x --tenant a", 2, "", "nothing to change"},
		{"event send --topic t --data {", 2, "", "--data is not valid JSON"},
		{"event send --topic t --type x --brokers nowhere --data {}", 2, "", "kafka.brokers[0]: want host:port"},
		{"listen --status 42", 2, "", "--status 42: want a status"},
		{"dev --allow-cidr everywhere", 2, "", "everywhere"},
	} {
		code, stdout, stderr := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("posthorn %s\nexit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", c.args, code, c.code, stdout, c.stdout, stderr, c.stderr)
		}
	}
}

func TestAnInterruptedCommandExitsWithItsSignal(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{syscall.SIGTERM})
	var errs bytes.Buffer
	if code := exitCode(ctx, fmt.Errorf("waiting: %w", context.Canceled), &errs); code != 143 {
		t.Errorf("exit %d, %s", code, &errs)
	}
	if code := exitCode(ctx, errors.New("disk full"), &errs); code != 1 || !strings.Contains(errs.String(), "disk full") {
		t.Errorf("a failure after the signal: exit %d, %s", code, &errs)
	}
}

// start runs the test binary as another process and returns its output, line by
// line.
func start(t *testing.T, as string, args ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), stubborn+"="+as)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

func send(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestTheSecondSignalEndsAtOnce(t *testing.T) {
	for _, c := range []struct {
		second os.Signal
		code   int
	}{{os.Interrupt, 130}, {syscall.SIGTERM, 143}} {
		cmd, lines := start(t, "stays")
		lines.Scan()
		send(t, cmd, syscall.SIGTERM)
		if !lines.Scan() || lines.Text() != "stopping" {
			t.Fatalf("after the first signal: %q", lines.Text())
		}
		send(t, cmd, c.second)
		var exited *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exited) || exited.ExitCode() != c.code {
			t.Errorf("after %v: %v, want exit %d", c.second, err, c.code)
		}
	}
}

func TestTheFirstSignalEndsAReceiverInOrder(t *testing.T) {
	cmd, lines := start(t, "ends", "listen", "--port", "0")
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening on http://127.0.0.1:") {
		t.Fatalf("%q", lines.Text())
	}
	send(t, cmd, syscall.SIGTERM)
	if !lines.Scan() || lines.Text() != "requests=0 deliveries=0 verified=0 unverified=0 refused=0" {
		t.Errorf("%q", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
