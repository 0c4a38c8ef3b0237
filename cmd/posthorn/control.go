package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"posthorn/internal/app"
	"posthorn/internal/cli"
)

// The commands of the control plane besides endpoints and secrets.

func (f *clientFlags) resource(path, noun string, io streams, columns ...string) (cli.Resource, error) {
	api, err := f.client()
	return cli.Resource{API: api, Path: path, Noun: noun, Columns: columns, JSON: f.JSON, Out: io.out}, err
}

// set puts a flag that was given into a patch or body.
func set[T any](body map[string]any, name string, value *T) {
	if value != nil {
		body[name] = *value
	}
}

type tenantCmd struct {
	Create tenantCreateCmd `cmd:"" help:"Create a tenant; only needed to set something of it."`
	Get    tenantGetCmd    `cmd:"" help:"Show a tenant."`
	List   tenantListCmd   `cmd:"" help:"List the tenants that were created."`
	Update tenantUpdateCmd `cmd:"" help:"Change a tenant; what isn't given stays."`
	Delete tenantDeleteCmd `cmd:"" help:"Delete a tenant that has no endpoints, and revoke its keys."`
}

type tenantFlags struct {
	Description  *string `help:"A note for people."`
	Plan         *string `help:"A plan of the configuration; '' for the default one."`
	MaxEndpoints *int    `help:"A limit of endpoints in place of the plan's; 0 for any number."`
	Suspended    *bool   `negatable:"" help:"Match none of its events, and discard what is queued."`
}

func (f *tenantFlags) body() map[string]any {
	body := map[string]any{}
	set(body, "description", f.Description)
	set(body, "plan", f.Plan)
	set(body, "max_endpoints", f.MaxEndpoints)
	set(body, "suspended", f.Suspended)
	return body
}

type tenantCreateCmd struct {
	clientFlags
	tenantFlags
	ID string `arg:"" help:"The tenant, as in its events."`
}

type tenantGetCmd struct {
	clientFlags
	ID string `arg:"" help:"The tenant."`
}

type tenantListCmd struct{ clientFlags }

type tenantUpdateCmd struct {
	clientFlags
	tenantFlags
	PlansLimit bool   `help:"Take away its own limit of endpoints: its plan's counts."`
	IfMatch    int64  `placeholder:"VERSION" help:"Change it only if it still has that version."`
	ID         string `arg:"" help:"The tenant."`
}

type tenantDeleteCmd struct {
	clientFlags
	ID string `arg:"" help:"The tenant."`
}

func (f *clientFlags) tenants(io streams) (cli.Resource, error) {
	return f.resource("/v1/tenants", "tenant", io, "id", "plan", "endpoints", "endpoint_limit", "suspended", "description")
}

// Run creates a tenant.
func (c *tenantCreateCmd) Run(ctx context.Context, io streams) error {
	r, err := c.tenants(io)
	if err != nil {
		return err
	}
	body := c.body()
	body["id"] = c.ID
	return r.Create(ctx, body)
}

// Run shows a tenant.
func (c *tenantGetCmd) Run(ctx context.Context, io streams) error {
	r, err := c.tenants(io)
	if err != nil {
		return err
	}
	return r.Get(ctx, c.ID)
}

// Run lists tenants.
func (c *tenantListCmd) Run(ctx context.Context, io streams) error {
	r, err := c.tenants(io)
	if err != nil {
		return err
	}
	return r.List(ctx, nil, 0)
}

// Run changes a tenant.
func (c *tenantUpdateCmd) Run(ctx context.Context, io streams) error {
	r, err := c.tenants(io)
	if err != nil {
		return err
	}
	patch := c.body()
	if c.PlansLimit {
		patch["max_endpoints"] = nil
	}
	return r.Update(ctx, c.ID, patch, c.IfMatch)
}

// Run deletes a tenant.
func (c *tenantDeleteCmd) Run(ctx context.Context, io streams) error {
	r, err := c.tenants(io)
	if err != nil {
		return err
	}
	return r.Delete(ctx, c.ID, "deleted")
}

type keyCmd struct {
	Create    keyCreateCmd    `cmd:"" help:"Issue an API key, which is shown this once."`
	List      keyListCmd      `cmd:"" help:"List API keys, without the keys themselves."`
	Revoke    keyRevokeCmd    `cmd:"" help:"End an API key."`
	Bootstrap keyBootstrapCmd `cmd:"" help:"Issue an administrator's key by writing to the registry in Kafka: the first one."`
}

type keyFlags struct {
	Description string        `help:"A note for people."`
	Expires     time.Duration `placeholder:"DURATION" help:"How long the key is valid, such as 2160h; for ever without."`
}

type keyCreateCmd struct {
	clientFlags
	keyFlags
	Tenant   string `help:"Bind the key to this tenant; without it, it is an administrator's."`
	ReadOnly bool   `help:"The key changes nothing."`
}

type keyListCmd struct{ clientFlags }

type keyRevokeCmd struct {
	clientFlags
	ID string `arg:"" help:"The key's ID, key_…"`
}

type keyBootstrapCmd struct {
	configFlag
	keyFlags
	JSON bool `name:"json" help:"Write JSON."`
}

func (f *keyFlags) expiry() (at time.Time) {
	if f.Expires > 0 {
		at = time.Now().Add(f.Expires).UTC().Truncate(time.Second)
	}
	return at
}

func (f *clientFlags) keys(io streams) (cli.Resource, error) {
	return f.resource("/v1/keys", "key", io, "id", "tenant", "read_only", "expires_at", "last_four", "created_at", "description")
}

// Run issues a key.
func (c *keyCreateCmd) Run(ctx context.Context, io streams) error {
	r, err := c.keys(io)
	if err != nil {
		return err
	}
	body := map[string]any{"description": c.Description, "tenant": c.Tenant, "read_only": c.ReadOnly}
	if at := c.expiry(); !at.IsZero() {
		body["expires_at"] = at
	}
	return r.Create(ctx, body)
}

// Run lists keys.
func (c *keyListCmd) Run(ctx context.Context, io streams) error {
	r, err := c.keys(io)
	if err != nil {
		return err
	}
	return r.List(ctx, nil, 0)
}

// Run revokes a key.
func (c *keyRevokeCmd) Run(ctx context.Context, io streams) error {
	r, err := c.keys(io)
	if err != nil {
		return err
	}
	return r.Delete(ctx, c.ID, "revoked")
}

// Run issues a key beside the API.
func (c *keyBootstrapCmd) Run(ctx context.Context, io streams) error {
	cfg, err := c.loadFor(io)
	if err != nil {
		return err
	}
	id, key, err := app.BootstrapKey(ctx, cfg, cli.NewLogger(cfg.Log, io.err), c.Description, c.expiry())
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(io.out).Encode(map[string]string{"id": id, "key": key})
	}
	_, err = fmt.Fprintf(io.out, "id   %s\nkey  %s  (shown this once: keep it)\n", id, key)
	return err
}

type eventTypeCmd struct {
	Create eventTypeCreateCmd `cmd:"" help:"Add an event type to the catalogue."`
	Get    eventTypeGetCmd    `cmd:"" help:"Show an event type."`
	List   eventTypeListCmd   `cmd:"" help:"List the catalogue."`
	Update eventTypeUpdateCmd `cmd:"" help:"Change an event type; what isn't given stays."`
	Delete eventTypeDeleteCmd `cmd:"" help:"Remove an event type from the catalogue; subscriptions stay."`
}

type eventTypeFlags struct {
	Description *string  `help:"What happened."`
	Schema      *string  `placeholder:"JSON|@FILE" help:"JSON Schema of the event's data."`
	Example     []string `sep:"none" placeholder:"JSON|@FILE" help:"A sample of the event's data; can be repeated."`
	Deprecated  *bool    `negatable:"" help:"It still happens, and will not for ever."`
	Archived    *bool    `negatable:"" help:"It doesn't happen any more."`
}

func (f *eventTypeFlags) body() (map[string]any, error) {
	body := map[string]any{}
	set(body, "description", f.Description)
	set(body, "deprecated", f.Deprecated)
	set(body, "archived", f.Archived)
	if f.Schema != nil {
		schema, err := readJSON("--schema", *f.Schema)
		if err != nil {
			return nil, err
		}
		body["schema"] = schema
	}
	var examples []json.RawMessage
	for _, text := range f.Example {
		example, err := readJSON("--example", text)
		if err != nil {
			return nil, err
		}
		examples = append(examples, example)
	}
	if examples != nil {
		body["examples"] = examples
	}
	return body, nil
}

// readJSON returns JSON given as such or as @file.
func readJSON(flag, text string) (json.RawMessage, error) {
	text, err := cli.ReadSecret(text)
	if err != nil {
		return nil, err
	}
	if text = strings.TrimSpace(text); !json.Valid([]byte(text)) {
		return nil, &cli.UsageError{Text: flag + ": want JSON, or @ and the name of a file with it"}
	}
	return json.RawMessage(text), nil
}

type eventTypeCreateCmd struct {
	clientFlags
	eventTypeFlags
	Name string `arg:"" help:"The type, such as order.created."`
}

type eventTypeGetCmd struct {
	clientFlags
	Name string `arg:"" help:"The type."`
}

type eventTypeListCmd struct {
	clientFlags
	Archived *bool `negatable:"" help:"Only those that are archived, or that are not."`
}

type eventTypeUpdateCmd struct {
	clientFlags
	eventTypeFlags
	IfMatch int64  `placeholder:"VERSION" help:"Change it only if it still has that version."`
	Name    string `arg:"" help:"The type."`
}

type eventTypeDeleteCmd struct {
	clientFlags
	Name string `arg:"" help:"The type."`
}

func (f *clientFlags) eventTypes(io streams) (cli.Resource, error) {
	return f.resource("/v1/event-types", "event type", io, "name", "deprecated", "archived", "description")
}

// Run adds an event type.
func (c *eventTypeCreateCmd) Run(ctx context.Context, io streams) error {
	r, err := c.eventTypes(io)
	if err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	body["name"] = c.Name
	return r.Create(ctx, body)
}

// Run shows an event type.
func (c *eventTypeGetCmd) Run(ctx context.Context, io streams) error {
	r, err := c.eventTypes(io)
	if err != nil {
		return err
	}
	return r.Get(ctx, c.Name)
}

// Run lists event types.
func (c *eventTypeListCmd) Run(ctx context.Context, io streams) error {
	r, err := c.eventTypes(io)
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Archived != nil {
		query.Set("archived", fmt.Sprint(*c.Archived))
	}
	return r.List(ctx, query, 0)
}

// Run changes an event type.
func (c *eventTypeUpdateCmd) Run(ctx context.Context, io streams) error {
	r, err := c.eventTypes(io)
	if err != nil {
		return err
	}
	patch, err := c.body()
	if err != nil {
		return err
	}
	return r.Update(ctx, c.Name, patch, c.IfMatch)
}

// Run removes an event type.
func (c *eventTypeDeleteCmd) Run(ctx context.Context, io streams) error {
	r, err := c.eventTypes(io)
	if err != nil {
		return err
	}
	return r.Delete(ctx, c.Name, "deleted")
}

type contractCmd struct {
	Get  contractGetCmd  `cmd:"" help:"Show what a contract promises."`
	List contractListCmd `cmd:"" help:"List the contracts."`
}

type contractGetCmd struct {
	clientFlags
	Name string `arg:"" help:"The contract."`
}

type contractListCmd struct{ clientFlags }

func (f *clientFlags) contracts(io streams) (cli.Resource, error) {
	return f.resource("/v1/contracts", "contract", io, "name", "signature", "timeout", "rotation_overlap", "schedule", "description")
}

// Run shows a contract.
func (c *contractGetCmd) Run(ctx context.Context, io streams) error {
	r, err := c.contracts(io)
	if err != nil {
		return err
	}
	return r.Get(ctx, c.Name)
}

// Run lists contracts.
func (c *contractListCmd) Run(ctx context.Context, io streams) error {
	api, err := c.contracts(io)
	if err != nil {
		return err
	}
	return api.ListAll(ctx)
}

type auditCmd struct {
	List auditListCmd `cmd:"" help:"List changes, newest first."`
}

type auditListCmd struct {
	clientFlags
	Tenant string `env:"POSTHORN_TENANT" help:"Only this tenant's."`
	Limit  int    `default:"50" help:"The most to show; 0 for all (${default})."`
}

// Run lists changes.
func (c *auditListCmd) Run(ctx context.Context, io streams) error {
	path := "/v1/audit"
	if c.Tenant != "" {
		path = "/v1/tenants/" + url.PathEscape(c.Tenant) + "/audit"
	}
	r, err := c.resource(path, "change", io, "at", "actor", "operation", "tenant", "kind", "id", "fields")
	if err != nil {
		return err
	}
	return r.List(ctx, nil, c.Limit)
}
