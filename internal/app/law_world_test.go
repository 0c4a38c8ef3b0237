package app

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/webhook"
)

// hexSecret is a secret as the contracts bunship and bunjang take it.
const hexSecret = "whsec_000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// subscriber registers an endpoint of tenant acme on the path of its name, with
// a contract and a secret that fits it.
func (w *world) subscriber(name, contract string, events ...string) *webhook.Endpoint {
	w.t.Helper()
	e := &webhook.Endpoint{ID: webhook.EndpointPrefix + name, Tenant: "acme", URL: "http://hooks.example.com:8080/" + name,
		Events: events, Contract: contract, CreatedAt: time.Now(), UpdatedAt: time.Now(), Version: 1}
	text := hexSecret
	if contract == "standard" || contract == "bigcommerce" {
		text = secretText
	}
	sealed, err := w.keyset.Seal(e, "sec_1", text)
	if err != nil {
		w.t.Fatal(err)
	}
	sealed.ID = "sec_1"
	e.Secrets = []webhook.SealedSecret{sealed}
	w.record(e)
	return e
}

// record writes an endpoint to the registry as it is.
func (w *world) record(e *webhook.Endpoint) {
	w.t.Helper()
	value, err := json.Marshal(e)
	if err != nil {
		w.t.Fatal(err)
	}
	w.produce(&kgo.Record{Topic: "posthorn.registry", Key: []byte("endpoint/" + e.ID), Value: value})
}

// orderOf is an event's record in one partition of the source, so that events
// are matched in the order that they were produced in.
func orderOf(id, kind string) *kgo.Record {
	return &kgo.Record{Topic: "orders", Key: []byte("one partition"), Value: []byte(`{"id":"` + id + `"}`), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte("shop")},
		{Key: "ce_type", Value: []byte(kind)}, {Key: "ce_tenant", Value: []byte("acme")},
		{Key: "content-type", Value: []byte("application/json")}}}
}

// produceAll produces records in batches, each partition's in order.
func (w *world) produceAll(rs []*kgo.Record) {
	w.t.Helper()
	cl, err := kgo.NewClient(append(w.broker.ClientOpts(), kgo.MaxBufferedRecords(len(rs)+1))...)
	if err != nil {
		w.t.Fatal(err)
	}
	defer cl.Close()
	var mu sync.Mutex
	var failed error
	for _, r := range rs {
		cl.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		w.t.Fatal(failed)
	}
}

// onePartition keeps the line's order: one partition of everything.
func onePartition(c *config.Config) {
	c.Partitions = config.Partitions{Deliveries: 1, Fanout: 1, Attempts: 1, Dead: 1, Events: 1, Invalid: 1}
}

func headersOf(r *kgo.Record) map[string]string {
	m := make(map[string]string)
	for _, h := range r.Headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

// arrivals counts requests when they come in, not when they are answered: one
// that is never answered was made too.
type arrivals struct {
	mu sync.Mutex
	at map[string][]time.Time // by path and body
}

func newArrivals() *arrivals { return &arrivals{at: make(map[string][]time.Time)} }

// note counts a request; it returns how often the same came before.
func (a *arrivals) note(h *hit) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := h.endpoint + " " + h.body
	a.at[key] = append(a.at[key], h.at)
	return len(a.at[key]) - 1
}

// repeated returns what came more than once.
func (a *arrivals) repeated(path string) (keys []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, at := range a.at {
		if strings.HasPrefix(key, path) && len(at) > 1 {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// distinct returns how many different requests came to paths that begin so.
func (a *arrivals) distinct(path string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.at {
		if strings.HasPrefix(key, path) {
			n++
		}
	}
	return n
}

// times returns when the request came.
func (a *arrivals) times(path, body string) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.at[path+" "+body])
}

// hang never answers; the request ends when its sender gives up.
func hang(r *http.Request) { <-r.Context().Done() }

// pause takes that long to answer, unless the sender gives up.
func pause(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// commits returns what a group has committed, with its metadata.
func (w *world) commits(group string) (os []kadm.Offset) {
	w.t.Helper()
	fetched, err := kadm.NewClient(w.client).FetchOffsets(context.Background(), group)
	if err != nil {
		w.t.Fatal(err)
	}
	fetched.Each(func(o kadm.OffsetResponse) { os = append(os, o.Offset) })
	return os
}

// checkLedger holds the laws of the ledger for deliveries without crashes: of
// each delivery, n counts the attempts before a settlement, step those of them
// that were not cut, deferrals the parks, and nothing follows an end.
func checkLedger(t *testing.T, ss []*webhook.Settlement) {
	t.Helper()
	byDelivery := make(map[string][]*webhook.Settlement)
	for _, s := range ss {
		byDelivery[s.DeliveryID] = append(byDelivery[s.DeliveryID], s)
	}
	for id, ss := range byDelivery {
		slices.SortFunc(ss, func(a, b *webhook.Settlement) int {
			return cmp.Or(cmp.Compare(a.N+a.Deferrals, b.N+b.Deferrals), cmp.Compare(a.N, b.N))
		})
		n, step, deferrals, over := 0, 0, 0, false
		for _, s := range ss {
			if s.N != n || s.Step != step || s.Deferrals != deferrals || over {
				t.Errorf("%s to %s: %s has n %d, step %d, deferrals %d after %d attempts at step %d and %d parks (ended: %v)",
					id, s.EndpointID, s.Kind, s.N, s.Step, s.Deferrals, n, step, deferrals, over)
				return
			}
			switch s.Kind {
			case webhook.KindAttempt:
				n++
				if s.Outcome != webhook.OutcomeCut {
					step++
				}
				over = s.Outcome == webhook.OutcomeDelivered || s.Outcome == webhook.OutcomeDead
			case webhook.KindPark:
				deferrals++
			default:
				over = true
			}
			if over != s.NextAt.IsZero() {
				t.Errorf("%s: %s/%s has next_at %v", id, s.Kind, s.Outcome, s.NextAt)
			}
		}
	}
}

// tombstone deletes a key of the registry.
func tombstone(key string) *kgo.Record {
	return &kgo.Record{Topic: "posthorn.registry", Key: []byte(key)}
}

func count(ss []*webhook.Settlement, pick func(*webhook.Settlement) bool) (n int) {
	for _, s := range ss {
		if pick(s) {
			n++
		}
	}
	return n
}

// logOfBreakers returns the states of an endpoint's breaker in the order that the
// registry was told them.
func (w *world) logOfBreakers(endpoint string) (states []string) {
	for _, r := range w.read("posthorn.registry") {
		if string(r.Key) != "breaker/"+endpoint {
			continue
		}
		var v struct{ State string }
		if err := json.Unmarshal(r.Value, &v); err != nil {
			w.t.Fatal(err)
		}
		states = append(states, v.State)
	}
	return states
}
