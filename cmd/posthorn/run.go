package main

import (
	"context"
	"fmt"

	"posthorn/internal/app"
	"posthorn/internal/cli"
	"posthorn/internal/config"
)

// runLine runs the roles of a process until ctx ends.
func runLine(ctx context.Context, cfg *config.Config, c *runCmd, io streams) error {
	roles, err := app.ParseRoles(c.Roles)
	if err != nil {
		return err
	}
	return app.Run(ctx, app.Options{Config: cfg, Roles: roles, AcceptLoss: c.AcceptLoss, AcceptReset: c.AcceptReset,
		Log: cli.NewLogger(cfg.Log, io.err), Version: cli.Version(version)})
}

// runDev runs the whole line on an embedded broker until ctx ends.
func runDev(ctx context.Context, cfg *config.Config, c *devCmd, io streams) error {
	cfg.Delivery.AllowCIDR = append(cfg.Delivery.AllowCIDR, c.AllowCIDR...)
	return app.Dev(ctx, app.DevOptions{
		Options: app.Options{Config: cfg, Log: cli.NewLogger(cfg.Log, io.err), Version: cli.Version(version)},
		DataDir: c.DataDir, KafkaPort: c.KafkaPort, AdminPort: c.AdminPort,
		Running: func(a app.Addresses) {
			fmt.Fprintf(io.out, "kafka  %s\nadmin  %s\nready\n", a.Kafka, a.Admin)
		},
	})
}
