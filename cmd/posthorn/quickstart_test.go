//go:build unix

package main

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"posthorn/internal/clickhousetest"
)

// root is the repository, from this directory.
const root = "../.."

func TestEveryCommandOfTheQuickstartDoesWhatItSays(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the command and runs it for seconds")
	}
	document, err := os.ReadFile(filepath.Join(root, "docs", "quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := blocks(string(document))
	if err != nil {
		t.Fatal("docs/quickstart.md: ", err)
	}
	clickhousetest.Library(t)
	for _, program := range []string{"bash", "make", "go", "curl", "jq", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("POSTHORN_REQUIRE_RECEIVERS") == "1" {
				t.Fatal(err)
			}
			t.Skipf("SKIPPED: %v", err)
		}
	}

	dir, env, ports := checkout(t), environment(), freePorts(t, steps)
	terminals := map[string]*terminal{}
	s := seer{map[string]string{}}
	for i := range steps {
		step := &steps[i]
		x := terminals[step.terminal]
		if x == nil {
			x = openTerminal(t, step.terminal, dir, env)
			terminals[step.terminal] = x
		}
		if !step.typed {
			x.see(step, &s)
			continue
		}
		if x.busy { // as a person would, to type anything there
			x.interrupt()
			x.end(step)
		}
		x.seen += len(x.shown())
		x.begin(ports.Replace(step.text))
		if x.name != "" {
			continue
		}
		x.end(step)
		if told := i+1 < len(steps) && !steps[i+1].typed && steps[i+1].terminal == ""; !told && x.shown() != "" {
			t.Fatalf("%v: the document doesn't show what is seen:\n%s\n%s", step, step.text, x.shown())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(terminals)) {
		if x := terminals[name]; x.busy {
			x.interrupt()
			x.end(&block{text: "Ctrl-C in " + name})
		}
	}
}

// see waits until a terminal shows what the document says; in the reader's own
// it does already, and shows nothing else.
func (x *terminal) see(step *block, s *seer) {
	x.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		screen := x.shown()
		select {
		case _, ok := <-x.ended:
			if !ok {
				x.t.Fatalf("%v: a command before it failed:\n%s", step, screen)
			}
			x.busy = false
		default:
		}
		end, missing := s.see(step.text, screen)
		if missing == "" && (x.name != "" || end == len(screen)) {
			x.seen += end
			return
		}
		if x.name == "" || time.Now().After(deadline) {
			x.t.Fatalf("%v: the document shows\n%s\nand the screen of %q\n%s\nmissing %q", step, step.text, x.name, screen, missing)
		}
	}
}

// checkout is a directory with all of the repository in it that isn't built.
func checkout(t *testing.T) string {
	t.Helper()
	from, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	// What the commands read and this process doesn't: with it opened, go test knows
	// that a result is out of date when it changes.
	for _, file := range []string{"Makefile", "docs/contracts/verify.py"} {
		if _, err := os.ReadFile(filepath.Join(from, file)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, e := range entries {
		if slices.Contains([]string{".git", "bin", "posthorn-data", "quickstart"}, e.Name()) {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// environment is this process's without what a caller set for other commands. A
// development line takes free ports.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "POSTHORN_") || strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=")
	})
	return append(env, "POSTHORN_DEV_KAFKA_PORT=0", "POSTHORN_DEV_ADMIN_PORT=0", "POSTHORN_DEV_CLICKHOUSE_PORT=0", "PYTHONDONTWRITEBYTECODE=1")
}

// freePorts replaces the ports of receivers, 8080 and its neighbours, by free ones.
func freePorts(t *testing.T, steps []block) *strings.Replacer {
	t.Helper()
	var pairs []string
	taken := map[string]bool{}
	for i := range steps {
		if !steps[i].typed {
			continue
		}
		for _, port := range regexp.MustCompile(`\b808\d\b`).FindAllString(steps[i].text, -1) {
			if taken[port] {
				continue
			}
			taken[port] = true
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close() // when all of them are known
			pairs = append(pairs, port, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		}
	}
	return strings.NewReplacer(pairs...)
}
