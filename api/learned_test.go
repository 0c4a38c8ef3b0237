package api

import (
	"net/http"
	"testing"
)

func TestHowAnEndpointFaresIsShownUnlessItIsFromBeforeItWasEnabled(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID
	record := func(value string) Endpoint {
		t.Helper()
		if err := c.store.Update(t.Context(), func(tx Tx) error { return tx.PutRaw(kindHealth, made.ID, []byte(value)) }); err != nil {
			t.Fatal(err)
		}
		return decode[Endpoint](c.do("GET", path, "").want(http.StatusOK))
	}
	got := record(`{"failing_since":"2999-01-02T03:04:05Z","exhausted":7,"last_event":"2998-12-31T00:00:00Z"}`)
	if got.FailingSince.Year() != 2999 || got.Exhausted != 7 || got.LastEventOn != "2998-12-31" {
		t.Errorf("%+v", got)
	}
	if got := record(`{"last_event":"2998-12-31T00:00:00Z"}`); !got.FailingSince.IsZero() || got.LastEventOn == "" {
		t.Errorf("well: %+v", got)
	}
	if got := record(`nonsense`); got.LastEventOn != "" {
		t.Errorf("%+v", got)
	}
	c.store.mu.Lock()
	c.store.endpoints[made.ID].EnabledAt = c.store.endpoints[made.ID].CreatedAt
	c.store.mu.Unlock()
	if got := record(`{"failing_since":"2001-01-02T03:04:05Z","exhausted":7}`); !got.FailingSince.IsZero() || got.Exhausted != 0 {
		t.Errorf("enabled since: %+v", got)
	}
}
