package registry

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/registry/match"
	"posthorn/webhook"
)

// fill sets every field to something that isn't its zero value.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(-*n))
	case reflect.Uint8:
		v.SetUint(uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.25)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, n)
			fill(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, *n, 567, time.UTC)))
			return
		}
		for _, field := range v.Fields() {
			fill(field, n)
		}
	default:
		panic("a field of a kind that pack has never met: " + v.Kind().String())
	}
}

// A field that is added to webhook.Endpoint and forgotten in pack fails here.
func TestEveryFieldOfAnEndpointComesBackFromTheStore(t *testing.T) {
	full := new(webhook.Endpoint)
	n := 0
	fill(reflect.ValueOf(full).Elem(), &n)
	plain := &webhook.Endpoint{ID: "ep_1", Tenant: "t", URL: "https://a.example"}
	for _, want := range []*webhook.Endpoint{full, plain} {
		value, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		s := NewStore()
		if err := s.Apply([]byte(Key(KindEndpoint, want.ID)), value); err != nil {
			t.Fatal(err)
		}
		got, ok := s.Get(want.ID)
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		got.ID = "changed"
		for name := range got.Headers {
			got.Headers[name] = "changed"
		}
		if again, _ := s.Get(want.ID); !reflect.DeepEqual(again, want) {
			t.Fatal("what a caller does to its copy reaches the store")
		}
	}
}

func TestListPagesThroughATenantInOrder(t *testing.T) {
	s := NewStore()
	for i := range 25 {
		ep := endpoint(i * 7 % 25)
		ep.Disabled = i%3 == 0
		value, _ := json.Marshal(ep)
		if err := s.Apply([]byte(Key(KindEndpoint, ep.ID)), value); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for after := ""; ; {
		page, next := s.List("acme", after, 10)
		for _, ep := range page {
			ids = append(ids, ep.ID)
		}
		if after = next; next == "" {
			break
		}
	}
	if len(ids) != 25 || !slices.IsSorted(ids) || s.Count("acme") != 25 {
		t.Fatalf("%d listed, counted %d", len(ids), s.Count("acme"))
	}
	if page, next := s.List("nobody", "", 10); len(page) != 0 || next != "" {
		t.Fatal("an unknown tenant has endpoints")
	}
}

func TestAnEndpointThatChangesItsTenantLeavesTheOldOne(t *testing.T) {
	s := NewStore()
	for _, tenant := range []string{"one", "two"} {
		ep := endpoint(1)
		ep.Tenant = tenant
		value, _ := json.Marshal(ep)
		if err := s.Apply([]byte(Key(KindEndpoint, ep.ID)), value); err != nil {
			t.Fatal(err)
		}
	}
	if s.Count("one") != 0 || s.Count("two") != 1 || len(s.Lookup(nil, "one", "order.x")) != 0 {
		t.Fatal("it is still with its old tenant")
	}
}

func TestKeysSplitAsTheyWereJoined(t *testing.T) {
	for _, bad := range []string{"", "endpoint", "/x", "endpoint/"} {
		if _, _, err := SplitKey(bad); err == nil {
			t.Errorf("%q was split", bad)
		}
	}
	if kind, id, err := SplitKey(Key("tenant", "a/b")); err != nil || kind != "tenant" || id != "a/b" {
		t.Error(kind, id, err)
	}
}

func TestEndpointIDsSortByCreationAndMeetTheRules(t *testing.T) {
	var ids []string
	for range 100 {
		ids = append(ids, NewEndpointID())
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != 100 {
		t.Fatal("not ascending")
	}
	if p := idProblem(ids[0]); p != "" || len(ids[0]) != 29 || strings.ToLower(ids[0]) != ids[0] {
		t.Fatalf("%s: %s", ids[0], p)
	}
}

func TestLookupsGoOnWhileRecordsAreTakenIn(t *testing.T) {
	s := NewStore()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		var dst []*match.Endpoint
		for {
			select {
			case <-stop:
				return
			default:
			}
			dst = s.Lookup(dst[:0], "acme", "order.created")
			for _, e := range dst {
				if ep, ok := s.Get(e.ID); ok && ep.ID != e.ID {
					t.Error("mixed up")
				}
			}
		}
	})
	for i := range 5000 {
		value, _ := json.Marshal(endpoint(i % 300))
		if i%7 == 0 {
			value = nil
		}
		if err := s.Apply([]byte(Key(KindEndpoint, endpoint(i%300).ID)), value); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// A million endpoints of 100,000 tenants, each with a sealed secret, a header
// and three patterns. Run with REGISTRY_MILLION=1; prints what they take.
func TestMemoryOfAMillionEndpoints(t *testing.T) {
	if os.Getenv("REGISTRY_MILLION") == "" {
		t.Skip("takes half a minute; set REGISTRY_MILLION=1")
	}
	s := NewStore()
	began := time.Now()
	for i := range 1_000_000 {
		value, _ := json.Marshal(&webhook.Endpoint{
			ID: NewEndpointID(), Tenant: fmt.Sprintf("tenant-%06d", i/10), Contract: "standard", Version: 1,
			URL:     fmt.Sprintf("https://hooks.customer-%06d.example.com/webhooks/%d", i/10, i),
			Events:  []string{fmt.Sprintf("order.event%d", i%40), "invoice.*", "store/{id}/x"},
			Headers: map[string]string{"X-Team": "payments"},
			Secrets: []webhook.SealedSecret{{ID: fmt.Sprintf("sec_%026d", i), Sealed: make([]byte, 110), CreatedAt: began}},

			CreatedAt: began, UpdatedAt: began,
		})
		if err := s.Apply([]byte(Key(KindEndpoint, leadingID(value))), value); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	peak := rss(t, "VmHWM:")
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	debug.FreeOSMemory()
	t.Logf("live heap %d MiB, peak RSS %s, RSS after %s, loaded in %v", m.HeapAlloc>>20, peak, rss(t, "VmRSS:"), took)
	runtime.KeepAlive(s)
}

// leadingID cuts the ID out of a record that begins with it.
func leadingID(value []byte) string { return string(value[len(`{"id":"`) : len(`{"id":"`)+29]) }

func rss(t *testing.T, field string) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(status), field)
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
