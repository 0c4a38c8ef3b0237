//go:build integration

package kafkatest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// orphanEnv makes this test binary start a broker and wait to be killed.
const orphanEnv = "POSTHORN_KAFKATEST_ORPHAN"

func TestMain(m *testing.M) {
	code := Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func client(t *testing.T, b *Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addrs()...), kgo.FetchIsolationLevel(kgo.ReadCommitted())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func read(t *testing.T, b *Broker, topic string, n int) (values []string) {
	t.Helper()
	cl := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	for len(values) < n {
		fs := cl.PollFetches(t.Context())
		if err := fs.Err(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestKafkaKeepsCommittedDataOverStopAndKill(t *testing.T) {
	// A killed broker is let in again when the session of its former life has
	// ended: 9 s by default.
	b := Start(t, WithProperty("broker.session.timeout.ms", "3000"), WithProperty("broker.heartbeat.interval.ms", "500"))
	if err := b.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(client(t, b))
	if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce := func(value string, commit kgo.TransactionEndTry) {
		t.Helper()
		cl := client(t, b, kgo.TransactionalID("tx"))
		defer cl.Close()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	produce("one", kgo.TryCommit)
	produce("aborted", kgo.TryAbort)
	produce("two", kgo.TryCommit)

	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "t", Partition: 0, At: 2, LeaderEpoch: -1, Metadata: "holes"})
	if err := adm.CommitAllOffsets(t.Context(), "g", offsets); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(){b.Kill, b.Stop} {
		end()
		if err := b.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(read(t, b, "t", 2)); got != "[one two]" {
			t.Errorf("read %s", got)
		}
		got, err := adm.FetchOffsets(t.Context(), "g")
		if o, _ := got.Lookup("t", 0); err != nil || o.At != 2 || o.Metadata != "holes" {
			t.Errorf("offset %+v, %v", o, err)
		}
	}
}

func TestSharedBrokerIsOne(t *testing.T) {
	if a, b := Shared(t), Shared(t); a != b {
		t.Error("two shared brokers")
	}
}

// TestNoBrokerOutlivesItsTestProcess kills a test process and waits for a
// connection to its broker to end.
func TestNoBrokerOutlivesItsTestProcess(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		b := Start(t)
		fmt.Println(b.Addrs()[0])
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoBrokerOutlivesItsTestProcess$")
	cmd.Env = append(os.Environ(), orphanEnv+"=1", requireEnv+"=1")
	if _, err := install(t.Context()); err != nil {
		unavailable(t, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the child started no broker")
	}
	conn, err := net.Dial("tcp", lines.Text())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The connection ends with the broker, and its port is closed then.
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the broker on %s is still there: %v", lines.Text(), err)
	}
}
