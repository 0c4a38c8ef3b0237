package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/api"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/config"
	"posthorn/webhook"
)

func TestBunship_01_AnOrganisationRegistersSeveralEndpointsAndAnEmptyListSubscribesToAll(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		p.hooks(nil)
		all := p.register("acme", "all", fields{"description": "everything", "events": []string{}})
		some := p.register("acme", "some", fields{"description": "members", "events": []string{"member.added", "member.removed"}})
		p.register("globex", "other", nil)
		if all.URL != "https://hooks.example.com/all" || all.Description != "everything" || len(all.Events) != 0 || all.ID == some.ID ||
			some.Description != "members" || !slices.Equal(some.Events, []string{"member.added", "member.removed"}) {
			t.Errorf("registered %+v and %+v", all, some)
		}
		var list struct{ Items []registration }
		p.call("GET", "/v1/tenants/acme/endpoints", nil, &list, http.StatusOK)
		if len(list.Items) != 2 {
			t.Errorf("the organisation has %d endpoints, want its own 2", len(list.Items))
		}
		line := p.process()
		time.Sleep(settle)
		kinds := []string{"member.added", "billing.updated", "member.removed"}
		for i, kind := range kinds {
			p.happen(happening{tenant: "acme", id: fmt.Sprint("e", i), kind: kind})
		}
		time.Sleep(settle)
		got := p.kinds("/all", "type")
		slices.Sort(got)
		if !slices.Equal(got, []string{"billing.updated", "member.added", "member.removed"}) {
			t.Errorf("an empty list got %q", got)
		}
		got = p.kinds("/some", "type")
		slices.Sort(got)
		if !slices.Equal(got, []string{"member.added", "member.removed"}) {
			t.Errorf("a list of two got %q", got)
		}
		if n := len(p.received("/other")); n != 0 {
			t.Errorf("another organisation got %d", n)
		}
		line.terminate()
	})
}

var bunshipSecret = regexp.MustCompile(`^whsec_[0-9a-f]{64}$`)

func TestBunship_02_TheSecretIsShownWhenTheEndpointIsMadeAndNeverAgain(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		p.hooks(nil)
		made := p.register("acme", "a", nil)
		if !bunshipSecret.MatchString(made.Secret) {
			t.Errorf("the secret is %q", made.Secret)
		}
		path := "/v1/tenants/acme/endpoints"
		for _, later := range []string{
			p.call("GET", path, nil, nil, http.StatusOK),
			p.call("GET", path+"/"+made.ID, nil, nil, http.StatusOK),
			p.call("GET", path+"/"+made.ID+"/secrets", nil, nil, http.StatusOK),
			p.call("PATCH", path+"/"+made.ID, fields{"description": "changed"}, nil, http.StatusOK),
		} {
			if strings.Contains(later, made.Secret) || strings.Contains(later, "whsec_") {
				t.Errorf("a later answer shows the secret: %s", later)
			}
		}
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "member.added"})
		time.Sleep(settle)
		if err := p.verifies(p.one("/a"), made.Secret); err != nil {
			t.Errorf("what was shown doesn't verify: %v", err)
		}
		line.terminate()
	})
}

func TestBunship_03_TheBuiltInTypesAreDeliveredAndThePlatformsOwnToo(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		p.hooks(nil)
		kinds := []string{"member.added", "member.removed", "billing.updated", "billing.canceled", "api_key.created", "api_key.revoked",
			"project.created", "test", "invoice.paid"}
		for i, kind := range kinds {
			p.register("acme", fmt.Sprint(i), fields{"events": []string{kind}})
		}
		line := p.process()
		time.Sleep(settle)
		for i, kind := range kinds {
			p.happen(happening{tenant: "acme", id: fmt.Sprint("e", i), kind: kind})
		}
		time.Sleep(settle)
		for i, kind := range kinds {
			if got := p.kinds(fmt.Sprint("/", i), "type"); !slices.Equal(got, []string{kind}) {
				t.Errorf("the subscriber of %s got %q", kind, got)
			}
		}
		line.terminate()
	})
}

func TestBunship_04_TheBodyIsTypeTimestampAndData(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		p.hooks(nil)
		p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		at := time.Date(2026, 3, 14, 10, 26, 53, 589_000_000, time.FixedZone("CET", 3600))
		p.happen(happening{tenant: "acme", id: "e", kind: "member.added", data: `{"b": 1.50, "a":"\u00e9"}`, at: at})
		time.Sleep(settle)
		const want = `{"type":"member.added","timestamp":"2026-03-14T09:26:53.589Z","data":{"b": 1.50, "a":"\u00e9"}}`
		if got := p.one("/a").body; got != want {
			t.Errorf("the body is %s, want %s", got, want)
		}
		line.terminate()
	})
}

func TestBunship_05_TheHeadersNameTypeDeliveryAndSender(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		seen := newArrivals()
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if h.endpoint == "/a" && seen.note(h) < 2 {
				h.status = 500
			}
		})
		p.register("acme", "a", nil)
		p.register("acme", "b", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "member.added"})
		time.Sleep(7 * time.Minute)
		ids := map[string]map[string]bool{}
		for _, h := range p.received("") {
			for name, want := range map[string]string{"Content-Type": "application/json", "User-Agent": "BunShip-Webhooks/1.0", "X-Webhook-Event": "member.added"} {
				if got := h.header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if h.header.Get("X-Webhook-Signature") == "" || h.header.Get("X-Webhook-Delivery-ID") == "" {
				t.Errorf("headers %v", h.header)
			}
			if ids[h.endpoint] == nil {
				ids[h.endpoint] = map[string]bool{}
			}
			ids[h.endpoint][h.header.Get("X-Webhook-Delivery-ID")] = true
		}
		if n := len(p.received("/a")); n != 3 || len(ids["/a"]) != 1 || len(ids["/b"]) != 1 {
			t.Errorf("%d POSTs to the one that failed, under the IDs %v", n, ids)
		}
		for id := range ids["/a"] {
			if ids["/b"][id] {
				t.Error("two deliveries have one ID")
			}
		}
		line.terminate()
	})
}

func TestBunship_06_EveryAttemptIsSignedAnewWithItsOwnTime(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 500 })
		made := p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "member.added"})
		time.Sleep(22 * time.Minute)
		form := regexp.MustCompile(`^t=([0-9]+),v1=[0-9a-f]{64}$`)
		hits := p.received("/a")
		if len(hits) != 4 {
			t.Fatalf("%d POSTs, want 4", len(hits))
		}
		for i := range hits {
			h := &hits[i]
			m := form.FindStringSubmatch(h.header.Get("X-Webhook-Signature"))
			if m == nil {
				t.Fatalf("signed as %q", h.header.Get("X-Webhook-Signature"))
			}
			signed, err := strconv.ParseInt(m[1], 10, 64)
			if age := h.at.Unix() - signed; err != nil || age < 0 || age > 1 {
				t.Errorf("attempt %d was signed %d s before it came", i+1, age)
			}
			if err := p.verifies(h, made.Secret); err != nil {
				t.Errorf("attempt %d: %v", i+1, err)
			}
			late := *h
			late.at = h.at.Add(5*time.Minute + 2*time.Second)
			if p.verifies(&late, made.Secret) == nil {
				t.Errorf("attempt %d passes when it is older than 5 minutes", i+1)
			}
		}
		line.terminate()
	})
}

func TestBunship_07_AFailedDeliveryIsRetriedAfterOneFiveAndFifteenMinutes(t *testing.T) {
	// The line's own schedule is another: the platform's promise goes before it.
	onPlatform(t, "bunship", func(c *config.Config) { c.Delivery.Schedule = []time.Duration{time.Minute} }, func(p *platform) {
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			h.status, _ = strconv.Atoi(h.endpoint[1:])
		})
		statuses := []string{"500", "404", "410", "302", "429"}
		for _, status := range statuses {
			p.register("acme", status, nil)
		}
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "e", kind: "member.added"})
		time.Sleep(24 * time.Minute)
		for _, status := range statuses {
			if got := p.gaps("/" + status); !near(got, time.Minute, 5*time.Minute, 15*time.Minute) {
				t.Errorf("answered %s it is tried again after %v", status, got)
			}
		}
		dead := p.read("posthorn.dead")
		for _, r := range dead {
			if h := headersOf(r); h["reason"] != string(webhook.ReasonExhausted) {
				t.Errorf("failed as %s", h["reason"])
			}
		}
		if len(dead) != len(statuses) {
			t.Errorf("%d deliveries have failed, want %d", len(dead), len(statuses))
		}
		line.terminate()
	})
}

// bunshipRecord is what the platform shows of a delivery.
type bunshipRecord struct {
	ID          string     `json:"id"`
	EventType   string     `json:"event_type"`
	State       string     `json:"state"`
	Payload     string     `json:"payload"`
	StatusCode  *int       `json:"status_code"`
	Response    string     `json:"response"`
	Attempts    int        `json:"attempts"`
	DeliveredAt *time.Time `json:"delivered_at"`
	NextRetryAt *time.Time `json:"next_retry_at"`
}

// The ledger's engine is a process of its own, so this runs in real time, with a
// retry after a second in place of a minute; its receiver waits with the answer
// until the record of the first attempt was read.
func TestBunship_08_ADeliverysRecordShowsWhatWasSentWhatCameBackAndWhatIsNext(t *testing.T) {
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	contracts := t.TempDir()
	bunship, err := os.ReadFile("../../contract/contracts/bunship.yaml")
	if err != nil {
		t.Fatal(err)
	}
	bunship = bytes.Replace(bunship, []byte("schedule: [1m, 5m, 15m]"), []byte("schedule: [1s]"), 1)
	bunship = bytes.Replace(bunship, []byte("timeout: 15s"), []byte("timeout: 1m"), 1)
	if err := os.WriteFile(filepath.Join(contracts, "bunship.yaml"), bunship, 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var bodies []string
	read := make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		bodies = append(bodies, string(body))
		first := len(bodies) == 1
		mu.Unlock()
		if first {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, strings.Repeat("é", 600))
			return
		}
		select {
		case <-read:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "thanks")
	}))
	defer receiver.Close()
	d := startDev(t, filepath.Join(t.TempDir(), "line"), func(o *DevOptions) {
		o.Config.Delivery.AllowCIDR = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.Config.ContractsDir = contracts
	})
	defer d.end()
	status, text := d.ask(http.MethodPost, "/v1/tenants/acme/endpoints", "localhost", `{"contract":"bunship","url":"`+receiver.URL+`/hook"}`)
	if status != http.StatusCreated {
		t.Fatalf("registering: %d %s", status, text)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(d.at.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := orderOf("e1", "member.added")
	r.Topic = DevTopic
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	record := func(so func(*bunshipRecord) bool) (found bunshipRecord) {
		t.Helper()
		waitUntil(t, "the delivery's record shows it", func() bool {
			var list struct{ Items []bunshipRecord }
			status, text := d.ask(http.MethodGet, "/v1/tenants/acme/deliveries?event=e1", "localhost", "")
			if status != http.StatusOK || json.Unmarshal([]byte(text), &list) != nil || len(list.Items) != 1 || !so(&list.Items[0]) {
				return false
			}
			status, text = d.ask(http.MethodGet, "/v1/tenants/acme/deliveries/"+list.Items[0].ID, "localhost", "")
			found = bunshipRecord{}
			return status == http.StatusOK && json.Unmarshal([]byte(text), &found) == nil && so(&found)
		})
		return found
	}
	first := record(func(r *bunshipRecord) bool { return r.Attempts == 1 })
	if first.EventType != "member.added" || first.State != "pending" || first.StatusCode == nil || *first.StatusCode != 503 ||
		first.Response != strings.Repeat("é", 500) || first.DeliveredAt != nil || first.NextRetryAt == nil {
		t.Errorf("after the first attempt: %+v", first)
	}
	close(read)
	last := record(func(r *bunshipRecord) bool { return r.State == "delivered" })
	mu.Lock()
	defer mu.Unlock()
	if len(bodies) != 2 || bodies[0] != bodies[1] || last.Payload != bodies[0] || last.Attempts != 2 || last.StatusCode == nil || *last.StatusCode != 200 ||
		last.Response != "thanks" || last.DeliveredAt == nil || last.NextRetryAt != nil || last.ID != first.ID {
		t.Errorf("after the second attempt: %+v, sent %q", last, bodies)
	}
}

// In real time, for its result is read from the ledger.
func TestBunship_09_ATestEventIsSentToOneEndpointAndItsResultRead(t *testing.T) {
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	type post struct{ path, header, body string }
	posts := make(chan post, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		posts <- post{r.URL.Path, r.Header.Get("X-Webhook-Event"), string(body)}
		fmt.Fprint(w, "thanks")
	}))
	defer receiver.Close()
	d := startDev(t, filepath.Join(t.TempDir(), "line"), func(o *DevOptions) {
		o.Config.Delivery.AllowCIDR = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	defer d.end()
	const endpoints = "/v1/tenants/acme/endpoints"
	var tested, other api.Endpoint
	d.call(http.StatusCreated, http.MethodPost, endpoints, `{"contract":"bunship","events":["member.added"],"url":"`+receiver.URL+`/tested"}`, &tested)
	d.call(http.StatusCreated, http.MethodPost, endpoints, `{"contract":"bunship","url":"`+receiver.URL+`/other"}`, &other)
	var sent api.Sent
	d.call(http.StatusAccepted, http.MethodPost, endpoints+"/"+tested.ID+"/test", "", &sent)
	result := d.delivery(sent.DeliveryID, func(v *api.DeliveryDetail) bool { return v.State == "delivered" })
	got := <-posts
	var body struct {
		Type string
		Data map[string]any
	}
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.path != "/tested" || got.header != "test" || body.Type != "test" || len(body.Data) == 0 {
		t.Errorf("came as %+v, %v", got, err)
	}
	if result.EventType != "test" || result.Origin != "test" || result.EndpointID != tested.ID || result.StatusCode == nil || *result.StatusCode != 200 ||
		result.Response != "thanks" || result.Payload == nil || *result.Payload != got.body || result.Attempts != 1 || result.DeliveredAt == nil {
		t.Errorf("its result: %+v", result)
	}
	if n := len(posts); n != 0 {
		t.Errorf("%d further POSTs: it is for one endpoint", n)
	}
}

func TestBunship_10_TheSecretIsRotatedInPlaceAndTheNewOneShownOnce(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		p.hooks(nil)
		made := p.register("acme", "a", nil)
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "acme", id: "before", kind: "member.added"})
		time.Sleep(settle)
		path := "/v1/tenants/acme/endpoints/" + made.ID
		var rotated struct{ ID, Secret string }
		p.call("POST", path+"/secrets", nil, &rotated, http.StatusCreated)
		if !bunshipSecret.MatchString(rotated.Secret) || rotated.Secret == made.Secret {
			t.Errorf("rotated to %q", rotated.Secret)
		}
		if later := p.call("GET", path+"/secrets", nil, nil, http.StatusOK); strings.Contains(later, "whsec_") {
			t.Errorf("a later answer shows the secret: %s", later)
		}
		time.Sleep(time.Second)
		p.happen(happening{tenant: "acme", id: "after", kind: "member.added"})
		time.Sleep(settle)
		hits := p.received("/a")
		if len(hits) != 2 {
			t.Fatalf("%d POSTs to the same endpoint, want 2", len(hits))
		}
		if err := p.verifies(&hits[0], made.Secret); err != nil {
			t.Errorf("before the rotation: %v", err)
		}
		if err := p.verifies(&hits[1], rotated.Secret); err != nil {
			t.Errorf("after the rotation: %v", err)
		}
		line.terminate()
	})
}

func TestBunship_11_AddressesThatAreNotPublicAreRefusedWhenRegistered(t *testing.T) {
	onPlatform(t, "bunship", nil, func(p *platform) {
		for _, host := range []string{"127.0.0.1", "127.9.9.9", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "169.254.169.254",
			"localhost", "LOCALHOST", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "intranet", "intranet.", "2130706433", "0x7f.1"} {
			for _, scheme := range []string{"http", "https"} {
				if wrong := p.refused("acme", fields{"url": scheme + "://" + host + "/hook"}); !slices.Equal(wrong, []string{"url"}) {
					t.Errorf("%s: the problem is with %q", host, wrong)
				}
			}
		}
		for _, url := range []string{"ftp://hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com", "hooks.example.com/a", "javascript:alert(1)", ""} {
			if wrong := p.refused("acme", fields{"url": url}); !slices.Equal(wrong, []string{"url"}) {
				t.Errorf("%q: the problem is with %q", url, wrong)
			}
		}
		made := p.register("acme", "fine", nil)
		p.register("acme", "", fields{"url": "http://172.32.0.1/hook"})
		p.call("PATCH", "/v1/tenants/acme/endpoints/"+made.ID, fields{"url": "http://10.0.0.1/"}, nil, http.StatusBadRequest)
	})
}

func TestBunship_12_APlansLimitRefusesTheNextEndpointAndSaysSo(t *testing.T) {
	onPlatform(t, "bunship", func(c *config.Config) { c.DefaultPlan = "free" }, func(p *platform) {
		for plan, limit := range map[string]int{"": 1, "free": 1, "pro": 10, "enterprise": 0} {
			tenant := "on-" + plan
			if plan != "" {
				p.call("POST", "/v1/tenants", fields{"id": tenant, "plan": plan}, nil, http.StatusCreated)
			}
			for i := range max(limit, 25*(1-min(limit, 1))) {
				p.register(tenant, fmt.Sprint(i), nil)
			}
			if limit == 0 {
				continue
			}
			said := p.call("POST", "/v1/tenants/"+tenant+"/endpoints", p.with(fields{"url": "https://hooks.example.com/more"}), nil, http.StatusForbidden)
			if !strings.Contains(said, fmt.Sprint(limit)) {
				t.Errorf("plan %q: refused with %s", plan, said)
			}
		}
	})
}
