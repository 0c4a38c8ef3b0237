package sink

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// item is what one record of a log led to: a row, or a record to set aside.
type item struct {
	partition int32
	offset    int64
	bytes     int64 // of memory, estimated

	// One of them is set.
	delivery   *webhook.Delivery
	settlement *webhook.Settlement
	poison     *poison

	attemptID uuid.UUID // of a settlement
	bodySize  int       // of a delivery, whose Body its batch may share
}

// poison is a record that is no row of the ledger.
type poison struct {
	record *kgo.Record
	err    error
	aside  bool // it lies on the topic of invalid records
}

// itemBytes is what an item takes besides its texts: the structs, and the
// headers of about twenty strings.
const itemBytes = 700

// begunEarliest and begunLatest bound how far begun_at, which is the producer's
// own timestamp, may lie before and after matched_at, which is ours. What is
// further off is taken for begun when it was matched: tables are partitioned and
// kept by begun_at, so a clock that is years off would make a partition of
// every day, or have its rows dropped as too old.
const (
	begunEarliest = 7 * 24 * time.Hour
	begunLatest   = time.Hour
)

func begunAt(begun, matched time.Time) time.Time {
	if begun.Before(matched.Add(-begunEarliest)) || begun.After(matched.Add(begunLatest)) {
		return matched
	}
	return begun
}

// earliest and latest are what a ledger's times may be: rows beyond would be
// dropped by their age, or not fit into toDate.
var (
	earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

func checkTime(name string, t time.Time) error {
	if t.Before(earliest) || !t.Before(latest) {
		return fmt.Errorf("%s: %s is not between 2000 and 2100", name, t.UTC().Format(time.RFC3339))
	}
	return nil
}

// readDelivery makes a row of a deliveries record. Only a run's first record
// is one: what comes back for a retry, or was put back unsent, is in the ledger
// already; then item and error are nil.
func readDelivery(r *kgo.Record) (*item, error) {
	d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
	if err != nil {
		return nil, err
	}
	if d.N != 0 || d.Deferrals != 0 {
		return nil, nil //nolint:nilnil // nothing to insert, and nothing wrong
	}
	if err := checkTime("matched_at", d.MatchedAt); err != nil {
		return nil, err
	}
	d.BegunAt = begunAt(d.BegunAt, d.MatchedAt)
	texts := len(d.ID) + len(d.EventID) + len(d.EventSource) + len(d.EventType) + len(d.Tenant) + len(d.EndpointID) + len(d.Traceparent)
	return &item{partition: r.Partition, offset: r.Offset, bytes: int64(itemBytes + texts), delivery: d, bodySize: len(d.Body)}, nil
}

// readSettlement makes a row of an attempts record.
func readSettlement(r *kgo.Record) (*item, error) {
	s, err := webhook.DecodeSettlement(r.Value)
	if err != nil {
		return nil, err
	}
	if s.DeliveryID == "" || s.EndpointID == "" {
		return nil, fmt.Errorf("reading settlement: delivery_id and endpoint_id are required, have %q and %q", s.DeliveryID, s.EndpointID)
	}
	if err := checkTime("matched_at", s.MatchedAt); err != nil {
		return nil, err
	}
	if s.StartedAt.IsZero() {
		s.StartedAt = r.Timestamp
	}
	if err := checkTime("started_at", s.StartedAt); err != nil {
		return nil, err
	}
	if !s.NextAt.IsZero() {
		if err := checkTime("next_at", s.NextAt); err != nil {
			return nil, err
		}
	}
	s.BegunAt = begunAt(s.BegunAt, s.MatchedAt)
	id, err := settlementID(s.AttemptID, r.Value)
	if err != nil {
		return nil, err
	}
	return &item{partition: r.Partition, offset: r.Offset, bytes: int64(itemBytes + len(r.Value)), settlement: s, attemptID: id}, nil
}

// settlementID is what makes two records of the attempts topic the same
// settlement. An attempt has an ID of its own. Others get the hash of their
// record, as a UUID of version 8 (RFC 9562, section 5.8): a record that is read
// or written twice collapses, and another settlement differs at least in the
// time that it was made.
func settlementID(attemptID string, record []byte) (uuid.UUID, error) {
	if attemptID != "" {
		id, err := uuid.Parse(attemptID)
		if err != nil {
			return id, fmt.Errorf("reading settlement: attempt_id %.60q: want a UUID", attemptID)
		}
		return id, nil
	}
	sum := sha256.Sum256(record)
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}

// setAside makes an item of a record that is no row. The record is copied: it
// is a part of a fetched batch, which would be kept whole for it.
func setAside(r *kgo.Record, err error) *item {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	c.Headers = make([]kgo.RecordHeader, len(r.Headers))
	size := len(r.Key) + len(r.Value)
	for i, h := range r.Headers {
		c.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: bytes.Clone(h.Value)}
		size += len(h.Key) + len(h.Value)
	}
	return &item{partition: r.Partition, offset: r.Offset, bytes: int64(itemBytes + size), poison: &poison{record: &c, err: err}}
}
