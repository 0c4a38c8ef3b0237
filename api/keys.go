package api

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	keysPath = "/v1/keys"
	keyPath  = keysPath + "/{id}"
)

// Key is an API key as it is listed: without the key itself.
type Key struct {
	_           struct{}   `additionalProperties:"true"`
	ID          string     `json:"id" example:"key_aguhqyl7kjzdrgvl"`
	Description string     `json:"description"`
	Tenant      string     `json:"tenant,omitempty" doc:"The tenant that the key is bound to; absent for an administrator's"`
	ReadOnly    bool       `json:"read_only"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty" doc:"When it ends; absent for never"`
	LastFour    string     `json:"last_four" doc:"The key's last four characters"`
	CreatedAt   time.Time  `json:"created_at"`
}

// CreatedKey is the answer to a create.
type CreatedKey struct {
	_ struct{} `additionalProperties:"true"`
	Key
	Text string `json:"key,omitempty" doc:"The key. No other response shows it. Absent if the request repeats an earlier one"`
}

// KeyCreate is the body of a create.
type KeyCreate struct {
	Description string    `json:"description,omitempty" maxLength:"1000"`
	Tenant      string    `json:"tenant,omitempty" maxLength:"128" doc:"Binds the key to a tenant; without one it is an administrator's"`
	ReadOnly    bool      `json:"read_only,omitempty" doc:"The key changes nothing"`
	ExpiresAt   time.Time `json:"expires_at,omitzero" doc:"When the key ends; never if absent"`
}

// KeyParam is the path of a key.
type KeyParam struct {
	ID string `path:"id" maxLength:"64" doc:"The key's ID" example:"key_aguhqyl7kjzdrgvl"`
}

// IdempotencyParam lets a create be repeated.
type IdempotencyParam struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"A unique name for this request, so that it may be repeated: 1 to 255 printable ASCII characters"`
}

func viewOfKey(k *webhook.APIKey) Key {
	v := Key{ID: k.ID, Description: k.Description, Tenant: k.Tenant, ReadOnly: k.ReadOnly, LastFour: k.LastFour, CreatedAt: k.CreatedAt}
	if !k.ExpiresAt.IsZero() {
		v.ExpiresAt = &k.ExpiresAt
	}
	return v
}

func (s *server) registerKeys() {
	const tag = "keys"
	admin := map[string]any{metaAccess: accessAdmin}
	register(s, huma.Operation{
		OperationID: "createKey", Method: http.MethodPost, Path: keysPath, Tags: []string{tag}, Metadata: admin,
		Summary:       "Issue an API key",
		Description:   "The key is in this response alone. With Idempotency-Key a request may be repeated: a repeat is answered 200, without the key.",
		DefaultStatus: http.StatusCreated,
		Responses:     s.responses(map[int]any{http.StatusOK: CreatedKey{}}, http.StatusBadRequest, http.StatusUnprocessableEntity),
	}, s.createKey)
	register(s, huma.Operation{
		OperationID: "listKeys", Method: http.MethodGet, Path: keysPath, Tags: []string{tag}, Metadata: admin,
		Summary: "List API keys", Responses: s.responses(nil, http.StatusBadRequest),
	}, s.listKeys)
	register(s, huma.Operation{
		OperationID: "getKey", Method: http.MethodGet, Path: keyPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Read an API key", Responses: s.responses(nil, http.StatusNotFound),
	}, s.getKey)
	register(s, huma.Operation{
		OperationID: "revokeKey", Method: http.MethodDelete, Path: keyPath, Tags: []string{tag}, Metadata: admin,
		Summary: "Revoke an API key", Description: "It ends within a second, in every process.",
		Responses: s.responses(nil, http.StatusNotFound),
	}, s.revokeKey)
	register(s, huma.Operation{
		OperationID: "whoAmI", Method: http.MethodGet, Path: "/v1/whoami", Tags: []string{tag},
		Metadata: map[string]any{metaAccess: accessAll},
		Summary:  "Read what the key of this request is for", Responses: s.responses(nil),
	}, s.whoAmI)
}

type createKeyInput struct {
	IdempotencyParam
	Body KeyCreate
}

type createKeyOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the key is read"`
	Body     CreatedKey
}

func (s *server) createKey(ctx context.Context, in *createKeyInput) (*createKeyOutput, error) {
	k := &webhook.APIKey{ID: NewKeyID(), Description: in.Body.Description, Tenant: in.Body.Tenant, ReadOnly: in.Body.ReadOnly,
		ExpiresAt: in.Body.ExpiresAt.UTC()}
	if in.Body.ExpiresAt.IsZero() {
		k.ExpiresAt = time.Time{}
	}
	if in.IdempotencyKey != "" {
		if p := idempotencyKeyProblem(in.IdempotencyKey); p != "" {
			return nil, invalid(FieldError{"header.Idempotency-Key", p})
		}
		var err error
		if err = s.onceOf(&k.RecordMeta, KindKey, in.IdempotencyKey, &in.Body); err != nil {
			return nil, err
		}
		// Only the name is derived: the secret part never is.
		k.ID = keyIDPrefix + k.Once[:keyIDChars]
	}
	if errs := s.checkKey(k); len(errs) > 0 {
		return nil, invalid(errs...)
	}
	text := IssueKey(k)
	var found *webhook.APIKey
	err := s.update(ctx, func(tx Tx) (*note, error) {
		found = nil
		if old, ok := keys.get(tx, k.ID); ok {
			if k.Once == "" {
				return nil, fmt.Errorf("creating key: the new ID %s is taken", k.ID)
			}
			if old.Request != k.Request {
				return nil, keyReused()
			}
			found = old
			return nil, nil
		}
		return &note{Tenant: k.Tenant, Kind: KindKey, ID: k.ID, Fields: changedFields(nil, k)}, keys.put(tx, k.ID, k)
	})
	if err != nil {
		return nil, err
	}
	out := &createKeyOutput{Status: http.StatusCreated, Location: keysPath + "/" + k.ID}
	if found != nil {
		out.Status, out.Body = http.StatusOK, CreatedKey{Key: viewOfKey(found)}
		return out, nil
	}
	out.Body = CreatedKey{Key: viewOfKey(k), Text: text}
	s.log.InfoContext(ctx, "key created", "key", k.ID, "tenant", k.Tenant)
	return out, nil
}

func (s *server) checkKey(k *webhook.APIKey) (errs []FieldError) {
	if k.Tenant != "" {
		errs = append(errs, s.checkTenantID("tenant", k.Tenant)...)
	}
	switch at := k.ExpiresAt; {
	case at.IsZero():
	case !at.After(time.Now()):
		errs = append(errs, FieldError{"expires_at", "it is in the past: the key would never be valid"})
	case at.UTC().Year() > maxYear:
		errs = append(errs, FieldError{"expires_at", fmt.Sprintf("it is after the year %d; leave it out for a key that never ends", maxYear)})
	}
	return append(errs, checkText("description", k.Description)...)
}

// checkText is what holds for every text that people read.
func checkText(field, text string) []FieldError {
	if !utf8.ValidString(text) {
		return []FieldError{{field, "it is not valid UTF-8"}}
	}
	return nil
}

// checkTenantID asks the rules of registration about a tenant's name.
func (s *server) checkTenantID(field, tenant string) (errs []FieldError) {
	for _, e := range s.cfg.CheckEndpoint(&webhook.Endpoint{Tenant: tenant}) {
		if e.Field == "tenant" {
			errs = append(errs, FieldError{field, e.Problem})
		}
	}
	return errs
}

func (s *server) listKeys(ctx context.Context, in *PageParams) (*pageOutput[Key], error) {
	return paginate(ctx, *in, func(after string) iter.Seq2[string, *webhook.APIKey] {
		return keys.all(s.cfg.Records, "", after)
	}, nil, viewOfKey)
}

type keyOutput struct{ Body Key }

// noKey quotes nothing: the ID that was asked for may be a key itself, by mistake.
func noKey() *Problem {
	return newProblem(http.StatusNotFound, "There is no key of this ID; the list of keys has the IDs.")
}

func (s *server) getKey(_ context.Context, in *KeyParam) (*keyOutput, error) {
	k, ok := keys.get(s.cfg.Records, in.ID)
	if !ok {
		return nil, noKey()
	}
	return &keyOutput{viewOfKey(k)}, nil
}

func (s *server) revokeKey(ctx context.Context, in *KeyParam) (*struct{}, error) {
	err := s.update(ctx, func(tx Tx) (*note, error) {
		k, ok := keys.get(tx, in.ID)
		if !ok {
			return nil, noKey()
		}
		return &note{Tenant: k.Tenant, Kind: KindKey, ID: k.ID}, keys.delete(tx, k.ID)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "key revoked", "key", in.ID)
	return nil, nil
}

// WhoAmI is what a key is for.
type WhoAmI struct {
	_        struct{} `additionalProperties:"true"`
	ID       string   `json:"id" doc:"The key's ID; config-<n> for one of the configuration, anonymous where no key is asked for"`
	Tenant   string   `json:"tenant,omitempty" doc:"The tenant that it is bound to; absent for an administrator's"`
	ReadOnly bool     `json:"read_only"`
}

type whoAmIOutput struct{ Body WhoAmI }

func (s *server) whoAmI(ctx context.Context, _ *struct{}) (*whoAmIOutput, error) {
	p := principalOf(ctx)
	return &whoAmIOutput{WhoAmI{ID: p.ID, Tenant: p.Tenant, ReadOnly: p.ReadOnly}}, nil
}

// onceOf notes in a new record which Idempotency-Key and body it is made of.
func (s *server) onceOf(m *webhook.RecordMeta, kind, key string, body any) error {
	canonical, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding request body: %w", err)
	}
	m.Once, m.Request = s.derive(kind, key), s.derive(kind+" request", key, string(canonical))
	return nil
}
