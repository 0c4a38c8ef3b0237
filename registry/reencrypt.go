package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"posthorn/webhook"
)

// reencryptBatch is how many endpoints one transaction seals anew. Changes of
// users wait for it no longer than for a few dozen of their own.
const reencryptBatch = 100

// Reencryption is what [Reencrypt] came to.
type Reencryption struct {
	// Endpoints and Secrets are how many were sealed anew.
	Endpoints, Secrets int
	// Failed are the endpoints of which a secret could not be opened, and was
	// left as it is.
	Failed []string
	// Use is how many secrets each key has sealed, by then.
	Use KeyUse
}

// Reencrypt seals every secret that isn't sealed with the keyset's primary key
// anew, through the write lock, some endpoints at a time. It may be ended at any
// time and begun again: it goes by what is in the registry alone. What others
// change meanwhile stays. audit is called in each transaction that changes
// something, with the endpoints that it changes, and progress after it; both may
// be nil.
func Reencrypt(ctx context.Context, store *Store, w *Writer, k *Keyset, audit func(tx *Tx, ids []string) error, progress func(done, all int)) (Reencryption, error) {
	var r Reencryption
	if _, err := k.fresh(); err != nil {
		return r, err
	}
	ids := store.IDs(KindEndpoint)
	slices.Sort(ids)
	ids = slices.DeleteFunc(ids, func(id string) bool {
		ep, ok := store.Get(id)
		return !ok || !slices.ContainsFunc(ep.Secrets, k.outdated)
	})
	done := 0
	for batch := range slices.Chunk(ids, reencryptBatch) {
		var now Reencryption
		err := w.Update(ctx, func(tx *Tx) (err error) {
			var changed []string
			if now, changed, err = reencryptSome(tx, batch, k); err != nil || len(changed) == 0 || audit == nil {
				return err
			}
			return audit(tx, changed)
		})
		if err != nil {
			return r, fmt.Errorf("sealing secrets anew, %d of %d endpoints are done: %w", done, len(ids), err)
		}
		r.Endpoints += now.Endpoints
		r.Secrets += now.Secrets
		r.Failed = append(r.Failed, now.Failed...)
		if done += len(batch); progress != nil {
			progress(done, len(ids))
		}
	}
	r.Use = store.KeyUse()
	return r, nil
}

// outdated reports whether another key than the primary one sealed a secret.
func (k *Keyset) outdated(s webhook.SealedSecret) bool {
	by, named := sealedBy(s.Sealed)
	return !named || by != k.Primary()
}

func reencryptSome(tx *Tx, ids []string, k *Keyset) (r Reencryption, changedIDs []string, err error) {
	for _, id := range ids {
		ep, ok := tx.Get(id)
		if !ok {
			continue
		}
		changed, expired, failed := 0, false, false
		for i, s := range ep.Secrets {
			if !s.Live(tx.Now()) {
				expired = true // Put drops it
				continue
			}
			again, did, err := k.Reseal(ep, s)
			switch {
			case errors.Is(err, ErrSealed):
				failed = true
			case err != nil:
				return r, nil, err
			case did:
				ep.Secrets[i] = again
				changed++
			}
		}
		if failed {
			r.Failed = append(r.Failed, id)
		}
		if changed == 0 && !expired {
			continue
		}
		if err := tx.Put(ep); err != nil {
			return r, nil, err
		}
		changedIDs = append(changedIDs, id)
		r.Endpoints++
		r.Secrets += changed
	}
	return r, changedIDs, nil
}

// KeyUse counts the sealed secrets by the keys that sealed them; 0 stands for
// those that name no key.
func (s *Store) KeyUse() KeyUse {
	use := make(KeyUse)
	for _, id := range s.IDs(KindEndpoint) {
		ep, ok := s.Get(id)
		if !ok {
			continue
		}
		for _, secret := range ep.Secrets {
			by, _ := sealedBy(secret.Sealed)
			use[by]++
		}
	}
	return use
}
