package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

func newKeyset(t *testing.T) *Keyset {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := CreateKeysetFile(path); err != nil {
		t.Fatal(err)
	}
	k, err := OpenKeyset(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const plaintext = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestSecretsComeBackOnlyForTheirOwnEndpoint(t *testing.T) {
	k, ep := newKeyset(t), endpoint(1)
	sealed, err := k.Seal(ep, "sec_1", plaintext)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed.Sealed, []byte("MfKQ9r8G")) {
		t.Fatal("the secret is readable")
	}
	// Through the record's JSON, as it really travels.
	ep.Secrets = []webhook.SealedSecret{sealed}
	value, _ := json.Marshal(ep)
	s := NewStore()
	if err := s.Apply([]byte(Key(KindEndpoint, ep.ID)), value); err != nil {
		t.Fatal(err)
	}
	stored, _ := s.Get(ep.ID)
	if got, err := k.Open(stored, stored.Secrets[0]); err != nil || got != plaintext {
		t.Fatal(got, err)
	}

	other := func(change func(*webhook.Endpoint, *webhook.SealedSecret)) error {
		e, s := *ep, sealed
		s.Sealed = bytes.Clone(s.Sealed)
		change(&e, &s)
		_, err := k.Open(&e, s)
		return err
	}
	for name, change := range map[string]func(*webhook.Endpoint, *webhook.SealedSecret){
		"tenant":   func(e *webhook.Endpoint, _ *webhook.SealedSecret) { e.Tenant = "acmf" },
		"endpoint": func(e *webhook.Endpoint, _ *webhook.SealedSecret) { e.ID = endpoint(2).ID },
		"secret":   func(_ *webhook.Endpoint, s *webhook.SealedSecret) { s.ID = "sec_2" },
		"damage":   func(_ *webhook.Endpoint, s *webhook.SealedSecret) { s.Sealed[len(s.Sealed)-1]++ },
		"border": func(e *webhook.Endpoint, _ *webhook.SealedSecret) {
			e.Tenant, e.ID = e.Tenant+e.ID[:1], e.ID[1:]
		},
	} {
		err := other(change)
		if !errors.Is(err, ErrSealed) {
			t.Errorf("%s: got %v, want ErrSealed", name, err)
		}
		if strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("%s: the error tells the secret", name)
		}
	}
	if _, err := newKeyset(t).Open(ep, sealed); !errors.Is(err, ErrSealed) {
		t.Fatalf("another keyset: %v", err)
	}
}

func TestLiveSecretsAreThoseThatSignNow(t *testing.T) {
	k, ep, now := newKeyset(t), endpoint(1), time.Now()
	for i, expires := range []time.Time{{}, now.Add(time.Hour), now.Add(-time.Hour)} {
		s, err := k.Seal(ep, "sec_"+string(rune('a'+i)), plaintext+string(rune('a'+i)))
		if err != nil {
			t.Fatal(err)
		}
		s.ExpiresAt = expires
		ep.Secrets = append(ep.Secrets, s)
	}
	got, err := k.LiveSecrets(ep, now)
	if err != nil || len(got) != 2 || got[0] != plaintext+"a" || got[1] != plaintext+"b" {
		t.Fatal(got, err)
	}
	ep.Secrets[0].Sealed = nil
	got, err = k.LiveSecrets(ep, now)
	if !errors.Is(err, ErrSealed) || len(got) != 1 || got[0] != plaintext+"b" {
		t.Fatal("one of two secrets that open must do: ", len(got), err)
	}
}

func TestKeysetFilesAreNeverOverwrittenAndForTheirOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyset.json")
	if _, err := OpenKeyset(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "posthorn keyset create") {
		t.Fatal(err)
	}
	if err := CreateKeysetFile(path); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	if !strings.Contains(string(before), "XAesGcmKey") {
		t.Fatal("the key isn't XAES-256-GCM")
	}
	if err := CreateKeysetFile(path); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "not overwritten") {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Fatal("the file changed")
	}
	broken := strings.Replace(string(before), `"value":"`, `"value":"!TOPSECRET`, 1)
	if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyset(path); err == nil || strings.Contains(err.Error(), "TOPSECRET") {
		t.Fatalf("a broken keyset: %v", err)
	}
}

func TestAKeysetThatOthersMayReadIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := CreateKeysetFile(path); err != nil {
		t.Fatal(err)
	}
	if exposed := KeysetExposed(path); exposed != "" {
		t.Errorf("its owner's alone: %s", exposed)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if exposed := KeysetExposed(path); !strings.Contains(exposed, path) || !strings.Contains(exposed, "0600") {
			t.Errorf("mode %o: %q", mode, exposed)
		}
	}
}
