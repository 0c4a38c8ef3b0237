package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"posthorn/analytics/ledger"
	"posthorn/api"
	"posthorn/internal/clickhouse"
)

// openLedger opens the ledger for whoever in the process asks it; nil if the
// configuration has no ClickHouse. It is dialled when it is asked: the process
// starts without it.
func (l *Line) openLedger() (*ledger.Ledger, error) {
	if l.book != nil {
		return l.book, nil
	}
	conn, err := clickhouse.OpenLedger(l.cfg.ClickHouse)
	if errors.Is(err, clickhouse.ErrOff) {
		return nil, nil //nolint:nilnil // none is configured, and that is no error
	}
	if err != nil {
		return nil, err
	}
	l.undo.add("ledger", 2*time.Second, func(context.Context) error { return conn.Close() })
	l.book = ledger.New(conn)
	return l.book, nil
}

// apiExploring adds what looks deliveries up, and makes them again.
func (l *Line) apiExploring(cfg *api.Config) error {
	book, err := l.openLedger()
	if err != nil {
		return err
	}
	if book != nil {
		cfg.Ledger = apiLedger{ledger: book, maxAge: l.cfg.Delivery.MaxAge}
	}
	line, err := l.newAPILine()
	if err != nil {
		return err
	}
	cfg.Line = line
	return nil
}

// apiLedger is the ledger as api.Ledger.
type apiLedger struct {
	ledger *ledger.Ledger
	// maxAge is how old a delivery may get that waits.
	maxAge time.Duration
}

// Deliveries implements api.Ledger.
func (a apiLedger) Deliveries(ctx context.Context, tenant string, f api.DeliveryFilter) ([]api.Delivery, string, error) {
	after, err := ledger.ParseCursor(f.After)
	if err != nil {
		return nil, "", api.ErrBadCursor
	}
	rows, err := a.ledger.Deliveries(ctx, ledger.Filter{
		Tenant: tenant, EndpointID: f.EndpointID, EventType: f.EventType, EventID: f.EventID, State: f.State,
		Since: f.Since, Until: f.Until, Limit: f.Limit + 1, After: after,
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > f.Limit {
		rows = rows[:f.Limit]
		next = rows[f.Limit-1].Cursor().String()
	}
	out := make([]api.Delivery, len(rows))
	for i := range rows {
		out[i] = deliveryView(&rows[i])
	}
	return out, next, nil
}

func deliveryView(d *ledger.DeliveryStatus) api.Delivery {
	return api.Delivery{
		ID: d.DeliveryID, Run: d.Run, EndpointID: d.EndpointID, EventID: d.EventID, EventSource: d.EventSource, EventType: d.EventType,
		State: d.State, StatusCode: statusView(d.StatusCode), Response: d.Response, Attempts: int64(d.Attempts),
		BegunAt: d.BegunAt, MatchedAt: d.MatchedAt, DeliveredAt: d.DeliveredAt, NextRetryAt: d.NextAt, Reason: d.Reason,
	}
}

func statusView(status *uint16) *int {
	if status == nil {
		return nil
	}
	n := int(*status)
	return &n
}

// Delivery implements api.Ledger.
func (a apiLedger) Delivery(ctx context.Context, tenant, id string) (*api.DeliveryDetail, error) {
	d, err := a.ledger.Delivery(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, api.ErrNotFound
	}
	latest := &d.Runs[0]
	out := &api.DeliveryDetail{Delivery: deliveryView(&latest.DeliveryStatus), PayloadEncoding: "utf-8", Traceparent: latest.Traceparent,
		Origin: latest.Origin, Contract: latest.Contract, ContentType: latest.ContentType, Runs: make([]api.DeliveryRun, len(d.Runs))}
	if d.Payload != nil {
		var text string
		text, out.PayloadEncoding = api.EncodePayload([]byte(*d.Payload))
		out.Payload = &text
	}
	if latest.SourceTopic != "" {
		out.Source = &api.SourcePosition{Topic: latest.SourceTopic, Partition: latest.SourcePartition, Offset: latest.SourceOffset}
	}
	for i := range d.Runs {
		r := &d.Runs[i]
		out.Runs[i] = api.DeliveryRun{
			Run: r.Run, Origin: r.Origin, State: r.State, StatusCode: statusView(r.StatusCode), Response: r.Response, Attempts: int64(r.Attempts),
			BegunAt: r.BegunAt, MatchedAt: r.MatchedAt, DeliveredAt: r.DeliveredAt, NextRetryAt: r.NextAt, Reason: r.Reason,
			History: attemptViews(r.History),
		}
	}
	return out, nil
}

// Attempts implements api.Ledger.
func (a apiLedger) Attempts(ctx context.Context, tenant, id, after string, limit int) ([]api.Attempt, string, error) {
	place, err := parseAttemptCursor(after)
	if err != nil {
		return nil, "", err
	}
	rows, err := a.ledger.Attempts(ctx, ledger.AttemptFilter{Tenant: tenant, DeliveryID: id, Limit: limit + 1, After: place})
	if err != nil {
		return nil, "", err
	}
	if len(rows) == 0 && after == "" {
		// Nothing was tried yet, or there is no such delivery.
		known, err := a.ledger.Deliveries(ctx, ledger.Filter{Tenant: tenant, DeliveryID: id, Limit: 1})
		if err != nil {
			return nil, "", err
		}
		if len(known) == 0 {
			return nil, "", api.ErrNotFound
		}
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1].Cursor()
		next = fmt.Sprintf("%d.%s", last.StartedAt.UnixMilli(), last.AttemptID)
	}
	return attemptViews(rows), next, nil
}

// parseAttemptCursor reads "milliseconds.attempt ID".
func parseAttemptCursor(text string) (at ledger.AttemptCursor, err error) {
	if text == "" {
		return at, nil
	}
	ms, id, _ := strings.Cut(text, ".")
	started, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return at, api.ErrBadCursor
	}
	attempt, err := uuid.Parse(id)
	if err != nil {
		return at, api.ErrBadCursor
	}
	return ledger.AttemptCursor{StartedAt: time.UnixMilli(started).UTC(), AttemptID: attempt}, nil
}

func attemptViews(rows []ledger.Attempt) []api.Attempt {
	out := make([]api.Attempt, len(rows))
	ms := func(us uint32) float64 { return float64(us) / 1000 }
	for i := range rows {
		r := &rows[i]
		out[i] = api.Attempt{
			ID: r.AttemptID.String(), Kind: r.Kind, Run: r.Run, N: int(r.N), StartedAt: r.StartedAt,
			DurationMS: ms(r.DurationUS), DNSMS: ms(r.DNSUS), ConnectMS: ms(r.ConnectUS), TLSMS: ms(r.TLSUS), FirstByteMS: ms(r.FirstByteUS),
			Outcome: r.Outcome, Reason: r.Reason, Detail: r.Detail, Response: r.Response, TraceID: r.TraceID, NextRetryAt: r.NextAt,
		}
		if status := r.Status; status != 0 {
			out[i].StatusCode = statusView(&status)
		}
	}
	return out
}

// begunAheadOfMatch is how long before its match a delivery may have begun in
// the ledger: see analytics/sink.
const begunAheadOfMatch = 7 * 24 * time.Hour

// Backlog implements api.Ledger.
func (a apiLedger) Backlog(ctx context.Context, tenant, endpoint string) (*api.Backlog, error) {
	b, err := a.ledger.Backlog(ctx, tenant, endpoint, time.Now().Add(-a.maxAge-begunAheadOfMatch))
	if err != nil {
		return nil, err
	}
	return &api.Backlog{
		Waiting: int64(b.Queued + b.Parked + b.Retrying), Queued: int64(b.Queued), Parked: int64(b.Parked), Retrying: int64(b.Retrying),
		Due:      api.BacklogDue{Overdue: int64(b.Overdue), Minute: int64(b.Minute), FiveMinutes: int64(b.Five), QuarterHour: int64(b.Quarter), Later: int64(b.Later)},
		OldestAt: b.OldestAt, LastDueAt: b.LastDueAt, Rate: b.Rate, AsOf: b.AsOf,
	}, nil
}

// Run implements api.Ledger.
func (a apiLedger) Run(ctx context.Context, tenant, endpoint string, run int64) (*api.ReplayDeliveries, error) {
	n, err := a.ledger.Run(ctx, tenant, endpoint, run)
	if err != nil {
		return nil, err
	}
	return &api.ReplayDeliveries{Delivered: int64(n.Delivered), Pending: int64(n.Pending), Dead: int64(n.Dead), Discarded: int64(n.Discarded)}, nil
}
