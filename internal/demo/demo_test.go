package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/internal/app"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/embedded"
)

func TestMain(m *testing.M) {
	embedded.ClickHouseChild()
	goleak.VerifyTestMain(m)
}

// screen is what a demo writes to; it tells of lines.
type screen struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wants map[string]chan struct{}
}

// until returns a channel that is closed once text is on the screen.
func (s *screen) until(text string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wants == nil {
		s.wants = make(map[string]chan struct{})
	}
	s.wants[text] = make(chan struct{})
	return s.wants[text]
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(b)
	for text, c := range s.wants {
		if bytes.Contains(s.text.Bytes(), []byte(text)) {
			close(c)
			delete(s.wants, text)
		}
	}
	return len(b), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestADemoDeliversEverythingSignedAndEndsWithItsLine(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds: the demo's retries are real")
	}
	var out screen
	dir := filepath.Join(t.TempDir(), "demo")
	got, err := run(t.Context(), Options{DataDir: dir, Out: &out, Events: 100, Exit: true})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// Of 20 events come 30 deliveries; 15 of 100 events go to the failing
	// endpoint, which fails a third. On a machine that stalls, more are retried.
	if got.Events != 100 || got.Deliveries != 150 || got.Verified != 150 || got.Retried < 5 || got.Dead != 0 || got.Lost != 0 {
		t.Errorf("got %v", got)
	}
	text := out.String()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if last := lines[len(lines)-1]; last != got.String() || !strings.HasPrefix(last, "demo: events=100 deliveries=150 verified=150 retried=") {
		t.Errorf("the last line is %q", last)
	}
	for _, want := range []string{
		"--allow-cidr 127.0.0.0/8", "retries after 2s, 4s", "p50 ", "503, then ",
		"standard: order.created", "bunship: member.added", "bunjang: order.status.changed", "bigcommerce: store/order/created",
		"X-Bun-Webhook-Signature: t=", "X-Store-Region: eu", `"scope":"store/order/created"`,
		"warehouse  hung, and got 10 of its 10 deliveries",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the screen", want)
		}
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) > width && !strings.Contains(line, dir) {
			t.Errorf("too wide: %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestADemoEndsWithALedgerThatAddsUp(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds: the demo's retries are real")
	}
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	var out screen
	if _, err := run(t.Context(), Options{DataDir: filepath.Join(t.TempDir(), "demo"), Out: &out, Events: 100, Exit: true}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"\nreconcile: matched=150 delivered=150 pending=0 dead=0 discarded=0 difference=0\n\ndemo: events=100 ",
		"\nwarehouse  acme            10   100.0% ",
		"now it answers, and gets its 10;\n        those put back meanwhile come when their wait on a delay topic is over, 4s at most\n",
		"\nwaiting until ClickHouse has all of it",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not on the screen:\n%s", want, out.String())
		}
	}
}

func TestADemoStaysUpAndShowsWhatArrivesLater(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds: the demo's retries are real")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	takeDir(t, dir) // as an earlier demo did
	if err := os.WriteFile(filepath.Join(dir, "keyset.json"), []byte("of an earlier demo"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out screen
	up, later := out.until("is shown here"), out.until("signature verified, answered 200")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, Options{DataDir: dir, Out: &out, Events: 20, Command: "bin/posthorn"}) }()
	wait := func(c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, out.String())
		}
	}
	wait(up)
	if _, err := prepareDir(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "another demo is running") {
		t.Errorf("a second demo in the same directory: %v", err)
	}
	text := out.String()
	_, broker, _ := strings.Cut(text, "kafka  ")
	broker, _, _ = strings.Cut(broker, "\n")
	for _, want := range []string{"bin/posthorn endpoint list --api http://127.0.0.1:", "kcat -P -b " + broker, "bin/posthorn listen --port ", "curl -s http://"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not among the next commands", want)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	e := &event{id: "mine", kind: &orderCreated, number: 1}
	r := e.record(time.Now())
	r.Topic = app.DevTopic
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	wait(later)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestWhatIsNotSettledByTheDeadlineIsLostAndFailsTheDemo(t *testing.T) {
	var out screen
	got, err := run(t.Context(), Options{DataDir: filepath.Join(t.TempDir(), "demo"), Out: &out, Events: 20, Exit: true, Deadline: time.Nanosecond})
	var loss *LossError
	if !errors.As(err, &loss) || got.Lost == 0 || loss.Result != got {
		t.Fatalf("got %v, %v", got, err)
	}
	if !strings.Contains(out.String(), "== Not delivered\ndlv_") || !strings.Contains(out.String(), got.String()) {
		t.Errorf("the screen doesn't tell of it:\n%s", out.String())
	}
}

// takeDir prepares a directory as a demo does that ends at once.
func takeDir(t *testing.T, dir string) {
	t.Helper()
	marker, err := prepareDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := marker.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOfDemosThatStartAtOnceOneHasTheDirectory(t *testing.T) {
	for range 20 {
		dir := filepath.Join(t.TempDir(), "demo")
		var starting sync.WaitGroup
		markers, refusals := make(chan *os.File, 8), make(chan error, 8)
		for range 8 {
			starting.Go(func() {
				marker, err := prepareDir(t.Context(), dir)
				if err != nil {
					refusals <- err
					return
				}
				markers <- marker
				if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
					refusals <- err
				}
			})
		}
		starting.Wait()
		if len(markers) != 1 || len(refusals) != 7 {
			t.Fatalf("%d demos have the directory, %d were refused", len(markers), len(refusals))
		}
		for range 7 {
			if err := <-refusals; !strings.Contains(err.Error(), "another demo is running") {
				t.Error(err)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
			t.Errorf("what the first has written: %v", err)
		}
		(<-markers).Close()
		takeDir(t, dir)
	}
}

func TestOnlyADirectoryOfAnEarlierDemoIsEmptied(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(mine, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := prepareDir(t.Context(), dir); err == nil {
		t.Error("a directory with files of someone else was taken")
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	dir = filepath.Join(dir, "demo")
	takeDir(t, dir)
	old := filepath.Join(dir, "kafka", "old")
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	takeDir(t, dir)
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what an earlier demo left is still there: %v", err)
	}
}
