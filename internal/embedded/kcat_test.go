package embedded

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func kcat(t *testing.T, k *Kafka, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("kcat")
	if err != nil {
		if os.Getenv("POSTHORN_REQUIRE_KAFKA") == "1" {
			t.Fatal("there is no kcat in PATH")
		}
		t.Skip("SKIPPED: there is no kcat in PATH (Debian: apt-get install kcat)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-b", k.Addrs()[0]}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kcat %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

func TestKcatProducesToANewTopicAndReadsItAgain(t *testing.T) {
	k := start(t, KafkaOptions{DataDir: t.TempDir()})
	kcat(t, k, `{"id":250}`+"\n", "-P", "-t", "new.orders", "-k", "key", "-H", "ce_specversion=1.0", "-H", "ce_type=order.created")

	cl := client(t, k, kgo.ConsumeTopics("new.orders"))
	fs := cl.PollFetches(t.Context())
	if err := fs.Err(); err != nil {
		t.Fatal(err)
	}
	r := fs.Records()[0]
	if string(r.Key) != "key" || string(r.Value) != `{"id":250}` || len(r.Headers) != 2 || r.Headers[1].Key != "ce_type" || string(r.Headers[1].Value) != "order.created" {
		t.Errorf("got %+v", r)
	}
	out := kcat(t, k, "", "-C", "-t", "new.orders", "-o", "beginning", "-e", "-q", "-f", "%k|%s|%h\n")
	if strings.TrimSpace(out) != `key|{"id":250}|ce_specversion=1.0,ce_type=order.created` {
		t.Errorf("kcat read %q", out)
	}
}
