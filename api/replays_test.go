package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"posthorn/webhook"
)

// belt is a line that keeps what is put on it.
type belt struct {
	mu   sync.Mutex
	put  []*webhook.Delivery
	fail error
	gone bool
}

func (b *belt) Body(contract string, e *webhook.Event) ([]byte, string, error) {
	if contract == "plain" && e.Type == TestType {
		return nil, "", errors.New(`field "store" is missing`)
	}
	return append([]byte(e.Type+" "), e.Data...), "application/json", nil
}

func (b *belt) Event(_ context.Context, tenant string, d *DeliveryDetail) (*webhook.Event, error) {
	if b.gone || tenant != "acme" {
		return nil, ErrEventGone
	}
	return &webhook.Event{ID: d.EventID, Source: d.EventSource, Type: d.EventType, Data: []byte("again")}, nil
}

func (b *belt) Put(_ context.Context, d *webhook.Delivery) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		b.put = append(b.put, d)
	}
	return b.fail
}

func (b *belt) DryRun(_ context.Context, q DryRunQuery) (*DryRun, error) {
	return &DryRun{Matched: int64(q.Samples), Types: []DryRunType{}, Samples: []DryRunEvent{}, Cut: "none"}, b.fail
}

// shelf is a ledger of one delivery, in the runs that the belt has.
type shelf struct {
	awayLedger
	detail *DeliveryDetail
}

func (s *shelf) Delivery(_ context.Context, tenant, id string) (*DeliveryDetail, error) {
	if tenant != "acme" || id != s.detail.ID {
		return nil, ErrNotFound
	}
	return s.detail, nil
}

func onBelt(b *belt, l Ledger) func(*Config) {
	return func(c *Config) { c.Line, c.Ledger = b, l }
}

func TestATestEventGoesToItsEndpointOncePerKey(t *testing.T) {
	b := &belt{}
	c := start(t, onBelt(b, nil))
	ep := c.create(`{"url":"https://hooks.example.com/a","events":["nothing.ever"]}`)
	path := acme + "/" + ep.ID + "/test"
	first := decode[Sent](c.do("POST", path, "").want(http.StatusAccepted))
	d := b.put[0]
	if d.ID != first.DeliveryID || d.Origin != webhook.OriginTest || d.Run != 0 || d.EndpointID != ep.ID || d.Tenant != "acme" || string(d.Body) != "test "+string(sample) || d.BegunAt.IsZero() {
		t.Errorf("%+v", d)
	}
	if a := c.do("POST", path, `{"event_type":"order.created"}`).want(http.StatusAccepted); b.put[1].EventType != "order.created" || a.Header.Get("Location") != "/v1/tenants/acme/deliveries/"+b.put[1].ID {
		t.Errorf("%+v at %s", b.put[1], a.Header.Get("Location"))
	}
	example := `{"name":"order.paid","examples":[{"order":7}]}`
	c.do("POST", "/v1/event-types", example).want(http.StatusCreated)
	c.do("POST", path, `{"event_type":"order.paid"}`).want(http.StatusAccepted)
	if got := string(b.put[2].Body); got != `order.paid {"order":7}` {
		t.Errorf("the catalogue's example is sent as %s", got)
	}
	b.put = b.put[:2]
	// A repeat has the same identity, another request another.
	k1 := decode[Sent](c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusAccepted))
	k2 := decode[Sent](c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusAccepted))
	if k1 != k2 || k1.DeliveryID == first.DeliveryID || b.put[2].Identity() != b.put[3].Identity() || !b.put[2].BegunAt.Equal(b.put[3].BegunAt) {
		t.Errorf("%+v, repeated %+v", k1, k2)
	}
	c.do("POST", path, `{"event_type":"order.paid"}`, "Idempotency-Key", "k").want(http.StatusUnprocessableEntity)
	c.do("POST", path, `{"type":"order.paid"}`).wantFields("type")
	c.do("POST", acme+"/ep_none/test", "").want(http.StatusNotFound)

	plain := c.create(`{"url":"https://hooks.example.com/a","contract":"plain"}`)
	if a := c.do("POST", acme+"/"+plain.ID+"/test", "").want(http.StatusConflict); !strings.Contains(a.body, "store") {
		t.Errorf("what the contract lacks isn't said: %s", a.body)
	}
	c.do("PATCH", acme+"/"+ep.ID, `{"disabled":true}`).want(http.StatusOK)
	c.do("POST", path, "").want(http.StatusConflict)
	c.do("PATCH", acme+"/"+ep.ID, `{"disabled":false}`).want(http.StatusOK)
	b.fail = errors.New("no leader")
	if a := c.do("POST", path, "").want(http.StatusServiceUnavailable); strings.Contains(a.body, "leader") {
		t.Errorf("told: %s", a.body)
	}
	start(t).do("POST", acme+"/ep_1/test", "").want(http.StatusServiceUnavailable)
}

func TestAResendIsAnotherRunWithTheSameBody(t *testing.T) {
	b := &belt{}
	l := &shelf{}
	c := start(t, onBelt(b, l))
	ep := c.create(plainBody)
	payload := "/wA="
	l.detail = &DeliveryDetail{Delivery: Delivery{ID: "dlv_1", EndpointID: ep.ID, EventID: "e1", EventSource: "shop", EventType: "order.paid"},
		Origin: "match", Contract: "standard", ContentType: "text/plain", Payload: &payload, PayloadEncoding: "base64",
		Source: &SourcePosition{Topic: "orders", Partition: 3, Offset: 14}, Runs: []DeliveryRun{{}}}
	const path = "/v1/tenants/acme/deliveries/dlv_1/resend"
	sent := decode[Sent](c.do("POST", path, "").want(http.StatusAccepted))
	d := b.put[0]
	if sent.Run == 0 || d.Run != sent.Run || d.BegunAt.UnixMilli() != d.Run || d.ID != "dlv_1" || d.Origin != webhook.OriginResend || string(d.Body) != "\xff\x00" ||
		d.ContentType != "text/plain" || d.Source.Offset != 14 || d.EventID != "e1" {
		t.Errorf("%+v", d)
	}
	k1 := decode[Sent](c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusAccepted))
	k2 := decode[Sent](c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusAccepted))
	if k1 != k2 || len(b.put) != 3 || b.put[1].Identity() != b.put[2].Identity() {
		t.Errorf("%+v, repeated %+v, %d put", k1, k2, len(b.put))
	}
	// What the ledger knows of isn't put on the line again.
	l.detail.Runs = append(l.detail.Runs, DeliveryRun{Run: k1.Run})
	if k3 := decode[Sent](c.do("POST", path, "", "Idempotency-Key", "k").want(http.StatusAccepted)); k3 != k1 || len(b.put) != 3 {
		t.Errorf("%+v, %d put", k3, len(b.put))
	}

	l.detail.Payload = nil
	c.do("POST", path, "").want(http.StatusAccepted)
	if d := b.put[3]; string(d.Body) != "order.paid again" || d.ContentType != "application/json" {
		t.Errorf("rebuilt as %+v", d)
	}
	b.gone = true
	c.do("POST", path, "").want(http.StatusGone)
	c.do("POST", "/v1/tenants/acme/deliveries/dlv_2/resend", "").want(http.StatusNotFound)
	c.do("POST", "/v1/tenants/globex/deliveries/dlv_1/resend", "").want(http.StatusNotFound)
	c.do("DELETE", acme+"/"+ep.ID, "").want(http.StatusNoContent)
	c.do("POST", path, "").want(http.StatusNotFound)
	audited := 0
	for _, e := range c.store.audit {
		if e.Operation == "resendDelivery" && e.Kind == "delivery" && e.ID == "dlv_1" {
			audited++
		}
	}
	if audited != 3 {
		t.Errorf("%d of 3 resends are in the audit log", audited)
	}
}

const acmeReplays = "/v1/tenants/acme/replays"

// ago is a time as a request has it.
func ago(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339Nano) }

func TestAReplayIsCreatedOncePerKeyAndTakenUpWithItsRecord(t *testing.T) {
	c := start(t, onBelt(&belt{}, &shelf{}))
	ep := c.create(plainBody)
	body := fmt.Sprintf(`{"endpoint":%q,"since":%q,"events":["order.*"]}`, ep.ID, ago(time.Hour))
	a := c.do("POST", acmeReplays, body, "Idempotency-Key", "k").want(http.StatusAccepted)
	r := decode[Replay](a)
	if r.State != "queued" || r.Kind != "replay" || r.Rate != defaultReplayRate || r.Run == 0 || r.Until.IsZero() || a.Header.Get("Location") != acmeReplays+"/"+r.ID {
		t.Errorf("%+v", r)
	}
	if r.Since.Nanosecond()%int(time.Millisecond) != 0 {
		t.Errorf("since %v: what was produced in that millisecond would be left out", r.Since)
	}
	if again := decode[Replay](c.do("POST", acmeReplays, body, "Idempotency-Key", "k").want(http.StatusOK)); again.ID != r.ID || again.Run != r.Run {
		t.Errorf("repeated: %+v", again)
	}
	c.do("POST", acmeReplays, strings.Replace(body, "order.*", "order.paid", 1), "Idempotency-Key", "k").want(http.StatusUnprocessableEntity)
	if started := slices.Collect(maps.Keys(maps.Collect(c.store.Records("started", "", "")))); !slices.Equal(started, []string{"acme/" + r.ID}) {
		t.Errorf("taken up: %q", started)
	}
	for wrong, fields := range map[string][]string{
		`{}`: {"endpoint", "since"},
		fmt.Sprintf(`{"endpoint":%q,"since":%q}`, ep.ID, ago(-time.Hour)):                                    {"since"},
		fmt.Sprintf(`{"endpoint":%q,"since":%q,"until":%q}`, ep.ID, ago(time.Hour), ago(2*time.Hour)):        {"until"},
		fmt.Sprintf(`{"endpoint":%q,"since":"1969-12-31T23:59:59.999Z"}`, ep.ID):                             {"since"}, // -1 ms is "the end" to Kafka
		fmt.Sprintf(`{"endpoint":%q,"since":%q,"until":"9999-12-31T23:59:59-01:00"}`, ep.ID, ago(time.Hour)): {"until"},
		fmt.Sprintf(`{"endpoint":%q,"since":%q,"events":["a b"],"states":["dead"]}`, ep.ID, ago(time.Hour)):  {"events[0]", "states"},
		fmt.Sprintf(`{"endpoint":%q,"since":%q,"kind":"retry","states":["pending"]}`, ep.ID, ago(time.Hour)): {"states[0]"},
		fmt.Sprintf(`{"endpoint":%q,"since":%q,"rate":0}`, ep.ID, ago(time.Hour)):                            {"rate"},
		fmt.Sprintf(`{"endpoint":%q,"since":%q,"rate":10001,"kind":"x"}`, ep.ID, ago(time.Hour)):             {"kind", "rate"},
	} {
		c.do("POST", acmeReplays, wrong).wantFields(fields...)
	}
	c.do("POST", acmeReplays, strings.Replace(body, ep.ID, "ep_none", 1)).want(http.StatusNotFound)
	c.do("POST", "/v1/tenants/globex/replays", body).want(http.StatusNotFound)
	none := start(t, onBelt(&belt{}, nil))
	ours := none.create(plainBody)
	none.do("POST", acmeReplays, fmt.Sprintf(`{"endpoint":%q,"since":%q,"kind":"retry"}`, ours.ID, ago(time.Hour))).want(http.StatusServiceUnavailable)
}

func TestReplaysOfOneMomentToOneEndpointAreRunsOfTheirOwn(t *testing.T) {
	c := start(t, onBelt(&belt{}, nil))
	one, other := c.create(plainBody), c.create(plainBody)
	c.store.clock = time.Now().UTC()
	at := c.store.clock.UnixMilli()
	replay := func(id string) int64 {
		return decode[Replay](c.do("POST", acmeReplays, fmt.Sprintf(`{"endpoint":%q,"since":%q}`, id, ago(time.Hour))).want(http.StatusAccepted)).Run
	}
	if got, want := []int64{replay(one.ID), replay(one.ID), replay(other.ID), replay(one.ID)}, []int64{at, at + 1, at, at + 2}; !slices.Equal(got, want) {
		t.Errorf("runs %d, want %d", got, want)
	}
}

func TestAReplayIsPausedResumedAndCancelledUntilItEnds(t *testing.T) {
	c := start(t, onBelt(&belt{}, nil))
	ep := c.create(plainBody)
	r := decode[Replay](c.do("POST", acmeReplays, fmt.Sprintf(`{"endpoint":%q,"since":%q}`, ep.ID, ago(time.Hour))).want(http.StatusAccepted))
	path := acmeReplays + "/" + r.ID
	is := func(verb, state string) {
		t.Helper()
		if got := decode[Replay](c.do("POST", path+"/"+verb, "").want(http.StatusOK)); got.State != state {
			t.Errorf("after %s: %s, want %s", verb, got.State, state)
		}
		if got := decode[Replay](c.do("GET", path, "").want(http.StatusOK)); got.State != state {
			t.Errorf("read after %s: %s, want %s", verb, got.State, state)
		}
	}
	is("pause", "paused")
	is("pause", "paused")
	is("resume", "queued")
	c.owner(r.ID, webhook.ReplayProgress{State: webhook.ReplayWaiting, Reason: "the endpoint is disabled", Total: 9, Finished: 4, Produced: 2, Skipped: 1, StartedAt: time.Now()})
	got := decode[Replay](c.do("GET", path, "").want(http.StatusOK))
	if want := (ReplayProgress{Total: 9, Scanned: 4, Matched: 3, Produced: 2, Skipped: 1}); got.State != "waiting" || got.Reason != "the endpoint is disabled" || got.Progress != want || got.StartedAt == nil || got.EndedAt != nil {
		t.Errorf("%+v", got)
	}
	is("pause", "paused")
	is("cancel", "cancelled")
	is("cancel", "cancelled")
	c.do("POST", path+"/resume", "").want(http.StatusConflict)
	c.do("POST", "/v1/tenants/globex/replays/"+r.ID+"/cancel", "").want(http.StatusNotFound)
	c.do("GET", "/v1/tenants/globex/replays/"+r.ID, "").want(http.StatusNotFound)
	c.owner(r.ID, webhook.ReplayProgress{State: webhook.ReplayCompleted, EndedAt: time.Now()})
	if got := decode[Replay](c.do("GET", path, "").want(http.StatusOK)); got.State != "completed" || got.EndedAt == nil {
		t.Errorf("it had ended before it was cancelled: %+v", got)
	}
}

// owner saves a replay's progress, as whoever runs it does.
func (c *client) owner(id string, p webhook.ReplayProgress) {
	c.t.Helper()
	value, err := json.Marshal(p)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.store.Update(c.t.Context(), func(tx Tx) error { return tx.PutRaw(KindProgress, "acme/"+id, value) }); err != nil {
		c.t.Fatal(err)
	}
}

func TestATenantHasFewReplaysUnderWayAndThoseThatEndedGo(t *testing.T) {
	c := start(t, onBelt(&belt{}, nil))
	ep := c.create(plainBody)
	body := fmt.Sprintf(`{"endpoint":%q,"since":%q,"paused":true}`, ep.ID, ago(time.Hour))
	var made []Replay
	for range maxUnended {
		made = append(made, decode[Replay](c.do("POST", acmeReplays, body).want(http.StatusAccepted)))
	}
	if p := decode[Problem](c.do("POST", acmeReplays, body).want(http.StatusForbidden)); p.Type != TypeLimitReached {
		t.Errorf("%+v", p)
	}
	c.owner(made[0].ID, webhook.ReplayProgress{State: webhook.ReplayCancelled, EndedAt: time.Now().Add(-keptFor - time.Hour)})
	c.owner(made[1].ID, webhook.ReplayProgress{State: webhook.ReplayCompleted, EndedAt: time.Now().Add(-time.Hour)})
	c.do("POST", acmeReplays, body).want(http.StatusAccepted)
	c.do("GET", acmeReplays+"/"+made[0].ID, "").want(http.StatusNotFound)
	if _, ok := c.store.Raw(KindProgress, "acme/"+made[0].ID); ok {
		t.Error("its progress is still there")
	}
	c.do("GET", acmeReplays+"/"+made[1].ID, "").want(http.StatusOK)
	page := decode[Page[Replay]](c.do("GET", acmeReplays+"?limit=4", "").want(http.StatusOK))
	rest := decode[Page[Replay]](c.do("GET", acmeReplays+"?limit=10&cursor="+page.Next, "").want(http.StatusOK))
	if len(page.Items) != 4 || len(rest.Items) != 6 || rest.Next != "" {
		t.Errorf("pages of %d and %d", len(page.Items), len(rest.Items))
	}
}

func TestADryRunIsBoundedByItsRequest(t *testing.T) {
	b := &belt{}
	c := start(t, onBelt(b, nil))
	const path = "/v1/tenants/acme/dry-run"
	if got := decode[DryRun](c.do("POST", path, `{"since":"`+ago(time.Hour)+`"}`).want(http.StatusOK)); got.Matched != defaultSamples {
		t.Errorf("%+v", got)
	}
	c.do("POST", path, `{"since":"`+ago(time.Hour)+`","samples":21}`).wantFields("samples")
	c.do("POST", path, `{"since":"`+ago(time.Hour)+`","until":"`+ago(2*time.Hour)+`","events":[""]}`).wantFields("events[0]", "until")
	c.do("POST", path, `{}`).wantFields("since")
	b.fail = errors.New("no leader")
	c.do("POST", path, `{"since":"`+ago(time.Hour)+`"}`).want(http.StatusServiceUnavailable)
}

// slowBelt is a belt whose dry runs last until they are let go.
type slowBelt struct {
	belt
	began, end chan struct{}
}

func (b *slowBelt) DryRun(ctx context.Context, q DryRunQuery) (*DryRun, error) {
	b.began <- struct{}{}
	select {
	case <-b.end:
	case <-ctx.Done():
	}
	return b.belt.DryRun(ctx, q)
}

func TestAProcessDoesAFewDryRunsAtOnceAndRefusesMore(t *testing.T) {
	b := &slowBelt{began: make(chan struct{}, dryRunsAtOnce+1), end: make(chan struct{})}
	c := start(t, func(cfg *Config) { cfg.Line = b })
	dry := func() answer { return c.do("POST", "/v1/tenants/acme/dry-run", `{"since":"`+ago(time.Hour)+`"}`) }
	var wg sync.WaitGroup
	for range dryRunsAtOnce {
		wg.Go(func() {
			if a := dry(); a.StatusCode != http.StatusOK {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
		<-b.began
	}
	if a := dry().want(http.StatusServiceUnavailable); a.Header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	close(b.end)
	wg.Wait()
	dry().want(http.StatusOK)
}
