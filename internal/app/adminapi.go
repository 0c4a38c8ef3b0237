package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"posthorn/api"
	"posthorn/contract"
	"posthorn/dispatcher/send"
	"posthorn/internal/config"
	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/webhook"
)

// buildAPI serves the admin API on the admin port, when the process has that
// role.
func (l *Line) buildAPI(context.Context) error {
	if !l.opts.Roles.Has(RoleAPI) || !l.cfg.HTTP.API || l.admin == nil {
		return nil
	}
	handler, err := l.apiHandler(onLoopback(l.admin.Addr()))
	if err != nil {
		return err
	}
	return errors.Join(l.admin.Mount("/v1/", handler), l.admin.Mount("/openapi.json", handler))
}

// apiHandler makes the API on the writer of the process. Only on loopback may it
// go without keys, whatever the configuration takes for loopback.
func (l *Line) apiHandler(loopback bool) (http.Handler, error) {
	writer, err := l.registryWriter()
	if err != nil {
		return nil, err
	}
	cfg := api.Config{
		Endpoints: l.store, Records: l.store, Writer: registryWriter{writer, topics.Name(l.cfg.Prefix, topics.RoleAudit), topics.Name(l.cfg.Prefix, topics.RoleReplays)}, Contracts: contractSecrets{l.contracts, l.cfg.Delivery.Schedule}, Sealer: l.keyset,
		CheckEndpoint: l.checkEndpoint, CheckAddress: l.checkAddress, Covers: covers, NewEndpointID: registry.NewEndpointID,
		IdempotencyKey: l.keyset.Derive("idempotency key"), Logger: l.log,
		AuthRequired: l.cfg.HTTP.AsksForKey() || !loopback, AdminKeys: revealed(l.cfg.HTTP.AdminKeys), RateLimit: l.cfg.HTTP.RateLimit,
		AuditLog: newAuditLog(topics.Name(l.cfg.Prefix, topics.RoleAudit), l.control),
		Plans:    plansOf(l.cfg.Plans), DefaultPlan: l.cfg.DefaultPlan,
		RestrictHosts: len(l.cfg.HTTP.AllowedHosts) > 0 || loopback, AllowedHosts: l.cfg.HTTP.AllowedHosts,
	}
	if err := l.apiExploring(&cfg); err != nil {
		return nil, err
	}
	return api.New(cfg)
}

// onLoopback reports whether an address that is listened on is this machine's
// alone.
func onLoopback(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// checkEndpoint is the rules of registration under the operator's policy.
func (l *Line) checkEndpoint(ep *webhook.Endpoint) []api.FieldError {
	httpsOnly := l.cfg.Delivery.HTTPSOnly
	if c, ok := l.contracts.Get(ep.Contract); ok && c.HTTPSOnly() {
		httpsOnly = true
	}
	policy := registry.Policy{
		HTTPSOnly: httpsOnly, AllowCIDRs: l.cfg.Delivery.AllowCIDR, DenyCIDRs: l.cfg.Delivery.DenyCIDR, Ports: l.cfg.Delivery.Ports.List,
		CheckContract: func(name string) error {
			if _, ok := l.contracts.Get(name); !ok {
				return fmt.Errorf("%q is not known; there are %v", name, l.contracts.Names())
			}
			return nil
		},
		ReservedHeaders: func(name string) []string {
			if c, ok := l.contracts.Get(name); ok {
				return c.ReservedHeaders()
			}
			return nil
		},
		CheckHeader: send.CheckHeader,
	}
	if l.cfg.Delivery.Ports.Any {
		policy.Ports = nil
	}
	var out []api.FieldError
	for _, e := range registry.ValidateEndpoint(ep, policy) {
		out = append(out, api.FieldError(e))
	}
	return slices.Clip(out)
}

// covers reports whether a subscribed pattern covers an event type, by the very
// index that matching uses.
func covers(pattern, eventType string) bool { return covering([]string{pattern})(eventType) }

func plansOf(plans []config.Plan) map[string]api.Plan {
	out := make(map[string]api.Plan, len(plans))
	for _, p := range plans {
		out[p.Name] = api.Plan{Endpoints: p.Endpoints}
	}
	return out
}

func revealed(secrets []config.Secret) []string {
	out := make([]string, len(secrets))
	for i, s := range secrets {
		out[i] = s.Reveal()
	}
	return out
}

// registryWriter is the registry's write lock as api.Writer.
type registryWriter struct {
	w              *registry.Writer
	audit, replays string // topics
}

// registryTx is a transaction as api.Tx.
type registryTx struct {
	*registry.Tx
	audit, replays string
}

// StartReplay implements api.Tx.
func (tx registryTx) StartReplay(key string) error {
	return tx.Append(tx.replays, []byte(key), []byte("{}"))
}

// Audit implements api.Tx.
func (tx registryTx) Audit(e *webhook.AuditEntry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding audit entry: %w", err)
	}
	return tx.Append(tx.audit, []byte(e.Tenant), value)
}

// Update implements api.Writer.
func (r registryWriter) Update(ctx context.Context, change func(api.Tx) error) error {
	err := r.w.Update(ctx, func(tx *registry.Tx) error { return change(registryTx{tx, r.audit, r.replays}) })
	if errors.Is(err, registry.ErrStopped) || errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return err
}

// contractSecrets is the contracts as api.Contracts.
type contractSecrets struct {
	contracts contract.Set
	line      []time.Duration // the schedule of contracts without one of their own
}

func (c contractSecrets) get(name string) (*contract.Contract, error) {
	k, ok := c.contracts.Get(name)
	if !ok {
		return nil, fmt.Errorf("contract %q is not known", name)
	}
	return k, nil
}

// GenerateSecret implements api.Contracts.
func (c contractSecrets) GenerateSecret(name string) (string, error) {
	k, err := c.get(name)
	if err != nil {
		return "", err
	}
	return k.GenerateSecret(), nil
}

// Describe implements api.Contracts.
func (c contractSecrets) Describe() []api.Contract {
	out := []api.Contract{}
	for _, name := range c.contracts.Names() {
		k, _ := c.contracts.Get(name)
		o := k.Outline()
		v := api.Contract{Name: name, Description: k.Description(), Body: o.Body, Fields: o.Fields, Headers: append([]string{}, o.Headers...),
			Signature: o.Scheme, SignatureHeader: o.SignatureHeaders, SecretPrefix: o.SecretPrefix, RotationOverlap: k.RotationOverlap().String(),
			Timeout: k.Timeout().String(), HTTPSOnly: k.HTTPSOnly(), Schedule: []string{}, Permanent: append([]string{}, o.Permanent...)}
		schedule, own := k.Schedule()
		if !own {
			schedule = c.line
		}
		for _, wait := range schedule {
			v.Schedule = append(v.Schedule, wait.String())
		}
		if i := k.Immediate(); i != nil {
			v.Immediate = &api.ImmediateRetry{Retries: i.Retries, Initial: i.Initial.String(), Multiplier: i.Multiplier, Jitter: i.Jitter, Within: i.Total.String()}
		}
		out = append(out, v)
	}
	return out
}

// CheckSecret implements api.Contracts.
func (c contractSecrets) CheckSecret(name, secret string) error {
	k, err := c.get(name)
	if err != nil {
		return err
	}
	_, err = k.ParseSecret(secret)
	return err
}

// Overlap implements api.Contracts.
func (c contractSecrets) Overlap(name string) (time.Duration, error) {
	k, err := c.get(name)
	if err != nil {
		return 0, err
	}
	return k.RotationOverlap(), nil
}
