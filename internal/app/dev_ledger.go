package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"posthorn/analytics/schema"
	"posthorn/internal/clickhouse"
	"posthorn/internal/config"
	"posthorn/internal/embedded"
)

// devLatency is about how long after a settlement a development line's ledger
// has it. Small inserts are no matter for one.
const devLatency = time.Second

// startLedger runs the embedded engine and makes the ledger's tables in it, and
// returns its URL. A configuration with a ClickHouse of its own is left as it
// is. Without the engine's library there is no ledger; the line works all the
// same.
func startLedger(ctx context.Context, cfg *config.Config, opts DevOptions) (url string, stop func() error, err error) {
	stop = func() error { return nil }
	if len(cfg.ClickHouse.Addr) == 0 {
		engine, err := embedded.StartClickHouse(ctx, embedded.ClickHouseOptions{
			DataDir: filepath.Join(opts.DataDir, "clickhouse"), Port: opts.ClickHousePort, Logger: opts.Log,
		})
		if errors.Is(err, embedded.ErrNoLibrary) {
			opts.Log.Warn("analytics is off: the embedded ClickHouse was not found; make chdb fetches it", "error", err)
			return "", stop, nil
		}
		if err != nil {
			return "", stop, portTaken(err, opts.ClickHousePort, "clickhouse")
		}
		stop = engine.Close
		cfg.ClickHouse.Addr, cfg.ClickHouse.Protocol = []string{engine.Addr()}, config.ProtocolHTTP
		cfg.ClickHouse.Username, cfg.ClickHouse.Password, cfg.ClickHouse.PasswordFile = "default", "", ""
		cfg.ClickHouse.TLS, cfg.ClickHouse.Cluster = config.TLS{}, ""
		cfg.ClickHouse.InsertEvery = max(devLatency/time.Duration(cfg.Partitions.Deliveries), 10*time.Millisecond)
		url = "http://" + engine.Addr()
	}
	changed, err := MigrateLedger(ctx, cfg.ClickHouse)
	if err != nil {
		return "", stop, errors.Join(err, stop())
	}
	if len(changed) > 0 { // what somebody changed by hand is as configured again
		opts.Log.Info("the ledger's tables were brought in line with the configuration", "changed", strings.Join(changed, "; "))
	}
	return url, stop, nil
}

// MigrateLedger makes the ledger's tables and views, or aligns them with the
// configuration, and returns what it changed.
func MigrateLedger(ctx context.Context, cfg config.ClickHouse) ([]string, error) {
	conn, err := clickhouse.Open(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is in flight
	o, err := LedgerSchema(cfg)
	if err != nil {
		return nil, err
	}
	changed, err := schema.Migrate(ctx, conn, o)
	if err != nil {
		return changed, clickhouse.Explain(ctx, cfg, fmt.Errorf("migrating the ledger: %w", err))
	}
	return changed, nil
}
