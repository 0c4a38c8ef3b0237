package registry

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/tidwall/btree"
)

// table holds the records of a kind by ID, in its order. A value is never
// written to once it is in.
type table = btree.Map[string, []byte]

// recordBatch is how many records are read under one lock.
const recordBatch = 256

// Records yields the records of a kind but those of endpoints, in the order of
// their IDs: those that begin with prefix, above after. A kind that belongs to tenants has
// IDs "tenant/ID", so that the prefix "tenant/" is one tenant's (no name of a
// tenant holds a slash). No lock is held while a record is looked at; one that
// comes or goes meanwhile may be among them or not. Values must not be written to.
func (s *Store) Records(kind, prefix, after string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for last := after; ; {
			ids, values := s.recordsBehind(kind, prefix, last)
			for i, id := range ids {
				if !yield(id, values[i]) {
					return
				}
			}
			if len(ids) < recordBatch {
				return
			}
			last = ids[len(ids)-1]
		}
	}
}

func (s *Store) recordsBehind(kind, prefix, after string) (ids []string, values [][]byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.raw[kind]
	if t == nil {
		return nil, nil
	}
	t.Ascend(max(prefix, after), func(id string, value []byte) bool {
		if id == after {
			return true
		}
		if !strings.HasPrefix(id, prefix) {
			return false
		}
		ids, values = append(ids, id), append(values, value)
		return len(ids) < recordBatch
	})
	return ids, values
}

// Records is [Store.Records] with the changes of the transaction in it.
func (tx *Tx) Records(kind, prefix, after string) iter.Seq2[string, []byte] {
	type change struct {
		id    string
		value []byte
	}
	return func(yield func(string, []byte) bool) {
		merged := make(map[string][]byte)
		for _, layer := range tx.layers {
			for key, s := range layer {
				if k, id, _ := SplitKey(key); k == kind && strings.HasPrefix(id, prefix) && id > after {
					merged[id] = s.value
				}
			}
		}
		changes := make([]change, 0, len(merged))
		for id, value := range merged {
			changes = append(changes, change{id, value})
		}
		slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.id, b.id) })
		// below yields the changes up to an ID; "" is all of them.
		below := func(id string) bool {
			for len(changes) > 0 && (id == "" || changes[0].id < id) {
				c := changes[0]
				changes = changes[1:]
				if c.value != nil && !yield(c.id, c.value) {
					return false
				}
			}
			return true
		}
		for id, value := range tx.store.Records(kind, prefix, after) {
			if !below(id) {
				return
			}
			if _, changed := merged[id]; changed {
				continue
			}
			if !yield(id, value) {
				return
			}
		}
		below("")
	}
}
