package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Validate judges a configuration as a whole, for instance one that was built
// or changed by code. It returns nil or an [*Error] with every mistake.
func (c *Config) Validate() error {
	if ps := c.problems(); len(ps) > 0 {
		return errorOf(ps)
	}
	return nil
}

// judge collects problems and knows where each key comes from.
type judge struct {
	c        *Config
	problems []Problem
}

func (j *judge) fail(path, format string, args ...any) {
	j.problems = append(j.problems, Problem{j.c.Origin(path), path, fmt.Sprintf(format, args...)})
}

func (j *judge) atLeast(path string, have, least int) {
	if have < least {
		j.fail(path, "must be %d or more, is %d", least, have)
	}
}

func (j *judge) upTo(path string, have, most int) {
	if have < 1 || have > most {
		j.fail(path, "must be from 1 to %d, is %d", most, have)
	}
}

func (j *judge) positive(path string, d time.Duration) {
	if d <= 0 {
		j.fail(path, "must be longer than 0s, is %s", FormatDuration(d))
	}
}

func (j *judge) oneOf(path, have string, want ...string) {
	if !slices.Contains(want, have) {
		j.fail(path, "want one of %q, got %q", want, have)
	}
}

func (j *judge) address(path, addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		j.fail(path, "want host:port, got %q", addr)
		return
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		j.fail(path, "want a port from 0 to 65535 in %q", addr)
	} else if n == 0 && path != "http.listen" {
		j.fail(path, "want a port from 1 to 65535 in %q", addr)
	}
	if host == "" && path != "http.listen" {
		j.fail(path, "want a host before the port in %q", addr)
	}
}

func (c *Config) problems() []Problem {
	j := &judge{c: c}
	c.warnings = nil
	j.kafka()
	j.ownTopics()
	j.retention()
	j.sources()
	j.http()
	j.plans()
	j.delivery()
	j.dialling()
	j.clickHouse()
	j.rest()
	return j.problems
}

func (j *judge) kafka() {
	k := j.c.Kafka
	if len(k.Brokers) == 0 {
		j.fail("kafka.brokers", "want at least one address, host:port")
	}
	for i, b := range k.Brokers {
		j.address(fmt.Sprintf("kafka.brokers[%d]", i), b)
	}
	if k.SessionTimeout < MinSessionTimeout || k.SessionTimeout > MaxSessionTimeout {
		j.fail("kafka.session_timeout", "want %s to %s, which is what brokers take by default; got %s",
			FormatDuration(MinSessionTimeout), FormatDuration(MaxSessionTimeout), FormatDuration(k.SessionTimeout))
	}
	j.tls("kafka.tls", k.TLS)
	s := k.SASL
	j.oneOf("kafka.sasl.mechanism", s.Mechanism, SASLNone, SASLPlain, SASLScram256, SASLScram512)
	j.file("kafka.sasl.password_file", s.PasswordFile)
	if s.Mechanism == SASLNone {
		if s != (SASL{}) {
			j.fail("kafka.sasl", "has settings and no mechanism; set kafka.sasl.mechanism: %s, for instance", SASLScram512)
		}
		return
	}
	if !slices.Contains([]string{SASLPlain, SASLScram256, SASLScram512}, s.Mechanism) {
		return // said already
	}
	if s.Username == "" {
		j.fail("kafka.sasl.username", "required with a mechanism")
	}
	if (s.Password == "") == (s.PasswordFile == "") {
		j.fail("kafka.sasl", "want either password or password_file")
	}
	if s.Mechanism == SASLPlain && !k.TLS.Enabled {
		j.warn("kafka.sasl.mechanism", "plain sends the password in the clear without kafka.tls")
	}
}

func (j *judge) tls(path string, t TLS) {
	if !t.Enabled && t != (TLS{}) {
		j.fail(path, "has settings and is not enabled; set %s.enabled: true or remove them", path)
	}
	if (t.Cert == "") != (t.Key == "") {
		j.fail(path, "cert and key go together; set both or neither")
	}
	for key, file := range map[string]string{"ca": t.CA, "cert": t.Cert, "key": t.Key} {
		j.file(path+"."+key, file)
	}
}

// file requires that a file named by the configuration is there.
func (j *judge) file(path, name string) {
	if name == "" {
		return
	}
	if st, err := os.Stat(name); err != nil {
		j.fail(path, "%v", err)
	} else if st.IsDir() {
		j.fail(path, "%s is a directory, want a file", name)
	}
}

func (j *judge) warn(path, text string) {
	j.c.warnings = append(j.c.warnings, Problem{j.c.Origin(path), path, text})
}

// topicName is what Kafka takes: letters, digits, dot, underscore and hyphen,
// at most 249 of them (org.apache.kafka.common.internals.Topic).
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// maxPrefix leaves room for the longest suffix within a topic's 249 characters.
const maxPrefix = 200

func (j *judge) ownTopics() {
	c := j.c
	if !topicName.MatchString(c.Prefix) || len(c.Prefix) > maxPrefix || c.Prefix[len(c.Prefix)-1] == '.' {
		j.fail("prefix", "want 1 to %d letters, digits, dots, underscores or hyphens, the last not a dot; got %q", maxPrefix, c.Prefix)
	}
	p := c.Partitions
	for _, n := range []struct {
		key   string
		count int
	}{
		{"deliveries", p.Deliveries}, {"fanout", p.Fanout}, {"attempts", p.Attempts},
		{"dead", p.Dead}, {"events", p.Events}, {"invalid", p.Invalid},
	} {
		j.upTo("partitions."+n.key, n.count, 10_000)
	}
	t := c.Topics
	j.upTo("topics.replication_factor", t.ReplicationFactor, 100)
	j.atLeast("topics.min_insync_replicas", t.MinInsyncReplicas, 0)
	if t.MinInsyncReplicas > t.ReplicationFactor {
		j.fail("topics.min_insync_replicas", "is %d and must not exceed topics.replication_factor, which is %d", t.MinInsyncReplicas, t.ReplicationFactor)
	}
}

func (j *judge) retention() {
	r, d := j.c.Topics.Retention, j.c.Delivery
	for _, n := range []struct {
		key  string
		keep time.Duration
		age  bool // records may have to wait in it for as long as max_age
	}{
		{"deliveries", r.Deliveries, true}, {"retry", r.Retry, true}, {"fanout", r.Fanout, true},
		{"attempts", r.Attempts, false}, {"dead", r.Dead, false}, {"events", r.Events, false}, {"invalid", r.Invalid, false}, {"audit", r.Audit, false},
	} {
		path := "topics.retention." + n.key
		switch {
		case n.keep < time.Minute:
			j.fail(path, "must be 1m or more, is %s", FormatDuration(n.keep))
		case n.age && n.keep < d.MaxAge:
			j.fail(path, "is %s and must not be shorter than delivery.max_age, %s: what is still to be delivered would be deleted",
				FormatDuration(n.keep), FormatDuration(d.MaxAge))
		}
	}
	for i, tier := range d.Tiers {
		if need := MinRetention(tier); r.Retry < need {
			j.fail("topics.retention.retry", "is %s, and delivery.tiers[%d] of %s needs %s or more",
				FormatDuration(r.Retry), i, FormatDuration(tier), FormatDuration(need))
		}
	}
}

// hostName is what a Host header may name: RFC 1123, section 2.1, and the
// underscores that some networks use.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9._-]{0,251}[a-zA-Z0-9_])?$`)

func (j *judge) http() {
	addr := j.c.HTTP.Listen
	j.address("http.listen", addr)
	for i, name := range j.c.HTTP.AllowedHosts {
		if _, err := netip.ParseAddr(name); err != nil && !hostName.MatchString(name) {
			j.fail(fmt.Sprintf("http.allowed_hosts[%d]", i), "want the name or address of a host without scheme and port, got %q", name)
		}
	}
	h := j.c.HTTP
	j.oneOf("http.auth", h.Auth, AuthAuto, AuthRequired, AuthOff)
	for i, key := range h.AdminKeys {
		if len(key) < MinAdminKey {
			j.fail(fmt.Sprintf("http.admin_keys[%d]", i), "has %d characters, want %d or more: 32 random bytes in hexadecimal, for instance", len(key), MinAdminKey)
		}
	}
	if !(h.RateLimit >= 0 && h.RateLimit <= 1e6) { // NaN is neither
		j.fail("http.rate_limit", "must be requests per second from 0 (no limit) to 1000000, is %v", h.RateLimit)
	}
	if h.Auth == AuthOff && h.API && !h.OnLoopback() {
		j.fail("http.auth", "is off, and http.listen %s is reachable from elsewhere: whoever gets there could change endpoints; want required, http.api: false, or an address on loopback", addr)
	}
}

func (j *judge) plans() {
	seen := map[string]bool{}
	for i, p := range j.c.Plans {
		path := fmt.Sprintf("plans[%d]", i)
		if len(p.Name) > 64 || !identifier.MatchString(p.Name) {
			j.fail(path+".name", "want 1 to 64 letters, digits or underscores, the first not a digit; got %q", p.Name)
		}
		if seen[p.Name] {
			j.fail(path+".name", "%q is there twice", p.Name)
		}
		seen[p.Name] = true
		if p.Endpoints < 0 || p.Endpoints > 1_000_000 {
			j.fail(path+".endpoints", "must be from 0 (any number) to 1000000, is %d", p.Endpoints)
		}
	}
	if !seen[j.c.DefaultPlan] {
		j.fail("default_plan", "%q is not among plans", j.c.DefaultPlan)
	}
}

func (j *judge) delivery() {
	d := j.c.Delivery
	var total time.Duration
	for i, wait := range d.Schedule {
		j.positive(fmt.Sprintf("delivery.schedule[%d]", i), wait)
		total += wait
	}
	j.positive("delivery.max_age", d.MaxAge)
	if total > d.MaxAge {
		j.fail("delivery.schedule", "adds up to %s, longer than delivery.max_age of %s: the last attempts would never happen; shorten it or raise max_age",
			FormatDuration(total), FormatDuration(d.MaxAge))
	}
	if len(d.Tiers) == 0 {
		j.fail("delivery.tiers", "want at least one delay, such as 5s")
	}
	for i, tier := range d.Tiers {
		path := fmt.Sprintf("delivery.tiers[%d]", i)
		j.positive(path, tier)
		if tier%time.Second != 0 {
			j.fail(path, "want whole seconds, got %s", tier)
		}
		if i > 0 && tier <= d.Tiers[i-1] {
			j.fail(path, "%s comes after %s; want tiers in ascending order, each once", FormatDuration(tier), FormatDuration(d.Tiers[i-1]))
		}
	}
	if len(d.Tiers) > 0 && d.Tiers[0] >= d.MaxAge {
		j.fail("delivery.tiers[0]", "%s is as long as delivery.max_age of %s: whatever is put back would be too old when it returns; want a shorter tier",
			FormatDuration(d.Tiers[0]), FormatDuration(d.MaxAge))
	}
	j.positive("delivery.dedup_window", d.DedupWindow)
	j.upTo("delivery.max_in_flight", d.MaxInFlight, 1_000_000)
	if d.ByteBudget < MiB {
		j.fail("delivery.byte_budget", "must be 1MiB or more, is %s", d.ByteBudget)
	}
	if d.DrainTimeout < 0 {
		j.fail("delivery.drain_timeout", "must not be negative, is %s", FormatDuration(d.DrainTimeout))
	}
}

func (j *judge) dialling() {
	d := j.c.Delivery
	for key, list := range map[string][]netip.Prefix{"allow_cidr": d.AllowCIDR, "deny_cidr": d.DenyCIDR} {
		for i, p := range list {
			if p.IsValid() && p != p.Masked() {
				j.fail(fmt.Sprintf("delivery.%s[%d]", key, i), "%s has bits beyond its mask; want %s", p, p.Masked())
			}
		}
	}
	j.file("delivery.ca_file", d.CAFile)
	if !d.Ports.Any && len(d.Ports.List) == 0 {
		j.fail("delivery.ports", "want any, or a list of ports")
	}
	if d.Proxy != "" {
		u, err := url.Parse(d.Proxy.Reveal())
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
			j.fail("delivery.proxy", "want a URL such as http://proxy.internal:3128, got %s", d.Proxy)
		}
	}
}

func (j *judge) rest() {
	c := j.c
	j.file("registry.keyset_file", c.Registry.KeysetFile)
	if dir := c.ContractsDir; dir != "" {
		if st, err := os.Stat(dir); err != nil {
			j.fail("contracts_dir", "%v", err)
		} else if !st.IsDir() {
			j.fail("contracts_dir", "%s is a file, want a directory", dir)
		}
	}
	j.positive("breaker.window", c.Breaker.Window)
	j.positive("breaker.open_for", c.Breaker.OpenFor)
	j.atLeast("breaker.min_requests", c.Breaker.MinRequests, 1)
	if !(c.Breaker.FailureRatio > 0 && c.Breaker.FailureRatio <= 1) { // NaN is neither
		j.fail("breaker.failure_ratio", "must be above 0 and at most 1, is %v", c.Breaker.FailureRatio)
	}
	if f := c.Lifecycle.FailingFor; f < 0 || f > 0 && f < time.Hour {
		j.fail("lifecycle.failing_for", "must be 1h or more, or 0 for never, is %s", FormatDuration(f))
	}
	if c.Lifecycle.Exhausted < 0 {
		j.fail("lifecycle.exhausted", "must be a number from 0 (never) up, is %d", c.Lifecycle.Exhausted)
	}
	j.upTo("fanout.task_size", c.Fanout.TaskSize, 1_000_000)
	j.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	j.oneOf("log.format", c.Log.Format, "text", "json")
}

// ReadPassword returns the password, from its file when it has one. A line
// break at the file's end is not part of it.
func (s SASL) ReadPassword() (Secret, error) {
	return readPassword("kafka.sasl.password_file", s.Password, s.PasswordFile)
}

// ReadPassword returns the password, from its file when it has one. A line
// break at the file's end is not part of it.
func (c ClickHouse) ReadPassword() (Secret, error) {
	return readPassword("clickhouse.password_file", c.Password, c.PasswordFile)
}

func readPassword(path string, password Secret, file string) (Secret, error) {
	if file == "" {
		return password, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	b = trimNewline(b)
	if len(b) == 0 {
		return "", fmt.Errorf("reading %s: %s is empty", path, file)
	}
	return Secret(b), nil
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return b
}
