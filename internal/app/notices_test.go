package app

import (
	"context"
	"testing"
	"time"

	"posthorn/registry"
	"posthorn/webhook"
)

// notices is what disables endpoints, in a process that does nothing else, and
// the lock that it takes.
func (w *world) notices() (*notices, *registry.Writer) {
	w.t.Helper()
	store, writer := w.registryLock()
	return &notices{writer: writer, store: store, events: "posthorn.events", audit: "posthorn.audit", count: func(string) {}, log: w.log}, writer
}

func TestAnEndpointIsNotGoneForWhatItsReceiverOfBeforeAChangeAnswered(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		e := w.endpoint("a", "order.*")
		ns, writer := w.notices()
		time.Sleep(time.Minute)
		if err := writer.Update(context.Background(), func(tx *registry.Tx) error {
			ep, _ := tx.Get(e.ID)
			ep.URL = "http://hooks.example.com:8080/moved"
			return tx.Put(ep)
		}); err != nil {
			t.Fatal(err)
		}
		changed := w.stored(e.ID).UpdatedAt
		gone := func(at time.Time) *webhook.Endpoint {
			ns.write(context.Background(), notice{endpointID: e.ID, percent: 100, reason: webhook.DisabledGone, at: at})
			return w.stored(e.ID)
		}
		for _, at := range []time.Time{changed.Add(-30 * time.Second), changed, changed.Add(changeSeen - time.Millisecond)} {
			if got := gone(at); got.Disabled || got.Version != 2 {
				t.Errorf("gone in an attempt that began %v after its change: %+v", at.Sub(changed), got)
			}
		}
		if got := gone(changed.Add(changeSeen)); !got.Disabled || got.DisabledReason != webhook.DisabledGone {
			t.Errorf("gone since its change: %+v", got)
		}
	})
}
