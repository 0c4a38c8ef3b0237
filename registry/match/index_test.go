package match

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// naive decides by comparing segment by segment, with none of the index's parts.
func naive(pattern, eventType string) bool {
	split := func(s string) (tokens []string) {
		start := 0
		for i := range len(s) {
			if s[i] == '.' || s[i] == '/' {
				tokens = append(tokens, s[start:i])
				start = i
			}
		}
		return append(tokens, s[start:])
	}
	p, e := split(pattern), split(eventType)
	for i, token := range p {
		if i >= len(e) {
			return false
		}
		sep, seg := "", token
		if i > 0 {
			sep, seg = token[:1], token[1:]
			if e[i][:1] != sep {
				return false
			}
		}
		switch {
		case seg == "*" && i == len(p)-1:
			return true
		case seg == "*", strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "}") && len(seg) > 1:
		case token != e[i]:
			return false
		}
	}
	return len(p) == len(e)
}

func ids(found []*Endpoint) []string {
	out := make([]string, len(found))
	for i, e := range found {
		out[i] = e.ID
	}
	return out
}

func TestPatternsMatchAsDocumented(t *testing.T) {
	for _, c := range []struct {
		pattern, eventType string
		want               bool
	}{
		{"order.created", "order.created", true},
		{"order.created", "order/created", false},
		{"order.created", "order.created.v2", false},
		{"order.*", "order.created", true},
		{"order.*", "order.created.v2", true},
		{"order.*", "order.created/v2", true},
		{"order.*", "order", false},
		{"order.*", "order/created", false},
		{"order.*", "orders.created", false},
		{"*", "anything.at/all", true},
		{"*", "", true},
		{"*.created", "order.created", true},
		{"*.created", "a.b.created", false},
		{"order.*.done", "order.x.done", true},
		{"order.*.done", "order.x/done", false},
		{"order.{what}", "order.created", true},
		{"order.{what}", "order.created.v2", false},
		{"store/order/*", "store/order/statusUpdated", true},
		{"store/channel/{channel_id}/cart/couponApplied", "store/channel/7/cart/couponApplied", true},
		{"store/channel/{channel_id}/cart/couponApplied", "store/channel/7/8/cart/couponApplied", false},
		{"order.{what}", "order.*", true},
	} {
		if err := ValidatePattern(c.pattern); err != nil {
			t.Errorf("%q: %v", c.pattern, err)
		}
		for _, trie := range []*node{nil, new(node)} {
			x := New()
			x.tenant("t").trie = trie
			x.Put("t", &Endpoint{ID: "a"}, []string{c.pattern}, false)
			if got := len(x.Lookup(nil, "t", c.eventType)) == 1; got != c.want {
				t.Errorf("pattern %q, type %q, trie %v: matched %v, want %v", c.pattern, c.eventType, trie != nil, got, c.want)
			}
		}
		if got := naive(c.pattern, c.eventType); got != c.want {
			t.Errorf("naive: pattern %q, type %q: matched %v, want %v", c.pattern, c.eventType, got, c.want)
		}
	}
}

func TestPatternErrorsSayWhatWouldBeRight(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                             "leave the list of patterns empty",
		"order*":                       `"*" must be a segment of its own`,
		"a..b":                         "segment 2: it is empty",
		".a":                           "segment 1: it is empty",
		"a/":                           "segment 2: it is empty",
		"a.{b":                         "braces must enclose a whole segment",
		"a.x{b}":                       "braces must enclose a whole segment",
		"a.{}":                         "needs a name",
		"a.{b-c}":                      "letters, digits",
		"a b":                          "not allowed",
		"a\nb":                         "not allowed",
		"a\xff":                        "UTF-8",
		strings.Repeat("a.", 32):       "segment 33: it is empty",
		strings.Repeat("a.a", 90):      "bytes",
		strings.Repeat("a.", 32) + "a": "33 segments",
	} {
		if err := ValidatePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want something with %q", pattern, err, want)
		}
	}
}

// tenant makes an empty tenant, so that a test can choose its representation.
func (x *Index) tenant(id string) *tenant {
	t := new(tenant)
	x.shard(id).tenants[id] = t
	return t
}

func TestAnEndpointIsFoundOnceHoweverManyPatternsMatch(t *testing.T) {
	for _, trie := range []*node{nil, new(node)} {
		testFoundOnce(t, trie)
	}
}

func testFoundOnce(t *testing.T, trie *node) {
	t.Helper()
	x := New()
	x.tenant("t").trie = trie
	x.Put("t", &Endpoint{ID: "b"}, []string{"*", "a.*", "a.b", "{x}.b", "*.b", "a.{y}"}, false)
	x.Put("t", &Endpoint{ID: "a"}, []string{"a.b", "*"}, false)
	x.Put("t", &Endpoint{ID: "c"}, nil, false)
	x.Put("other", &Endpoint{ID: "d"}, nil, false)
	if got := ids(x.Lookup(nil, "t", "a.b")); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatal(got)
	}
	if got := ids(x.MatchRange(nil, "t", "a.b", "b", "b")); !slices.Equal(got, []string{"b"}) {
		t.Fatal(got)
	}
}

func TestDisabledEndpointsAreListedButNotMatched(t *testing.T) {
	x := New()
	x.Put("t", &Endpoint{ID: "a"}, []string{"a"}, false)
	x.Put("t", &Endpoint{ID: "a"}, []string{"a"}, true)
	if got := x.Lookup(nil, "t", "a"); len(got) != 0 {
		t.Fatal(ids(got))
	}
	if got := ids(x.List(nil, "t", "", 5)); !slices.Equal(got, []string{"a"}) {
		t.Fatal(got)
	}
	x.Put("t", &Endpoint{ID: "a"}, []string{"b.c"}, false)
	if got := x.Lookup(nil, "t", "b.c"); len(got) != 1 {
		t.Fatal(ids(got))
	}
	x.Delete("t", "a")
	if x.Tenants() != 0 || x.Count("t") != 0 {
		t.Fatal("the tenant outlives its last endpoint")
	}
}

// Random puts, replacements and deletions, beside a plain map: every lookup,
// range and page agrees, and in the end nothing is left behind.
func TestTheIndexAgreesWithANaiveMatcherThroughChanges(t *testing.T) {
	type row struct {
		patterns []string
		off      bool
	}
	words := []string{"a", "b", "order", "*", "{id}"}
	seps := []string{".", "/"}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		phrase := func(words []string) string {
			s := words[rng.IntN(len(words))]
			for range rng.IntN(4) {
				s += seps[rng.IntN(2)] + words[rng.IntN(len(words))]
			}
			return s
		}
		x, model := New(), map[string]row{}
		// From a list to more endpoints than a chunk holds, so that chunks
		// split and empty.
		n := []int{20, 60, 3 * chunkSize}[seed%3]
		for step := range 4 * n {
			id := fmt.Sprintf("ep_%05d", rng.IntN(n))
			if step < n && seed%2 == 0 {
				id = fmt.Sprintf("ep_%05d", step)
			}
			if rng.IntN(4) == 0 {
				x.Delete("t", id)
				delete(model, id)
				continue
			}
			r := row{off: rng.IntN(10) == 0}
			for range rng.IntN(4) {
				r.patterns = append(r.patterns, phrase(words))
			}
			x.Put("t", &Endpoint{ID: id}, r.patterns, r.off)
			model[id] = r
		}
		for range 20 {
			typ := phrase(words[:3])
			first, last := fmt.Sprintf("ep_%05d", rng.IntN(n)), fmt.Sprintf("ep_%05d", rng.IntN(n))
			var all, some []string
			for id, r := range model {
				hit := len(r.patterns) == 0 || slices.ContainsFunc(r.patterns, func(p string) bool { return naive(p, typ) })
				if hit && !r.off {
					all = append(all, id)
					if first <= id && id <= last {
						some = append(some, id)
					}
				}
			}
			slices.Sort(all)
			slices.Sort(some)
			if got := ids(x.Lookup(nil, "t", typ)); !slices.Equal(got, all) {
				t.Fatalf("seed %d, type %q: %d found, want %d", seed, typ, len(got), len(all))
			}
			if got := ids(x.MatchRange(nil, "t", typ, first, last)); !slices.Equal(got, some) {
				t.Fatalf("seed %d, type %q, %s to %s: %d found, want %d", seed, typ, first, last, len(got), len(some))
			}
		}
		var paged []string
		for after := ""; ; {
			page := ids(x.List(nil, "t", after, 100))
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			after = page[len(page)-1]
		}
		if len(paged) != len(model) || len(model) != x.Count("t") || !slices.IsSorted(paged) {
			t.Fatalf("seed %d: paged %d, counted %d, want %d", seed, len(paged), x.Count("t"), len(model))
		}
		for id := range model {
			x.Delete("t", id)
		}
		if x.Tenants() != 0 {
			t.Fatalf("seed %d: something is left", seed)
		}
	}
}

func TestPruningLeavesNoNodes(t *testing.T) {
	root, e := new(node), &Endpoint{ID: "a"}
	root.insert("a.b", e)
	patterns := []string{"a.b.c.d", "*", "x.*.y", "a.{z}", "a.*"}
	for _, p := range patterns {
		root.insert(p, e)
	}
	for _, p := range patterns {
		root.remove(p, "a", true)
	}
	if len(root.kids) != 1 || len(root.kids[0].kids) != 1 || len(root.kids[0].kids[0].kids) != 0 {
		t.Fatalf("nodes are left: %+v", root)
	}
}

func TestReadersNeverMissAnEndpointThatIsBeingReplaced(t *testing.T) {
	x := New()
	for i := range 100 {
		x.Put("t", &Endpoint{ID: fmt.Sprintf("ep_%03d", i)}, []string{"a.*"}, false)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			var dst []*Endpoint
			for {
				select {
				case <-stop:
					return
				default:
				}
				if dst = x.Lookup(dst[:0], "t", "a.b"); len(dst) != 100 {
					t.Errorf("found %d, want 100", len(dst))
					return
				}
			}
		})
	}
	for i := range 5000 {
		x.Put("t", &Endpoint{ID: fmt.Sprintf("ep_%03d", i%100)}, [][]string{{"a.b"}, {"*", "a.*"}, nil}[i%3], false)
	}
	close(stop)
	wg.Wait()
}

func FuzzIndexAgreesWithNaiveMatcher(f *testing.F) {
	f.Add("order.*", "order.{x}.y", "order.a.y", true)
	f.Add("*", "a/b", "a/b", false)
	f.Add("a.*.c", "{q}/b", "..", true)
	f.Fuzz(func(t *testing.T, p1, p2, typ string, big bool) {
		if ValidatePattern(p1) != nil || ValidatePattern(p2) != nil {
			return
		}
		x := New()
		if big {
			x.tenant("t").trie = new(node)
		}
		x.Put("t", &Endpoint{ID: "1"}, []string{p1, p2}, false)
		x.Put("t", &Endpoint{ID: "2"}, []string{p2}, false)
		var want []string
		if naive(p1, typ) || naive(p2, typ) {
			want = append(want, "1")
		}
		if naive(p2, typ) {
			want = append(want, "2")
		}
		if got := ids(x.Lookup(nil, "t", typ)); !slices.Equal(got, want) {
			t.Fatalf("patterns %q %q, type %q: got %v, want %v", p1, p2, typ, got, want)
		}
		x.Delete("t", "1")
		x.Delete("t", "2")
		if x.Tenants() != 0 {
			t.Fatal("something is left")
		}
	})
}

// A million subscriptions of 100,000 tenants, ten each, over 40 types.
func BenchmarkLookupAmongAMillionSubscriptions(b *testing.B) {
	types := make([]string, 40)
	for i := range types {
		types[i] = fmt.Sprintf("%s.%s", []string{"order", "invoice", "cart", "user"}[i%4], fmt.Sprintf("event%d", i))
	}
	tenants := make([]string, 100_000)
	x := New()
	for i := range tenants {
		tenants[i] = fmt.Sprintf("tenant-%06d", i)
		for j := range 10 {
			p := []string{types[(i+j)%40]}
			switch j {
			case 0:
				p = []string{types[i%40][:strings.IndexByte(types[i%40], '.')] + ".*"}
			case 1:
				p = []string{"{kind}.event7"}
			}
			x.Put(tenants[i], &Endpoint{ID: fmt.Sprintf("ep_%026d", i*10+j), Contract: "standard"}, p, false)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	order := make([]int, 1<<16)
	for i := range order {
		order[i] = rng.IntN(len(tenants))
	}
	dst := make([]*Endpoint, 0, 64)
	var found, i int
	b.ReportAllocs()
	for b.Loop() {
		dst = x.Lookup(dst[:0], tenants[order[i&(len(order)-1)]], types[i%40])
		found += len(dst)
		i++
	}
	b.ReportMetric(float64(found)/float64(i), "matches/op")
}

func BenchmarkLookupOfTenThousandInOneTenant(b *testing.B) {
	x := New()
	for i := range 10_000 {
		x.Put("t", &Endpoint{ID: fmt.Sprintf("ep_%026d", i)}, [][]string{{"a.b"}, {"a.*"}}[i%2], false)
	}
	var dst []*Endpoint
	b.ReportAllocs()
	for b.Loop() {
		dst = x.Lookup(dst[:0], "t", "a.b")
	}
}
