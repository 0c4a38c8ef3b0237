package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/internal/embedded"
	"posthorn/internal/topics"
	"posthorn/registry"
)

// DevOptions of [Dev].
type DevOptions struct {
	// Options are those of the line; its configuration is changed for the
	// embedded broker.
	Options
	// DataDir keeps the broker's data and the keyset, and gets addresses.json.
	DataDir string
	// KafkaPort, AdminPort and ClickHousePort on 127.0.0.1; 0 takes a free one.
	KafkaPort, AdminPort, ClickHousePort int
	// Running is called once everything runs.
	Running func(Addresses)
}

// Addresses are where a development line listens: the file addresses.json.
type Addresses struct {
	Kafka string `json:"kafka"` // host:port
	Admin string `json:"admin"` // URL of health, metrics and API
	// ClickHouse is the URL of the ledger, empty without one.
	ClickHouse string `json:"clickhouse,omitempty"`
}

// addressesFile is the name of the file in the data directory.
const addressesFile = "addresses.json"

// ReadAddresses returns where the development line with that data directory
// listens; the addresses are zero where none runs.
func ReadAddresses(dataDir string) (a Addresses, err error) {
	file := filepath.Join(dataDir, addressesFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		return Addresses{}, fmt.Errorf("reading a development line's addresses in %s: %w", file, err)
	}
	return a, nil
}

// DevTopic is the topic that a development line has for events from the start.
const DevTopic = "events"

// Dev runs the whole line on an embedded broker until ctx ends.
func Dev(ctx context.Context, opts DevOptions) (err error) {
	if err := os.MkdirAll(opts.DataDir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	broker, err := embedded.StartKafka(embedded.KafkaOptions{
		DataDir: filepath.Join(opts.DataDir, "kafka"), Port: opts.KafkaPort, Logger: opts.Log,
	})
	if err != nil {
		return portTaken(fmt.Errorf("starting the embedded broker: %w", err), opts.KafkaPort, "kafka")
	}
	defer broker.Close()

	cfg := *opts.Config
	opts.Config = &cfg
	cfg.Kafka = config.Kafka{Brokers: broker.Addrs(), ClientID: cfg.Kafka.ClientID, SessionTimeout: cfg.Kafka.SessionTimeout}
	cfg.Topics.ReplicationFactor, cfg.Topics.MinInsyncReplicas = 1, 1
	cfg.HTTP.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.AdminPort))
	if len(cfg.Sources) == 0 {
		// Any topic that someone produces CloudEvents to is a source.
		cfg.Sources = []config.Source{{Name: "any", Pattern: ".+", Format: config.FormatCloudEvents,
			Start: config.Start{At: config.StartEarliest}, MaxSize: config.DefaultMaxSize}}
	}
	if cfg.Registry.KeysetFile == "" {
		cfg.Registry.KeysetFile = filepath.Join(opts.DataDir, "keyset.json")
		if err := registry.CreateKeysetFile(cfg.Registry.KeysetFile); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := prepareTopics(ctx, &cfg); err != nil {
		return err
	}
	ledger, stopLedger, err := startLedger(ctx, &cfg, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopLedger()) }() // after the line, which writes to it
	// A topic that is produced to for the first time is read seconds later.
	opts.Kafka = append(opts.Kafka, kgo.MetadataMaxAge(2*time.Second))
	file := filepath.Join(opts.DataDir, addressesFile)
	opts.Started = func(admin string) {
		a := Addresses{Kafka: broker.Addrs()[0], Admin: "http://" + admin, ClickHouse: ledger}
		if werr := writeAddresses(file, a); werr != nil {
			opts.Log.Error("writing addresses", "error", werr)
		}
		if opts.Running != nil {
			opts.Running(a)
		}
	}
	defer func() { err = errors.Join(err, removeAddresses(file)) }()
	return portTaken(Run(ctx, opts.Options), opts.AdminPort, "admin")
}

// portTaken adds to the error of a port that is in use how to take another.
func portTaken(err error, port int, of string) error {
	if port == 0 || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("%w; is another development line running? posthorn dev --%s-port takes another port, and 0 a free one", err, of)
}

// prepareTopics applies the topics' plan, and makes the topic that the first
// steps in the documentation produce to.
func prepareTopics(ctx context.Context, cfg *config.Config) error {
	opts, err := clientOptions(cfg, nil)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("connecting to the embedded broker: %w", err)
	}
	defer client.Close()
	if _, err := topics.Apply(ctx, client, topics.Plan(cfg)); err != nil {
		return fmt.Errorf("applying topics: %w", err)
	}
	adm := kadm.NewClient(client)
	listed, err := adm.ListTopics(ctx, DevTopic)
	if err == nil && !listed.Has(DevTopic) {
		_, err = adm.CreateTopic(ctx, embedded.DefaultPartitions, 1, nil, DevTopic)
	}
	if err != nil {
		return fmt.Errorf("creating topic %s: %w", DevTopic, err)
	}
	return nil
}

// writeAddresses replaces the file in one step, so that a script that waits for
// it never reads half of it.
func writeAddresses(file string, a Addresses) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	next := file + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}

func removeAddresses(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing addresses: %w", err)
	}
	return nil
}
