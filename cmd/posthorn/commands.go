package main

import (
	"context"
	"fmt"
	"os"

	"posthorn/internal/app"
	"posthorn/internal/cli"
	"posthorn/internal/config"
)

func (f configFlag) load() (*config.Config, error) { return config.Load(f.Config, os.Environ()) }

// loadFor loads the configuration and logs its warnings.
func (f configFlag) loadFor(io streams) (*config.Config, error) {
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	log := cli.NewLogger(c.Log, io.err)
	for _, w := range c.Warnings() {
		log.Warn("configuration", "at", w.Origin.String(), "key", w.Path, "warning", w.Text)
	}
	return c, nil
}

// Run runs the line.
func (c *runCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	return runLine(ctx, cfg, c, io)
}

// Run runs the line on an embedded broker.
func (c *devCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	return runDev(ctx, cfg, c, io)
}

// Run creates and aligns topics.
func (c *topicsApplyCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	if err := developmentBroker(cfg); err != nil {
		return err
	}
	return cli.TopicsApply(ctx, cfg, io.out)
}

// Run verifies topics.
func (c *topicsCheckCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	if err := developmentBroker(cfg); err != nil {
		return err
	}
	return cli.TopicsCheck(ctx, cfg, io.out)
}

// Run makes the ledger's tables.
func (c *clickHouseMigrateCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	changed, err := app.MigrateLedger(ctx, cfg.ClickHouse)
	for _, what := range changed {
		fmt.Fprintln(io.out, what)
	}
	if err == nil && len(changed) == 0 {
		fmt.Fprintln(io.out, "nothing to change")
	}
	return err
}

func (f *apiFlags) endpoints(io streams) (cli.Endpoints, error) {
	api, err := f.client()
	return cli.Endpoints{API: api, Tenant: f.Tenant, JSON: f.JSON, Out: io.out}, err
}

func (f *clientFlags) client() (*cli.API, error) {
	if f.API == "" {
		a, err := developmentLine()
		if err != nil {
			return nil, err
		}
		f.API = a.Admin
	}
	key, err := cli.ReadSecret(f.Key)
	if err != nil {
		return nil, err
	}
	return cli.NewAPI(f.API, key)
}

// Run registers an endpoint.
func (c *endpointCreateCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	headers, err := cli.ParseHeaders(c.Header)
	if err != nil {
		return err
	}
	secret, err := cli.ReadSecret(c.Secret)
	if err != nil {
		return err
	}
	change := cli.EndpointChange{
		URL: &c.URL, Description: given(c.Description), Contract: given(c.Contract), Secret: given(secret), Filter: given(c.Filter),
		Disabled: given(c.Disabled), RateLimit: given(c.RateLimit), MaxInFlight: given(c.MaxInFlight),
	}
	if len(c.Events) > 0 {
		change.Events = &c.Events
	}
	if len(headers) > 0 {
		change.Headers = &headers
	}
	return e.Create(ctx, change)
}

// given returns nil for a flag that wasn't given.
func given[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

// Run shows an endpoint.
func (c *endpointGetCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	return e.Get(ctx, c.ID)
}

// Run lists endpoints.
func (c *endpointListCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	return e.List(ctx)
}

// Run changes an endpoint.
func (c *endpointUpdateCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	headers, err := cli.ParseHeaders(c.Header)
	if err != nil {
		return err
	}
	change := cli.EndpointChange{
		URL: c.URL, Description: c.Description, OnDisable: c.OnDisable, Filter: c.Filter,
		Disabled: c.Disabled, RateLimit: c.RateLimit, MaxInFlight: c.MaxInFlight,
	}
	if len(c.Events) > 0 {
		change.Events = &c.Events
	}
	if c.AllEvents {
		change.Events = &[]string{}
	}
	for _, name := range c.RemoveHeader {
		headers[name] = nil
	}
	if c.NoHeaders {
		headers = nil
	}
	if len(headers) > 0 || c.NoHeaders {
		change.Headers = &headers
	}
	return e.Update(ctx, c.ID, change, c.IfMatch)
}

// Run enables an endpoint.
func (c *endpointEnableCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	return e.Enable(ctx, c.ID, c.Recover)
}

// Run deletes an endpoint.
func (c *endpointDeleteCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	return e.Delete(ctx, c.ID)
}

// Run produces events.
func (c *eventSendCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if len(c.Brokers) > 0 {
		cfg.Kafka.Brokers = c.Brokers
		if err := cfg.Validate(); err != nil {
			return err
		}
	} else if err := developmentBroker(cfg); err != nil {
		return err
	}
	send := cli.SendConfig{
		Kafka: cfg.Kafka, Topic: c.Topic,
		Type: c.Type, Source: c.Source, Tenant: c.Tenant, Subject: c.Subject, Extensions: c.Extension,
		ID: c.ID, ContentType: c.ContentType, Traceparent: c.Traceparent, Tracestate: c.Tracestate,
		File: c.File, Stdin: io.in, Count: c.Count, Rate: c.Rate, MaxMessage: c.MaxMessage, JSON: c.JSON,
	}
	if c.Data != nil {
		if send.Data, err = cli.ReadData(*c.Data, c.ContentType); err != nil {
			return err
		}
	}
	_, err = cli.Send(ctx, send, io.out)
	return err
}

// Run receives deliveries.
func (c *listenCmd) Run(ctx context.Context, io streams) error {
	secrets := make([]string, len(c.Secret))
	for i, s := range c.Secret {
		var err error
		if secrets[i], err = cli.ReadSecret(s); err != nil {
			return err
		}
	}
	return cli.Listen(ctx, cli.ListenConfig{
		Receiver: cli.ReceiverConfig{
			Secrets: secrets, Status: c.Status, Delay: c.Delay, Hang: c.Hang,
			FailFirst: c.FailFirst, FailStatus: c.FailStatus, RetryAfter: c.RetryAfter, MaxBody: c.MaxBody,
		},
		Port: c.Port, JSON: c.JSON, Quiet: c.Quiet,
	}, io.out)
}

// Run checks a configuration.
func (c *configCheckCmd) Run(io streams) error {
	if c.File != "" {
		c.Config = c.File
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	if err := app.Check(cfg); err != nil {
		return &cli.UsageError{Text: err.Error()}
	}
	return cli.ConfigCheck(cfg, c.Config, io.out)
}

// Run shows a configuration.
func (c *configShowCmd) Run(io streams) error {
	if c.File != "" {
		c.Config = c.File
	}
	cfg, err := c.load()
	if err != nil {
		return err
	}
	return cfg.Show(io.out)
}

// Run shows the version.
func (versionCmd) Run(io streams) error {
	_, err := fmt.Fprintln(io.out, cli.Version(version))
	return err
}
