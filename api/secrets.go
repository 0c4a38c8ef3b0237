package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	secretsPath = endpointPath + "/secrets"
	secretPath  = secretsPath + "/{secret}"

	// maxLiveSecrets is how many secrets of an endpoint may sign at a time. Each
	// makes every POST's signature header longer.
	maxLiveSecrets = 5
	// maxOverlap is the longest that a replaced secret goes on signing.
	maxOverlap = 7 * 24 * time.Hour
)

// The problems that are about secrets.
const (
	TypeSecretNeeded   = "urn:posthorn:problem:secret-needed"    //nolint:gosec // the name of a problem
	TypeTooManySecrets = "urn:posthorn:problem:too-many-secrets" //nolint:gosec // the name of a problem
)

// Secret is a signing secret as clients see it: never the secret itself.
type Secret struct {
	_         struct{}  `additionalProperties:"true"`
	ID        string    `json:"id" example:"sec_aguhqyl7kjzdrgvlq5xwlkaw2i"`
	Current   bool      `json:"current" doc:"The newest one, which signs until it is replaced; the others sign until they expire"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"When it signs no longer; absent for the current one"`
}

// SecretList is all live secrets of an endpoint, newest first.
type SecretList struct {
	_     struct{} `additionalProperties:"true"`
	Items []Secret `json:"items"`
}

// RotatedSecret is the answer to a rotation.
type RotatedSecret struct {
	_ struct{} `additionalProperties:"true"`
	Secret
	// Text is there once, like [CreatedEndpoint].Secret.
	Text string `json:"secret,omitempty" doc:"The signing secret that was generated. No other response shows it. Absent if the request brought its own or repeats an earlier one"`
}

// SecretRotate is the body of a rotation; all of it may be left out.
type SecretRotate struct {
	Secret         string `json:"secret,omitempty" writeOnly:"true" doc:"An existing signing secret, in the contract's format. One is generated if absent"`
	OverlapSeconds *int64 `json:"overlap_seconds,omitempty" minimum:"0" maximum:"604800" doc:"How long the secret so far goes on signing beside the new one. The contract's own overlap if absent; of a contract without overlap it can only be 0"`
}

// SecretParam is the path of a secret.
type SecretParam struct {
	EndpointParam
	Secret string `path:"secret" doc:"The secret's ID" example:"sec_aguhqyl7kjzdrgvlq5xwlkaw2i"`
}

func (s *server) registerSecrets() {
	const tag = "secrets"
	register(s, huma.Operation{
		OperationID: "listSecrets", Method: http.MethodGet, Path: secretsPath, Tags: []string{tag},
		Summary: "List an endpoint's signing secrets", Description: "Newest first, without the secrets themselves: those are shown once, when they are generated.",
		Responses: s.responses(nil, http.StatusBadRequest, http.StatusNotFound),
	}, s.listSecrets)
	register(s, huma.Operation{
		OperationID: "rotateSecret", Method: http.MethodPost, Path: secretsPath, Tags: []string{tag},
		Summary:       "Replace the signing secret",
		Description:   "The new secret signs from now on; the one so far signs beside it for the overlap. At most 5 sign at a time. The body may be left out. With Idempotency-Key a repeat is answered 200, without the secret.",
		DefaultStatus: http.StatusCreated,
		Responses: s.responses(map[int]any{http.StatusOK: Secret{}},
			http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity),
	}, s.rotateSecret)
	register(s, huma.Operation{
		OperationID: "revokeSecret", Method: http.MethodDelete, Path: secretPath, Tags: []string{tag},
		Summary:     "Revoke a signing secret at once",
		Description: "For one that is in its overlap. The current secret can't be revoked, since nothing is sent unsigned: rotate it with an overlap of 0 instead.",
		Responses:   s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed),
	}, s.revokeSecret)
}

func viewOfSecret(secret *webhook.SealedSecret) Secret {
	return Secret{ID: secret.ID, Current: secret.ExpiresAt.IsZero(), CreatedAt: secret.CreatedAt, ExpiresAt: secret.ExpiresAt}
}

type secretListOutput struct {
	ETag string `header:"ETag" doc:"The endpoint's version in quotes"`
	Body SecretList
}

func (s *server) listSecrets(_ context.Context, in *EndpointParam) (*secretListOutput, error) {
	ep, err := endpointOf(s.cfg.Endpoints, in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	list := SecretList{Items: []Secret{}}
	now := time.Now()
	for i := range ep.Secrets {
		if ep.Secrets[i].Live(now) {
			list.Items = append(list.Items, viewOfSecret(&ep.Secrets[i]))
		}
	}
	return &secretListOutput{ETag: etag(ep.Version), Body: list}, nil
}

type rotateInput struct {
	EndpointParam
	IfMatchParam
	IdempotencyKey string        `header:"Idempotency-Key" doc:"A unique name for this request, so that it may be repeated: 1 to 255 printable ASCII characters"`
	Body           *SecretRotate `required:"false"`
}

type rotateOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the secret is revoked"`
	ETag     string `header:"ETag" doc:"The endpoint's version in quotes"`
	Body     RotatedSecret
}

func (s *server) rotateSecret(ctx context.Context, in *rotateInput) (*rotateOutput, error) {
	expected, problem := parseIfMatch(in.IfMatch)
	if problem != nil {
		return nil, problem
	}
	body := SecretRotate{}
	if in.Body != nil {
		body = *in.Body
	}
	secretID, once := newSecretID(), in.IdempotencyKey != ""
	if once {
		if p := idempotencyKeyProblem(in.IdempotencyKey); p != "" {
			return nil, invalid(FieldError{"header.Idempotency-Key", p})
		}
		var err error
		if secretID, err = s.rotationID(in, &body); err != nil {
			return nil, err
		}
	}
	// What is generated must not depend on how often the change is run, and the
	// contract of an endpoint never changes: it is read before the lock.
	before, err := endpointOf(s.cfg.Endpoints, in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	overlap, errs := s.checkRotation(before.Contract, &body)
	if len(errs) > 0 {
		return nil, invalid(errs...)
	}
	sealing := cloneOf(before)
	generated, err := s.addSecret(sealing, secretID, body.Secret)
	if err != nil {
		return nil, err
	}

	var ep *webhook.Endpoint
	var found *webhook.SealedSecret
	err = s.update(ctx, func(tx Tx) (*note, error) {
		found = nil
		old, err := endpointOf(tx, in.Tenant, in.ID)
		if err != nil {
			return nil, err
		}
		if old.Contract != before.Contract {
			return nil, notFound(in.ID)
		}
		ep = cloneOf(old)
		if once {
			if found, problem = repeatedRotation(ep, secretID); found != nil || problem != nil {
				return nil, errorOf(problem)
			}
		}
		if err := expected.check(old.Version); err != nil {
			return nil, err
		}
		now := time.Now().UTC()
		if ep.Secrets = rotated(ep.Secrets, sealing.Secrets[0], overlap, now); len(ep.Secrets) > maxLiveSecrets {
			p := newProblem(http.StatusConflict, "The endpoint has %d live secrets, at most %d sign at a time. Revoke one, or rotate with an overlap of 0.", len(ep.Secrets)-1, maxLiveSecrets)
			p.Type, p.Title = TypeTooManySecrets, "Too many secrets"
			return nil, p
		}
		return endpointNote(old, ep), tx.Put(ep)
	})
	if err != nil {
		return nil, err
	}
	out := &rotateOutput{Status: http.StatusCreated, ETag: etag(ep.Version)}
	if found != nil {
		out.Status, out.Body = http.StatusOK, RotatedSecret{Secret: viewOfSecret(found)}
	} else {
		out.Body = RotatedSecret{Secret: viewOfSecret(&ep.Secrets[0]), Text: generated}
		s.log.InfoContext(ctx, "secret rotated", "tenant", ep.Tenant, "endpoint", ep.ID, "secret", secretID, "overlap", overlap)
	}
	out.Location = strings.NewReplacer("{tenant}", url.PathEscape(ep.Tenant), "{id}", ep.ID, "{secret}", out.Body.ID).Replace(secretPath)
	return out, nil
}

// checkRotation says how long the secret so far goes on signing, and what is
// wrong with the request. A contract without overlap promises that a new secret
// invalidates the old one at once, so a request can't ask for one there.
func (s *server) checkRotation(contract string, body *SecretRotate) (overlap time.Duration, errs []FieldError) {
	overlap, err := s.cfg.Contracts.Overlap(contract)
	if err != nil {
		return 0, []FieldError{{"body", err.Error()}}
	}
	if asked := body.OverlapSeconds; asked != nil {
		if overlap == 0 && *asked != 0 {
			errs = append(errs, FieldError{"overlap_seconds", fmt.Sprintf("contract %q has no overlap: a new secret invalidates the old one at once; leave it out, or give 0", contract)})
		}
		overlap = min(time.Duration(*asked)*time.Second, maxOverlap)
	}
	if body.Secret != "" {
		if err := s.cfg.Contracts.CheckSecret(contract, body.Secret); err != nil {
			errs = append(errs, FieldError{"secret", err.Error()})
		}
	}
	return overlap, errs
}

// rotated puts a secret before the others: the current one gets its end, and
// what signs no longer goes.
func rotated(secrets []webhook.SealedSecret, next webhook.SealedSecret, overlap time.Duration, now time.Time) []webhook.SealedSecret {
	out := []webhook.SealedSecret{next}
	for _, old := range secrets {
		if end := now.Add(overlap); old.ExpiresAt.IsZero() {
			old.ExpiresAt = end
		}
		if old.Live(now) {
			out = append(out, old)
		}
	}
	return out
}

// The ID of a secret that a rotation with an Idempotency-Key made begins with
// what tenant, endpoint and key give, 80 bits, and ends with what the body gives
// as well, 50 bits: a repeat finds it by the one and another body shows in the
// other. Once the secret has left the record it is forgotten.
const rotationKeyChars, rotationBodyChars = 16, 10

func (s *server) rotationID(in *rotateInput, body *SecretRotate) (string, error) {
	canonical, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("encoding request body: %w", err)
	}
	return secretPrefix + s.derive("rotation", in.Tenant, in.ID, in.IdempotencyKey)[:rotationKeyChars] +
		s.derive("rotation body", in.Tenant, in.ID, in.IdempotencyKey, string(canonical))[:rotationBodyChars], nil
}

// repeatedRotation finds the secret that an earlier request with the same
// Idempotency-Key made.
func repeatedRotation(ep *webhook.Endpoint, secretID string) (*webhook.SealedSecret, *Problem) {
	key := secretID[:len(secretPrefix)+rotationKeyChars]
	at := slices.IndexFunc(ep.Secrets, func(old webhook.SealedSecret) bool { return strings.HasPrefix(old.ID, key) })
	switch {
	case at < 0:
		return nil, nil
	case ep.Secrets[at].ID != secretID:
		return nil, keyReused()
	}
	return &ep.Secrets[at], nil
}

// errorOf keeps a nil Problem from becoming an error that isn't nil.
func errorOf(p *Problem) error {
	if p == nil {
		return nil
	}
	return p
}

type revokeInput struct {
	SecretParam
	IfMatchParam
}

func (s *server) revokeSecret(ctx context.Context, in *revokeInput) (*struct{}, error) {
	expected, problem := parseIfMatch(in.IfMatch)
	if problem != nil {
		return nil, problem
	}
	err := s.update(ctx, func(tx Tx) (*note, error) {
		old, err := expected.endpointOf(tx, in.Tenant, in.ID)
		if err != nil {
			return nil, err
		}
		ep := cloneOf(old)
		at := slices.IndexFunc(ep.Secrets, func(secret webhook.SealedSecret) bool { return secret.ID == in.Secret })
		switch {
		case at < 0 || !ep.Secrets[at].Live(time.Now()):
			// Not quoted: it may be a secret itself, by mistake.
			return nil, newProblem(http.StatusNotFound, "The endpoint has no live secret of this ID; its list has the IDs.")
		case ep.Secrets[at].ExpiresAt.IsZero():
			p := newProblem(http.StatusConflict, "It is the current secret, and nothing is sent unsigned. Rotate it with an overlap of 0 instead.")
			p.Type, p.Title = TypeSecretNeeded, "Secret is needed"
			return nil, p
		}
		ep.Secrets = slices.Delete(ep.Secrets, at, at+1)
		return endpointNote(old, ep), tx.Put(ep)
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "secret revoked", "tenant", in.Tenant, "endpoint", in.ID, "secret", in.Secret)
	return nil, nil
}
