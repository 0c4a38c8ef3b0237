//go:build integration

package integration

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"posthorn/internal/kafkatest"
)

// binary is the product, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// atOnce is how many tests run at once: most of their time is spent waiting for
// the session timeouts of members that were killed.
const atOnce = "4"

func run(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "posthorn-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "creating a directory for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "posthorn")
	build := exec.Command("go", "build", "-o", binary, "posthorn/cmd/posthorn")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the product: %v\n%s", err, out)
		return 1
	}
	code := kafkatest.Main(m)
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}
