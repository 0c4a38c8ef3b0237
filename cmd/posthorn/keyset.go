package main

import (
	"context"

	"posthorn/internal/cli"
)

type keysetCmd struct {
	Create    keysetCreateCmd    `cmd:"" help:"Write a new keyset to a file that doesn't exist yet."`
	Rotate    keysetRotateCmd    `cmd:"" help:"Seal with a new key from now on; the keys so far still open."`
	Reencrypt keysetReencryptCmd `cmd:"" help:"Seal every signing secret anew that an older key sealed, and say which keys are needed no longer."`
	Prune     keysetPruneCmd     `cmd:"" help:"Remove the older keys that no signing secret is sealed with."`
}

type keysetCreateCmd struct {
	File string `arg:"" help:"The file to write."`
}

type keysetRotateCmd struct {
	File    string `arg:"" help:"The keyset's file."`
	Prepare bool   `help:"Only add the key, so that every process can have it before any seals with it; the next rotation uses it."`
}

type keysetReencryptCmd struct{ configFlag }

type keysetPruneCmd struct{ configFlag }

// Run writes a keyset.
func (c *keysetCreateCmd) Run(io streams) error { return cli.KeysetCreate(c.File, io.out) }

// Run rotates a keyset.
func (c *keysetRotateCmd) Run(io streams) error { return cli.KeysetRotate(c.File, c.Prepare, io.out) }

// Run seals secrets anew.
func (c *keysetReencryptCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	return cli.KeysetReencrypt(ctx, cfg, io.out)
}

// Run removes keys.
func (c *keysetPruneCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	return cli.KeysetPrune(ctx, cfg, io.out)
}
