package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"posthorn/analytics/ledger"
	"posthorn/internal/cli"
	"posthorn/internal/config"
)

// usualSince is how far back a question goes that names no delivery or event.
const usualSince = 24 * time.Hour

// ago is a time span back from now; 0 is one that wasn't given.
type ago time.Duration

// UnmarshalText reads a span as the configuration writes them: 90m, 7d, 2w.
func (a *ago) UnmarshalText(text []byte) error {
	d, err := config.ParseDuration(string(text))
	if err == nil && d <= 0 {
		err = fmt.Errorf("want a time span above 0, such as 90m, 7d or 2w, got %q", text)
	}
	*a = ago(d)
	return err
}

// moment is a point in time.
type moment struct{ time.Time }

// UnmarshalText reads a time (RFC 3339), or how long ago it was, as [ago] has it.
func (m *moment) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	if err == nil {
		m.Time = at
		return nil
	}
	var span ago
	if span.UnmarshalText(text) != nil {
		return fmt.Errorf("want a time such as 2026-03-02T14:00:00Z, or how long ago it was, such as 90m or 7d; got %q", text)
	}
	m.Time = time.Now().Add(-time.Duration(span)).Truncate(time.Second)
	return nil
}

// rows is the most rows of an answer.
type rows int

// UnmarshalText reads 1 to [ledger.MaxLimit].
func (r *rows) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > ledger.MaxLimit {
		return fmt.Errorf("want 1 to %d, got %q", ledger.MaxLimit, text)
	}
	*r = rows(n)
	return nil
}

// state is a state of deliveries.
type state string

// UnmarshalText reads a state.
func (s *state) UnmarshalText(text []byte) error {
	return oneOf((*string)(s), text, ledger.StateDelivered, ledger.StateDead, ledger.StateDiscarded, ledger.StatePending)
}

// kind is a kind of settlements.
type kind string

// UnmarshalText reads a kind.
func (k *kind) UnmarshalText(text []byte) error {
	return oneOf((*string)(k), text, "attempt", "park", "discard", "dead")
}

func oneOf(into *string, text []byte, allowed ...string) error {
	if !slices.Contains(allowed, string(text)) {
		last := len(allowed) - 1
		return fmt.Errorf("want %s or %s, got %q", strings.Join(allowed[:last], ", "), allowed[last], text)
	}
	*into = string(text)
	return nil
}

func (f *queryFlags) query(io streams) (cli.Query, error) {
	cfg, err := f.loadFor(io)
	if err != nil {
		return cli.Query{}, err
	}
	c := cfg.ClickHouse
	addr := f.ClickHouse
	if addr == "" && len(c.Addr) == 0 {
		if addr, err = developmentLedger(); err != nil {
			return cli.Query{}, err
		}
		if addr == "" {
			return cli.Query{}, fmt.Errorf("the development line in %s has no ledger: make chdb fetches the embedded ClickHouse, then start the line again", defaultDataDir)
		}
	}
	if addr != "" {
		c.Addr, c.Protocol = []string{addr}, config.ProtocolHTTP
	}
	return cli.Query{ClickHouse: c, JSON: f.JSON, Out: io.out}, nil
}

// since is the time from which on is asked. What is named is looked for at any
// time, if there is no --since.
func (f *queryFlags) since(named ...string) time.Time {
	if f.Since == 0 && strings.Join(named, "") != "" {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(cmp.Or(f.Since, ago(usualSince))))
}

// deliveryID is the ID that was given, as an argument or as --delivery.
func deliveryID(argument, flag string) (string, error) {
	if argument != "" && flag != "" && argument != flag {
		return "", &cli.UsageError{Text: fmt.Sprintf("%s and --delivery %s: want one delivery", argument, flag)}
	}
	return cmp.Or(argument, flag), nil
}

// Run shows where deliveries stand.
func (c *queryDeliveriesCmd) Run(ctx context.Context, io streams) error {
	id, err := deliveryID(c.ID, c.Delivery)
	if err != nil {
		return err
	}
	q, err := c.query(io)
	if err != nil {
		return err
	}
	f := ledger.Filter{Tenant: c.Tenant, EndpointID: c.Endpoint, EventType: c.Type, EventID: c.Event, DeliveryID: id,
		State: string(c.State), Since: c.since(id, c.Event), Limit: int(c.Limit), Payload: c.Payload}
	return q.Deliveries(ctx, f, c.Follow)
}

// Run shows settlements.
func (c *queryAttemptsCmd) Run(ctx context.Context, io streams) error {
	id, err := deliveryID(c.ID, c.Delivery)
	if err != nil {
		return err
	}
	q, err := c.query(io)
	if err != nil {
		return err
	}
	return q.Attempts(ctx, ledger.AttemptFilter{Tenant: c.Tenant, EndpointID: c.Endpoint, EventType: c.Type, EventID: c.Event, DeliveryID: id,
		Kind: string(c.Kind), Since: c.since(id, c.Event), Limit: int(c.Limit)})
}

// Run shows endpoints.
func (c *queryEndpointCmd) Run(ctx context.Context, io streams) error {
	q, err := c.query(io)
	if err != nil {
		return err
	}
	return q.Endpoints(ctx, c.since(), time.Time{}, c.Tenant, c.ID)
}

// Run shows whether the ledger adds up.
func (c *queryReconcileCmd) Run(ctx context.Context, io streams) error {
	q, err := c.query(io)
	if err != nil {
		return err
	}
	return q.Reconcile(ctx, c.since(), c.Wait)
}
