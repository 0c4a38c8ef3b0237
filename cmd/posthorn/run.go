package main

import (
	"context"
	"fmt"
	"os"

	"posthorn/internal/app"
	"posthorn/internal/cli"
	"posthorn/internal/config"
	"posthorn/internal/demo"
)

// runLine runs the roles of a process until ctx ends.
func runLine(ctx context.Context, cfg *config.Config, c *runCmd, io streams) error {
	if len(c.Roles) == 0 { // an unset variable in a manifest must not start everything
		return &cli.UsageError{Text: "--roles is empty: leave it out for all roles"}
	}
	roles, err := app.ParseRoles(c.Roles)
	if err != nil {
		return err
	}
	return app.Run(ctx, app.Options{Config: cfg, Roles: roles, AcceptLoss: c.AcceptLoss, AcceptReset: c.AcceptReset,
		Log: cli.NewLogger(cfg.Log, io.err), Version: cli.Version(version)})
}

// runDev runs the whole line on an embedded broker until ctx ends.
func runDev(ctx context.Context, cfg *config.Config, c *devCmd, io streams) error {
	if c.Demo {
		return runDemo(ctx, c, io)
	}
	cfg.Delivery.AllowCIDR = append(cfg.Delivery.AllowCIDR, c.AllowCIDR...)
	return app.Dev(ctx, app.DevOptions{
		Options: app.Options{Config: cfg, Log: cli.NewLogger(cfg.Log, io.err), Version: cli.Version(version)},
		DataDir: c.DataDir, KafkaPort: c.KafkaPort, AdminPort: c.AdminPort, ClickHousePort: c.ClickHousePort,
		Running: func(a app.Addresses) {
			ledger := a.ClickHouse
			if ledger == "" {
				ledger = "off"
			}
			fmt.Fprintf(io.out, "kafka  %s\nadmin  %s\nledger %s\nready\n", a.Kafka, a.Admin, ledger)
		},
	})
}

// The defaults of devCmd, of which the demo has its own: it is run beside
// other things, so it takes free ports and a directory of its own.
const (
	defaultDataDir        = "posthorn-data"
	defaultKafkaPort      = 9092
	defaultAdminPort      = 9464
	defaultClickHousePort = 8123
)

// runDemo shows the line at work, with a configuration of its own.
func runDemo(ctx context.Context, c *devCmd, io streams) error {
	o := demo.Options{DataDir: c.DataDir, Out: io.out, Command: os.Args[0], Version: cli.Version(version), Exit: c.DemoExit,
		KafkaPort: c.KafkaPort, AdminPort: c.AdminPort, ClickHousePort: c.ClickHousePort}
	if o.DataDir == defaultDataDir {
		o.DataDir = demo.DefaultDataDir
	}
	if o.KafkaPort == defaultKafkaPort {
		o.KafkaPort = 0
	}
	if o.AdminPort == defaultAdminPort {
		o.AdminPort = 0
	}
	if o.ClickHousePort == defaultClickHousePort {
		o.ClickHousePort = 0
	}
	return demo.Run(ctx, o)
}
