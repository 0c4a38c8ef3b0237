package main

import (
	"net/netip"
	"time"

	"posthorn/internal/config"
)

// grammar is the whole command line.
type grammar struct {
	Run        runCmd        `cmd:"" help:"Run the line: match, dispatch, retry, analytics and api, all or some of them."`
	Dev        devCmd        `cmd:"" help:"Run the whole line in one process with an embedded Kafka broker, its data on disk."`
	Topics     topicsCmd     `cmd:"" help:"Create or verify Posthorn's own topics."`
	Endpoint   endpointCmd   `cmd:"" help:"Work on a tenant's endpoints, through the API."`
	Tenant     tenantCmd     `cmd:"" help:"Work on tenants: their plans, limits and suspension, through the API."`
	Key        keyCmd        `cmd:"" help:"Issue, list and revoke API keys."`
	EventType  eventTypeCmd  `cmd:"" help:"Work on the catalogue of event types, through the API."`
	Contract   contractCmd   `cmd:"" help:"Show the contracts, through the API."`
	Audit      auditCmd      `cmd:"" help:"Show who changed what, through the API."`
	Secret     secretCmd     `cmd:"" help:"Rotate, list and revoke an endpoint's signing secrets, through the API."`
	Pause      pauseCmd      `cmd:"" help:"Let an endpoint's, a tenant's or all deliveries wait, through the API."`
	Resume     resumeCmd     `cmd:"" help:"Let them go on."`
	Delivery   deliveryCmd   `cmd:"" help:"Look deliveries up and send them again, through the API."`
	Replay     replayCmd     `cmd:"" help:"Deliver past events, or retry what failed, through the API."`
	Event      eventCmd      `cmd:"" help:"Produce events."`
	Listen     listenCmd     `cmd:"" help:"Receive deliveries on this machine, verify and show them."`
	ClickHouse clickHouseCmd `cmd:"" name:"clickhouse" help:"Make the ledger's tables."`
	Query      queryCmd      `cmd:"" help:"Ask the ledger: deliveries, attempts, endpoints, and whether it adds up."`
	Keyset     keysetCmd     `cmd:"" help:"Make and rotate the keyset that seals signing secrets."`
	Config     configCmd     `cmd:"" help:"Check or show the configuration."`
	Version    versionCmd    `cmd:"" help:"Show the version."`
}

// configFlag names the configuration.
type configFlag struct {
	Config string `short:"c" placeholder:"FILE" env:"POSTHORN_CONFIG" help:"Configuration in YAML. Every key can be overridden by POSTHORN_<PATH_OF_THE_KEY> in the environment."`
}

type runCmd struct {
	configFlag
	Roles       []string `placeholder:"ROLE" enum:"match,dispatch,retry,analytics,api" default:"match,dispatch,retry,analytics,api" help:"What this process does: ${enum}; all by default."`
	AcceptLoss  bool     `help:"Go on although records that were not read yet have been deleted from a topic."`
	AcceptReset bool     `help:"Go on although someone has reset a consumer group by hand; what is matched again keeps its identity."`
}

type devCmd struct {
	configFlag
	DataDir        string         `placeholder:"DIR" default:"posthorn-data" help:"Where the broker keeps its data, and addresses.json is written (${default})."`
	KafkaPort      int            `default:"9092" env:"POSTHORN_DEV_KAFKA_PORT" help:"Port of the Kafka listener on 127.0.0.1; 0 takes a free one (${default})."`
	AdminPort      int            `default:"9464" env:"POSTHORN_DEV_ADMIN_PORT" help:"Port of health, metrics and API on 127.0.0.1; 0 takes a free one (${default})."`
	ClickHousePort int            `name:"clickhouse-port" default:"8123" env:"POSTHORN_DEV_CLICKHOUSE_PORT" help:"Port of the embedded ClickHouse on 127.0.0.1; 0 takes a free one (${default})."`
	AllowCIDR      []netip.Prefix `name:"allow-cidr" placeholder:"CIDR" help:"Networks that deliveries may go to though they are refused otherwise, such as 127.0.0.0/8."`
	Demo           bool           `help:"Show the line at work: sample endpoints, a receiver, and 1,000 events."`
	DemoExit       bool           `env:"DEMO_EXIT" help:"End after the demo's last line, with failure if anything was lost."`
}

type topicsCmd struct {
	Apply topicsApplyCmd `cmd:"" help:"Create what is missing, set what differs, and say what was done."`
	Check topicsCheckCmd `cmd:"" help:"Say everything that differs; exit with 1 if anything does."`
}

type topicsApplyCmd struct{ configFlag }

type topicsCheckCmd struct{ configFlag }

type endpointCmd struct {
	Create endpointCreateCmd `cmd:"" help:"Register an endpoint. Its signing secret is shown this once."`
	Get    endpointGetCmd    `cmd:"" help:"Show an endpoint."`
	List   endpointListCmd   `cmd:"" help:"List the tenant's endpoints."`
	Update endpointUpdateCmd `cmd:"" help:"Change an endpoint; what isn't given stays."`
	Delete endpointDeleteCmd `cmd:"" help:"Delete an endpoint."`
	Enable endpointEnableCmd `cmd:"" help:"Deliver to a disabled endpoint again, and recover what it missed."`
	Purge  endpointPurgeCmd  `cmd:"" help:"Discard what was matched for an endpoint and isn't delivered yet."`

	Test    endpointTestCmd    `cmd:"" help:"Send a test event to an endpoint."`
	Backlog endpointBacklogCmd `cmd:"" help:"Show what waits for an endpoint."`
	DryRun  endpointDryRunCmd  `cmd:"" help:"Try a subscription on the events of the last hours."`
}

// apiFlags say which API is asked, for whom, and how the answer is written.
type apiFlags struct {
	clientFlags
	Tenant string `required:"" env:"POSTHORN_TENANT" help:"The tenant whose endpoints these are."`
}

// clientFlags say which API is asked and how the answer is written.
type clientFlags struct {
	API  string `name:"api" placeholder:"URL" env:"POSTHORN_API" help:"Admin port of a process with the role api; by default a development line's: as posthorn-data/addresses.json says, or else http://127.0.0.1:9464."`
	Key  string `placeholder:"KEY|@FILE" env:"POSTHORN_API_KEY" help:"API key; @FILE reads it from a file, so that it isn't in the list of processes."`
	JSON bool   `name:"json" help:"Write JSON."`
}

type endpointCreateCmd struct {
	apiFlags
	URL         string   `required:"" help:"Where deliveries are POSTed to."`
	Events      []string `placeholder:"TYPE" help:"Event types to subscribe to, such as order.*; without any, all."`
	Filter      string   `placeholder:"CEL" help:"Only events for which this expression is true, such as 'data.total > 100.0'."`
	Contract    string   `help:"How deliveries look: standard (the default), bunship, bunjang, bigcommerce, or one of your own."`
	Header      []string `sep:"none" placeholder:"'NAME: VALUE'" help:"A header to send along; can be repeated."`
	Secret      string   `placeholder:"SECRET|@FILE" help:"Bring an existing signing secret along, in place of a new one."`
	Description string   `help:"A note for people."`
	Disabled    bool     `help:"Register it without delivering to it yet."`
	RateLimit   float64  `help:"The most POSTs per second; 0 for no limit."`
	MaxInFlight int      `help:"The most POSTs at a time; 0 for the line's own limit."`
}

type endpointGetCmd struct {
	apiFlags
	ID string `arg:"" help:"The endpoint's ID."`
}

type endpointListCmd struct{ apiFlags }

type endpointUpdateCmd struct {
	apiFlags
	ID           string   `arg:"" help:"The endpoint's ID."`
	URL          *string  `help:"Where deliveries are POSTed to."`
	Events       []string `placeholder:"TYPE" xor:"events" help:"Event types to subscribe to, in place of those so far."`
	Filter       *string  `placeholder:"CEL" help:"Only events for which this expression is true; an empty one for none."`
	AllEvents    bool     `xor:"events" help:"Subscribe to all events."`
	Header       []string `sep:"none" placeholder:"'NAME: VALUE'" xor:"header" help:"A header to set; can be repeated."`
	RemoveHeader []string `placeholder:"NAME" help:"A header to send no longer."`
	NoHeaders    bool     `xor:"header" help:"Send no header of its own along any more."`
	Description  *string  `help:"A note for people."`
	Disabled     *bool    `negatable:"" help:"Stop delivering to it, or begin again."`
	OnDisable    *string  `placeholder:"discard|park" help:"What becomes of what is queued when it is disabled."`
	RateLimit    *float64 `help:"The most POSTs per second; 0 for no limit."`
	MaxInFlight  *int     `help:"The most POSTs at a time; 0 for the line's own limit."`
	IfMatch      int64    `placeholder:"VERSION" help:"Change it only if it still has that version."`
}

type endpointEnableCmd struct {
	apiFlags
	ID      string `arg:"" help:"The endpoint's ID."`
	Recover bool   `help:"Replay the events that it missed while it was disabled, and since when it had failed."`
}

type endpointDeleteCmd struct {
	apiFlags
	ID string `arg:"" help:"The endpoint's ID."`
}

type eventCmd struct {
	Send eventSendCmd `cmd:"" help:"Produce CloudEvents to a topic: from flags, or as JSON lines from a file or standard input."`
}

type eventSendCmd struct {
	configFlag
	Brokers     []string          `placeholder:"HOST:PORT" help:"Kafka brokers, in place of the configuration's; where there is none, a development line's."`
	Topic       string            `required:"" help:"The topic to produce to."`
	Type        string            `help:"Kind of event, such as order.created; in JSON lines, of those without."`
	Tenant      string            `env:"POSTHORN_TENANT" help:"The tenant, as the extension attribute tenant."`
	ID          string            `name:"id" help:"ID of the event; a new one by default. With --count, ID-1, ID-2, …"`
	Source      string            `help:"CloudEvents source; posthorn/event-send by default."`
	Subject     string            `help:"CloudEvents subject."`
	Data        *string           `placeholder:"JSON|@FILE" help:"The payload. Without it, events are read as JSON lines, one CloudEvent each."`
	ContentType string            `help:"Media type of the payload; application/json by default."`
	File        string            `placeholder:"FILE|-" help:"JSON lines to read; standard input by default."`
	Extension   map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"An extension attribute; can be repeated."`
	Traceparent string            `env:"TRACEPARENT" help:"W3C trace context to send along."`
	Tracestate  string            `env:"TRACESTATE" help:"Goes with --traceparent."`
	Count       int               `help:"How many events to make of --data (1 by default), or the most to read."`
	Rate        float64           `help:"The most events per second; without it, as fast as possible."`
	MaxMessage  config.Size       `default:"1000000" help:"The largest batch to produce; the broker has a limit of its own."`
	JSON        bool              `name:"json" help:"Write the summary as JSON."`
}

type listenCmd struct {
	Port       int           `default:"8080" help:"Port on 127.0.0.1; 0 takes a free one (${default})."`
	Secret     []string      `sep:"none" placeholder:"SECRET|@FILE" help:"Signing secret of an endpoint, to verify with; can be repeated."`
	Status     int           `default:"200" help:"Answer with this status (${default})."`
	Delay      time.Duration `help:"Answer after this long."`
	Hang       bool          `help:"Never answer."`
	FailFirst  int           `placeholder:"N" help:"Fail the first N POSTs of each delivery."`
	FailStatus int           `default:"503" help:"The status to fail with (${default})."`
	RetryAfter time.Duration `help:"Send Retry-After with what isn't 2xx."`
	MaxBody    config.Size   `default:"1MiB" help:"The largest body to read (${default})."`
	JSON       bool          `name:"json" help:"Write one JSON object a line."`
	Quiet      bool          `short:"q" help:"Write only the address and the summary."`
}

type clickHouseCmd struct {
	Migrate clickHouseMigrateCmd `cmd:"" help:"Create what is missing, align TTLs and views with the configuration, and say what was done."`
}

type clickHouseMigrateCmd struct{ configFlag }

type queryCmd struct {
	Deliveries queryDeliveriesCmd `cmd:"" help:"Where deliveries stand, newest first."`
	Attempts   queryAttemptsCmd   `cmd:"" help:"What came of every handling of a delivery, newest first."`
	Endpoint   queryEndpointCmd   `cmd:"" help:"What endpoints' deliveries came to, and how endpoints are."`
	Reconcile  queryReconcileCmd  `cmd:"" help:"Whether every delivery that was matched is accounted for."`
}

// queryFlags say which ledger is asked, of which time, and how the answer is
// written.
type queryFlags struct {
	configFlag
	ClickHouse string `name:"clickhouse" placeholder:"HOST:PORT" help:"The HTTP interface of a ClickHouse, in place of the configuration's; where there is none, a development line's: as posthorn-data/addresses.json says, or else 127.0.0.1:8123."`
	Since      ago    `placeholder:"SPAN" help:"How far back, such as 90m, 7d or 2w; 24h, or any time where a delivery or an event is named."`
	JSON       bool   `name:"json" help:"Write JSON."`
}

type queryDeliveriesCmd struct {
	queryFlags
	ID       string `arg:"" optional:"" help:"The delivery's ID, as --delivery."`
	Tenant   string `help:"Of this tenant."`
	Endpoint string `help:"To this endpoint."`
	Type     string `help:"Of this type of event."`
	Event    string `help:"Of the event with this ID."`
	Delivery string `help:"The delivery with this ID."`
	State    state  `help:"In this state: delivered, dead, discarded or pending."`
	Limit    rows   `default:"50" help:"The most to show, 1 to 10000 (${default})."`
	Payload  bool   `help:"With the payload."`
	Follow   bool   `short:"f" help:"Go on with what changes."`
}

type queryAttemptsCmd struct {
	queryFlags
	ID       string `arg:"" optional:"" help:"The delivery's ID, as --delivery."`
	Tenant   string `help:"Of this tenant."`
	Endpoint string `help:"Of this endpoint."`
	Type     string `help:"Of this type of event."`
	Event    string `help:"Of the event with this ID."`
	Delivery string `help:"Of the delivery with this ID."`
	Kind     kind   `help:"Of this kind: attempt, park, discard or dead."`
	Limit    rows   `default:"50" help:"The most to show, 1 to 10000 (${default})."`
}

type queryEndpointCmd struct {
	queryFlags
	ID     string `arg:"" optional:"" help:"The endpoint's ID; all without it."`
	Tenant string `help:"Of this tenant."`
}

type queryReconcileCmd struct {
	queryFlags
	Wait time.Duration `placeholder:"SPAN" help:"Wait so long at most, such as 30s, until the ledger has all from before now."`
}

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"List every mistake of the configuration; exit with 2 if there is one."`
	Show  configShowCmd  `cmd:"" help:"Show the whole configuration and where each value comes from, without secrets."`
}

type configCheckCmd struct {
	configFlag
	File string `arg:"" optional:"" help:"The configuration, in place of --config."`
}

type configShowCmd struct {
	configFlag
	File string `arg:"" optional:"" help:"The configuration, in place of --config."`
}

type versionCmd struct{}
