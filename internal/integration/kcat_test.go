//go:build integration

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"posthorn/internal/kafkatest"
	"posthorn/verify"
)

// A client that never heard of Posthorn produces a CloudEvent, to an endpoint
// that the command line registered; it arrives within seconds, signed.
func TestACloudEventOfKcatIsDeliveredAndVerifiesWithTheSecretThatWasShown(t *testing.T) {
	kcat, err := exec.LookPath("kcat")
	if err != nil {
		if os.Getenv("POSTHORN_REQUIRE_KAFKA") == "1" {
			t.Fatal("kcat is not installed")
		}
		t.Skip("SKIPPED, as kcat is not installed")
	}
	broker := kafkatest.Shared(t)
	t.Parallel()
	w := newWorld(t, broker.Addrs(), setup{prefix: "kcat"})
	w.apply()
	p := w.run()
	r := newReceiver(t)
	arrived := make(chan post, 10)
	r.took = func(p post) { arrived <- p }

	code, out := command(t, "endpoint", "create", "--api", p.admin, "--tenant", tenant, "--url", r.url+"/0", "--events", "order.*", "--json")
	var shown struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || shown.Secret == "" {
		t.Fatalf("posthorn endpoint create: exit code %d, %v\n%s", code, err, out)
	}
	verifier, err := verify.New(verify.Standard, []string{shown.Secret})
	if err != nil {
		t.Fatal(err)
	}

	const body = `{"order": 42,  "total":"9.90"}`
	send := func(mode string, value string, headers ...string) {
		t.Helper()
		args := []string{"-P", "-b", broker.Addrs()[0], "-t", w.topic}
		for _, h := range headers {
			args = append(args, "-H", h)
		}
		cmd := exec.CommandContext(t.Context(), kcat, args...)
		cmd.Stdin = strings.NewReader(value)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("kcat: %v\n%s", err, out)
		}
		select {
		case p := <-arrived:
			if err := verifier.Verify(p.header, p.body); err != nil {
				t.Errorf("%s: the signature doesn't verify: %v", mode, err)
			}
			var got, want any
			if json.Unmarshal(p.body, &got) != nil || json.Unmarshal([]byte(body), &want) != nil || !equal(got, want) {
				t.Errorf("%s: received %s, want %s", mode, p.body, body)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: nothing arrived within a minute", mode)
		}
	}
	send("binary mode", body, "ce_specversion=1.0", "ce_id=k1", "ce_source=kcat", "ce_type=order.created", "ce_tenant="+tenant, "content-type=application/json")
	send("structured mode", `{"specversion":"1.0","id":"k2","source":"kcat","type":"order.paid","tenant":"`+tenant+`","datacontenttype":"application/json","data":`+body+`}`,
		"content-type=application/cloudevents+json")
	p.terminate()
}

func equal(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
