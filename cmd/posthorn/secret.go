package main

import (
	"context"
	"time"

	"posthorn/internal/cli"
)

type secretCmd struct {
	Rotate secretRotateCmd `cmd:"" help:"Replace the signing secret. The new one is shown this once."`
	List   secretListCmd   `cmd:"" help:"List the live secrets by their IDs, newest first."`
	Revoke secretRevokeCmd `cmd:"" help:"End at once what still signs beside the current secret."`
}

type secretRotateCmd struct {
	apiFlags
	ID      string         `arg:"" help:"The endpoint's ID."`
	Secret  string         `placeholder:"SECRET|@FILE" help:"Bring an existing signing secret along, in place of a new one."`
	Overlap *time.Duration `placeholder:"DURATION" help:"How long the secret so far goes on signing, in place of the contract's overlap; at most 168h."`
}

type secretListCmd struct {
	apiFlags
	ID string `arg:"" help:"The endpoint's ID."`
}

type secretRevokeCmd struct {
	apiFlags
	ID     string `arg:"" help:"The endpoint's ID."`
	Secret string `arg:"" help:"The secret's ID."`
}

func (f *apiFlags) secrets(id string, io streams) (cli.Secrets, error) {
	e, err := f.endpoints(io)
	return cli.Secrets{Endpoints: e, ID: id}, err
}

// Run replaces the secret.
func (c *secretRotateCmd) Run(ctx context.Context, io streams) error {
	s, err := c.secrets(c.ID, io)
	if err != nil {
		return err
	}
	secret, err := cli.ReadSecret(c.Secret)
	if err != nil {
		return err
	}
	return s.Rotate(ctx, secret, c.Overlap)
}

// Run lists secrets.
func (c *secretListCmd) Run(ctx context.Context, io streams) error {
	s, err := c.secrets(c.ID, io)
	if err != nil {
		return err
	}
	return s.List(ctx)
}

// Run revokes a secret.
func (c *secretRevokeCmd) Run(ctx context.Context, io streams) error {
	s, err := c.secrets(c.ID, io)
	if err != nil {
		return err
	}
	return s.Revoke(ctx, c.Secret)
}
