package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/api"
	"posthorn/consumer/eventlog"
	"posthorn/webhook"
)

// auditLog reads the audit topic backwards: offsets are the places.
type auditLog struct {
	topic   string
	adm     *kadm.Client
	log     *eventlog.Log
	readers chan struct{} // as many at a time as it has room
}

// Bounds of one request: offsets are looked at in stretches, latest first.
const (
	auditStretch  = 2000
	auditExamined = 10_000
	auditReaders  = 4
	auditFetch    = 1 << 20 // bytes
	auditTimeout  = 8 * time.Second
)

func newAuditLog(topic string, control *kgo.Client) *auditLog {
	return &auditLog{topic: topic, adm: kadm.NewClient(control), log: eventlog.New(control), readers: make(chan struct{}, auditReaders)}
}

// Read implements api.AuditLog.
func (a *auditLog) Read(ctx context.Context, tenant string, before int64, limit int) (out []webhook.AuditEntry, next int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	select {
	case a.readers <- struct{}{}:
		defer func() { <-a.readers }()
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("%w: reading the audit log: %w", api.ErrUnavailable, ctx.Err())
	}
	first, end, err := a.bounds(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: reading the audit log: %w", api.ErrUnavailable, err)
	}
	if before == 0 || before > end {
		before = end
	}
	lowest := max(first, before-auditExamined)
	for before > lowest {
		from := max(lowest, before-auditStretch)
		records, err := a.stretch(ctx, from, before)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: reading the audit log: %w", api.ErrUnavailable, err)
		}
		for _, r := range slices.Backward(records) {
			e := webhook.AuditEntry{}
			// What can't be read isn't ours; whose it is stands in the key.
			if tenant != "" && string(r.Key) != tenant || json.Unmarshal(r.Value, &e) != nil {
				continue
			}
			if out = append(out, e); len(out) == limit {
				return out, placeBelow(r.Offset, first), nil
			}
		}
		before = from
	}
	return out, placeBelow(before, first), nil
}

// placeBelow is where the next page goes on; 0 when nothing is left.
func placeBelow(offset, first int64) int64 {
	if offset <= first {
		return 0
	}
	return offset
}

// bounds returns the log's first offset and its stable end.
func (a *auditLog) bounds(ctx context.Context) (first, end int64, err error) {
	starts, err := a.adm.ListStartOffsets(ctx, a.topic)
	if err != nil {
		return 0, 0, err
	}
	ends, err := a.adm.ListCommittedOffsets(ctx, a.topic)
	if err != nil {
		return 0, 0, err
	}
	s, _ := starts.Lookup(a.topic, 0)
	e, ok := ends.Lookup(a.topic, 0)
	switch {
	case !ok:
		return 0, 0, fmt.Errorf("there is no topic %s: run topics apply", a.topic)
	case s.Err != nil:
		return 0, 0, s.Err
	case e.Err != nil:
		return 0, 0, e.Err
	}
	return s.Offset, e.Offset, nil
}

// stretch returns the committed records from an offset up to another.
func (a *auditLog) stretch(ctx context.Context, from, to int64) (records []*kgo.Record, err error) {
	for next := from; next < to; {
		var got []*kgo.Record
		got, next, err = a.log.Fetch(ctx, a.topic, 0, next, auditFetch)
		if gone, ok := errors.AsType[*eventlog.OutOfRangeError](err); ok {
			next = gone.LogStart // retention was faster
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, r := range got {
			if r.Offset < to {
				records = append(records, r)
			}
		}
	}
	return records, nil
}
