package main

import (
	"context"
	"time"

	"posthorn/internal/cli"
)

type deliveryCmd struct {
	List   deliveryListCmd   `cmd:"" help:"List or search deliveries, newest first."`
	Get    deliveryGetCmd    `cmd:"" help:"Show a delivery with its attempts and its payload."`
	Resend deliveryResendCmd `cmd:"" help:"Send a delivery again, whatever became of it."`
}

type deliveryListCmd struct {
	apiFlags
	Endpoint string        `help:"To this endpoint."`
	Type     string        `help:"Of this type of event."`
	Event    string        `help:"Of the event with this ID."`
	State    string        `enum:",delivered,dead,discarded,pending" default:"" help:"In this state: delivered, dead, discarded or pending."`
	Since    ago           `placeholder:"SPAN" default:"24h" help:"How far back, such as 90m, 7d or 2w (${default})."`
	Limit    int           `default:"50" help:"The most to show (${default}); 0 for all."`
	Wait     time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until there are --at-least."`
	AtLeast  int           `placeholder:"N" default:"1" help:"How many to wait for (${default})."`
}

type deliveryGetCmd struct {
	apiFlags
	ID   string        `arg:"" help:"The delivery's ID."`
	Wait time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until it has ended."`
}

type deliveryResendCmd struct {
	apiFlags
	ID             string        `arg:"" help:"The delivery's ID."`
	IdempotencyKey string        `placeholder:"TEXT" help:"A name for this request, so that it may be repeated."`
	Wait           time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until it has ended, and show it."`
}

type endpointTestCmd struct {
	apiFlags
	ID             string        `arg:"" help:"The endpoint's ID."`
	Type           string        `help:"Type of the event; test by default."`
	IdempotencyKey string        `placeholder:"TEXT" help:"A name for this request, so that it may be repeated."`
	Wait           time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until it has ended, and show it."`
}

type endpointBacklogCmd struct {
	apiFlags
	ID string `arg:"" help:"The endpoint's ID."`
}

type endpointDryRunCmd struct {
	apiFlags
	Events  []string `placeholder:"TYPE" help:"Event types of the subscription to try, such as order.*; without any, all."`
	Filter  string   `help:"A CEL expression that events have to meet as well."`
	Since   ago      `placeholder:"SPAN" default:"1h" help:"How far back, such as 90m or 2d (${default})."`
	Samples int      `default:"5" help:"The most matching events to show, up to 20 (${default})."`
}

type replayCmd struct {
	Create replayCreateCmd `cmd:"" help:"Make deliveries of past events to an endpoint, or retry what failed."`
	Get    replayGetCmd    `cmd:"" help:"Show a replay and how far it has come."`
	List   replayListCmd   `cmd:"" help:"List the tenant's replays."`
	Pause  replayPauseCmd  `cmd:"" help:"Pause a replay."`
	Resume replayResumeCmd `cmd:"" help:"Let a replay go on."`
	Cancel replayCancelCmd `cmd:"" help:"End a replay."`
}

type replayCreateCmd struct {
	apiFlags
	Endpoint       string        `arg:"" help:"The endpoint to deliver to; it may be newer than the events."`
	Since          moment        `required:"" placeholder:"TIME|SPAN" help:"Events with this Kafka timestamp or a later one, such as 2026-03-02T14:00:00Z, or 90m for an hour and a half ago; of --failed, deliveries begun then."`
	Until          moment        `placeholder:"TIME|SPAN" help:"And before this time; now by default."`
	Failed         bool          `help:"Retry deliveries that failed, in place of making them of events."`
	State          []string      `enum:"dead,discarded" placeholder:"STATE" help:"With --failed: dead (the default) or discarded ones."`
	Events         []string      `placeholder:"TYPE" help:"Event types that narrow the subscription."`
	Rate           float64       `help:"The most deliveries a second; 100 by default."`
	Paused         bool          `help:"Begin paused."`
	IdempotencyKey string        `placeholder:"TEXT" help:"A name for this request, so that it may be repeated."`
	Wait           time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until it and its deliveries have ended, and show it."`
}

type replayID struct {
	apiFlags
	ID string `arg:"" help:"The replay's ID."`
}

type (
	replayGetCmd struct {
		replayID
		Wait time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until it and its deliveries have ended."`
	}
	replayPauseCmd  struct{ replayID }
	replayResumeCmd struct{ replayID }
	replayCancelCmd struct{ replayID }
	replayListCmd   struct{ apiFlags }
)

func (f *apiFlags) deliveries(io streams) (cli.Deliveries, error) {
	e, err := f.endpoints(io)
	return cli.Deliveries(e), err
}

func (f *apiFlags) replays(io streams) (cli.Replays, error) {
	d, err := f.deliveries(io)
	return cli.Replays{Deliveries: d}, err
}

// Run lists deliveries.
func (c *deliveryListCmd) Run(ctx context.Context, io streams) error {
	d, err := c.deliveries(io)
	if err != nil {
		return err
	}
	return d.List(ctx, cli.DeliveryQuery{Endpoint: c.Endpoint, Type: c.Type, Event: c.Event, State: c.State,
		Since: time.Now().Add(-time.Duration(c.Since)), Limit: c.Limit, Wait: c.Wait, AtLeast: c.AtLeast})
}

// Run shows a delivery.
func (c *deliveryGetCmd) Run(ctx context.Context, io streams) error {
	d, err := c.deliveries(io)
	if err != nil {
		return err
	}
	return d.Get(ctx, c.ID, c.Wait)
}

// Run sends a delivery again.
func (c *deliveryResendCmd) Run(ctx context.Context, io streams) error {
	d, err := c.deliveries(io)
	if err != nil {
		return err
	}
	return d.Resend(ctx, c.ID, c.IdempotencyKey, c.Wait)
}

// Run sends a test event.
func (c *endpointTestCmd) Run(ctx context.Context, io streams) error {
	d, err := c.deliveries(io)
	if err != nil {
		return err
	}
	return d.Test(ctx, c.ID, c.Type, c.IdempotencyKey, c.Wait)
}

// Run shows an endpoint's backlog.
func (c *endpointBacklogCmd) Run(ctx context.Context, io streams) error {
	d, err := c.deliveries(io)
	if err != nil {
		return err
	}
	return d.Backlog(ctx, c.ID)
}

// Run tries a subscription.
func (c *endpointDryRunCmd) Run(ctx context.Context, io streams) error {
	d, err := c.deliveries(io)
	if err != nil {
		return err
	}
	return d.DryRun(ctx, c.Events, c.Filter, time.Now().Add(-time.Duration(c.Since)), c.Samples)
}

// Run begins a replay.
func (c *replayCreateCmd) Run(ctx context.Context, io streams) error {
	r, err := c.replays(io)
	if err != nil {
		return err
	}
	o := cli.ReplayOrder{Endpoint: c.Endpoint, Since: c.Since.Time, Until: c.Until.Time, Events: c.Events, States: c.State, Rate: c.Rate, Paused: c.Paused}
	if c.Failed {
		o.Kind = "retry"
	}
	return r.Create(ctx, o, c.IdempotencyKey, c.Wait)
}

// Run shows a replay.
func (c *replayGetCmd) Run(ctx context.Context, io streams) error {
	r, err := c.replays(io)
	if err != nil {
		return err
	}
	return r.Get(ctx, c.ID, c.Wait)
}

// Run lists replays.
func (c *replayListCmd) Run(ctx context.Context, io streams) error {
	r, err := c.replays(io)
	if err != nil {
		return err
	}
	return r.List(ctx)
}

func (c *replayID) do(ctx context.Context, io streams, verb string) error {
	r, err := c.replays(io)
	if err != nil {
		return err
	}
	return r.Do(ctx, verb, c.ID)
}

// Run pauses a replay.
func (c *replayPauseCmd) Run(ctx context.Context, io streams) error { return c.do(ctx, io, "pause") }

// Run lets a replay go on.
func (c *replayResumeCmd) Run(ctx context.Context, io streams) error { return c.do(ctx, io, "resume") }

// Run ends a replay.
func (c *replayCancelCmd) Run(ctx context.Context, io streams) error { return c.do(ctx, io, "cancel") }
