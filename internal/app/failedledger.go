package app

import (
	"context"
	"errors"

	"posthorn/analytics/ledger"
	"posthorn/consumer/replay"
	"posthorn/webhook"
)

// failedLedger is the ledger as replay.Ledger.
type failedLedger struct {
	ledger  *ledger.Ledger
	rebuild func(ctx context.Context, at webhook.Position) (*webhook.Event, error)
	bodies  bodies
}

func failedFilter(r *webhook.Replay) ledger.FailedFilter {
	return ledger.FailedFilter{Tenant: r.Tenant, EndpointID: r.EndpointID, States: r.States, Since: r.Since, Until: r.Until}
}

// Count implements replay.Ledger.
func (f *failedLedger) Count(ctx context.Context, r *webhook.Replay) (int64, error) {
	return f.ledger.CountFailed(ctx, failedFilter(r))
}

// Page implements replay.Ledger.
func (f *failedLedger) Page(ctx context.Context, r *webhook.Replay, after string, limit int, bytes int64) (replay.Page, error) {
	rows, err := f.ledger.Failed(ctx, failedFilter(r), after, limit, bytes)
	if err != nil {
		return replay.Page{}, err
	}
	wanted := func(string) bool { return true }
	if len(r.Events) > 0 {
		wanted = covering(r.Events)
	}
	// One that ends with its bytes isn't the last; an empty one is.
	out := replay.Page{More: len(rows) > 0}
	for i := range rows {
		if bytes <= 0 {
			break // bodies that were built again count too
		}
		row := &rows[i]
		out.Looked, out.Last = i+1, row.DeliveryID
		if !wanted(row.EventType) {
			continue
		}
		d := webhook.Delivery{
			ID: row.DeliveryID, Tenant: r.Tenant, EventID: row.EventID, EventSource: row.EventSource, EventType: row.EventType,
			Contract: row.Contract, ContentType: row.ContentType, Traceparent: row.Traceparent,
			Source: webhook.Position{Topic: row.SourceTopic, Partition: row.SourcePartition, Offset: row.SourceOffset},
		}
		if row.Payload != nil {
			d.Body = []byte(*row.Payload)
		} else if err := f.again(ctx, &d); err != nil {
			return replay.Page{}, err
		}
		bytes -= int64(len(d.Body))
		d.BodyID = webhook.BodyID(d.Body)
		out.Failed = append(out.Failed, replay.Failed{Delivery: d, Cursor: row.DeliveryID, Looked: i + 1})
	}
	return out, nil
}

// again builds a body that the ledger no longer keeps; it stays nil where that
// can't be done.
func (f *failedLedger) again(ctx context.Context, d *webhook.Delivery) error {
	e, err := f.rebuild(ctx, d.Source)
	if errors.Is(err, errEventGone) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isEvent(e, d.Tenant, d.EventType, d.EventSource, d.EventID) {
		return nil // another topic under the old name
	}
	body, contentType, err := f.bodies.Body(d.Contract, e)
	if err != nil {
		return nil //nolint:nilerr // the contract has no body for it any more: it is skipped
	}
	d.Body, d.ContentType, d.Tracestate = body, contentType, e.Tracestate
	return nil
}
