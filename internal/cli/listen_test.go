package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"posthorn/contract"
	"posthorn/webhook"
)

// signed builds a delivery as the line would POST it.
func signed(t *testing.T, name, secret, id, body string) *http.Request {
	t.Helper()
	c, ok := contract.Builtin().Get(name)
	if !ok {
		t.Fatalf("no contract %s", name)
	}
	s, err := c.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	d := &webhook.Delivery{
		ID: id, EventID: "e-" + id, EventType: "order.created", EventSource: "/shop", Tenant: "acme", EndpointID: "ep_1",
		Contract: name, ContentType: "application/json", Body: []byte(body), MatchedAt: time.Now(), BegunAt: time.Now(),
	}
	h, err := c.Headers(d, time.Now(), []contract.Secret{s})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = h
	return r
}

func secretOf(t *testing.T, name string) string {
	t.Helper()
	c, ok := contract.Builtin().Get(name)
	if !ok {
		t.Fatalf("no contract %s", name)
	}
	return c.GenerateSecret()
}

// post sends a request to a server and returns the status and Retry-After.
func post(t *testing.T, base string, r *http.Request) (status int, after string) {
	t.Helper()
	req := r.Clone(t.Context())
	req.URL.Host = strings.TrimPrefix(base, "http://")
	req.Host = ""
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		req.Body = body
	}
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Retry-After")
}

// receive serves a receiver; what it got is sent to the channel.
func receive(t *testing.T, cfg ReceiverConfig) (*Receiver, string, chan *Received) {
	t.Helper()
	got := make(chan *Received, 100)
	rc, err := NewReceiver(cfg, func(r *Received) { got <- r })
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(rc)
	t.Cleanup(srv.Close)
	return rc, srv.URL, got
}

func TestDeliveriesOfAllContractsAreVerified(t *testing.T) {
	var secrets []string
	names := []string{"standard", "bunship", "bunjang", "bigcommerce"}
	for _, n := range names {
		secrets = append(secrets, secretOf(t, n))
	}
	rc, url, got := receive(t, ReceiverConfig{Secrets: secrets})
	for i, n := range names {
		body := fmt.Sprintf(`{"eventId":"%d","eventType":"order.created","data":{}}`, i)
		post(t, url, signed(t, n, secrets[i], fmt.Sprint("dlv_", n), body))
		if r := <-got; r.Signature != SignatureOK || r.Status != 200 || r.Type != "order.created" || string(r.Body) != body {
			t.Errorf("%s: %+v", n, r)
		}
	}
	if c := rc.Counts(); c.Verified != 4 || c.Deliveries != 4 || c.Unverified != 0 || c.Refused != 0 {
		t.Errorf("%+v", c)
	}
}

func TestForgedAndUnsignedDeliveriesAreToldApart(t *testing.T) {
	secret := secretOf(t, "standard")
	rc, url, got := receive(t, ReceiverConfig{Secrets: []string{secretOf(t, "standard"), secretOf(t, "bunship")}})
	forged := signed(t, "standard", secret, "dlv_1", `{}`)
	post(t, url, forged)
	if r := <-got; r.Signature != SignatureBad || r.Reason == "" || r.Scheme != "standard" || strings.Contains(r.Reason, secret) {
		t.Errorf("forged: %+v", r)
	}
	plain, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	post(t, url, plain)
	if r := <-got; r.Signature != SignatureMissing || !strings.HasPrefix(r.ID, "sha256:") {
		t.Errorf("unsigned: %+v", r)
	}
	if c := rc.Counts(); c.Verified != 0 || c.Unverified != 2 {
		t.Errorf("%+v", c)
	}

	_, url, got = receive(t, ReceiverConfig{})
	post(t, url, forged)
	if r := <-got; r.Signature != SignatureUnchecked {
		t.Errorf("without secrets: %+v", r)
	}
}

func TestTheFirstPostsOfEachDeliveryFail(t *testing.T) {
	secret := secretOf(t, "standard")
	rc, url, got := receive(t, ReceiverConfig{Secrets: []string{secret}, FailFirst: 2, FailStatus: 500, RetryAfter: 1500 * time.Millisecond, Status: 204})
	want := map[string][]int{"dlv_a": {500, 500, 204, 204}, "dlv_b": {500, 500, 204, 204}}
	for try := range 4 {
		for _, id := range []string{"dlv_a", "dlv_b"} {
			status, after := post(t, url, signed(t, "standard", secret, id, `{}`))
			if status != want[id][try] {
				t.Errorf("%s try %d: %d", id, try+1, status)
			}
			if (after == "2") != (status == http.StatusInternalServerError) {
				t.Errorf("%d with Retry-After %q", status, after)
			}
			if r := <-got; r.Try != try+1 {
				t.Errorf("try %d, want %d", r.Try, try+1)
			}
		}
	}
	if c := rc.Counts(); c.Requests != 8 || c.Refused != 4 || c.Deliveries != 2 {
		t.Errorf("%+v", c)
	}
}

func TestAHangingReceiverNeverAnswers(t *testing.T) {
	_, url, got := receive(t, ReceiverConfig{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	r := signed(t, "standard", secretOf(t, "standard"), "dlv_1", "{}").Clone(ctx)
	r.URL.Host, r.Host = strings.TrimPrefix(url, "http://"), ""
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	answered := make(chan error, 1)
	go func() {
		resp, err := tr.RoundTrip(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	if got := <-got; got.Status != 0 {
		t.Errorf("%+v", got)
	}
	select {
	case err := <-answered:
		t.Errorf("it was answered: %v", err)
	default:
	}
	cancel()
	if err := <-answered; err == nil {
		t.Error("it was answered")
	}
}

func TestABodyThatIsTooLongIsRefused(t *testing.T) {
	secret := secretOf(t, "standard")
	rc, url, got := receive(t, ReceiverConfig{Secrets: []string{secret}, MaxBody: 1024})
	status, _ := post(t, url, signed(t, "standard", secret, "dlv_1", strings.Repeat("x", 5000)))
	if r := <-got; status != http.StatusRequestEntityTooLarge || !r.TooLong || len(r.Body) > 1024 || r.Signature == SignatureOK {
		t.Errorf("%d, %d bytes, %s", status, len(r.Body), r.Signature)
	}
	if c := rc.Counts(); c.Refused != 1 {
		t.Errorf("%+v", c)
	}
}

func TestMemoryOfDeliveriesIsBounded(t *testing.T) {
	rc, err := NewReceiver(ReceiverConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rememberedDeliveries + 10 {
		rc.count(fmt.Sprint(i))
	}
	if len(rc.tries) != rememberedDeliveries || len(rc.order) != rememberedDeliveries {
		t.Errorf("%d remembered", len(rc.tries))
	}
}

func TestListenTellsOfDeliveriesAndEndsWithASummary(t *testing.T) {
	secret := secretOf(t, "standard")
	for _, asJSON := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		pr, pw := io.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- Listen(ctx, ListenConfig{Receiver: ReceiverConfig{Secrets: []string{secret}}, JSON: asJSON}, pw)
			_ = pw.Close()
		}()
		lines := bufio.NewScanner(pr)
		lines.Scan()
		first := lines.Text()
		i := strings.Index(first, "http://127.0.0.1:")
		if i < 0 {
			t.Fatalf("no address in %q", first)
		}
		url := strings.FieldsFunc(first[i:], func(r rune) bool { return r == ' ' || r == '"' })[0]
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			post(t, url, signed(t, "standard", secret, "dlv_1", "{\"type\":\"order.created\",\"evil\":\"\\u001b[2J\x7f\"}"))
		}()
		var text bytes.Buffer
		for lines.Scan() {
			fmt.Fprintln(&text, lines.Text())
			if strings.Contains(lines.Text(), `"dlv_1"`) || strings.TrimSpace(lines.Text()) == "}" {
				<-sent
				cancel()
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		got := text.String()
		if asJSON {
			var r receivedJSON
			if err := json.Unmarshal([]byte(strings.SplitN(got, "\n", 2)[0]), &r); err != nil || r.Signature != SignatureOK || r.Status != 200 || r.ID != "dlv_1" {
				t.Errorf("%v in %s", err, got)
			}
			if !strings.Contains(got, `"deliveries":1`) {
				t.Errorf("no summary in %s", got)
			}
			continue
		}
		for _, want := range []string{"order.created  dlv_1  ", "signature ok (standard); answered 200 OK", `"type": "order.created"`, "requests=1 deliveries=1 verified=1 unverified=0 refused=0"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
		if strings.ContainsAny(got, "\x1b\x7f") {
			t.Errorf("control characters in %q", got)
		}
	}
}

func TestSecretsOfNoFormAreRefused(t *testing.T) {
	for _, cfg := range []ReceiverConfig{
		{Secrets: []string{""}}, {Status: 99}, {FailStatus: 700}, {Delay: -1}, {FailFirst: -1},
	} {
		if _, err := NewReceiver(cfg, nil); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
