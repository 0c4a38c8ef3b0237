package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/analytics/schema"
	"posthorn/analytics/sink"
	"posthorn/internal/clickhouse"
	"posthorn/internal/config"
	"posthorn/internal/telemetry"
	"posthorn/internal/topics"
)

// LedgerSchema is the ledger's schema as a configuration has it.
func LedgerSchema(c config.ClickHouse) (schema.Options, error) {
	o := schema.Options{
		Database: c.Database, Cluster: c.Cluster, Replicated: c.Cluster != "",
		DeliveriesTTL: c.TTL.Deliveries, AttemptsTTL: c.TTL.Attempts, BodiesTTL: c.TTL.Bodies,
		Grace: c.Grace,
	}
	// The dictionary of payloads signs in to its own server.
	password, err := c.ReadPassword()
	if err != nil {
		return o, err
	}
	if c.Username != "default" || password != "" {
		o.User, o.Password = c.Username, password.Reveal()
	}
	return o, nil
}

// buildAnalytics makes the sink of the ledger, if there is a ClickHouse. That
// may be away now: the line works without it, and Kafka keeps what it misses.
func (l *Line) buildAnalytics(context.Context) error {
	if !l.opts.Roles.Has(RoleAnalytics) {
		return nil
	}
	conn, err := clickhouse.Open(l.cfg.ClickHouse)
	if errors.Is(err, clickhouse.ErrOff) {
		l.log.Info("analytics is off: clickhouse.addr is not set")
		return nil
	}
	if err != nil {
		return err
	}
	l.undo.add("clickhouse", 2*time.Second, func(context.Context) error { return conn.Close() })
	deliveries, attempts := topics.Name(l.cfg.Prefix, topics.RoleDeliveries), topics.Name(l.cfg.Prefix, topics.RoleAttempts)
	invalid := topics.Name(l.cfg.Prefix, topics.RoleInvalid)
	adm := kadm.NewClient(l.control)
	l.sink, err = sink.New(sink.Config{
		Client: l.clients, Group: l.cfg.Prefix + ".analytics", Deliveries: deliveries, Attempts: attempts,
		Partitions: map[string]int{deliveries: l.cfg.Partitions.Deliveries, attempts: l.cfg.Partitions.Attempts},
		Conn:       conn, Database: l.cfg.ClickHouse.Database,
		Invalid: func(r *kgo.Record, why error, done func(error)) {
			rejection := malformed(why)
			l.metrics.Invalid(rejection.Reason)
			l.producer.Produce(context.Background(), invalidRecord(invalid, r, rejection), func(_ *kgo.Record, err error) { done(err) })
		},
		Watermarks: func(ctx context.Context) (map[int32]int64, error) {
			return committed(ctx, adm, l.cfg.Prefix+".dispatch", deliveries)
		},
		Budget:      int64(l.cfg.ClickHouse.ByteBudget),
		InsertEvery: l.cfg.ClickHouse.InsertEvery, ProgressEvery: min(5*time.Second, 10*l.cfg.ClickHouse.InsertEvery),
		AcceptLoss: l.opts.AcceptLoss, Observer: &ledgerObserver{metrics: l.metrics, ledger: l.metrics.Ledger}, Log: l.log,
	})
	if err != nil {
		return err
	}
	l.ready("ledger", l.sink.Ready)
	return nil
}

// committed returns a group's committed offsets of a topic.
func committed(ctx context.Context, adm *kadm.Client, group, topic string) (map[int32]int64, error) {
	offsets, err := adm.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("fetching the commits of group %s: %w", group, err)
	}
	at := make(map[int32]int64)
	for p, o := range offsets[topic] {
		if o.Err == nil && o.At >= 0 {
			at[p] = o.At
		}
	}
	return at, nil
}

// ledgerObserver is metrics as sink.Observer.
type ledgerObserver struct {
	metrics *telemetry.Metrics
	ledger  *telemetry.LedgerMetrics
}

// Inserted implements sink.Observer.
func (o *ledgerObserver) Inserted(rows map[string]int, took time.Duration) {
	o.ledger.Inserted(rows, took)
}

// Failed implements sink.Observer.
func (o *ledgerObserver) Failed() { o.ledger.Failures.Inc() }

// Buffered implements sink.Observer.
func (o *ledgerObserver) Buffered(rows int, bytes int64) {
	o.ledger.BufferedRows.Set(float64(rows))
	o.ledger.BufferedBytes.Set(float64(bytes))
}

// Reached implements sink.Observer.
func (o *ledgerObserver) Reached(at time.Time) { o.ledger.Reached(at) }

// Lost implements sink.Observer.
func (o *ledgerObserver) Lost(string, int32, int64) { o.metrics.Loss.Inc() }
