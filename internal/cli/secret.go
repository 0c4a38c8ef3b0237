package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"
)

// Secrets works on one endpoint's signing secrets and writes what it finds.
type Secrets struct {
	Endpoints

	ID string // the endpoint's
}

// secret is what the API says of a signing secret.
type secret struct {
	ID        string `json:"id"`
	Current   bool   `json:"current"`
	CreatedAt string `json:"created_at"`
	ExpiresAt string `json:"expires_at"`
	Secret    string `json:"secret"`
}

func (s Secrets) path(id string) string {
	p := s.Endpoints.path(s.ID) + "/secrets"
	if id != "" {
		p += "/" + url.PathEscape(id)
	}
	return p
}

// List writes the live secrets, newest first, without the secrets themselves.
func (s Secrets) List(ctx context.Context) error {
	answer, err := s.API.call(ctx, http.MethodGet, s.path(""), nil, nil, nil)
	if err != nil {
		return fmt.Errorf("listing secrets of %s: %w", s.ID, err)
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return fmt.Errorf("reading the list of secrets: %w", err)
	}
	if s.JSON {
		return writeJSON(s.Out, list.Items)
	}
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tCREATED\tSIGNS UNTIL")
	for _, raw := range list.Items {
		var one secret
		if err := json.Unmarshal(raw, &one); err != nil {
			return fmt.Errorf("reading the list of secrets: %w", err)
		}
		state, until := "current", "(replaced)"
		if !one.Current {
			state, until = "overlap", one.ExpiresAt
		}
		fmt.Fprintln(w, printable(one.ID+"\t"+state+"\t"+one.CreatedAt+"\t"+until))
	}
	return flush(w)
}

// Rotate replaces the signing secret by one that is brought along, or else by a
// new one, which is written: no later answer has it. A nil overlap leaves it to
// the endpoint's contract how long the one so far goes on signing.
func (s Secrets) Rotate(ctx context.Context, brought string, overlap *time.Duration) error {
	body := struct {
		Secret  string `json:"secret,omitempty"`
		Overlap *int64 `json:"overlap_seconds,omitempty"`
	}{Secret: brought}
	if overlap != nil {
		if *overlap < 0 || *overlap%time.Second != 0 {
			return usagef("--overlap %s: want whole seconds, from 0 to 7 days", *overlap)
		}
		seconds := int64(*overlap / time.Second)
		body.Overlap = &seconds
	}
	answer, err := s.API.call(ctx, http.MethodPost, s.path(""), nil, nil, body)
	if err != nil {
		return fmt.Errorf("rotating the secret of %s: %w", s.ID, err)
	}
	if s.JSON {
		return writeJSON(s.Out, json.RawMessage(answer))
	}
	var made secret
	if err := json.Unmarshal(answer, &made); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	if made.Secret == "" {
		return writef(s.Out, "%s signs from now on\n", printable(made.ID))
	}
	return writef(s.Out, "%s signs from now on\nsecret  %s  (shown this once: keep it)\n", printable(made.ID), printable(made.Secret))
}

// Revoke ends a secret's overlap at once.
func (s Secrets) Revoke(ctx context.Context, secretID string) error {
	if _, err := s.API.call(ctx, http.MethodDelete, s.path(secretID), nil, nil, nil); err != nil {
		return fmt.Errorf("revoking %s of %s: %w", secretID, s.ID, err)
	}
	if s.JSON {
		return writeJSON(s.Out, map[string]string{"revoked": secretID})
	}
	return writef(s.Out, "revoked %s\n", printable(secretID))
}
