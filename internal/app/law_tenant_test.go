package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/api"
	"posthorn/internal/config"
	"posthorn/webhook"
)

// apiProcess is the API of one process: its own store, follower and writer.
func (w *world) apiProcess(change ...func(*Options)) http.Handler {
	w.t.Helper()
	opts := Options{Config: w.cfg, Roles: Roles{RoleAPI}, Log: w.log, NoAdmin: true, Kafka: []kgo.Opt{kgo.Dialer(w.broker.DialContext)},
		Resolve: func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }}
	for _, f := range change {
		f(&opts)
	}
	l, err := build(context.Background(), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := l.apiHandler(true)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		l.stopBackground()
		_ = l.background.Wait()
		if err := l.undo.run(); err != nil {
			w.t.Error(err)
		}
	})
	return h
}

// ask makes a request of an API and returns its answer.
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	out := httptest.NewRecorder()
	h.ServeHTTP(out, r)
	return out
}

func TestTwoProcessesThatRaceNeverExceedAPlansLimit(t *testing.T) {
	inVirtualTime(t, func(c *config.Config) { c.DefaultPlan = "pro" }, func(w *world) {
		one, two := w.apiProcess(), w.apiProcess()
		var mu sync.Mutex
		count := map[int]int{}
		var wg sync.WaitGroup
		for i := range 50 {
			h := one
			if i%2 == 1 {
				h = two
			}
			wg.Go(func() {
				a := ask(h, "POST", "/v1/tenants/acme/endpoints", `{"url":"https://hooks.example.com/a"}`)
				mu.Lock()
				defer mu.Unlock()
				count[a.Code]++
			})
		}
		wg.Wait()
		if count[http.StatusCreated] != 10 || count[http.StatusForbidden] != 40 {
			t.Errorf("statuses %v, want 10 created and 40 refused", count)
		}
		entries := 0
		for _, r := range w.read("posthorn.audit") {
			var e webhook.AuditEntry
			if err := json.Unmarshal(r.Value, &e); err != nil || e.Operation != "createEndpoint" || string(r.Key) != "acme" {
				t.Errorf("%s %s %v", r.Key, r.Value, err)
			}
			entries++
		}
		// What a rival fenced is aborted, and read by nobody who reads what is committed.
		if entries < 10 {
			t.Errorf("%d entries in the audit log, want 10", entries)
		}
	})
}

func TestASuspendedTenantIsDeliveredNothingAndWhatWaitedIsAccountedFor(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 503 })
		w.endpoint("shop", "order.*")
		admin := w.apiProcess()
		p := w.process()
		w.event("e1", "order.created")
		time.Sleep(10 * time.Second) // tried once, and waits for its minute
		if a := ask(admin, "POST", "/v1/tenants", `{"id":"acme","suspended":true}`); a.Code != http.StatusCreated {
			t.Fatal(a.Body)
		}
		time.Sleep(time.Second)
		w.event("e2", "order.created")
		time.Sleep(2 * time.Minute)
		if n := len(w.received("/shop")); n != 1 {
			t.Errorf("%d POSTs, want the one before the suspension", n)
		}
		ss := w.settlements()
		if len(ss) != 2 || ss[1].Kind != webhook.KindDiscard || ss[1].Reason != webhook.ReasonTenantSuspended || ss[1].EventID != "e1" {
			t.Errorf("settled %+v", ss)
		}
		if a := ask(admin, "PATCH", "/v1/tenants/acme", `{"suspended":false}`); a.Code != http.StatusOK {
			t.Fatal(a.Body)
		}
		time.Sleep(time.Second)
		w.event("e3", "order.created")
		time.Sleep(10 * time.Second)
		if hits := w.received("/shop"); len(hits) != 2 || hits[1].body != `{"id":"e3"}` {
			t.Errorf("after it was let go: %d POSTs", len(hits))
		}
		p.terminate()
	})
}

func TestTheAuditLogIsReadBackwardsFromTheTopicWhateverWasAborted(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		one, two := w.apiProcess(), w.apiProcess()
		var wg sync.WaitGroup
		for i := range 30 { // rivals abort each other's transactions
			h := one
			if i%2 == 1 {
				h = two
			}
			wg.Go(func() {
				body := fmt.Sprintf(`{"id":"t%02d"}`, i)
				if a := ask(h, "POST", "/v1/tenants", body); a.Code != http.StatusCreated {
					t.Errorf("%d %s", a.Code, a.Body)
				}
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		var last time.Time
		for cursor, pages := "", 0; ; pages++ {
			a := ask(one, "GET", "/v1/audit?limit=7&cursor="+cursor, "")
			var page api.Page[api.AuditEntry]
			if err := json.Unmarshal(a.Body.Bytes(), &page); err != nil || a.Code != http.StatusOK {
				t.Fatalf("%d %s", a.Code, a.Body)
			}
			for _, e := range page.Items {
				if seen[e.ID] {
					t.Errorf("%s is there twice", e.ID)
				}
				if !last.IsZero() && e.At.After(last) {
					t.Errorf("%s comes after an earlier one", e.ID)
				}
				seen[e.ID], last = true, e.At
			}
			if cursor = page.Next; cursor == "" || pages > 10 {
				break
			}
		}
		if len(seen) != 30 {
			t.Errorf("%d entries, want 30", len(seen))
		}
		var page api.Page[api.AuditEntry]
		if a := ask(two, "GET", "/v1/tenants/t07/audit", ""); json.Unmarshal(a.Body.Bytes(), &page) != nil || len(page.Items) != 1 {
			t.Errorf("of one tenant: %s", a.Body)
		}
	})
}

func TestAHostThatResolvesToAPrivateAddressIsRefusedAtRegistration(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		h := w.apiProcess(func(o *Options) {
			o.Resolve = func(ctx context.Context, _, host string) ([]netip.Addr, error) {
				switch host {
				case "inside.example.com":
					return []netip.Addr{netip.MustParseAddr("10.1.2.3")}, nil
				case "both.example.com":
					return []netip.Addr{netip.MustParseAddr("93.184.216.34"), netip.MustParseAddr("::ffff:169.254.169.254")}, nil
				case "public.example.com":
					return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
				case "slow.example.com":
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, errors.New("no such host")
			}
		})
		for host, want := range map[string]int{"inside": 400, "both": 400, "public": 201, "slow": 201, "nosuch": 201} {
			a := ask(h, "POST", "/v1/tenants/acme/endpoints", `{"url":"https://`+host+`.example.com/"}`)
			if a.Code != want || want == 400 && (!strings.Contains(a.Body.String(), `"field":"url"`) || strings.Contains(a.Body.String(), "10.1.2.3")) {
				t.Errorf("%s: %d %s", host, a.Code, a.Body)
			}
		}
	})
}
