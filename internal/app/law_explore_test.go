package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/analytics/ledger"
	"posthorn/api"
	"posthorn/internal/cli"
	"posthorn/internal/clickhousetest"
)

// call makes one request of the API, and reads its answer unless into is nil.
func (d *devLine) call(want int, method, path, body string, into any) {
	d.t.Helper()
	status, text := d.ask(method, path, "localhost", body)
	if status != want {
		d.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			d.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// delivery polls one until it is so.
func (d *devLine) delivery(id string, so func(*api.DeliveryDetail) bool) *api.DeliveryDetail {
	d.t.Helper()
	found := new(api.DeliveryDetail)
	waitUntil(d.t, "delivery "+id+" is as wanted", func() bool {
		status, text := d.ask(http.MethodGet, "/v1/tenants/acme/deliveries/"+id, "localhost", "")
		*found = api.DeliveryDetail{}
		return status == http.StatusOK && json.Unmarshal([]byte(text), found) == nil && so(found)
	})
	return found
}

// The whole line in real time, with the engine: what a customer's support does
// after an endpoint was broken.
func TestWhatFailedIsFoundSentAgainRetriedAndReplayedAndTheLedgerAddsUp(t *testing.T) {
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	var mu sync.Mutex
	posts := map[string][]string{} // bodies by path
	broken := true
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if broken && r.URL.Path == "/old" && !strings.Contains(string(body), "test event") {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, strings.Repeat("ü", 600))
			return
		}
		posts[r.URL.Path] = append(posts[r.URL.Path], string(body))
	}))
	defer receiver.Close()
	d := startDev(t, filepath.Join(t.TempDir(), "line"), func(o *DevOptions) {
		o.Config.Delivery.AllowCIDR = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		o.Config.Breaker.MinRequests = 1000 // it stays closed
	})
	defer d.end()
	client, err := kgo.NewClient(kgo.SeedBrokers(d.at.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const tenant = "/v1/tenants/acme"
	var old, late api.Endpoint
	d.call(http.StatusCreated, http.MethodPost, tenant+"/endpoints", `{"url":"`+receiver.URL+`/old","events":["order.*"]}`, &old)
	begun := time.Now()
	const n = 12
	for i := range n {
		r := orderOf(fmt.Sprintf("e%02d", i), "order.created")
		r.Topic = DevTopic
		if i%4 == 3 {
			r.Headers[3].Value = []byte("stock.changed")
		}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	// All that matched die: one attempt and one retry each.
	var dead api.Page[api.Delivery]
	since := begun.Add(-time.Minute).UTC().Format(time.RFC3339)
	waitUntil(t, "nine deliveries are dead", func() bool {
		d.call(http.StatusOK, http.MethodGet, tenant+"/deliveries?state=dead&endpoint="+old.ID+"&since="+since, "", &dead)
		return len(dead.Items) == 9
	})
	var backlog api.Backlog
	d.call(http.StatusOK, http.MethodGet, tenant+"/endpoints/"+old.ID+"/backlog", "", &backlog)
	if backlog.Waiting != 0 || backlog.Rate <= 0 {
		t.Errorf("backlog %+v", backlog)
	}
	one := d.delivery(dead.Items[0].ID, func(v *api.DeliveryDetail) bool { return len(v.Runs) == 1 && len(v.Runs[0].History) == 2 })
	if one.EventType != "order.created" || one.StatusCode == nil || *one.StatusCode != 500 || one.Response != strings.Repeat("ü", 500) || one.Attempts != 2 || one.DeliveredAt != nil ||
		one.Payload == nil || !strings.HasPrefix(*one.Payload, `{"id":"e`) || one.Origin != "match" || one.Source == nil || one.Source.Topic != DevTopic {
		t.Errorf("a dead delivery is %+v", one)
	}
	// Page by page, while more comes.
	seen := map[string]bool{}
	cursor := ""
	for {
		var page api.Page[api.Delivery]
		d.call(http.StatusOK, http.MethodGet, tenant+"/deliveries?limit=4&state=dead&cursor="+cursor, "", &page)
		for _, item := range page.Items {
			seen[item.ID] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d deliveries in pages of four", len(seen))
	}
	var attempts api.Page[api.Attempt]
	d.call(http.StatusOK, http.MethodGet, tenant+"/deliveries/"+one.ID+"/attempts?limit=1", "", &attempts)
	if len(attempts.Items) != 1 || attempts.Next == "" || attempts.Items[0].N != 1 {
		t.Errorf("attempts %+v", attempts)
	}
	var earlier api.Page[api.Attempt]
	d.call(http.StatusOK, http.MethodGet, tenant+"/deliveries/"+one.ID+"/attempts?limit=1&cursor="+attempts.Next, "", &earlier)
	if len(earlier.Items) != 1 || earlier.Next != "" || earlier.Items[0].N != 0 {
		t.Errorf("earlier attempts %+v", earlier)
	}
	d.call(http.StatusNotFound, http.MethodGet, "/v1/tenants/globex/deliveries/"+one.ID, "", nil)
	d.call(http.StatusNotFound, http.MethodGet, "/v1/tenants/globex/deliveries/"+one.ID+"/attempts", "", nil)

	// A test event arrives whatever the subscription.
	var sent api.Sent
	d.call(http.StatusAccepted, http.MethodPost, tenant+"/endpoints/"+old.ID+"/test", "", &sent)
	tested := d.delivery(sent.DeliveryID, func(v *api.DeliveryDetail) bool { return v.State == "delivered" })
	if tested.Origin != "test" || tested.EventType != "test" || tested.DeliveredAt == nil || tested.Source != nil || len(posts["/old"]) != 1 {
		t.Errorf("the test is %+v", tested)
	}

	// It is mended: one is sent again, the others are retried.
	mu.Lock()
	broken = false
	mu.Unlock()
	d.call(http.StatusAccepted, http.MethodPost, tenant+"/deliveries/"+one.ID+"/resend", "", &sent)
	again := d.delivery(one.ID, func(v *api.DeliveryDetail) bool { return v.State == "delivered" })
	if again.Run != sent.Run || len(again.Runs) != 2 || again.Runs[1].State != "dead" || again.Origin != "resend" || *again.Payload != *one.Payload {
		t.Errorf("sent again it is %+v", again)
	}
	end := func(r api.Replay) api.Replay {
		t.Helper()
		waitUntil(t, "the replay is completed and delivered", func() bool {
			id := r.ID
			r = api.Replay{}
			d.call(http.StatusOK, http.MethodGet, tenant+"/replays/"+id, "", &r)
			return r.State == "completed" && r.Deliveries != nil && r.Deliveries.Delivered == r.Progress.Produced
		})
		return r
	}
	var r api.Replay
	d.call(http.StatusAccepted, http.MethodPost, tenant+"/replays", `{"kind":"retry","endpoint":"`+old.ID+`","since":"`+since+`"}`, &r)
	if r = end(r); r.Progress.Produced != 8 || r.Progress.Total != 8 || r.Progress.Scanned != 8 || r.Progress.Skipped != 0 {
		t.Errorf("the retry is %+v", r)
	}

	// A newer endpoint gets what was before it.
	d.call(http.StatusCreated, http.MethodPost, tenant+"/endpoints", `{"url":"`+receiver.URL+`/late"}`, &late)
	d.call(http.StatusAccepted, http.MethodPost, tenant+"/replays", `{"endpoint":"`+late.ID+`","since":"`+since+`"}`, &r)
	if r = end(r); r.Progress.Produced != n || r.Progress.Scanned != r.Progress.Total {
		t.Errorf("the replay is %+v", r)
	}
	var tried api.DryRun
	d.call(http.StatusOK, http.MethodPost, tenant+"/dry-run", `{"events":["stock.*"],"since":"`+since+`","samples":2}`, &tried)
	if tried.Matched != 3 || tried.Cut != "none" || tried.Scanned != n || len(tried.Samples) != 2 || len(tried.Types) != 1 || tried.Types[0].Events != 3 {
		t.Errorf("the dry run is %+v", tried)
	}

	d.call(http.StatusOK, http.MethodPost, tenant+"/dry-run", `{"filter":"data.id >= \"e09\"","since":"`+since+`","samples":0}`, &tried)
	if tried.Matched != 3 || tried.Undecided != 0 || len(tried.Samples) != 0 {
		t.Errorf("the dry run with a filter is %+v", tried)
	}
	d.call(http.StatusOK, http.MethodPost, tenant+"/dry-run", `{"filter":"data.id > 5","since":"`+since+`"}`, &tried)
	if tried.Matched != 0 || tried.Undecided != n {
		t.Errorf("the dry run with a filter that fails is %+v", tried)
	}
	d.call(http.StatusBadRequest, http.MethodPost, tenant+"/dry-run", `{"filter":"data.","since":"`+since+`"}`, nil)
	d.onTheCommandLine(old.ID, one.ID, r.ID, begun)

	// Past the TTL of bodies a resend builds it again.
	mu.Lock()
	before := len(posts["/late"])
	mu.Unlock()
	d.exec("TRUNCATE TABLE messages")
	if gone := d.delivery(one.ID, func(*api.DeliveryDetail) bool { return true }); gone.Payload != nil {
		t.Errorf("the payload is still there: %q", *gone.Payload)
	}
	d.call(http.StatusAccepted, http.MethodPost, tenant+"/deliveries/"+one.ID+"/resend", "", &sent)
	d.delivery(one.ID, func(v *api.DeliveryDetail) bool { return v.Run == sent.Run && v.State == "delivered" })
	d.call(http.StatusGone, http.MethodPost, tenant+"/deliveries/"+tested.ID+"/resend", "", nil)

	var last ledger.Counts
	waitUntil(t, "the ledger adds up", func() bool {
		last = d.reconcile().Counts
		// 9 dead, 1 test, 2 resends, 8 retried, 12 replayed.
		return last == ledger.Counts{Matched: 32, Delivered: 23, Dead: 9}
	})
	mu.Lock()
	defer mu.Unlock()
	if len(posts["/old"]) != 1+2+8 || len(posts["/late"]) != n || before != n {
		t.Errorf("%d POSTs of the old endpoint, %d of the late one", len(posts["/old"]), len(posts["/late"]))
	}
	for _, body := range posts["/old"] {
		if !strings.HasPrefix(body, `{"id":"e`) && !strings.Contains(body, "test event") {
			t.Errorf("a body is %q", body)
		}
	}
}

// onTheCommandLine has the commands show what the API says.
func (d *devLine) onTheCommandLine(endpoint, delivery, replay string, since time.Time) {
	d.t.Helper()
	a, err := cli.NewAPI(d.at.Admin, "")
	if err != nil {
		d.t.Fatal(err)
	}
	var out bytes.Buffer
	c := cli.Deliveries{API: a, Tenant: "acme", Out: &out}
	r := cli.Replays{Deliveries: c}
	for _, shown := range []struct {
		run  func() error
		want []string
	}{
		{func() error {
			return c.List(d.t.Context(), cli.DeliveryQuery{State: "dead", Since: since.Add(-time.Minute), Limit: 5})
		}, []string{"STATE", " dead ", "status_5xx"}},
		{func() error { return c.Get(d.t.Context(), delivery, time.Minute) }, []string{"origin      resend", "RUN", "status_5xx", "payload:\n{\"id\":\"e"}},
		{func() error { return c.Backlog(d.t.Context(), endpoint) }, []string{"0 waiting: 0 queued", "needs: 0s"}},
		{func() error { return c.DryRun(d.t.Context(), []string{"stock.*"}, "", since.Add(-time.Minute), 1) }, []string{"3 of 12 events would match", "stock.changed"}},
		{func() error { return r.List(d.t.Context()) }, []string{"completed", replay, "retry"}},
		{func() error { return r.Get(d.t.Context(), replay, time.Minute) }, []string{"scanned     12 of 12", "12 delivered"}},
	} {
		out.Reset()
		if err := shown.run(); err != nil {
			d.t.Error(err)
		}
		for _, want := range shown.want {
			if !strings.Contains(out.String(), want) {
				d.t.Errorf("want %q in\n%s", want, &out)
			}
		}
	}
	for _, vain := range []struct {
		run  func() error
		want string
	}{
		{func() error { return c.Get(d.t.Context(), "dlv_none", time.Millisecond) }, "the ledger has no delivery dlv_none after 1ms"},
		{func() error {
			return c.List(d.t.Context(), cli.DeliveryQuery{Event: "none", AtLeast: 2, Wait: time.Millisecond})
		}, "of the 2 waited for there are 0 after 1ms"},
	} {
		if err := vain.run(); err == nil || err.Error() != vain.want {
			d.t.Errorf("want %q, got %v", vain.want, err)
		}
	}
	if err := r.Do(d.t.Context(), "pause", replay); err == nil || !strings.Contains(err.Error(), "409") {
		d.t.Errorf("pausing what has ended: %v", err)
	}
}
