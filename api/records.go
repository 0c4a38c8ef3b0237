package api

import (
	"encoding/json"
	"fmt"
	"iter"

	"posthorn/webhook"
)

// Records reads what the registry holds besides endpoints: JSON by kind and ID.
type Records interface {
	// Raw returns a record's value, which must not be written to.
	Raw(kind, id string) (value []byte, ok bool)
	// Records yields the records of a kind whose IDs begin with prefix, in the
	// order of their IDs, above after. What belongs to a tenant has IDs
	// "tenant/ID", and "tenant/" as the prefix.
	Records(kind, prefix, after string) iter.Seq2[string, []byte]
}

// recordOf is a pointer to a record that users write.
type recordOf[T any] interface {
	*T
	Meta() *webhook.RecordMeta
}

// table is a kind of records with their Go type. A record that can't be read
// counts as none.
type table[T any, P recordOf[T]] string

func (t table[T, P]) get(r Records, id string) (P, bool) {
	value, ok := r.Raw(string(t), id)
	if !ok {
		return nil, false
	}
	v := P(new(T))
	if json.Unmarshal(value, v) != nil {
		return nil, false
	}
	return v, true
}

// all yields the records whose IDs begin with prefix, above after.
func (t table[T, P]) all(r Records, prefix, after string) iter.Seq2[string, P] {
	return func(yield func(string, P) bool) {
		for id, value := range r.Records(string(t), prefix, after) {
			v := P(new(T))
			if json.Unmarshal(value, v) != nil {
				continue
			}
			if !yield(id, v) {
				return
			}
		}
	}
}

// put creates or replaces a record, and sets its Version (one above the stored
// one's, from 1), UpdatedAt and, for a creation, CreatedAt.
func (t table[T, P]) put(tx Tx, id string, v P) error {
	m := v.Meta()
	m.Version, m.CreatedAt, m.UpdatedAt = 1, tx.Now(), tx.Now()
	if old, ok := t.get(tx, id); ok {
		m.Version, m.CreatedAt = old.Meta().Version+1, old.Meta().CreatedAt
	}
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", string(t), err)
	}
	return tx.PutRaw(string(t), id, value)
}

func (t table[T, P]) delete(tx Tx, id string) error { return tx.PutRaw(string(t), id, nil) }
