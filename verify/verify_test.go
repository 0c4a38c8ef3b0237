package verify_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"posthorn/contract"
	"posthorn/verify"
	"posthorn/webhook"
)

const (
	vectorKey       = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	vectorBody      = `{"test": 2432232314}`
	vectorUnix      = 1614265330
)

func at(unix int64) verify.Option {
	return verify.WithClock(func() time.Time { return time.Unix(unix, 0) })
}

func newVerifier(t testing.TB, s verify.Scheme, secret string, options ...verify.Option) *verify.Verifier {
	t.Helper()
	v, err := verify.New(s, []string{secret}, options...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func vectorHeaders() http.Header {
	return headers("webhook-id", vectorID, "webhook-timestamp", fmt.Sprint(vectorUnix), "webhook-signature", vectorSignature)
}

func TestPublishedVectorVerifies(t *testing.T) {
	for _, secret := range []string{vectorKey, "whsec_" + vectorKey} {
		if err := newVerifier(t, verify.Standard, secret, at(vectorUnix)).Verify(vectorHeaders(), []byte(vectorBody)); err != nil {
			t.Error(err)
		}
	}
}

// signed is what a contract sends of one delivery.
func signed(t testing.TB, c *contract.Contract, body []byte, now time.Time, texts ...string) http.Header {
	t.Helper()
	var secrets []contract.Secret
	for _, text := range texts {
		s, err := c.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, s)
	}
	h, err := c.Headers(&webhook.Delivery{ID: webhook.DeliveryID("s", "e", "ep_1"), EventType: "a.b", Body: body}, now, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestEveryContractsDeliveriesVerifyOverHTTP(t *testing.T) {
	for _, name := range contract.Builtin().Names() {
		c, _ := contract.Builtin().Get(name)
		scheme, ok := verify.ForContract(name)
		if !ok {
			t.Fatalf("no scheme for contract %q", name)
		}
		older, newer, other := c.GenerateSecret(), c.GenerateSecret(), c.GenerateSecret()
		body := []byte(`{"a":1}`)
		results := make(chan error, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			detected, ok := verify.Detect(r.Header)
			if err == nil && (!ok || detected != scheme) {
				err = fmt.Errorf("detected %v, %v", detected, ok)
			}
			for _, secrets := range [][]string{{older}, {newer}, {other, older}} {
				v, verr := verify.New(scheme, secrets)
				if verr != nil {
					err = errors.Join(err, verr)
					continue
				}
				err = errors.Join(err, v.Verify(r.Header, got))
			}
			if v, verr := verify.New(scheme, []string{other}); verr != nil || !errors.Is(v.Verify(r.Header, got), verify.ErrNoMatch) {
				err = errors.Join(err, verr, errors.New("a foreign secret verifies"))
			}
			results <- err
		}))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = signed(t, c, body, time.Now(), newer, older)
		response, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if err := <-results; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

func TestEd25519VerifiesWithThePublicKeyAlone(t *testing.T) {
	c, _ := contract.Builtin().Get("standard")
	private := "whsk_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	s, err := c.ParseSecret(private)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := s.PublicKey()
	body := []byte("body")
	h := signed(t, c, body, time.Unix(vectorUnix, 0), c.GenerateSecret(), private)
	v := newVerifier(t, verify.Standard, public, at(vectorUnix))
	if err := v.Verify(h, body); err != nil {
		t.Error(err)
	}
	if err := v.Verify(h, []byte("Body")); !errors.Is(err, verify.ErrNoMatch) {
		t.Errorf("another body: %v", err)
	}
	// A MAC keyed with the public key, which anyone can make, must not pass.
	wh, err := standardwebhooks.NewWebhook(strings.TrimPrefix(public, "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	forged, err := wh.Sign(h.Get("webhook-id"), time.Unix(vectorUnix, 0), body)
	if err != nil {
		t.Fatal(err)
	}
	for _, signature := range []string{forged, strings.Replace(forged, "v1,", "v1a,", 1)} {
		h.Set("webhook-signature", signature)
		if err := v.Verify(h, body); !errors.Is(err, verify.ErrNoMatch) {
			t.Errorf("%s: %v", signature, err)
		}
	}
	if _, err := verify.New(verify.Standard, []string{private}); err == nil || strings.Contains(err.Error(), private[6:]) {
		t.Errorf("the private key at the receiver: %v", err)
	}
}

func TestEveryAlterationIsRefused(t *testing.T) {
	for _, name := range contract.Builtin().Names() {
		c, _ := contract.Builtin().Get(name)
		scheme, _ := verify.ForContract(name)
		secret := c.GenerateSecret()
		body := []byte(`{"a":1}`)
		v := newVerifier(t, scheme, secret, at(vectorUnix))
		good := func() http.Header { return signed(t, c, body, time.Unix(vectorUnix, 0), secret) }
		if err := v.Verify(good(), body); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range body {
			altered := append([]byte(nil), body...)
			altered[i] ^= 1
			if err := v.Verify(good(), altered); !errors.Is(err, verify.ErrNoMatch) {
				t.Errorf("%s: byte %d altered: %v", name, i, err)
			}
		}
		for _, altered := range [][]byte{nil, body[:len(body)-1], append(append([]byte(nil), body...), '\n')} {
			if err := v.Verify(good(), altered); !errors.Is(err, verify.ErrNoMatch) {
				t.Errorf("%s: body %q: %v", name, altered, err)
			}
		}
		h := good()
		for header, values := range h { // one second later
			h.Set(header, strings.Replace(values[0], fmt.Sprint(vectorUnix), fmt.Sprint(vectorUnix+1), 1))
		}
		if err := v.Verify(h, body); !errors.Is(err, verify.ErrNoMatch) {
			t.Errorf("%s: timestamp altered: %v", name, err)
		}
		if scheme == verify.Standard {
			h := good()
			h.Set("webhook-id", "other")
			if err := v.Verify(h, body); !errors.Is(err, verify.ErrNoMatch) {
				t.Errorf("%s: ID altered: %v", name, err)
			}
		}
	}
}

func TestFreshnessHoldsToTheSecond(t *testing.T) {
	const tolerance = int64(verify.DefaultTolerance / time.Second)
	for _, tt := range []struct {
		offset int64 // of the receiver's clock from the timestamp
		want   error
	}{
		{0, nil}, {tolerance, nil}, {tolerance + 1, verify.ErrTooOld}, {-tolerance, nil}, {-tolerance - 1, verify.ErrTooNew},
	} {
		v := newVerifier(t, verify.Standard, vectorKey, at(vectorUnix+tt.offset))
		if err := v.Verify(vectorHeaders(), []byte(vectorBody)); !errors.Is(err, tt.want) {
			t.Errorf("clock %+d s: %v, want %v", tt.offset, err, tt.want)
		}
	}
	if err := newVerifier(t, verify.Standard, vectorKey, at(vectorUnix+11), verify.WithTolerance(10*time.Second)).Verify(vectorHeaders(), []byte(vectorBody)); !errors.Is(err, verify.ErrTooOld) {
		t.Errorf("tolerance of 10 s after 11 s: %v", err)
	}
	if err := newVerifier(t, verify.Standard, vectorKey, verify.IgnoreTimestamp()).Verify(vectorHeaders(), []byte(vectorBody)); err != nil {
		t.Errorf("any age allowed: %v", err)
	}
	if _, err := verify.New(verify.Standard, []string{vectorKey}, verify.WithTolerance(0)); err == nil {
		t.Error("a tolerance of 0 was accepted")
	}
}

func TestEachRefusalHasItsReason(t *testing.T) {
	const mac = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	tv1 := func(value string) http.Header { return headers("X-Webhook-Signature", value) }
	standard := func(id, timestamp, signature string) http.Header {
		return headers("webhook-id", id, "webhook-timestamp", timestamp, "webhook-signature", signature)
	}
	for _, tt := range []struct {
		scheme verify.Scheme
		h      http.Header
		want   error
	}{
		{verify.Standard, http.Header{}, verify.ErrMissingHeader},
		{verify.Standard, standard("", "1614265330", vectorSignature), verify.ErrMissingHeader},
		{verify.Standard, standard("m", "", vectorSignature), verify.ErrMissingHeader},
		{verify.Standard, standard("m", "1614265330", " "), verify.ErrMissingHeader},
		{verify.Standard, standard("m", "now", vectorSignature), verify.ErrMalformed},
		{verify.Standard, standard("m", "-1614265330", vectorSignature), verify.ErrMalformed},
		{verify.Standard, standard("m", "16142653301614265330", vectorSignature), verify.ErrMalformed},
		{verify.Standard, standard("m", "999999999999", vectorSignature), verify.ErrTooNew},
		{verify.Standard, standard("m", "1614265330000", vectorSignature), verify.ErrMalformed},
		{verify.Standard, standard(vectorID, "1614265330", strings.Replace(vectorSignature, "v1", "v1a", 1)), verify.ErrNoMatch},
		{verify.Standard, standard("m", "0", vectorSignature), verify.ErrTooOld},
		{verify.Standard, standard("m.1", "1614265330", vectorSignature), verify.ErrMalformed},
		{verify.Standard, standard("m", "1614265330", "v1"), verify.ErrMalformed},
		{verify.Standard, standard("m", "1614265330", "v1,???"), verify.ErrMalformed},
		{verify.Standard, standard("m", "1614265330", "v9,abcd"), verify.ErrMalformed},
		{verify.Standard, standard("m", "1614265330", strings.Repeat(vectorSignature+" ", 33)), verify.ErrMalformed},
		{verify.Standard, standard("m", "1614265330", "v9,abcd "+vectorSignature), verify.ErrNoMatch},
		{verify.Standard, headers("webhook-id", "m", "webhook-id", "n", "webhook-timestamp", "1614265330", "webhook-signature", vectorSignature), verify.ErrMalformed},
		{verify.Bunship, http.Header{}, verify.ErrMissingHeader},
		{verify.Bunship, headers("X-Bun-Webhook-Signature", "t=1614265330,v1="+mac), verify.ErrMissingHeader},
		{verify.Bunship, tv1("1614265330"), verify.ErrMalformed},
		{verify.Bunship, tv1("t=1614265330"), verify.ErrMalformed},
		{verify.Bunship, tv1("v1=" + mac), verify.ErrMalformed},
		{verify.Bunship, tv1("t=1614265330,t=1614265330,v1=" + mac), verify.ErrMalformed},
		{verify.Bunship, tv1("t=,v1=" + mac), verify.ErrMalformed},
		{verify.Bunship, tv1("t=1e9,v1=" + mac), verify.ErrMalformed},
		{verify.Bunship, tv1("t=1614265330,v1=xyz"), verify.ErrMalformed},
		{verify.Bunship, tv1("t=1614265330" + strings.Repeat(",v1="+mac, 33)), verify.ErrMalformed},
		{verify.Bunship, tv1("t=1614265330, v0=x, v1=" + mac), verify.ErrNoMatch},
		{verify.Bunship, tv1("t=1614265330,v1=" + mac[:8]), verify.ErrNoMatch},
		{verify.Bunship, tv1("t=1614264000,v1=" + mac), verify.ErrTooOld},
	} {
		err := newVerifier(t, tt.scheme, vectorKey, at(vectorUnix)).Verify(tt.h, []byte(vectorBody))
		var typed *verify.Error
		if !errors.Is(err, tt.want) || !errors.As(err, &typed) || typed.Header == "" {
			t.Errorf("%v: %v, want %v", tt.h, err, tt.want)
		}
	}
}

func TestNewRefusesWhatCannotVerify(t *testing.T) {
	for _, tt := range []struct {
		scheme  verify.Scheme
		secrets []string
	}{
		{verify.Scheme{}, []string{vectorKey}}, {verify.Standard, nil}, {verify.Standard, []string{""}}, {verify.Standard, []string{"whsec_"}},
		{verify.Standard, []string{vectorKey, "not/base64!"}}, {verify.Standard, []string{"whpk_" + vectorKey}}, {verify.Bunship, []string{""}},
	} {
		v, err := verify.New(tt.scheme, tt.secrets)
		if v != nil || err == nil {
			t.Errorf("%v with %q: accepted", tt.scheme, tt.secrets)
			continue
		}
		for _, s := range tt.secrets {
			if s != "" && strings.Contains(err.Error(), strings.TrimPrefix(s, "whsec_")) && len(s) > 8 {
				t.Errorf("the error shows the secret: %v", err)
			}
		}
	}
}

func TestSecretsThatAreTooShortToProtectAreRefused(t *testing.T) {
	key := func(n int) string {
		return base64.StdEncoding.EncodeToString([]byte("0123456789abcdefghijklmnopqrstuvwxyz")[:n])
	}
	for _, tt := range []struct {
		scheme      verify.Scheme
		short, long string
	}{
		{verify.Standard, "whsec_" + key(23), "whsec_" + key(24)},
		{verify.Standard, key(1), key(24)},
		{verify.Bunship, "whsec_890123456"[:15], "whsec_8901234567"[:16]},
		{verify.TV1("X-Own"), "x", "0123456789abcdef"},
	} {
		if _, err := verify.New(tt.scheme, []string{tt.long}); err != nil {
			t.Errorf("%v: %v", tt.scheme, err)
		}
		if _, err := verify.New(tt.scheme, []string{tt.long, tt.short}); err == nil || !strings.Contains(err.Error(), "secret 2 of 2") {
			t.Errorf("%v: one that is too short: %v", tt.scheme, err)
		}
	}
}

func TestDetectTellsTheSchemeByItsHeaders(t *testing.T) {
	for _, tt := range []struct {
		h    http.Header
		want verify.Scheme
		ok   bool
	}{
		{vectorHeaders(), verify.Standard, true},
		{headers("x-webhook-signature", "t=1,v1=0"), verify.Bunship, true},
		{headers("x-bun-webhook-signature", "t=1,v1=0"), verify.Bunjang, true},
		{http.Header{}, verify.Scheme{}, false},
		{headers("x-hub-signature", "sha1=0"), verify.Scheme{}, false},
		{headers("webhook-signature", "v1,0", "x-webhook-signature", "t=1,v1=0"), verify.Scheme{}, false},
	} {
		if got, ok := verify.Detect(tt.h); got != tt.want || ok != tt.ok {
			t.Errorf("%v: %v, %v; want %v, %v", tt.h, got, ok, tt.want, tt.ok)
		}
	}
	if verify.TV1("x-webhook-signature") != verify.Bunship || verify.TV1("X-Acme").String() != "t-v1" {
		t.Error("TV1 names the wrong scheme")
	}
	if _, ok := verify.ForContract("acme"); ok {
		t.Error("an operator's contract has a scheme here")
	}
}

func TestAnOperatorsTV1HeaderVerifies(t *testing.T) {
	c, err := contract.Load("acme", []byte(`
body: {form: data}
signature: {scheme: t-v1, header: X-Acme-Signature}
secret: {format: text, rotation_overlap: 0s}
timeout: 1s
retry: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	secret := c.GenerateSecret()
	h := signed(t, c, []byte("x"), time.Unix(vectorUnix, 0), secret)
	if err := newVerifier(t, verify.TV1("x-acme-signature"), secret, at(vectorUnix)).Verify(h, []byte("x")); err != nil {
		t.Error(err)
	}
}

func FuzzVerifyNeverPassesAForgery(f *testing.F) {
	f.Add(vectorID, "1614265330", vectorSignature, "t=1614265330,v1=00", []byte(vectorBody))
	f.Fuzz(func(t *testing.T, id, timestamp, signature, tv1 string, body []byte) {
		if id == vectorID && string(body) == vectorBody {
			t.Skip() // the one delivery that was signed
		}
		h := headers("webhook-id", id, "webhook-timestamp", timestamp, "webhook-signature", signature, "x-webhook-signature", tv1)
		for _, scheme := range []verify.Scheme{verify.Standard, verify.Bunship} {
			var typed *verify.Error
			if err := newVerifier(t, scheme, vectorKey, at(vectorUnix)).Verify(h, body); !errors.As(err, &typed) {
				t.Fatalf("%v passes %v: %v", scheme, h, err)
			}
		}
	})
}
