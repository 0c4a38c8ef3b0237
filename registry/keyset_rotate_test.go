package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/webhook"
)

func sealedWith(t *testing.T, k *Keyset, ep *webhook.Endpoint, id string) webhook.SealedSecret {
	t.Helper()
	s, err := k.Seal(ep, id, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rotate(t *testing.T, k *Keyset) uint32 {
	t.Helper()
	id, err := RotateKeysetFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestARotatedKeysetIsPickedUpAndStillOpensWhatWasSealedBefore(t *testing.T) {
	sealer, ep := newKeyset(t), endpoint(1)
	opener, err := OpenKeyset(sealer.path) // another process
	if err != nil {
		t.Fatal(err)
	}
	before := sealedWith(t, sealer, ep, "sec_1")
	derived := string(opener.Derive("x"))
	primary := rotate(t, sealer)
	after := sealedWith(t, sealer, ep, "sec_2") // reads the file anew, without being told
	if by, _ := sealedBy(after.Sealed); by != primary || sealer.Primary() != primary {
		t.Fatalf("sealed with %d, the primary key is %d", by, primary)
	}
	for _, s := range []webhook.SealedSecret{before, after} {
		for _, k := range []*Keyset{sealer, opener} {
			if text, err := k.Open(ep, s); text != plaintext || err != nil {
				t.Errorf("%s: %q, %v", s.ID, text, err)
			}
		}
	}
	if string(sealer.Derive("x")) != derived || string(sealer.Derive("y")) == derived {
		t.Error("what is derived goes with the rotation, or not with the label")
	}
}

func TestAKeyThatTheFileLacksIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sealer, opener, ep := newKeyset(t), newKeyset(t), endpoint(1)
		s := sealedWith(t, sealer, ep, "sec_1")
		_, err := opener.Open(ep, s)
		if want := fmt.Sprintf("key %d sealed it, which %s doesn't hold", sealer.Primary(), opener.path); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
		// The file arrives: within a second it is used.
		data, err := os.ReadFile(sealer.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(opener.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if text, err := opener.Open(ep, s); text != plaintext || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		// It is gone: what is known goes on opening, and nothing is sealed.
		if err := os.Remove(opener.path); err != nil {
			t.Fatal(err)
		}
		if _, err := opener.Open(ep, s); err != nil {
			t.Error(err)
		}
		if _, err := opener.Seal(ep, "sec_2", plaintext); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("sealed without a file: %v", err)
		}
	})
}

func TestAPreparedKeyOpensAndSealsOnlyAfterTheRotation(t *testing.T) {
	k, ep := newKeyset(t), endpoint(1)
	first := k.Primary()
	prepared, err := PrepareKeysetFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	if by, _ := sealedBy(sealedWith(t, k, ep, "sec_1").Sealed); by != first {
		t.Errorf("sealed with %d before the rotation, want %d", by, first)
	}
	if unused := k.Unused(func(uint32) bool { return false }); len(unused) != 0 {
		t.Errorf("the prepared key counts as unused: %v", unused)
	}
	if id := rotate(t, k); id != prepared {
		t.Errorf("rotated to %d, prepared was %d", id, prepared)
	}
	if id := rotate(t, k); id == prepared || id == first {
		t.Errorf("the next rotation made no new key: %d", id)
	}
}

func TestAChangedKeysetFileKeepsItsModeAndReplacesWhatALinkLeadsTo(t *testing.T) {
	k := newKeyset(t)
	if err := os.Chmod(k.path, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(k.path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateKeysetFile(link); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v %v", st, err)
	}
	if st, err := os.Stat(k.path); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(k.path)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// Two at a time would lose a key.
	if err := os.WriteFile(k.path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateKeysetFile(k.path); err == nil {
		t.Error("rotated beside another rotation")
	}
}

func TestReencryptionSealsAllAnewOnceAndLeavesTheRest(t *testing.T) {
	k := newKeyset(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.follow(t)
		w := c.write(t, f)
		const n = 250
		now := time.Now().UTC()
		old := k.Primary()
		for i := range n {
			ep := endpoint(i)
			overlap := sealedWith(t, k, ep, "sec_0")
			overlap.ExpiresAt = now.Add(time.Hour)
			ep.Secrets = []webhook.SealedSecret{sealedWith(t, k, ep, "sec_1"), overlap}
			if err := w.Update(t.Context(), put(ep)); err != nil {
				t.Fatal(err)
			}
		}
		broken := endpoint(n)
		broken.Secrets = []webhook.SealedSecret{sealedWith(t, k, endpoint(0), "sec_1")}
		if err := w.Update(t.Context(), put(broken)); err != nil {
			t.Fatal(err)
		}
		primary := rotate(t, k)
		before, _ := f.Store().Get(endpoint(7).ID)

		r, err := Reencrypt(t.Context(), f.Store(), w, k, nil, nil)
		if err != nil || r.Endpoints != n || r.Secrets != 2*n || !slices.Equal(r.Failed, []string{broken.ID}) {
			t.Fatalf("%d secrets of %d endpoints, failed %v; %v", r.Secrets, r.Endpoints, r.Failed, err)
		}
		if r.Use[primary] != 2*n || r.Use[old] != 1 || len(k.Unused(r.Use.Has)) != 0 {
			t.Errorf("use %v", r.Use)
		}
		after, _ := f.Store().Get(endpoint(7).ID)
		if after.Version != before.Version+1 || len(after.Secrets) != 2 {
			t.Errorf("before %+v\nafter %+v", before, after)
		}
		for i, s := range after.Secrets {
			was := before.Secrets[i]
			if text, err := k.Open(after, s); text != plaintext || err != nil || s.ID != was.ID || !s.CreatedAt.Equal(was.CreatedAt) || !s.ExpiresAt.Equal(was.ExpiresAt) {
				t.Errorf("%+v was %+v, %v", s, was, err)
			}
		}
		if r, err := Reencrypt(t.Context(), f.Store(), w, k, nil, nil); err != nil || r.Secrets != 0 || f.Store().KeyUse()[primary] != 2*n {
			t.Errorf("again: %+v, %v", r, err)
		}
		if err := w.Update(t.Context(), func(tx *Tx) error { return tx.Delete(broken.ID) }); err != nil {
			t.Fatal(err)
		}
		// Nothing is sealed with the first key any more.
		removed, err := PruneKeysetFile(k.path, f.Store().KeyUse().Has)
		if err != nil || !slices.Equal(removed, []uint32{old}) {
			t.Errorf("removed %v, %v", removed, err)
		}
		pruned, err := OpenKeyset(k.path)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := pruned.Open(after, after.Secrets[0]); text != plaintext || err != nil {
			t.Errorf("after pruning: %q, %v", text, err)
		}
		if removed, err := PruneKeysetFile(k.path, f.Store().KeyUse().Has); len(removed) != 0 || err != nil {
			t.Errorf("pruned again: %v, %v", removed, err)
		}
	})
}
