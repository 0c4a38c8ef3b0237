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
		{"config show -c " + good, 0, "attempts: 90d\n", ""},
		{"config check -c " + good, 0, "0 sources, 32 partitions of deliveries, 4 tiers\n", ""},
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
		{"query deliveries --state bogus", 2, "", `--state: want delivered, dead, discarded or pending, got "bogus"`},
		{"query attempts --kind bogus", 2, "", `--kind: want attempt, park, discard or dead, got "bogus"`},
		{"query deliveries --limit 0", 2, "", `--limit: want 1 to 10000, got "0"`},
		{"query deliveries --since 7x", 2, "", `--since: want a duration such as 5s, 1m, 24h, 7d or 2w, got "7x"`},
		{"query deliveries --since 0d", 2, "", `--since: want a time span above 0, such as 90m, 7d or 2w, got "0d"`},
		{"query deliveries --since 7d --clickhouse 127.0.0.1:1", 1, "", "nothing listens at 127.0.0.1:1"},
		{"query deliveries dlv_1 --clickhouse 127.0.0.1:1", 1, "", "nothing listens at 127.0.0.1:1"},
		{"query attempts dlv_1 --delivery dlv_2", 2, "", "want one delivery"},
		{"replay create ep_1 --tenant a --since yesterday", 2, "", `--since: want a time such as 2026-03-02T14:00:00Z, or how long ago it was, such as 90m or 7d; got "yesterday"`},
		{"delivery list --tenant a --at-least 51 --wait 1s", 2, "", "--limit shows 50 at most"},
		{"listen --status 42", 2, "", "--status 42: want a status"},
		{"dev --allow-cidr everywhere", 2, "", "everywhere"},
	} {
		code, stdout, stderr := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("posthorn %s\nexit %d, want %d\nstdout %q, want %q\nstderr %q, want %q", c.args, code, c.code, stdout, c.stdout, stderr, c.stderr)
		}
	}
}

func TestADevelopmentLineOfThisDirectoryIsFound(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(defaultDataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(defaultDataDir, "addresses.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "posthorn.yaml")
	if err := os.WriteFile(config, []byte(`{kafka: {brokers: ["nowhere.invalid:9"]}, clickhouse: {addr: ["127.0.0.1:3"], protocol: http}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	write(`{"kafka": "127.0.0.1:2", "admin": "http://127.0.0.1:1", "clickhouse": "http://127.0.0.1:2"}`)
	for args, want := range map[string]string{
		"query deliveries":                               "127.0.0.1:2",
		"query deliveries --clickhouse 127.0.0.1:4":      "127.0.0.1:4",
		"query deliveries -c " + config:                  "127.0.0.1:3",
		"endpoint get x --tenant a":                      "127.0.0.1:1",
		"endpoint get x --tenant a --api http://[::1]:1": "[::1]:1",
	} {
		if code, _, stderr := command(t, strings.Fields(args)...); code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("posthorn %s: exit %d, %s", args, code, stderr)
		}
	}
	write(`{"kafka": "127.0.0.1:2", "admin": "http://127.0.0.1:1"}`)
	if code, _, stderr := command(t, "query", "deliveries"); code != 1 || !strings.Contains(stderr, "make chdb") {
		t.Errorf("a line without a ledger: exit %d, %s", code, stderr)
	}
	write(`{`)
	if code, _, stderr := command(t, "query", "deliveries"); code != 1 || !strings.Contains(stderr, file) {
		t.Errorf("half a file: exit %d, %s", code, stderr)
	}
}

func TestTheBrokerOfADevelopmentLineIsTakenWhereNoneIsConfigured(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(defaultDataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(defaultDataDir, "addresses.json"), []byte(`{"kafka": "127.0.0.1:2"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for variable, want := range map[string]string{"": "127.0.0.1:2", "kafka-1:9092": "kafka-1:9092"} {
		t.Setenv("POSTHORN_KAFKA_BROKERS", variable)
		cfg, err := configFlag{}.load()
		if err != nil {
			t.Fatal(err)
		}
		if err := developmentBroker(cfg); err != nil || cfg.Kafka.Brokers[0] != want {
			t.Errorf("%v, %v; want %s", cfg.Kafka.Brokers, err, want)
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
