package main

import (
	"context"
	"time"

	"posthorn/analytics/ledger"
	"posthorn/internal/cli"
	"posthorn/internal/config"
)

func (f *queryFlags) query(io streams) (cli.Query, error) {
	cfg, err := f.loadFor(io)
	if err != nil {
		return cli.Query{}, err
	}
	c := cfg.ClickHouse
	if f.ClickHouse != "" || len(c.Addr) == 0 {
		c.Addr, c.Protocol = []string{"127.0.0.1:8123"}, config.ProtocolHTTP
		if f.ClickHouse != "" {
			c.Addr = []string{f.ClickHouse}
		}
	}
	return cli.Query{ClickHouse: c, JSON: f.JSON, Out: io.out}, nil
}

func (f *queryFlags) since() time.Time { return time.Now().Add(-f.Since) }

// Run shows where deliveries stand.
func (c *queryDeliveriesCmd) Run(ctx context.Context, io streams) error {
	q, err := c.query(io)
	if err != nil {
		return err
	}
	f := ledger.Filter{Tenant: c.Tenant, EndpointID: c.Endpoint, EventType: c.Type, EventID: c.Event, DeliveryID: c.Delivery,
		State: c.State, Since: c.since(), Limit: c.Limit, Payload: c.Payload}
	return q.Deliveries(ctx, f, c.Follow)
}

// Run shows settlements.
func (c *queryAttemptsCmd) Run(ctx context.Context, io streams) error {
	q, err := c.query(io)
	if err != nil {
		return err
	}
	return q.Attempts(ctx, ledger.AttemptFilter{Tenant: c.Tenant, EndpointID: c.Endpoint, EventID: c.Event, DeliveryID: c.Delivery,
		Kind: c.Kind, Since: c.since(), Limit: c.Limit})
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
	return q.Reconcile(ctx, c.since(), time.Time{})
}
