package registry

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"posthorn/webhook"
)

// ErrSealed is wrapped when a secret can't be opened: it was sealed with
// another keyset, for another endpoint, or has been damaged. Which of them is
// not told apart by authenticated encryption.
var ErrSealed = errors.New("secret can't be opened with this keyset")

// Keyset seals and opens the signing secrets of endpoints with an AEAD
// (Tink; XAES-256-GCM for keysets made here). The associated data binds a
// sealed secret to its tenant, endpoint and ID, so that it can't be moved to
// another endpoint. All methods may be called at the same time. No error of
// this type holds bytes of a secret or of a key.
//
// A file that has been replaced (see [RotateKeysetFile]) is read anew before
// something is sealed, and when something was sealed with a key that isn't
// known; then at most once a second.
type Keyset struct {
	path string
	keys atomic.Pointer[keys]

	mu     sync.Mutex // of whoever reads the file anew
	looked time.Time  // when a key that isn't known last had us look
}

// keys is a keyset file as it was read. It never changes.
type keys struct {
	aead    tink.AEAD
	handle  *keyset.Handle
	file    os.FileInfo // by which a replaced file is known
	primary uint32
	known   map[uint32]bool
}

// CreateKeysetFile writes a new keyset of one random key to a file that only
// its owner may read. It refuses to overwrite: with the old keyset all sealed
// secrets would be lost. The error wraps [os.ErrExist] then.
func CreateKeysetFile(path string) error {
	handle, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return fmt.Errorf("creating keyset: %w", err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return fmt.Errorf("encoding keyset: %w", err)
	}
	buf.WriteByte('\n')
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("creating keyset: %w; it is not overwritten: secrets sealed with it could never be opened again", err)
	}
	if err != nil {
		return fmt.Errorf("creating keyset: %w", err)
	}
	_, err = f.Write(buf.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		// Half a file would be in the way of the next try.
		return fmt.Errorf("writing keyset: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// syncDir makes a new file's name survive a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// OpenKeyset reads a keyset file: cleartext JSON as [CreateKeysetFile] and
// Tink's own tools write it. Every key in it opens, the primary one seals.
func OpenKeyset(path string) (*Keyset, error) {
	read, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	k := &Keyset{path: path}
	k.keys.Store(read)
	return k, nil
}

func readKeys(path string) (*keys, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening keyset: %w; create one with: posthorn keyset create", err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening keyset: %w", err)
	}
	defer func() { _ = f.Close() }()
	out := &keys{known: make(map[uint32]bool)}
	if out.file, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("opening keyset: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeysetBytes))
	if err != nil {
		return nil, fmt.Errorf("opening keyset: %w", err)
	}
	if out.handle, err = insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data))); err != nil {
		// The parser's own words may quote the file.
		return nil, fmt.Errorf("opening keyset: %s is not a Tink keyset in cleartext JSON", path)
	}
	if out.aead, err = aead.New(out.handle); err != nil {
		return nil, fmt.Errorf("opening keyset: the keys in %s are not for authenticated encryption (AEAD)", path)
	}
	info := out.handle.KeysetInfo()
	out.primary = info.GetPrimaryKeyId()
	for _, key := range info.GetKeyInfo() {
		out.known[key.GetKeyId()] = true
	}
	return out, nil
}

// maxKeysetBytes is far beyond any keyset: one of our keys takes 250 bytes.
const maxKeysetBytes = 1 << 20

// fresh returns the keys of the file as it is now.
func (k *Keyset) fresh() (*keys, error) {
	now := k.keys.Load()
	file, err := os.Stat(k.path)
	if err == nil && os.SameFile(file, now.file) && file.ModTime().Equal(now.file.ModTime()) && file.Size() == now.file.Size() {
		return now, nil
	}
	read, err := readKeys(k.path)
	if err != nil {
		return nil, err
	}
	k.keys.Store(read)
	return read, nil
}

// knowing returns keys among which a key is, if there is any hope of that.
func (k *Keyset) knowing(id uint32) *keys {
	now := k.keys.Load()
	if now.known[id] {
		return now
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if since := time.Since(k.looked); since >= 0 && since < time.Second {
		return k.keys.Load()
	}
	k.looked = time.Now()
	if _, err := k.fresh(); err != nil {
		return now // what is known still opens
	}
	return k.keys.Load()
}

// sealedBy returns the ID of the key that sealed something: Tink's output
// prefix is a byte 1 and the key's ID in 4 bytes, big-endian.
func sealedBy(sealed []byte) (id uint32, ok bool) {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:5]), true
}

// Derive returns 32 bytes that only holders of the keyset know, of its oldest
// key and a label: the same in all processes, and for as long as that key is in
// the file.
func (k *Keyset) Derive(label string) []byte {
	material := insecurecleartextkeyset.KeysetMaterial(k.keys.Load().handle)
	mac := hmac.New(sha256.New, material.GetKey()[0].GetKeyData().GetValue()) // a handle has a key at least
	mac.Write([]byte("posthorn " + label))
	return mac.Sum(nil)
}

// KeysetExposed says who besides its owner may use a keyset file, by its mode
// (on Unix); "" means nobody. Whoever reads it opens every sealed secret.
func KeysetExposed(path string) string {
	st, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || st.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("%s has the mode %#o, and whoever reads it opens every signing secret: make it 0600", path, st.Mode().Perm())
}

// Seal encrypts a secret for an endpoint of which ID and Tenant are set.
func (k *Keyset) Seal(ep *webhook.Endpoint, secretID, plaintext string) (webhook.SealedSecret, error) {
	if ep.ID == "" || ep.Tenant == "" || secretID == "" {
		return webhook.SealedSecret{}, errors.New("sealing secret: tenant, endpoint and secret ID must be set first")
	}
	keys, err := k.fresh()
	if err != nil {
		return webhook.SealedSecret{}, fmt.Errorf("sealing secret %s of endpoint %s: %w", secretID, ep.ID, err)
	}
	sealed, err := keys.aead.Encrypt([]byte(plaintext), associatedData(ep, secretID))
	if err != nil {
		return webhook.SealedSecret{}, fmt.Errorf("sealing secret %s of endpoint %s: encryption failed", secretID, ep.ID)
	}
	return webhook.SealedSecret{ID: secretID, Sealed: sealed, CreatedAt: time.Now().UTC()}, nil
}

// Open decrypts a secret of an endpoint; the error wraps [ErrSealed].
func (k *Keyset) Open(ep *webhook.Endpoint, s webhook.SealedSecret) (string, error) {
	keys, by, named := k.keys.Load(), uint32(0), false
	if by, named = sealedBy(s.Sealed); named {
		keys = k.knowing(by)
	}
	plain, err := keys.aead.Decrypt(s.Sealed, associatedData(ep, s.ID))
	if err != nil && named && !keys.known[by] {
		return "", fmt.Errorf("opening secret %s of endpoint %s: %w: key %d sealed it, which %s doesn't hold", s.ID, ep.ID, ErrSealed, by, k.path)
	}
	if err != nil {
		return "", fmt.Errorf("opening secret %s of endpoint %s: %w", s.ID, ep.ID, ErrSealed)
	}
	return string(plain), nil
}

// Reseal seals a secret with the primary key; false if it is already. The
// secret and its times stay what they are.
func (k *Keyset) Reseal(ep *webhook.Endpoint, s webhook.SealedSecret) (webhook.SealedSecret, bool, error) {
	keys, err := k.fresh()
	if err != nil {
		return s, false, fmt.Errorf("sealing secret %s of endpoint %s: %w", s.ID, ep.ID, err)
	}
	if by, named := sealedBy(s.Sealed); named && by == keys.primary {
		return s, false, nil
	}
	plain, err := k.Open(ep, s)
	if err != nil {
		return s, false, err
	}
	again, err := k.Seal(ep, s.ID, plain)
	if err != nil {
		return s, false, err
	}
	s.Sealed = again.Sealed
	return s, true, nil
}

// LiveSecrets opens the secrets that sign at a time, newest first. With an
// error it still returns those that did open: during a rotation one of two is
// enough for a receiver.
func (k *Keyset) LiveSecrets(ep *webhook.Endpoint, now time.Time) ([]string, error) {
	var out []string
	var errs []error
	for _, s := range ep.Secrets {
		if !s.Live(now) {
			continue
		}
		plain, err := k.Open(ep, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, plain)
	}
	return out, errors.Join(errs...)
}

// associatedData encodes what a secret belongs to: every part behind its
// length, so that no two different triples give the same bytes.
func associatedData(ep *webhook.Endpoint, secretID string) []byte {
	b := []byte("posthorn secret v1")
	for _, part := range [...]string{ep.Tenant, ep.ID, secretID} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}
