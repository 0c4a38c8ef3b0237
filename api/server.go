package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// server holds the routes and what they work on.
type server struct {
	cfg  Config
	log  *slog.Logger
	mux  *http.ServeMux
	huma huma.API

	origins *http.CrossOriginProtection
	public  map[string]bool // patterns of the mux that need no key
	rates   rates
	dryRuns chan struct{}       // holds one for each that is under way
	admins  [][sha256.Size]byte // hashes of Config.AdminKeys
}

// New returns the API's handler, for all paths of [OpenAPI] and /openapi.json.
// Whoever serves it sets the server's own timeouts for headers and idle
// connections.
func New(cfg Config) (http.Handler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := newServer(cfg.withDefaults())
	document, err := s.document()
	if err != nil {
		return nil, err
	}
	const path = "GET /openapi.json"
	s.public[path] = true
	s.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document)
	})
	return s.handler(), nil
}

// OpenAPI returns the OpenAPI 3.1 document of the API, as indented JSON.
func OpenAPI() ([]byte, error) { return newServer(Config{}).document() }

func newServer(cfg Config) *server {
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: unmarshal}
	hc := huma.DefaultConfig("Posthorn admin API", "1")
	hc.Info.License = &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"}
	hc.Servers = []*huma.Server{{URL: "/", Description: "The admin port that this document came from"}}
	hc.Info.Description = "Manages the endpoints that receive a tenant's webhooks. Every error is a Problem (RFC 9457)."
	hc.Tags = []*huma.Tag{
		{Name: "endpoints", Description: "Receivers of a tenant's webhooks"},
		{Name: "secrets", Description: "What an endpoint's deliveries are signed with"},
		{Name: "tenants", Description: "The platform's customers: their plans and limits"},
		{Name: "pauses", Description: "What is matched and waits"},
		{Name: "event types", Description: "The catalogue of what there is to subscribe to"},
		{Name: "contracts", Description: "How deliveries look, and what is promised about them"},
		{Name: "audit", Description: "Who changed what"},
		{Name: "keys", Description: "Who may call this API"},
	}
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "An API key, ph_…"},
		"token":  {Type: "apiKey", In: "header", Name: "X-Auth-Token", Description: "The same in a header of its own"},
	}
	hc.Security = []map[string][]string{{"bearer": {}}, {"token": {}}}
	hc.Formats = map[string]huma.Format{"application/json": format, "json": format}
	hc.RejectUnknownQueryParameters = true
	hc.DocsPath, hc.SchemasPath = "", ""
	// huma's own route for the document marshals it on the first request
	// without a lock: two of them would race.
	hc.OpenAPIPath = ""
	// The hook would add a member "$schema" to every object.
	hc.CreateHooks = nil

	mux := http.NewServeMux()
	s := &server{cfg: cfg, log: cfg.Logger, mux: mux, huma: humago.New(mux, hc), origins: http.NewCrossOriginProtection(),
		public: make(map[string]bool), rates: rates{perSecond: cfg.RateLimit}, dryRuns: make(chan struct{}, dryRunsAtOnce)}
	for _, key := range cfg.AdminKeys {
		s.admins = append(s.admins, sha256.Sum256([]byte(key)))
	}
	s.registerEndpoints()
	s.registerDeliveries()
	s.registerBacklog()
	s.registerTest()
	s.registerResend()
	s.registerReplays()
	s.registerDryRun()
	s.registerSecrets()
	s.registerTenants()
	s.registerPauses()
	s.registerPurge()
	s.registerRecover()
	s.registerKeys()
	s.registerEventTypes()
	s.registerContracts()
	s.registerAudit()
	return s
}

// register adds an operation. All of them have in common who may call them
// (access.go), how their errors become Problems, and that the body has been
// read within its bounds already.
func register[I, O any](s *server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.MaxBodyBytes = -1
	op.Middlewares = append(op.Middlewares, authorize(&op))
	op.Extensions = map[string]any{accessExtension: accessOf(&op)}
	for _, status := range [...]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests} {
		op.Responses[strconv.Itoa(status)] = s.problemResponse(http.StatusText(status))
	}
	op.BodyReadTimeout = -1 // none; 0 would be a deadline of 5 s that stays on the connection, see readBody
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(context.WithValue(ctx, operationKey, op.OperationID), in)
		if err != nil {
			return nil, s.problemOf(ctx, op.OperationID, err)
		}
		return out, nil
	})
}

// responses describes an operation's responses besides its main one: bodies by
// status, and the statuses of Problems; any operation may fail with a Problem
// of another status.
func (s *server) responses(bodies map[int]any, problems ...int) map[string]*huma.Response {
	out := map[string]*huma.Response{"default": s.problemResponse("Any other error")}
	for status, body := range bodies {
		out[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{"application/json": {Schema: s.schemaOf(body)}},
		}
	}
	for _, status := range problems {
		out[strconv.Itoa(status)] = s.problemResponse(http.StatusText(status))
	}
	return out
}

func (s *server) problemResponse(description string) *huma.Response {
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{problemType: {Schema: s.schemaOf(Problem{})}},
	}
}

func (s *server) schemaOf(v any) *huma.Schema {
	return s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(v), true, "")
}

func (s *server) document() ([]byte, error) {
	compact, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("encoding OpenAPI document: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding OpenAPI document: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
