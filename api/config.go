package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"posthorn/webhook"
)

// ErrUnavailable is wrapped by what a [Writer] returns when the registry can't
// be written at the moment. The client is told to try again (503).
var ErrUnavailable = errors.New("registry unavailable")

// Endpoints reads the registry's state, as of a moment ago or as of the last
// [Writer.Update] of this process, whichever is later. What it returns belongs
// to the caller. Safe for concurrent use.
type Endpoints interface {
	Get(id string) (*webhook.Endpoint, bool)
	// List returns up to limit of a tenant's endpoints in the order of their
	// IDs, beginning above after, and the last ID as the cursor of the next
	// page: "" at the end.
	List(tenant, after string, limit int) (page []*webhook.Endpoint, next string)
	// ListAll is List over all tenants.
	ListAll(after string, limit int) (page []*webhook.Endpoint, next string)
	// Count returns how many endpoints a tenant has, disabled ones included.
	Count(tenant string) int
}

// Tx is the registry under its write lock. Reads see every change made so
// far, by any process, and those of this transaction. What it returns belongs
// to the caller. It must not be used after the function that it was given to
// has returned.
type Tx interface {
	Get(id string) (*webhook.Endpoint, bool)
	// Count returns how many endpoints a tenant has, disabled ones included.
	Count(tenant string) int
	// Put creates or replaces an endpoint, and sets ep's Version (one above
	// the stored one's, from 1), UpdatedAt and, for a creation, CreatedAt.
	Put(ep *webhook.Endpoint) error
	Delete(id string) error
	// Records are the registry's other kinds. A nil value removes a record.
	Records
	PutRaw(kind, id string, value []byte) error
	// Now is the time of the change.
	Now() time.Time
	// StartReplay has the replay with that record ID ("tenant/ID") taken up, if
	// and only if the change is made.
	StartReplay(key string) error
	// Audit writes an entry that is there if and only if the change is made.
	Audit(entry *webhook.AuditEntry) error
}

// Writer changes the registry. Safe for concurrent use.
type Writer interface {
	// Update runs change under the registry's write lock and commits what it
	// has put and deleted, all or nothing. A lock that was lost runs change
	// again; once Update has returned, it isn't run any more. An error of
	// change is returned, wrapped at most, and nothing is committed. When
	// Update returns nil, [Endpoints] shows the change.
	Update(ctx context.Context, change func(Tx) error) error
}

// Contracts knows the signing secrets of contracts.
type Contracts interface {
	// Describe outlines all contracts, in the order of their names.
	Describe() []Contract
	GenerateSecret(contract string) (string, error)
	// CheckSecret says what is wrong with a secret that a user brings along.
	// The error is shown to them and must hold nothing of the secret.
	CheckSecret(contract, secret string) error
	// Overlap is how long a replaced secret goes on signing, 0 to 7 days.
	Overlap(contract string) (time.Duration, error)
}

// Sealer encrypts signing secrets, bound to the endpoint's tenant and ID and to
// the secret's ID.
type Sealer interface {
	Seal(ep *webhook.Endpoint, secretID, plaintext string) (webhook.SealedSecret, error)
}

// FieldError is one thing that is wrong with a request, in words for whoever
// made it.
type FieldError struct {
	// Field is where: a field of the body with an index or key where it has
	// parts ("url", "events[2]", "headers[X-Team]"), "body" for the whole of
	// it, or "query.limit", "header.If-Match", "path.tenant".
	Field string `json:"field" doc:"Where: a field of the body such as url, events[2] or headers[X-Team], body for the whole of it, or query.limit, header.If-Match, path.tenant" example:"events[2]"`
	// Problem says what is wrong and what would be right.
	Problem string `json:"problem" doc:"What is wrong, and what would be right"`
}

// Config is what the API works on. All fields are required but those that say
// otherwise.
type Config struct {
	Endpoints Endpoints
	Records   Records
	Writer    Writer
	Contracts Contracts
	Sealer    Sealer
	// AuthRequired refuses requests without a valid key. Without it a request
	// that shows no key is an administrator's.
	AuthRequired bool
	// AdminKeys are administrators' keys besides those in the registry, at
	// least 32 characters each. Optional.
	AdminKeys []string
	// RateLimit is how many requests a key may make in a second, and twice as
	// many at once; 0 means any number.
	RateLimit float64
	// CheckEndpoint lists what is wrong with an endpoint that a user would
	// like to register: URL, patterns, headers and everything that its
	// contract asks for (it exists, https only, reserved headers). Only ID,
	// tenant and what users set is filled in.
	CheckEndpoint func(ep *webhook.Endpoint) []FieldError
	// CheckAddress lists what is wrong with the addresses that a URL's host has
	// now. It may take a while, so it is never called under the registry's
	// lock. Optional.
	CheckAddress func(ctx context.Context, url string) []FieldError
	// AuditLog is what [Tx].Audit has written. Optional: without it these requests
	// answer 503.
	AuditLog AuditLog
	// Covers reports whether a subscribed pattern covers an event type.
	Covers func(pattern, eventType string) bool
	// NewEndpointID returns a unique endpoint ID.
	NewEndpointID func() string
	// IdempotencyKey authenticates the IDs that are derived from
	// Idempotency-Key headers; at least 16 bytes, the same in all processes
	// and over restarts. After it changed, requests made before it aren't
	// recognised as repeated.
	IdempotencyKey []byte
	// Plans are those that tenants may have, by name, and DefaultPlan is that of
	// tenants without one. Optional: without them there is no limit.
	Plans       map[string]Plan
	DefaultPlan string
	// Ledger answers what became of deliveries. Optional: without it these
	// requests answer 503.
	Ledger Ledger
	// Line puts deliveries on the line. Optional as well.
	Line Line
	// RestrictHosts refuses requests whose Host is neither localhost, nor a
	// loopback address, nor among AllowedHosts. Set it where the API listens
	// on loopback: a web page whose name was made to resolve there (DNS
	// rebinding) is of the same origin to the browser, and only its Host tells.
	RestrictHosts bool
	// AllowedHosts are further names or addresses without a port. Optional.
	AllowedHosts []string
	// RequestTimeout bounds one request, the wait for the registry's lock
	// included. 10 seconds if zero.
	RequestTimeout time.Duration
	// Logger is told of every change and every failure, and of no secrets.
	// Optional.
	Logger *slog.Logger
}

// Validate lists everything that is missing or wrong.
func (c *Config) Validate() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("api: "+what))
		}
	}
	need(c.Endpoints != nil, "Endpoints is missing")
	need(c.Records != nil, "Records is missing")
	need(c.Writer != nil, "Writer is missing")
	need(c.Contracts != nil, "Contracts is missing")
	need(c.Sealer != nil, "Sealer is missing")
	need(c.CheckEndpoint != nil, "CheckEndpoint is missing")
	need(c.Covers != nil, "Covers is missing")
	need(c.NewEndpointID != nil, "NewEndpointID is missing")
	need(len(c.IdempotencyKey) >= 16, "IdempotencyKey has fewer than 16 bytes")
	for _, key := range c.AdminKeys {
		need(len(key) >= MinAdminKey, fmt.Sprintf("one of AdminKeys has fewer than %d characters", MinAdminKey))
	}
	if _, ok := c.Plans[c.DefaultPlan]; len(c.Plans) > 0 || c.DefaultPlan != "" {
		need(ok, fmt.Sprintf("DefaultPlan %q is not among Plans", c.DefaultPlan))
	}
	need(c.RateLimit >= 0, "RateLimit is negative")
	need(c.RequestTimeout >= 0, "RequestTimeout is negative")
	return errors.Join(errs...)
}

func (c *Config) withDefaults() Config {
	d := *c
	if len(d.Plans) == 0 && d.DefaultPlan == "" {
		const unlimited = "unlimited"
		d.Plans, d.DefaultPlan = map[string]Plan{unlimited: {}}, unlimited
	}
	if d.CheckAddress == nil {
		d.CheckAddress = func(context.Context, string) []FieldError { return nil }
	}
	if d.RequestTimeout == 0 {
		d.RequestTimeout = 10 * time.Second
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	return d
}
