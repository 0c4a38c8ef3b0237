package config

import (
	"fmt"
	"regexp"
	"time"
)

// identifier is a name that needs no quotes in ClickHouse.
var identifier = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`)

func (j *judge) clickHouse() {
	c := j.c.ClickHouse
	for i, addr := range c.Addr {
		j.address(fmt.Sprintf("clickhouse.addr[%d]", i), addr)
	}
	j.oneOf("clickhouse.protocol", c.Protocol, ProtocolNative, ProtocolHTTP)
	if !identifier.MatchString(c.Database) {
		j.fail("clickhouse.database", "want 1 to 64 letters, digits or underscores, the first not a digit; got %q", c.Database)
	}
	if c.Cluster != "" && !identifier.MatchString(c.Cluster) {
		j.fail("clickhouse.cluster", "want 1 to 64 letters, digits or underscores, the first not a digit; got %q", c.Cluster)
	}
	if c.Password != "" && c.PasswordFile != "" {
		j.fail("clickhouse", "want password or password_file, not both")
	}
	j.file("clickhouse.password_file", c.PasswordFile)
	j.tls("clickhouse.tls", c.TLS)
	for key, ttl := range map[string]time.Duration{"deliveries": c.TTL.Deliveries, "attempts": c.TTL.Attempts, "bodies": c.TTL.Bodies} {
		if ttl < 24*time.Hour || ttl%(24*time.Hour) != 0 {
			j.fail("clickhouse.ttl."+key, "want whole days, at least 1d, got %s: rows are dropped a day at a time", FormatDuration(ttl))
		}
	}
	if c.TTL.Attempts < c.TTL.Deliveries {
		j.fail("clickhouse.ttl.attempts", "want clickhouse.ttl.deliveries, %s, or more, got %s: deliveries would look pending once their attempts are gone",
			FormatDuration(c.TTL.Deliveries), FormatDuration(c.TTL.Attempts))
	}
	if c.Grace < time.Second || c.Grace%time.Second != 0 {
		j.fail("clickhouse.grace", "want whole seconds, at least 1s, got %s", FormatDuration(c.Grace))
	}
	if c.InsertEvery < 10*time.Millisecond {
		j.fail("clickhouse.insert_every", "must be 10ms or more, is %s", FormatDuration(c.InsertEvery))
	}
	if c.ByteBudget < 16*MiB {
		j.fail("clickhouse.byte_budget", "must be 16MiB or more, is %s", c.ByteBudget)
	}
}
