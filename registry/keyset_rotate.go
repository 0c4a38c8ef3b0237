package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// RotateKeysetFile makes a new key the primary one of a keyset file, which is
// replaced as a whole; the keys so far stay and open what they sealed. A key
// that [PrepareKeysetFile] has added becomes the primary one, the latest first;
// without any a new one is made. It returns the key's ID.
func RotateKeysetFile(path string) (id uint32, err error) {
	err = changeKeysetFile(path, func(m *keyset.Manager, now *keys) error {
		// Keys are in the order in which they were added: what comes behind the
		// primary one has never been it.
		info := now.handle.KeysetInfo().GetKeyInfo()
		if last := info[len(info)-1].GetKeyId(); last != now.primary {
			id = last
		} else if id, err = m.Add(aead.XAES256GCM192BitNonceKeyTemplate()); err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
	return id, err
}

// PrepareKeysetFile adds a key that only opens yet, so that every process can
// have it before any seals with it. It returns the key's ID.
func PrepareKeysetFile(path string) (id uint32, err error) {
	err = changeKeysetFile(path, func(m *keyset.Manager, _ *keys) error {
		id, err = m.Add(aead.XAES256GCM192BitNonceKeyTemplate())
		return err
	})
	return id, err
}

// PruneKeysetFile removes the keys that came before the primary one and that
// used doesn't want, and returns their IDs. Whatever they sealed can't be opened
// any more.
func PruneKeysetFile(path string, used func(id uint32) bool) (removed []uint32, err error) {
	err = changeKeysetFile(path, func(m *keyset.Manager, now *keys) error {
		removed = now.unused(used)
		for _, id := range removed {
			if err := m.Delete(id); err != nil {
				return err
			}
		}
		return nil
	})
	return removed, err
}

// Primary returns the ID of the key that seals.
func (k *Keyset) Primary() uint32 { return k.keys.Load().primary }

// Unused returns the keys that came before the primary one and that used doesn't
// want.
func (k *Keyset) Unused(used func(id uint32) bool) []uint32 { return k.keys.Load().unused(used) }

func (k *keys) unused(used func(id uint32) bool) (out []uint32) {
	for _, key := range k.handle.KeysetInfo().GetKeyInfo() {
		if key.GetKeyId() == k.primary {
			break
		}
		if !used(key.GetKeyId()) {
			out = append(out, key.GetKeyId())
		}
	}
	return out
}

// changeKeysetFile replaces a keyset file by a changed one. The replacement is
// atomic: readers see the one or the other, also after a crash. A second change
// at the same time is refused, or the key of one of them would be lost.
func changeKeysetFile(path string, change func(*keyset.Manager, *keys) error) error {
	// The file that a link leads to is replaced, not the link.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("changing keyset: %w", err)
	}
	guard := path + ".lock"
	lock, err := os.OpenFile(guard, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("changing keyset: it is being changed already; if that was cut short, remove %s", guard)
	}
	if err != nil {
		return fmt.Errorf("changing keyset: %w", err)
	}
	defer func() { _ = errors.Join(lock.Close(), os.Remove(guard)) }()

	now, err := readKeys(path)
	if err != nil {
		return err
	}
	manager := keyset.NewManagerFromHandle(now.handle)
	if err := change(manager, now); err != nil {
		return fmt.Errorf("changing keyset: %w", err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return fmt.Errorf("changing keyset: %w", err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return fmt.Errorf("encoding keyset: %w", err)
	}
	buf.WriteByte('\n')
	if err := replaceFile(path, now.file, buf.Bytes()); err != nil {
		return fmt.Errorf("writing keyset: %w", err)
	}
	return nil
}

// replaceFile puts a file in the place of another, with the same mode and, as
// far as we may, owner.
func replaceFile(path string, old os.FileInfo, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(old.Mode().Perm()), sameOwner(f, old), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// KeyUse is how many secrets each key has sealed, by the key's ID.
type KeyUse map[uint32]int

// Has reports whether a key has sealed any.
func (u KeyUse) Has(id uint32) bool { return u[id] > 0 }

// IDs returns the keys that have sealed any, in their order.
func (u KeyUse) IDs() (ids []uint32) {
	for id, n := range u {
		if n > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
