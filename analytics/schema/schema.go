// Package schema creates the ledger's tables and views in ClickHouse, on one
// server or on a cluster, from one source.
//
// Tables come from numbered migrations (NNNN_name.sql) that are applied once and
// recorded in schema_migrations; one that was applied is never changed. Views and
// dictionaries (views/*.sql) hold no data: they are created anew whenever their
// text differs, and so are TTLs, which are settings.
package schema

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Options says where the ledger lies and how long it is kept.
type Options struct {
	// Database is created if it isn't there. Default "posthorn".
	Database string
	// Cluster is the name of the cluster in ClickHouse's remote_servers. Every
	// table is then NAME_local on each server and NAME over all, sharded so that
	// all of a delivery is on one shard. Empty: one server.
	Cluster string
	// Replicated takes Replicated engines; it needs Cluster, and ClickHouse Keeper
	// or ZooKeeper behind it.
	Replicated bool
	// ReplicaPath and ReplicaName are the arguments of Replicated engines. Their
	// macros are ClickHouse's: {shard}, {database}, {table}, {replica}, {uuid}.
	// Defaults "/clickhouse/tables/{shard}/{database}/{table}" and "{replica}".
	ReplicaPath string
	ReplicaName string

	// How long rows are kept, counted from begun_at; whole days, as whole days are
	// dropped. 0 takes the defaults: 90 days, 90 days, 30 days. Attempts are kept at
	// least as long as deliveries, which would look pending without them.
	DeliveriesTTL time.Duration
	AttemptsTTL   time.Duration
	BodiesTTL     time.Duration
	// Grace is what an attempt may be late before reconciliation calls a delivery
	// missing, in whole seconds. Default 2 minutes.
	Grace time.Duration

	// User and Password sign the dictionary of payloads in to its own server.
	// Empty: as the user default, without a password.
	User     string
	Password string
}

// Defaults of [Options].
const (
	DefaultDatabase    = "posthorn"
	DefaultReplicaPath = "/clickhouse/tables/{shard}/{database}/{table}"
	DefaultReplicaName = "{replica}"
	DefaultTTL         = 90 * 24 * time.Hour
	DefaultBodiesTTL   = 30 * 24 * time.Hour
	DefaultGrace       = 2 * time.Minute
)

const day = 24 * time.Hour

// identifier is what names may be made of; then no form of quoting can fail.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// clusterName allows dashes and dots too: clusters are named in a config file.
var clusterName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// replicaArgument keeps quotes and backslashes out of paths.
var replicaArgument = regexp.MustCompile(`^[A-Za-z0-9_{}/.:-]{1,256}$`)

func (o Options) withDefaults() Options {
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.ReplicaPath == "" {
		o.ReplicaPath = DefaultReplicaPath
	}
	if o.ReplicaName == "" {
		o.ReplicaName = DefaultReplicaName
	}
	for _, d := range []struct {
		into *time.Duration
		def  time.Duration
	}{{&o.DeliveriesTTL, DefaultTTL}, {&o.AttemptsTTL, DefaultTTL}, {&o.BodiesTTL, DefaultBodiesTTL}, {&o.Grace, DefaultGrace}} {
		if *d.into == 0 {
			*d.into = d.def
		}
	}
	return o
}

// Validate says everything that is wrong with the options, zero values being
// defaults.
func (o Options) Validate() error {
	o = o.withDefaults()
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !identifier.MatchString(o.Database) {
		bad("database %q: want letters, digits and _, 64 at most, no digit first", o.Database)
	}
	if o.Cluster != "" && !clusterName.MatchString(o.Cluster) {
		bad("cluster %q: want letters, digits, _, - and ., 64 at most", o.Cluster)
	}
	if o.Replicated && o.Cluster == "" {
		bad("replicated: needs a cluster")
	}
	if !replicaArgument.MatchString(o.ReplicaPath) || !strings.HasPrefix(o.ReplicaPath, "/") {
		bad("replica path %q: want an absolute path of letters, digits, macros in braces, and ._:-", o.ReplicaPath)
	} else if o.Replicated && !strings.Contains(o.ReplicaPath, "{table}") && !strings.Contains(o.ReplicaPath, "{uuid}") {
		bad("replica path %q: needs {table} or {uuid}, or all tables would share one path", o.ReplicaPath)
	}
	if !replicaArgument.MatchString(o.ReplicaName) {
		bad("replica name %q: want letters, digits, macros in braces, and ._:-", o.ReplicaName)
	}
	for _, ttl := range []struct {
		name string
		d    time.Duration
	}{{"deliveries", o.DeliveriesTTL}, {"attempts", o.AttemptsTTL}, {"bodies", o.BodiesTTL}} {
		if ttl.d < day || ttl.d%day != 0 {
			bad("TTL of %s %s: want whole days, one at least", ttl.name, ttl.d)
		}
	}
	if o.AttemptsTTL < o.DeliveriesTTL {
		bad("TTL of attempts %s: want that of deliveries, %s, or more: deliveries would look pending once their attempts are gone", o.AttemptsTTL, o.DeliveriesTTL)
	}
	if o.Grace < time.Second || o.Grace%time.Second != 0 {
		bad("grace %s: want whole seconds, one at least", o.Grace)
	}
	if o.Password != "" && o.User == "" {
		bad("password: needs a user")
	}
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("ledger schema: %w", err)
	}
	return nil
}
