package config

import (
	"net"
	"net/netip"
	"time"
)

// Config is everything that a Posthorn process is told. Begin with [Default],
// [Load] or [Parse]: the zero value is not a valid configuration.
type Config struct {
	// Kafka says how the cluster is reached.
	Kafka Kafka `yaml:"kafka"`
	// Prefix begins the names of Posthorn's own topics, groups and
	// transactional IDs, as in "posthorn.deliveries".
	Prefix string `yaml:"prefix"`
	// Partitions are the partition counts of our own topics, fixed for a
	// topic's life.
	Partitions Partitions `yaml:"partitions"`
	// Topics are the other properties of our own topics.
	Topics Topics `yaml:"topics"`
	// Sources map topics to events. Without any nothing is matched.
	Sources []Source `yaml:"sources"`
	// Registry is where endpoints and their secrets live.
	Registry Registry `yaml:"registry"`
	// HTTP is the admin port.
	HTTP HTTP `yaml:"http"`
	// Plans are those that tenants may have.
	Plans []Plan `yaml:"plans"`
	// DefaultPlan is that of tenants without one, and of those that were never
	// created.
	DefaultPlan string `yaml:"default_plan"`
	// Delivery says how deliveries are made, retried and bounded.
	Delivery Delivery `yaml:"delivery"`
	// Breaker is the circuit breaker that every endpoint has.
	Breaker Breaker `yaml:"breaker"`
	// Lifecycle says when endpoints are disabled by themselves.
	Lifecycle Lifecycle `yaml:"lifecycle"`
	// Fanout says how events with very many endpoints are split.
	Fanout Fanout `yaml:"fanout"`
	// ClickHouse is where the ledger is kept for people to ask.
	ClickHouse ClickHouse `yaml:"clickhouse"`
	// ContractsDir holds contracts of your own, one YAML file each, beside
	// those built in. Empty for none.
	ContractsDir string `yaml:"contracts_dir"`
	// Log says what is logged, on standard error.
	Log Log `yaml:"log"`

	origins  map[string]Origin
	warnings []Problem
}

// Kafka says how the cluster is reached.
type Kafka struct {
	// Brokers are the seed addresses, host:port.
	Brokers []string `yaml:"brokers"`
	// ClientID names this process in the brokers' logs and quotas.
	ClientID string `yaml:"client_id"`
	// SessionTimeout is how long the brokers wait for a sign of life before a
	// process's partitions go to others: the time that a takeover takes after
	// a crash. 6 s to 30 min, which is what brokers take by default.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	TLS            TLS           `yaml:"tls"`
	SASL           SASL          `yaml:"sasl"`
}

// Bounds of Kafka.SessionTimeout: those of the brokers by default
// (group.min.session.timeout.ms, group.max.session.timeout.ms). The least is
// also what the guard against zombies needs.
const (
	MinSessionTimeout = 6 * time.Second
	MaxSessionTimeout = 30 * time.Minute
)

// TLS of the connections to the brokers.
type TLS struct {
	Enabled bool `yaml:"enabled"`
	// CA is a PEM file of the authorities to trust; the system's when empty.
	CA string `yaml:"ca"`
	// Cert and Key are PEM files of the client certificate, both or neither.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// ServerName is verified in place of the address's host.
	ServerName string `yaml:"server_name"`
}

// The SASL mechanisms.
const (
	SASLNone     = ""
	SASLPlain    = "plain"
	SASLScram256 = "scram-sha-256"
	SASLScram512 = "scram-sha-512"
)

// SASL authenticates to the brokers.
type SASL struct {
	// Mechanism is "plain", "scram-sha-256", "scram-sha-512", or empty for none.
	Mechanism string `yaml:"mechanism"`
	Username  string `yaml:"username"`
	// Password, or the file whose contents (less the last newline) it is.
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
}

// Partitions are the partition counts of our own topics. A count is fixed for
// the topic's life. The registry always has one.
type Partitions struct {
	// Deliveries is the count of the deliveries topic and of every retry tier.
	Deliveries int `yaml:"deliveries"`
	Fanout     int `yaml:"fanout"`
	Attempts   int `yaml:"attempts"`
	Dead       int `yaml:"dead"`
	Events     int `yaml:"events"`
	Invalid    int `yaml:"invalid"`
}

// Topics are properties of our own topics.
type Topics struct {
	// ReplicationFactor of the topics that are created.
	ReplicationFactor int `yaml:"replication_factor"`
	// MinInsyncReplicas that must hold a record before it is acknowledged; 0
	// means one less than the replication factor, and 1 at least.
	MinInsyncReplicas int       `yaml:"min_insync_replicas"`
	Retention         Retention `yaml:"retention"`
}

// MinInsync returns the effective min.insync.replicas.
func (t Topics) MinInsync() int {
	if t.MinInsyncReplicas > 0 {
		return t.MinInsyncReplicas
	}
	return max(1, t.ReplicationFactor-1)
}

// Retention is how long our own topics keep their records.
type Retention struct {
	Deliveries time.Duration `yaml:"deliveries"`
	// Retry is of each retry tier, see [MinRetention].
	Retry    time.Duration `yaml:"retry"`
	Fanout   time.Duration `yaml:"fanout"`
	Attempts time.Duration `yaml:"attempts"`
	Dead     time.Duration `yaml:"dead"`
	Events   time.Duration `yaml:"events"`
	Invalid  time.Duration `yaml:"invalid"`
	// Audit is of the audit log: who changed what.
	Audit time.Duration `yaml:"audit"`
}

// MinRetention is the least retention that a topic may have whose records wait
// for that delay: twice the delay, and an hour more than it, so that a due
// reader that was away for a while still finds them.
func MinRetention(delay time.Duration) time.Duration {
	return max(2*delay, delay+time.Hour)
}

// Registry is where endpoints and their secrets live.
type Registry struct {
	// KeysetFile is the Tink keyset that seals signing secrets, made by
	// "posthorn keyset create".
	KeysetFile string `yaml:"keyset_file"`
}

// HTTP is the admin port: /healthz, /readyz, /metrics and the API.
type HTTP struct {
	// Listen is its address.
	Listen string `yaml:"listen"`
	// API serves the endpoint API beside health and metrics.
	API bool `yaml:"api"`
	// AllowedHosts are the names or addresses, without a port, under which the
	// API is served besides localhost and loopback addresses: what the Host of
	// a request may be. Without any, a port on loopback takes no other and a
	// port elsewhere takes all.
	AllowedHosts []string `yaml:"allowed_hosts"`
	// Auth says whether the API asks for a key: "auto" does unless Listen is on
	// loopback, "required" always does, "off" never, which is for loopback only.
	Auth string `yaml:"auth"`
	// AdminKeys are administrators' keys besides those in the registry, 32
	// characters or more each.
	AdminKeys []Secret `yaml:"admin_keys"`
	// RateLimit is how many requests of the API a key may make in a second; 0
	// means any number.
	RateLimit float64 `yaml:"rate_limit"`
	// Pprof serves /debug/pprof/ on the admin port. A profile shows what the
	// process has in memory, secrets among it.
	Pprof bool `yaml:"pprof"`
}

// Whether the API asks for a key.
const (
	AuthAuto     = "auto"
	AuthRequired = "required"
	AuthOff      = "off"
)

// MinAdminKey is the least length of a key of HTTP.AdminKeys.
const MinAdminKey = 32

// OnLoopback reports whether Listen can be reached from this machine alone.
func (h HTTP) OnLoopback() bool {
	host, _, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// AsksForKey reports whether the API refuses requests without a key.
func (h HTTP) AsksForKey() bool {
	return h.Auth == AuthRequired || h.Auth == AuthAuto && !h.OnLoopback()
}

// Plan is what tenants of a plan may have.
type Plan struct {
	Name string `yaml:"name"`
	// Endpoints that a tenant may have, disabled ones included; 0 for any
	// number.
	Endpoints int `yaml:"endpoints"`
}

// Delivery says how deliveries are made, retried and bounded. Timeouts belong
// to the contracts.
type Delivery struct {
	// Schedule is the wait before each further attempt, for contracts
	// without a schedule of their own. Empty means a single attempt.
	Schedule []time.Duration `yaml:"schedule"`
	// Tiers are the delays that retry topics exist for, ascending. Waits are
	// cut into them.
	Tiers []time.Duration `yaml:"tiers"`
	// MaxAge ends a run: what is older when it is taken up is dead.
	MaxAge time.Duration `yaml:"max_age"`
	// DedupWindow is how far back, in the partition's own timestamps, the
	// owner of a deliveries partition recognises repeats.
	DedupWindow time.Duration `yaml:"dedup_window"`
	// MaxInFlight is the most concurrent requests of a process.
	MaxInFlight int `yaml:"max_in_flight"`
	// ByteBudget is the most memory that queued bodies of a process take.
	ByteBudget Size `yaml:"byte_budget"`
	// AllowCIDR opens networks that are refused otherwise, such as
	// 127.0.0.0/8. Cloud metadata addresses stay refused.
	AllowCIDR []netip.Prefix `yaml:"allow_cidr"`
	// DenyCIDR closes networks besides those that are always refused.
	DenyCIDR []netip.Prefix `yaml:"deny_cidr"`
	// HTTPSOnly refuses http URLs.
	HTTPSOnly bool `yaml:"https_only"`
	// CAFile is a PEM file of authorities that receivers' certificates may
	// come from besides the system's: a private PKI. Empty for none.
	CAFile string `yaml:"ca_file"`
	// Ports that receivers may have.
	Ports Ports `yaml:"ports"`
	// Proxy is an http or https URL; empty for none. The environment's
	// HTTP_PROXY is never used.
	Proxy ProxyURL `yaml:"proxy"`
	// HTTP2 is offered to receivers.
	HTTP2 bool `yaml:"http2"`
	// DrainTimeout is how long a shutdown waits for requests in flight; 0
	// means the longest timeout of any contract, and 5 s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Breaker is the circuit breaker that every endpoint has.
type Breaker struct {
	// Window is how far back requests count.
	Window time.Duration `yaml:"window"`
	// MinRequests in the window before it judges.
	MinRequests int `yaml:"min_requests"`
	// FailureRatio opens it, above 0 and up to 1.
	FailureRatio float64 `yaml:"failure_ratio"`
	// OpenFor is how long it stays open before it probes.
	OpenFor time.Duration `yaml:"open_for"`
}

// Lifecycle says when endpoints are disabled by themselves, and whether tenants
// may subscribe to that.
type Lifecycle struct {
	// FailingFor disables an endpoint that has failed that long without a single
	// success; 0 for never.
	FailingFor time.Duration `yaml:"failing_for"`
	// Exhausted disables one of which so many deliveries in a row were given up;
	// 0 for never.
	Exhausted int `yaml:"exhausted"`
	// Events has the operational events matched like those of a source.
	Events bool `yaml:"events"`
}

// Fanout says how events with very many endpoints are split.
type Fanout struct {
	// TaskSize is the most endpoints that one step of matching handles; an
	// event that matches more is cut into tasks.
	TaskSize int `yaml:"task_size"`
}

// The protocols of ClickHouse.
const (
	ProtocolNative = "native" // port 9000, or 9440 with TLS
	ProtocolHTTP   = "http"   // port 8123, or 8443 with TLS
)

// ClickHouse is where the role analytics streams the ledger, and what "posthorn
// query" asks.
type ClickHouse struct {
	// Addr are the servers, host:port. Without any there is no ledger in
	// ClickHouse; nothing else depends on it.
	Addr []string `yaml:"addr"`
	// Protocol is "native" or "http".
	Protocol string `yaml:"protocol"`
	// Database holds the ledger's tables.
	Database string `yaml:"database"`
	Username string `yaml:"username"`
	// Password, or the file whose contents (less the last newline) it is.
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	TLS          TLS    `yaml:"tls"`
	// Cluster names the cluster that the tables are spread over, replicated and
	// sharded; empty for a single server.
	Cluster string `yaml:"cluster"`
	// TTL is how long rows are kept, by begun_at.
	TTL LedgerTTL `yaml:"ttl"`
	// Grace is how long after next_at an attempt may still come before
	// reconciliation counts its delivery as missing.
	Grace time.Duration `yaml:"grace"`
	// InsertEvery is the least time between two inserts into a table of one
	// process, over all partitions; full batches don't wait.
	InsertEvery time.Duration `yaml:"insert_every"`
	// ByteBudget is the most memory that rows take which aren't inserted yet.
	ByteBudget Size `yaml:"byte_budget"`
}

// LedgerTTL is how long the ledger's rows are kept.
type LedgerTTL struct {
	Deliveries time.Duration `yaml:"deliveries"`
	Attempts   time.Duration `yaml:"attempts"`
	// Bodies are the payloads, apart from what happened to them.
	Bodies time.Duration `yaml:"bodies"`
}

// Log says what is logged.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string `yaml:"level"`
	// Format is "text" or "json".
	Format string `yaml:"format"`
}

// Default returns the configuration of an empty file.
func Default() *Config {
	const day = 24 * time.Hour
	return &Config{
		Kafka:      Kafka{Brokers: []string{"127.0.0.1:9092"}, ClientID: "posthorn", SessionTimeout: 10 * time.Second},
		Prefix:     "posthorn",
		Partitions: Partitions{Deliveries: 32, Fanout: 8, Attempts: 8, Dead: 8, Events: 4, Invalid: 4},
		Topics: Topics{
			ReplicationFactor: 3,
			Retention: Retention{
				Deliveries: 7 * day, Retry: 7 * day, Fanout: 7 * day, Attempts: 7 * day,
				Dead: 30 * day, Events: 7 * day, Invalid: 30 * day, Audit: 365 * day,
			},
		},
		HTTP:        HTTP{Listen: "127.0.0.1:9464", API: true, Auth: AuthAuto, RateLimit: 100},
		Plans:       []Plan{{Name: "free", Endpoints: 1}, {Name: "pro", Endpoints: 10}, {Name: "enterprise"}},
		DefaultPlan: "enterprise",
		Delivery: Delivery{
			Schedule:    []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute},
			Tiers:       []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute},
			MaxAge:      day,
			DedupWindow: time.Minute,
			MaxInFlight: 4096,
			ByteBudget:  128 * MiB,
			Ports:       Ports{Any: true},
		},
		Breaker:   Breaker{Window: 2 * time.Minute, MinRequests: 10, FailureRatio: 0.5, OpenFor: 30 * time.Second},
		Lifecycle: Lifecycle{FailingFor: 5 * day, Events: true},
		Fanout:    Fanout{TaskSize: 10_000},
		ClickHouse: ClickHouse{
			Protocol: ProtocolNative, Database: "posthorn", Username: "default",
			TTL:   LedgerTTL{Deliveries: 90 * day, Attempts: 90 * day, Bodies: 30 * day},
			Grace: 2 * time.Minute, InsertEvery: 500 * time.Millisecond, ByteBudget: 96 * MiB,
		},
		Log: Log{Level: "info", Format: "text"},
	}
}
