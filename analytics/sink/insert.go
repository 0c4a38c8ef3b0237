package sink

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
)

// Conn inserts into ClickHouse. A driver.Conn of clickhouse-go is one.
type Conn interface {
	PrepareBatch(ctx context.Context, query string, opts ...driver.PrepareBatchOption) (driver.Batch, error)
}

// The tables of the ledger that are inserted into.
const (
	TableDeliveries = "deliveries"
	TableMessages   = "messages"
	TableAttempts   = "attempts"
	TableProgress   = "progress"
)

// column is one column of an insert: its name, and its values of the items.
type column[T any] struct {
	name   string
	values func([]T) any
}

// list makes a column of one value an item.
func list[T, V any](name string, value func(T) V) column[T] {
	return column[T]{name, func(items []T) any {
		vs := make([]V, len(items))
		for i, it := range items {
			vs[i] = value(it)
		}
		return vs
	}}
}

var deliveryColumns = []column[*item]{
	list("tenant", func(it *item) string { return it.delivery.Tenant }),
	list("endpoint_id", func(it *item) string { return it.delivery.EndpointID }),
	list("delivery_id", func(it *item) string { return it.delivery.ID }),
	list("run", func(it *item) int64 { return it.delivery.Run }),
	list("event_id", func(it *item) string { return it.delivery.EventID }),
	list("event_source", func(it *item) string { return it.delivery.EventSource }),
	list("event_type", func(it *item) string { return it.delivery.EventType }),
	list("origin", func(it *item) string { return string(it.delivery.Origin) }),
	list("contract", func(it *item) string { return it.delivery.Contract }),
	list("content_type", func(it *item) string { return it.delivery.ContentType }),
	list("body_id", func(it *item) string { return hex.EncodeToString(it.delivery.BodyID[:]) }),
	list("body_size", func(it *item) uint32 { return uint32(it.bodySize) }),
	list("begun_at", func(it *item) time.Time { return it.delivery.BegunAt }),
	list("matched_at", func(it *item) time.Time { return it.delivery.MatchedAt }),
	list("source_topic", func(it *item) string { return it.delivery.Source.Topic }),
	list("source_partition", func(it *item) int32 { return it.delivery.Source.Partition }),
	list("source_offset", func(it *item) int64 { return it.delivery.Source.Offset }),
	list("partition", func(it *item) int32 { return it.partition }),
	list("offset", func(it *item) int64 { return it.offset }),
	list("traceparent", func(it *item) string { return it.delivery.Traceparent }),
}

var messageColumns = []column[*item]{
	list("body_id", func(it *item) string { return hex.EncodeToString(it.delivery.BodyID[:]) }),
	list("begun_at", func(it *item) time.Time { return it.delivery.BegunAt }),
	list("content_type", func(it *item) string { return it.delivery.ContentType }),
	list("body", func(it *item) []byte { return it.delivery.Body }),
}

var attemptColumns = []column[*item]{
	list("kind", func(it *item) string { return string(it.settlement.Kind) }),
	list("attempt_id", func(it *item) uuid.UUID { return it.attemptID }),
	list("delivery_id", func(it *item) string { return it.settlement.DeliveryID }),
	list("run", func(it *item) int64 { return it.settlement.Run }),
	list("n", func(it *item) uint32 { return uint32(it.settlement.N) }),
	list("step", func(it *item) uint32 { return uint32(it.settlement.Step) }),
	list("deferrals", func(it *item) uint32 { return uint32(it.settlement.Deferrals) }),
	list("origin", func(it *item) string { return string(it.settlement.Origin) }),
	list("tenant", func(it *item) string { return it.settlement.Tenant }),
	list("endpoint_id", func(it *item) string { return it.settlement.EndpointID }),
	list("event_id", func(it *item) string { return it.settlement.EventID }),
	list("event_source", func(it *item) string { return it.settlement.EventSource }),
	list("event_type", func(it *item) string { return it.settlement.EventType }),
	list("contract", func(it *item) string { return it.settlement.Contract }),
	list("body_id", func(it *item) string { return hex.EncodeToString(it.settlement.BodyID[:]) }),
	list("source_topic", func(it *item) string { return it.settlement.Source.Topic }),
	list("source_partition", func(it *item) int32 { return it.settlement.Source.Partition }),
	list("source_offset", func(it *item) int64 { return it.settlement.Source.Offset }),
	list("partition", func(it *item) int32 { return it.settlement.Record.Partition }),
	list("offset", func(it *item) int64 { return it.settlement.Record.Offset }),
	list("started_at", func(it *item) time.Time { return it.settlement.StartedAt }),
	list("duration_us", func(it *item) uint32 { return micros(it.settlement.Duration) }),
	list("dns_us", func(it *item) uint32 { return micros(it.settlement.Phases.DNS) }),
	list("connect_us", func(it *item) uint32 { return micros(it.settlement.Phases.Connect) }),
	list("tls_us", func(it *item) uint32 { return micros(it.settlement.Phases.TLS) }),
	list("first_byte_us", func(it *item) uint32 { return micros(it.settlement.Phases.FirstByte) }),
	list("status", func(it *item) uint16 { return uint16(it.settlement.Status) }),
	list("outcome", func(it *item) string { return string(it.settlement.Outcome) }),
	list("reason", func(it *item) string { return string(it.settlement.Reason) }),
	list("detail", func(it *item) string { return it.settlement.Detail }),
	list("response", func(it *item) string { return it.settlement.Response }),
	list("next_at", func(it *item) time.Time { return orEpoch(it.settlement.NextAt) }),
	list("begun_at", func(it *item) time.Time { return it.settlement.BegunAt }),
	list("matched_at", func(it *item) time.Time { return it.settlement.MatchedAt }),
	list("traceparent", func(it *item) string { return it.settlement.Traceparent }),
	list("trace_id", func(it *item) string { return it.settlement.TraceID }),
}

var progressColumns = []column[progress]{
	list("topic", func(p progress) string { return p.role }),
	list("partition", func(p progress) int32 { return p.partition }),
	list("reached_at", func(p progress) time.Time { return p.reachedAt }),
	list("next_offset", func(p progress) int64 { return p.next }),
	list("done_offset", func(p progress) int64 { return p.doneOffset }),
	list("done_at", func(p progress) time.Time { return orEpoch(p.doneAt) }),
	list("taken_at", func(p progress) time.Time { return p.takenAt }),
}

// epoch is how the tables write "none".
var epoch = time.Unix(0, 0).UTC()

func orEpoch(t time.Time) time.Time {
	if t.IsZero() {
		return epoch
	}
	return t
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), 1<<32-1))
}

// settings of every insert. A batch must be on disk when its insert is
// answered, also on the shards that a Distributed table passes it to, and known by
// its token in the targets of materialized views too. It may have rows of any number
// of days: one that is refused would be refused for ever.
func settings(token string) clickhouse.Settings {
	s := clickhouse.Settings{"async_insert": 0, "distributed_foreground_insert": 1, "max_partitions_per_insert_block": 0}
	if token != "" {
		s["insert_deduplicate"] = 1
		s["insert_deduplication_token"] = token
		s["deduplicate_blocks_in_dependent_materialized_views"] = 1
	}
	return s
}

// insert writes the rows into a table of the database, in one insert that has
// come through when the error is nil, and may have otherwise. Without rows
// there is none.
func insert[T any](ctx context.Context, conn Conn, database, table, token string, columns []column[T], rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = "`" + c.name + "`"
	}
	query := fmt.Sprintf("INSERT INTO `%s`.`%s` (%s)", database, table, strings.Join(names, ", "))
	batch, err := conn.PrepareBatch(clickhouse.Context(ctx, clickhouse.WithSettings(settings(token))), query)
	if err != nil {
		return fmt.Errorf("preparing the insert into %s: %w", table, err)
	}
	defer func() { _ = batch.Close() }() // nothing after Send
	for i, c := range columns {
		if err := batch.Column(i).Append(c.values(rows)); err != nil {
			return fmt.Errorf("inserting into %s: column %s: %w", table, c.name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("inserting into %s: %w", table, err)
	}
	return nil
}

// insertBatch writes the items of one batch into their tables.
func insertBatch(ctx context.Context, conn Conn, database, token string, items []*item) (rows map[string]int, err error) {
	var deliveries, messages, attempts []*item
	type message struct {
		id  [16]byte
		day int64
	}
	seen := make(map[message]struct{})
	for _, it := range items {
		switch {
		case it.settlement != nil:
			attempts = append(attempts, it)
		case it.delivery != nil:
			deliveries = append(deliveries, it)
			m := message{it.delivery.BodyID, it.delivery.BegunAt.Unix() / (24 * 60 * 60)} // bodies are kept by day
			if _, dup := seen[m]; !dup {
				seen[m] = struct{}{}
				messages = append(messages, it)
			}
		}
	}
	// Bodies first: whoever sees a delivery finds its body.
	if err := insert(ctx, conn, database, TableMessages, token, messageColumns, messages); err != nil {
		return nil, err
	}
	if err := insert(ctx, conn, database, TableDeliveries, token, deliveryColumns, deliveries); err != nil {
		return nil, err
	}
	if err := insert(ctx, conn, database, TableAttempts, token, attemptColumns, attempts); err != nil {
		return nil, err
	}
	return map[string]int{TableMessages: len(messages), TableDeliveries: len(deliveries), TableAttempts: len(attempts)}, nil
}
