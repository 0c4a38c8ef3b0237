package main

import (
	"context"

	"posthorn/internal/cli"
)

// pauseFlags say what is paused or resumed.
type pauseFlags struct {
	clientFlags
	Tenant string `help:"This tenant, or one of its endpoints."`
	ID     string `arg:"" optional:"" help:"The endpoint's ID; without it the tenant, or with --all everything."`
	All    bool   `help:"Everything, of all tenants."`
}

type pauseCmd struct {
	pauseFlags
	Reason string `help:"A note for people."`
}

type resumeCmd struct{ pauseFlags }

type endpointPurgeCmd struct {
	apiFlags
	ID string `arg:"" help:"The endpoint's ID."`
}

func (f *pauseFlags) pauses(io streams) (cli.Pauses, error) {
	e, err := (&apiFlags{clientFlags: f.clientFlags, Tenant: f.Tenant}).endpoints(io)
	return cli.Pauses{Endpoints: e, All: f.All, ID: f.ID}, err
}

// Run pauses.
func (c *pauseCmd) Run(ctx context.Context, io streams) error {
	p, err := c.pauses(io)
	if err != nil {
		return err
	}
	return p.Pause(ctx, c.Reason)
}

// Run resumes.
func (c *resumeCmd) Run(ctx context.Context, io streams) error {
	p, err := c.pauses(io)
	if err != nil {
		return err
	}
	return p.Resume(ctx)
}

// Run purges an endpoint's backlog.
func (c *endpointPurgeCmd) Run(ctx context.Context, io streams) error {
	e, err := c.endpoints(io)
	if err != nil {
		return err
	}
	return e.Purge(ctx, c.ID)
}
