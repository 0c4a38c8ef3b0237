// Package clickhouse opens connections to the ClickHouse of a configuration.
package clickhouse

import (
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"posthorn/internal/config"
	"posthorn/internal/tlsfiles"
)

// ErrOff says that the configuration names no ClickHouse.
var ErrOff = errors.New(`clickhouse.addr is not set, so there is no ledger in ClickHouse; for instance clickhouse: {addr: ["127.0.0.1:9000"]}`)

// Open returns a pool of connections to the servers of a configuration. They
// are dialled when they are needed, so the error is one of the configuration,
// or [ErrOff]. The pool is in no database: the ledger's may have to be made.
func Open(c config.ClickHouse) (driver.Conn, error) { return open(c, "") }

// OpenLedger returns connections as [Open] does, in the ledger's database.
func OpenLedger(c config.ClickHouse) (driver.Conn, error) { return open(c, c.Database) }

func open(c config.ClickHouse, database string) (driver.Conn, error) {
	if len(c.Addr) == 0 {
		return nil, ErrOff
	}
	password, err := c.ReadPassword()
	if err != nil {
		return nil, err
	}
	opts := &clickhouse.Options{
		Addr:        c.Addr,
		Auth:        clickhouse.Auth{Database: database, Username: c.Username, Password: password.Reveal()},
		ClientInfo:  clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{Name: "posthorn"}}},
		DialTimeout: 5 * time.Second,
		// A query may take longer between two of its blocks; its context bounds it.
		ReadTimeout:      5 * time.Minute,
		MaxOpenConns:     8,
		MaxIdleConns:     4,
		ConnMaxLifetime:  10 * time.Minute, // so that a server that was added gets its share
		ConnOpenStrategy: clickhouse.ConnOpenInOrder,
	}
	if c.Protocol == config.ProtocolHTTP {
		opts.Protocol = clickhouse.HTTP
	} else {
		// LZ4 costs little and shrinks rows of text to a third; over HTTP it
		// would be the embedded engine's loopback for the most part.
		opts.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	if c.TLS.Enabled {
		if opts.TLS, err = tlsfiles.Config("clickhouse.tls", c.TLS); err != nil {
			return nil, err
		}
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("opening ClickHouse: %w", err)
	}
	return conn, nil
}
