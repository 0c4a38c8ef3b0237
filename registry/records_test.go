package registry

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func idsOf(records func(yield func(string, []byte) bool)) (ids []string) {
	for id := range records {
		ids = append(ids, id)
	}
	return ids
}

func TestRecordsComeInTheOrderOfTheirIDsAndByTenant(t *testing.T) {
	s := NewStore()
	var want []string
	for i := range 3 * recordBatch {
		id := fmt.Sprintf("acme/%04d", i)
		want = append(want, id)
	}
	for i := range want { // in another order than theirs
		if err := s.Apply([]byte("replay/"+want[(i*7)%len(want)]), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{"acm/1", "acme.2/1", "acmf/1", "acme0"} {
		if err := s.Apply([]byte("replay/"+other), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	if got := idsOf(s.Records("replay", "acme/", "")); !slices.Equal(got, want) {
		t.Errorf("%d IDs, want %d", len(got), len(want))
	}
	if got := idsOf(s.Records("replay", "acme/", want[700])); !slices.Equal(got, want[701:]) {
		t.Errorf("behind the 701st come %d, want %d", len(got), len(want)-701)
	}
	if got := idsOf(s.Records("replay", "", "acme/0767")); !slices.Equal(got, []string{"acme0", "acmf/1"}) {
		t.Errorf("without a tenant: %q", got)
	}
	if got := idsOf(s.Records("nothing", "", "")); got != nil {
		t.Errorf("a kind without records: %q", got)
	}
}

func TestATransactionListsItsOwnRecordsAmongTheOthers(t *testing.T) {
	s := NewStore()
	for _, id := range []string{"b", "d", "f"} {
		if err := s.Apply([]byte("x/"+id), []byte(`"stored"`)); err != nil {
			t.Fatal(err)
		}
	}
	tx := newTx(s, nil, time.Now(), map[string]staged{"x/a": {value: []byte(`"batch"`)}, "x/f": {}, "y/c": {value: []byte(`1`)}})
	for id, value := range map[string][]byte{"c": []byte(`"own"`), "d": nil, "b": []byte(`"own"`), "z": []byte(`"own"`)} {
		if err := tx.PutRaw("x", id, value); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for id, value := range tx.Records("x", "", "") {
		got = append(got, id+"="+string(value))
	}
	if want := []string{`a="batch"`, `b="own"`, `c="own"`, `z="own"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for id := range tx.Records("x", "", "a") {
		if id != "b" {
			t.Errorf("behind a comes %s, want b", id)
		}
		break
	}
}

func TestWhatIsAppendedIsThereIfAndOnlyIfTheChangeIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		const audit = "posthorn.audit"
		if err := c.CreateTopic(audit, 1, nil); err != nil {
			t.Fatal(err)
		}
		w := c.write(t, c.follow(t))
		change := func(i int, fail error) error {
			return w.Update(t.Context(), func(tx *Tx) error {
				if i < 2 { // the last one changes nothing
					if err := tx.PutRaw("x", fmt.Sprint(i), []byte(`{}`)); err != nil {
						return err
					}
				}
				if err := tx.Append(audit, []byte("acme"), fmt.Append(nil, i)); err != nil {
					return err
				}
				return fail
			})
		}
		refused := fmt.Errorf("refused")
		if err := change(0, nil); err != nil {
			t.Fatal(err)
		}
		if err := change(1, refused); err != refused { //nolint:errorlint // as it is
			t.Fatalf("got %v", err)
		}
		if err := change(2, nil); err != nil {
			t.Fatal(err)
		}
		cl, err := kgo.NewClient(append(slices.Clone(c.opts), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{audit: {0: kgo.NewOffset().AtStart()}}))...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		var got []string
		for len(got) < 2 {
			fs := cl.PollFetches(within(t, time.Minute))
			if err := fs.Err(); err != nil {
				t.Fatal(err)
			}
			fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
		}
		if !slices.Equal(got, []string{"0", "2"}) {
			t.Errorf("got %q, want 0 and 2", got)
		}
	})
}

func TestATenantThatIsSuspendedMatchesNothing(t *testing.T) {
	s := NewStore()
	apply := func(key, value string) {
		t.Helper()
		var v []byte
		if value != "" {
			v = []byte(value)
		}
		if err := s.Apply([]byte(key), v); err != nil {
			t.Fatal(err)
		}
	}
	matched := func() int { return len(s.Lookup(nil, "acme", "order.created")) }
	apply("tenant/acme", `{"id":"acme","suspended":true}`)
	apply("endpoint/ep_1", `{"id":"ep_1","tenant":"acme","url":"https://a.b"}`)
	apply("endpoint/ep_2", `{"id":"ep_2","tenant":"globex","url":"https://a.b"}`)
	if n := matched(); n != 0 || !s.Suspended("acme") {
		t.Errorf("%d endpoints match, suspended %t", n, s.Suspended("acme"))
	}
	if n := len(s.MatchRange(nil, "acme", "order.created", "ep_0", "ep_9")); n != 0 {
		t.Errorf("%d endpoints of a fan-out's range match", n)
	}
	if page, _ := s.List("acme", "", 10); len(page) != 1 || s.Count("acme") != 1 {
		t.Error("its endpoints are neither listed nor counted")
	}
	if n := len(s.Lookup(nil, "globex", "order.created")); n != 1 {
		t.Errorf("%d endpoints of another tenant match", n)
	}
	apply("tenant/acme", `{"id":"acme"}`)
	if n := matched(); n != 1 {
		t.Errorf("%d endpoints match after it is let go", n)
	}
	apply("tenant/acme", `{"id":"acme","suspended":true}`)
	apply("tenant/acme", "")
	if n := matched(); n != 1 {
		t.Errorf("%d endpoints match after its record is gone", n)
	}
}
