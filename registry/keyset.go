package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
type Keyset struct {
	aead tink.AEAD
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
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening keyset: %w; create one with: posthorn keyset create", err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening keyset: %w", err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		// The parser's own words may quote the file.
		return nil, fmt.Errorf("opening keyset: %s is not a Tink keyset in cleartext JSON", path)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("opening keyset: the keys in %s are not for authenticated encryption (AEAD)", path)
	}
	return &Keyset{aead: primitive}, nil
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
	sealed, err := k.aead.Encrypt([]byte(plaintext), associatedData(ep, secretID))
	if err != nil {
		return webhook.SealedSecret{}, fmt.Errorf("sealing secret %s of endpoint %s: encryption failed", secretID, ep.ID)
	}
	return webhook.SealedSecret{ID: secretID, Sealed: sealed, CreatedAt: time.Now().UTC()}, nil
}

// Open decrypts a secret of an endpoint; the error wraps [ErrSealed].
func (k *Keyset) Open(ep *webhook.Endpoint, s webhook.SealedSecret) (string, error) {
	plain, err := k.aead.Decrypt(s.Sealed, associatedData(ep, s.ID))
	if err != nil {
		return "", fmt.Errorf("opening secret %s of endpoint %s: %w", s.ID, ep.ID, ErrSealed)
	}
	return string(plain), nil
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
