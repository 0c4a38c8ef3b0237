package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/clickhousetest"
	"posthorn/internal/config"
)

// devLine is a development line on a data directory.
type devLine struct {
	t     *testing.T
	at    Addresses
	stop  context.CancelFunc
	ended chan error
}

func startDev(t *testing.T, dir string, change ...func(*DevOptions)) *devLine {
	t.Helper()
	cfg := config.Default()
	cfg.Partitions = config.Partitions{Deliveries: 1, Fanout: 1, Attempts: 1, Dead: 1, Events: 1, Invalid: 1}
	cfg.Delivery.Tiers = []time.Duration{time.Second}
	cfg.Delivery.Schedule = []time.Duration{time.Second}
	ctx, stop := context.WithCancel(t.Context())
	d := &devLine{t: t, stop: stop, ended: make(chan error, 1)}
	running := make(chan Addresses, 1)
	opts := DevOptions{Options: Options{Config: cfg, Log: slog.New(slog.DiscardHandler)}, DataDir: dir,
		Running: func(a Addresses) { running <- a }}
	for _, c := range change {
		c(&opts)
	}
	go func() { d.ended <- Dev(ctx, opts) }()
	select {
	case d.at = <-running:
	case err := <-d.ended:
		stop()
		t.Fatalf("starting: %v", err)
	}
	return d
}

func (d *devLine) end() {
	d.t.Helper()
	d.stop()
	if err := <-d.ended; err != nil {
		d.t.Errorf("stopping: %v", err)
	}
}

// ask makes one request of the admin port under a Host of its own.
func (d *devLine) ask(method, path, host, body string) (int, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.at.Admin+path, bytes.NewReader([]byte(body)))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// events returns the values of the first n records of the topic of events.
func (d *devLine) events(n int) (values []string) {
	d.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.at.Kafka), kgo.ConsumeTopics(DevTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		d.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	for len(values) < n {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			d.t.Fatalf("%d of %d events are there", len(values), n)
		}
		fs.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	slices.Sort(values)
	return values
}

func TestATakenPortIsNamedWithTheFlagThatTakesAnother(t *testing.T) {
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	for flag, set := range map[string]func(*DevOptions){
		"--kafka-port":      func(o *DevOptions) { o.KafkaPort = port },
		"--admin-port":      func(o *DevOptions) { o.AdminPort = port },
		"--clickhouse-port": func(o *DevOptions) { o.ClickHousePort = port },
	} {
		opts := DevOptions{Options: Options{Config: config.Default(), Log: slog.New(slog.DiscardHandler)}, DataDir: t.TempDir()}
		set(&opts)
		if err := Dev(t.Context(), opts); err == nil || !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(err.Error(), flag+" takes another") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestATTLThatADevelopmentLineSetsBackIsLogged(t *testing.T) {
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	dir := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		bodies time.Duration
		logged string // "" for nothing
	}{{10 * 24 * time.Hour, "view delivery_status_between"}, {30 * 24 * time.Hour, "TTL of messages: 30d, was 10d"}, {30 * 24 * time.Hour, ""}} {
		var log bytes.Buffer // its handler locks
		startDev(t, dir, func(o *DevOptions) {
			o.Config.ClickHouse.TTL.Bodies = c.bodies
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
		}).end()
		if !strings.Contains(log.String(), c.logged) || c.logged == "" && strings.Contains(log.String(), "brought in line") {
			t.Errorf("%v: the log says %s", c.bodies, &log)
		}
	}
}

func TestADevelopmentLineStartsAgainWithWhatItHad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := startDev(t, dir)
	const endpoints = "/v1/tenants/acme/endpoints"
	const body = `{"url":"https://hooks.example.com/a","events":["none.ever"]}`
	status, text := first.ask(http.MethodPost, endpoints, "", body)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || status != http.StatusCreated || made.ID == "" || made.Secret == "" {
		t.Fatalf("%d %s, %v", status, text, err)
	}
	// Reached by another name, as after DNS rebinding, the port says nothing.
	if status, text := first.ask(http.MethodPost, endpoints, "evil.example:80", body); status != http.StatusMisdirectedRequest {
		t.Errorf("a foreign Host: %d %s", status, text)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(first.at.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	err = cl.ProduceSync(t.Context(), &kgo.Record{Topic: DevTopic, Value: []byte("a")}, &kgo.Record{Topic: DevTopic, Value: []byte("b")}).FirstErr()
	cl.Close()
	if err != nil {
		t.Fatal(err)
	}
	first.end()
	if _, err := os.Stat(filepath.Join(dir, "addresses.json")); !os.IsNotExist(err) {
		t.Errorf("the addresses of a line that has ended: %v", err)
	}

	again := startDev(t, dir)
	if status, text := again.ask(http.MethodGet, endpoints+"/"+made.ID, "", ""); status != http.StatusOK {
		t.Errorf("the endpoint: %d %s", status, text)
	}
	if got := again.events(2); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("events %q", got)
	}
	again.end()
}
