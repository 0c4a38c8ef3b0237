package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSecretsAreRotatedListedAndRevokedThroughTheAPI(t *testing.T) {
	m, e, out := line(t)
	url := "https://hooks.example.com/a"
	if err := e.Create(context.Background(), EndpointChange{URL: &url}); err != nil {
		t.Fatal(err)
	}
	s := Secrets{Endpoints: *e, ID: "ep_0001"}
	first := m[s.ID].Secrets[0].ID
	out.Reset()
	week := 7 * 24 * time.Hour
	if err := s.Rotate(context.Background(), "", &week); err != nil {
		t.Fatal(err)
	}
	now := m[s.ID].Secrets[0].ID
	if got := out.String(); now == first || !strings.Contains(got, now) || !strings.Contains(got, "whsec_generated") {
		t.Errorf("rotating wrote %q", got)
	}
	out.Reset()
	if err := s.List(context.Background()); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(out.String(), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], now+"  current") || !strings.HasPrefix(lines[2], first+"  overlap") {
		t.Errorf("listing wrote %q", out)
	}
	if strings.Contains(out.String(), "whsec_") {
		t.Errorf("the list shows a secret: %q", out)
	}
	if err := s.Revoke(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	refused, is := errors.AsType[*APIError](s.Revoke(context.Background(), now))
	if !is || refused.Status != 409 || len(m[s.ID].Secrets) != 1 {
		t.Errorf("the current one: %v", refused)
	}
	half := time.Second / 2
	if _, is := errors.AsType[*UsageError](s.Rotate(context.Background(), "", &half)); !is {
		t.Error("half a second of overlap is no mistake")
	}
	if err := s.Rotate(context.Background(), "plain_x", nil); err == nil || strings.Contains(err.Error(), "plain_x") {
		t.Errorf("a secret of another form: %v", err)
	}
}
