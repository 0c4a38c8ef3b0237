package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"posthorn/webhook"
)

// note is what a change writes into the audit log: which resource, and the
// names of the fields that were set or changed. No value is in it.
type note struct {
	Tenant string // empty for what is the platform's
	Kind   string
	ID     string
	Fields []string
}

// errUnnoted is a mistake of this package: every change is audited.
var errUnnoted = errors.New("a change without an audit entry")

// update runs change under the registry's write lock, and writes the note that
// it returns into the audit log in the same transaction. A change that returns
// no note must not have changed anything.
func (s *server) update(ctx context.Context, change func(tx Tx) (*note, error)) error {
	return s.cfg.Writer.Update(ctx, func(tx Tx) error {
		watched := &watchedTx{Tx: tx}
		n, err := change(watched)
		switch {
		case err != nil:
			return err
		case n == nil && watched.written:
			return fmt.Errorf("%s: %w", operationOf(ctx), errUnnoted)
		case n == nil:
			return nil
		}
		return tx.Audit(&webhook.AuditEntry{V: webhook.AuditVersion, At: tx.Now(), Actor: principalOf(ctx).ID,
			Operation: operationOf(ctx), Tenant: n.Tenant, Kind: n.Kind, ID: n.ID, Fields: n.Fields})
	})
}

// watchedTx knows whether anything was written.
type watchedTx struct {
	Tx
	written bool
}

func (tx *watchedTx) Put(ep *webhook.Endpoint) error {
	tx.written = true
	return tx.Tx.Put(ep)
}

func (tx *watchedTx) Delete(id string) error {
	tx.written = true
	return tx.Tx.Delete(id)
}

func (tx *watchedTx) PutRaw(kind, id string, value []byte) error {
	tx.written = true
	return tx.Tx.PutRaw(kind, id, value)
}

// bookkeeping are the members of records that aren't a user's.
var bookkeeping = []string{"id", "tenant", "version", "created_at", "updated_at", "purged_at", "once", "request", "hash"}

// changedFields names the members of the JSON of two records that differ; nil
// instead of a record has none.
func changedFields(before, after any) []string {
	a, b := members(before), members(after)
	all := maps.Clone(a)
	maps.Copy(all, b)
	var names []string
	for name := range all {
		if !slices.Contains(bookkeeping, name) && !bytes.Equal(a[name], b[name]) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func members(v any) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	if text, err := json.Marshal(v); err == nil {
		_ = json.Unmarshal(text, &out) // null and what is no object have no members
	}
	if out == nil {
		return map[string]json.RawMessage{}
	}
	return out
}
