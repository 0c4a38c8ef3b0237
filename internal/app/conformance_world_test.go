package app

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/internal/config"
	"posthorn/verify"
)

// platform is a world whose endpoints are registered over the API, under one
// contract, as a platform that offers webhooks to its customers does.
//
// The promises of the three platforms are numbered; the test of a promise has
// its number in its name. "make conformance" prints a line for each.
type platform struct {
	*world
	contract string
	api      http.Handler
	token    string // of the API; "" for none
	cert     tls.Certificate
}

// adminKey is one of http.admin_keys.
const adminKey = "an administrator's key of the platform's own"

// onPlatform runs a test on a platform, beside others. Receivers have the certificate of
// hooks.example.com.
func onPlatform(t *testing.T, contract string, change func(*config.Config), f func(*platform)) {
	t.Helper()
	t.Parallel()
	onPlatformFrom(t, time.Time{}, contract, change, f)
}

// onPlatformFrom begins at that time, or when virtual time does; the test is not
// made parallel.
func onPlatformFrom(t *testing.T, begin time.Time, contract string, change func(*config.Config), f func(*platform)) {
	t.Helper()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	cert := receiverCertificate(t, authority)
	inVirtualTimeFrom(t, begin, func(c *config.Config) {
		c.Delivery.CAFile = authority
		c.HTTP.RateLimit = 0
		if change != nil {
			change(c)
		}
	}, func(w *world) {
		f(&platform{world: w, contract: contract, api: w.apiProcess(), cert: cert})
	})
}

// receiverCertificate makes a certificate that is its own authority, and writes
// it to a file. It is valid from before virtual time begins, in 2000.
func receiverCertificate(t *testing.T, file string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hooks.example.com"}, DNSNames: []string{"hooks.example.com"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// hooks answers the POSTs to https://hooks.example.com.
func (p *platform) hooks(answer func(h *hit, rw http.ResponseWriter, r *http.Request)) {
	p.t.Helper()
	p.hooksWith(&tls.Config{Certificates: []tls.Certificate{p.cert}, MinVersion: tls.VersionTLS12}, answer)
}

func (p *platform) hooksWith(cfg *tls.Config, answer func(h *hit, rw http.ResponseWriter, r *http.Request)) {
	p.t.Helper()
	ln, err := p.net.Listen("tcp", "127.0.0.1:443")
	if err != nil {
		p.t.Fatal(err)
	}
	p.serve(tls.NewListener(ln, cfg), answer)
}

// registration is the answer to a registration, and to later requests about
// the endpoint.
type registration struct {
	ID, Tenant, URL, Description, Contract, Secret string
	Events                                         []string
	Disabled                                       bool
}

// call asks the API and wants a status; the answer is decoded into out unless
// that is nil. It returns the answer's text.
func (p *platform) call(method, path string, body, out any, want int) string {
	p.t.Helper()
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		text = string(b)
	}
	var headers []string
	if p.token != "" {
		headers = []string{"X-Auth-Token", p.token}
	}
	a := ask(p.api, method, path, text, headers...)
	if a.Code != want {
		p.t.Fatalf("%s %s %s: %d %s, want %d", method, path, text, a.Code, a.Body, want)
	}
	if out != nil {
		if err := json.Unmarshal(a.Body.Bytes(), out); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, a.Body)
		}
	}
	return a.Body.String()
}

// fields are the members of a request.
type fields map[string]any

// refused asks for a registration and returns the fields that are wrong with it.
func (p *platform) refused(tenant string, f fields) (wrong []string) {
	p.t.Helper()
	var problem struct{ Errors []struct{ Field string } }
	p.call("POST", "/v1/tenants/"+tenant+"/endpoints", p.with(f), &problem, http.StatusBadRequest)
	for _, e := range problem.Errors {
		wrong = append(wrong, e.Field)
	}
	return wrong
}

func (p *platform) with(f fields) fields {
	out := fields{"contract": p.contract}
	maps.Copy(out, f)
	return out
}

// register registers an endpoint at https://hooks.example.com/ and a path.
func (p *platform) register(tenant, path string, f fields) (r registration) {
	p.t.Helper()
	body := p.with(f)
	if body["url"] == nil {
		body["url"] = "https://hooks.example.com/" + path
	}
	p.call("POST", "/v1/tenants/"+tenant+"/endpoints", body, &r, http.StatusCreated)
	return r
}

// happening is an event.
type happening struct {
	tenant, id, kind, data, source string
	at                             time.Time
	extensions                     map[string]string
}

func (p *platform) happen(events ...happening) {
	p.t.Helper()
	for _, e := range events {
		if e.data == "" {
			e.data = `{"id":"` + e.id + `"}`
		}
		if e.at.IsZero() {
			e.at = time.Now()
		}
		headers := []kgo.RecordHeader{
			{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(e.id)}, {Key: "ce_source", Value: []byte(cmp.Or(e.source, "shop"))},
			{Key: "ce_type", Value: []byte(e.kind)}, {Key: "ce_tenant", Value: []byte(e.tenant)}, {Key: "ce_time", Value: []byte(e.at.Format(time.RFC3339Nano))},
			{Key: "content-type", Value: []byte("application/json")}}
		for k, v := range e.extensions {
			headers = append(headers, kgo.RecordHeader{Key: "ce_" + k, Value: []byte(v)})
		}
		p.produce(&kgo.Record{Topic: "orders", Key: []byte("one partition"), Value: []byte(e.data), Headers: headers})
	}
}

// verifies checks a POST as its receiver would have when it came.
func (p *platform) verifies(h *hit, secret string) error {
	p.t.Helper()
	scheme, ok := verify.ForContract(p.contract)
	if !ok {
		p.t.Fatalf("no scheme for %s", p.contract)
	}
	v, err := verify.New(scheme, []string{secret}, verify.WithClock(func() time.Time { return h.at }))
	if err != nil {
		p.t.Fatal(err)
	}
	return v.Verify(h.header, []byte(h.body))
}

// one returns the single POST to a path.
func (p *platform) one(path string) *hit {
	p.t.Helper()
	hs := p.received(path)
	if len(hs) != 1 {
		p.t.Fatalf("%d POSTs to %s, want one", len(hs), path)
	}
	return &hs[0]
}

// kinds are the types of the events that came to a path, from a member
// of the bodies.
func (p *platform) kinds(path, member string) (kinds []string) {
	p.t.Helper()
	for _, h := range p.received(path) {
		var body map[string]any
		if err := json.Unmarshal([]byte(h.body), &body); err != nil {
			p.t.Fatal(err)
		}
		kind, _ := body[member].(string)
		kinds = append(kinds, kind)
	}
	return kinds
}

// gaps are the times between the POSTs to a path.
func (p *platform) gaps(path string) (gaps []time.Duration) {
	hs := p.received(path)
	for i := 1; i < len(hs); i++ {
		gaps = append(gaps, hs[i].at.Sub(hs[i-1].at))
	}
	return gaps
}

// near reports whether waits are what was promised, to the second.
func near(got []time.Duration, want ...time.Duration) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] < want[i] || got[i] >= want[i]+time.Second {
			return false
		}
	}
	return true
}

// settle is how long everything that was asked for takes at most.
const settle = 5 * time.Second
