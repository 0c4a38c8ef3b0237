package registry

import (
	"testing"
	"time"

	"posthorn/webhook"
)

func TestExpiredSecretsLeaveTheRecordAtTheNextChange(t *testing.T) {
	now := time.Now().UTC()
	ep := endpoint(1)
	ep.Secrets = []webhook.SealedSecret{
		{ID: "sec_now", Sealed: []byte{1}},
		{ID: "sec_overlap", Sealed: []byte{2}, ExpiresAt: now.Add(time.Millisecond)},
		{ID: "sec_over", Sealed: []byte{3}, ExpiresAt: now},
		{ID: "sec_long_over", Sealed: []byte{4}, ExpiresAt: now.Add(-time.Hour)},
	}
	tx := newTx(NewStore(), nil, now, nil)
	if err := tx.Put(ep); err != nil {
		t.Fatal(err)
	}
	stored, _ := tx.Get(ep.ID)
	for _, got := range []*webhook.Endpoint{stored, ep} {
		if len(got.Secrets) != 2 || got.Secrets[0].ID != "sec_now" || got.Secrets[1].ID != "sec_overlap" {
			t.Errorf("left are %+v", got.Secrets)
		}
	}
}

func TestDisablingAndEnablingLeaveTheirTimes(t *testing.T) {
	store, ep := NewStore(), endpoint(1)
	at := time.Now().UTC().Truncate(time.Millisecond)
	change := func(f func(*webhook.Endpoint)) *webhook.Endpoint {
		t.Helper()
		at = at.Add(time.Hour)
		tx := newTx(store, nil, at, nil)
		f(ep)
		if err := tx.Put(ep); err != nil {
			t.Fatal(err)
		}
		if err := store.Apply([]byte(Key(KindEndpoint, ep.ID)), tx.layers[1][Key(KindEndpoint, ep.ID)].value); err != nil {
			t.Fatal(err)
		}
		got, _ := store.Get(ep.ID)
		return got
	}
	if made := change(func(*webhook.Endpoint) {}); !made.DisabledAt.IsZero() || !made.EnabledAt.IsZero() || made.DisabledReason != "" {
		t.Errorf("made: %+v", made)
	}
	off := change(func(ep *webhook.Endpoint) { ep.Disabled = true })
	if !off.DisabledAt.Equal(at) || off.DisabledReason != webhook.DisabledRequested {
		t.Errorf("disabled: %+v", off)
	}
	still := change(func(ep *webhook.Endpoint) { ep.Description = "x" })
	if !still.DisabledAt.Equal(off.DisabledAt) {
		t.Errorf("changed: %+v", still)
	}
	on := change(func(ep *webhook.Endpoint) { ep.Disabled = false })
	if !on.DisabledAt.Equal(off.DisabledAt) || !on.EnabledAt.Equal(at) || on.DisabledReason != "" {
		t.Errorf("enabled: %+v", on)
	}
	again := change(func(ep *webhook.Endpoint) { ep.Disabled, ep.DisabledReason = true, webhook.DisabledGone })
	if !again.DisabledAt.Equal(at) || again.DisabledReason != webhook.DisabledGone {
		t.Errorf("disabled again: %+v", again)
	}
}
