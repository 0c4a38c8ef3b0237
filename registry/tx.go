package registry

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// MaxRecordBytes is the largest record of the registry, well below what
// brokers take (1 MB) so that a transaction's batches fit too.
const MaxRecordBytes = 512 << 10

// Errors of a change.
var (
	// ErrNotFound means that there is no endpoint of that ID.
	ErrNotFound = errors.New("endpoint not found")
	// ErrTooLarge means that a record would exceed [MaxRecordBytes].
	ErrTooLarge = errors.New("registry record is too large")
)

// Tx is the registry as a change under the write lock sees it: everything
// committed so far, the changes that will be committed with this one, and its
// own. It must not be used after the function that it was given to returns.
type Tx struct {
	store *Store
	check CheckFunc
	now   time.Time
	// layers are the staged changes by key: those of the whole transaction
	// first, then this change's own, which are dropped if it fails.
	layers [2]map[string]staged
	order  []string // of own keys
	// appended goes to other topics with the change.
	appended []*kgo.Record
}

// staged is a record to be written; a nil value is a tombstone.
type staged struct {
	value    []byte
	endpoint *webhook.Endpoint // nil for other kinds and tombstones
}

// CheckFunc refuses a change by an error, under the write lock; so a limit
// that it enforces is exact. before is nil for a creation, after for a
// deletion; neither may be changed. tx shows the state without the change.
type CheckFunc func(tx *Tx, before, after *webhook.Endpoint) error

func newTx(store *Store, check CheckFunc, now time.Time, batch map[string]staged) *Tx {
	return &Tx{store: store, check: check, now: now, layers: [2]map[string]staged{batch, make(map[string]staged)}}
}

// Now is the time of the change, the one that Put writes.
func (tx *Tx) Now() time.Time { return tx.now }

func (tx *Tx) staged(key string) (staged, bool) {
	for _, layer := range [...]int{1, 0} {
		if s, ok := tx.layers[layer][key]; ok {
			return s, true
		}
	}
	return staged{}, false
}

func (tx *Tx) stage(key string, s staged) {
	if _, ok := tx.layers[1][key]; !ok {
		tx.order = append(tx.order, key)
	}
	tx.layers[1][key] = s
}

// Get returns an endpoint, which the caller may change.
func (tx *Tx) Get(id string) (*webhook.Endpoint, bool) {
	s, ok := tx.staged(Key(KindEndpoint, id))
	if !ok {
		return tx.store.Get(id)
	}
	if s.endpoint == nil {
		return nil, false
	}
	return clone(s.endpoint), true
}

// List returns up to limit of a tenant's endpoints in the order of their IDs,
// beginning above after, and the next page's cursor: "" at the end.
func (tx *Tx) List(tenant, after string, limit int) (page []*webhook.Endpoint, next string) {
	if limit <= 0 {
		return nil, after
	}
	changed := tx.changed()
	// Each changed endpoint takes the place of one of the store's at most.
	stored, _ := tx.store.List(tenant, after, limit+1+len(changed))
	for _, ep := range stored {
		if _, ok := changed[ep.ID]; !ok {
			page = append(page, ep)
		}
	}
	for id, ep := range changed {
		if ep != nil && ep.Tenant == tenant && id > after {
			page = append(page, clone(ep))
		}
	}
	slices.SortFunc(page, func(a, b *webhook.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].ID
	}
	return page, next
}

// Count returns how many endpoints a tenant has, the disabled ones included.
func (tx *Tx) Count(tenant string) int {
	n := tx.store.Count(tenant)
	for id, ep := range tx.changed() {
		if old, ok := tx.store.Get(id); ok && old.Tenant == tenant {
			n--
		}
		if ep != nil && ep.Tenant == tenant {
			n++
		}
	}
	return n
}

// changed gives the staged endpoints by ID, nil for a deleted one.
func (tx *Tx) changed() map[string]*webhook.Endpoint {
	out := make(map[string]*webhook.Endpoint)
	for _, layer := range tx.layers {
		for key, s := range layer {
			if kind, id, _ := SplitKey(key); kind == KindEndpoint {
				out[id] = s.endpoint
			}
		}
	}
	return out
}

// Put creates or replaces an endpoint. It sets ep's Version (one above the
// stored one's, from 1), UpdatedAt and, for a creation, CreatedAt; when Disabled
// changes, DisabledAt and EnabledAt, and DisabledReason where it is empty; and it
// drops secrets that sign no longer. The rules
// of [ValidateEndpoint] are the caller's part; only what the tables rely on is
// checked here.
func (tx *Tx) Put(ep *webhook.Endpoint) error {
	before, exists := tx.Get(ep.ID)
	next := clone(ep)
	next.Version, next.UpdatedAt = 1, tx.now
	next.Secrets = slices.DeleteFunc(next.Secrets, func(s webhook.SealedSecret) bool { return !s.Live(tx.now) })
	disabledBefore := exists && before.Disabled
	switch {
	case next.Disabled && !disabledBefore:
		if next.DisabledAt = tx.now; next.DisabledReason == "" {
			next.DisabledReason = webhook.DisabledRequested
		}
	case !next.Disabled:
		if next.DisabledReason = ""; disabledBefore {
			next.EnabledAt = tx.now
		}
	}
	if exists {
		if before.Tenant != ep.Tenant {
			return fmt.Errorf("endpoint %s belongs to another tenant", ep.ID)
		}
		next.Version, next.CreatedAt = before.Version+1, before.CreatedAt
	} else {
		before, next.CreatedAt = nil, tx.now
	}
	value, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encoding endpoint %s: %w", ep.ID, err)
	}
	if len(value) > MaxRecordBytes {
		return fmt.Errorf("%w: endpoint %s has %d bytes, at most %d are allowed", ErrTooLarge, ep.ID, len(value), MaxRecordBytes)
	}
	// What followers would leave out must not be written.
	if _, err := decodeEndpoint(ep.ID, value); err != nil {
		return err
	}
	if tx.check != nil {
		if err := tx.check(tx, before, clone(next)); err != nil {
			return err
		}
	}
	*ep = *clone(next)
	tx.stage(Key(KindEndpoint, ep.ID), staged{value: value, endpoint: next})
	return nil
}

// Delete removes an endpoint, and with it what was learned of it; the error
// is [ErrNotFound] if there is none.
func (tx *Tx) Delete(id string) error {
	before, ok := tx.Get(id)
	if !ok {
		return fmt.Errorf("deleting endpoint %.60q: %w", id, ErrNotFound)
	}
	if tx.check != nil {
		if err := tx.check(tx, before, nil); err != nil {
			return err
		}
	}
	tx.stage(Key(KindEndpoint, id), staged{})
	for _, kind := range append(learnedKinds[:], KindNotice) {
		if _, ok := tx.Raw(kind, id); ok {
			tx.stage(Key(kind, id), staged{})
		}
	}
	return nil
}

// Raw returns the value of a record that isn't an endpoint's. It must not be
// written to.
func (tx *Tx) Raw(kind, id string) ([]byte, bool) {
	if s, ok := tx.staged(Key(kind, id)); ok {
		return s.value, s.value != nil
	}
	return tx.store.Raw(kind, id)
}

// PutRaw writes a record that isn't an endpoint's; a nil value removes it.
func (tx *Tx) PutRaw(kind, id string, value []byte) error {
	if kind == KindEndpoint {
		return errors.New("endpoints are written with Put")
	}
	key := Key(kind, id)
	if k, i, err := SplitKey(key); err != nil || k != kind || i != id {
		return fmt.Errorf("registry key %.80q: want kind/ID", key)
	}
	if len(value) > MaxRecordBytes {
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", ErrTooLarge, key, len(value), MaxRecordBytes)
	}
	tx.stage(key, staged{value: bytes.Clone(value)})
	return nil
}

// Append produces a record to a topic other than the registry's in the same
// Kafka transaction: whoever reads committed records sees it if the change was
// made, and never if it wasn't. Records of one key share a partition. The
// error is [ErrTooLarge]. The bytes must not be changed afterwards.
func (tx *Tx) Append(topic string, key, value []byte) error {
	return tx.AppendRecord(&kgo.Record{Topic: topic, Key: key, Value: value})
}

// AppendRecord is [Tx.Append] for a record with headers. It must not be changed
// afterwards.
func (tx *Tx) AppendRecord(r *kgo.Record) error {
	if n := len(r.Key) + len(r.Value); n > MaxRecordBytes {
		return fmt.Errorf("%w: one for %s has %d bytes, at most %d are allowed", ErrTooLarge, r.Topic, n, MaxRecordBytes)
	}
	tx.appended = append(tx.appended, r)
	return nil
}

func clone(ep *webhook.Endpoint) *webhook.Endpoint {
	c := *ep
	c.Events = slices.Clone(ep.Events)
	c.Headers = maps.Clone(ep.Headers)
	c.Secrets = slices.Clone(ep.Secrets)
	for i := range c.Secrets {
		c.Secrets[i].Sealed = slices.Clone(c.Secrets[i].Sealed)
	}
	return &c
}
