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
