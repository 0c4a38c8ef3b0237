package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Observer is told what the sink does, for metrics. Methods must not block.
type Observer interface {
	// Inserted tells of a batch that came through: the rows of each table, and
	// how long its inserts took.
	Inserted(rows map[string]int, took time.Duration)
	// Failed tells of inserts that did not come through, or can't be known to.
	Failed()
	// Buffered tells what is read and not inserted.
	Buffered(rows int, bytes int64)
	// Reached tells the time up to which the least partition of this sink is
	// in ClickHouse.
	Reached(at time.Time)
	// Lost tells of records that the log no longer had.
	Lost(topic string, partition int32, records int64)
}

// Config of a [Sink].
type Config struct {
	// Client options: seed brokers, TLS, SASL, dialer.
	Client []kgo.Opt
	// Group is the consumer group.
	Group string
	// Deliveries and Attempts are the topics to read.
	Deliveries, Attempts string
	// Partitions are the topics' partition counts; they say how long a
	// partition gathers rows, see InsertEvery.
	Partitions map[string]int

	// Conn is where rows go, into Database.
	Conn     Conn
	Database string

	// Invalid puts a record that is no row on the topic of invalid records; done
	// is called once, with the error if Kafka will never have it.
	Invalid func(r *kgo.Record, why error, done func(error))
	// Watermarks returns the committed offsets of the dispatchers' group on
	// the deliveries topic: all below has had its settlements acknowledged.
	Watermarks func(ctx context.Context) (map[int32]int64, error)

	// MaxRows and MaxBytes bound a batch, and with it an insert; 0 means
	// 50,000 and 16 MiB.
	MaxRows  int
	MaxBytes int64
	// Budget bounds the bytes that are read and not inserted; 0 means 96 MiB.
	Budget int64
	// InsertEvery is the least time between two inserts into a table, over all
	// partitions, unless a batch is full; 0 means 500 ms. A partition of n
	// gathers rows for n times as long.
	InsertEvery time.Duration
	// ProgressEvery is how often the time reached is written; 0 means 5 s.
	ProgressEvery time.Duration
	// AcceptLoss goes on where a committed offset has fallen out of the log.
	AcceptLoss bool

	Observer Observer
	Log      *slog.Logger
}

// Validate reports what is missing.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("making the sink: %s is required", what))
		}
	}
	need(c.Group != "", "Group")
	need(c.Deliveries != "" && c.Attempts != "", "Deliveries and Attempts")
	need(c.Partitions[c.Deliveries] > 0 && c.Partitions[c.Attempts] > 0, "Partitions of both topics")
	need(c.Conn != nil, "Conn")
	need(c.Database != "", "Database")
	need(c.Invalid != nil, "Invalid")
	need(c.Watermarks != nil, "Watermarks")
	need(c.Observer != nil, "Observer")
	need(c.Log != nil, "Log")
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	if c.MaxRows == 0 {
		c.MaxRows = 50_000
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 16 << 20
	}
	if c.Budget == 0 {
		c.Budget = 96 << 20
	}
	if c.InsertEvery == 0 {
		c.InsertEvery = 500 * time.Millisecond
	}
	if c.ProgressEvery == 0 {
		c.ProgressEvery = 5 * time.Second
	}
}

// gather is how long a partition of the topic gathers rows: all partitions
// together then insert once in InsertEvery. Another member of the group reads a
// part of them, and keeps the same time.
func (c *Config) gather(topic string) time.Duration {
	return time.Duration(c.Partitions[topic]) * c.InsertEvery
}
