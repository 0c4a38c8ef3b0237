package contract

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"posthorn/webhook"
)

const (
	vectorKey  = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorBody = `{"test": 2432232314}`
	bunshipKey = "whsec_000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

	// Computed by another HMAC implementation (Python's hmac).
	standardSecond = "O4Gjv1HqPqsMrjmczoggs/sWA8gZD0VyHG+fLh4+ktI="
	bunshipMAC     = "1c7dc72f7be4424f046a3ca258e0174bd7f8e5c2519ba613d06f27bc295c7eed"
	olderMAC       = "f5a549a3d4c6eddfefc42602ff8b0a01f25254e59d2a62a631fac905a33fe998"
)

var vectorTime = time.Unix(1614265330, 999_999_999) // whole seconds are signed

// delivery is the delivery of the published Standard Webhooks vector.
func delivery() *webhook.Delivery {
	return &webhook.Delivery{
		ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", EventType: "order.created", EventID: "e-1", EventSource: "/orders",
		Tenant: "t1", EndpointID: "ep_1", N: 2, ContentType: "application/json", Body: []byte(vectorBody),
	}
}

func secretsOf(t testing.TB, c *Contract, texts ...string) []Secret {
	t.Helper()
	var secrets []Secret
	for _, text := range texts {
		s, err := c.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, s)
	}
	return secrets
}

func TestHeadersByteForByte(t *testing.T) {
	standard := map[string]string{
		"Content-Type": "application/json", "User-Agent": "Posthorn-Webhooks/1.0",
		"Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "Webhook-Timestamp": "1614265330",
		"Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", // the published vector
	}
	const second = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	for _, tt := range []struct {
		contract string
		secrets  []string
		want     map[string]string
	}{
		{"standard", []string{"whsec_" + vectorKey}, standard},
		{"standard", []string{vectorKey}, standard},
		{"bigcommerce", []string{"whsec_" + vectorKey}, standard},
		{"standard", []string{second, "whsec_" + vectorKey}, with(standard, "Webhook-Signature",
			"v1,"+standardSecond+" v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")},
		{"bunship", []string{bunshipKey}, map[string]string{
			"Content-Type": "application/json", "User-Agent": "BunShip-Webhooks/1.0",
			"X-Webhook-Event": "order.created", "X-Webhook-Delivery-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
			"X-Webhook-Signature": "t=1614265330,v1=" + bunshipMAC}},
		{"bunship", []string{bunshipKey, strings.ToUpper(bunshipKey[6:])}, nil}, // not of the format
		{"bunjang", []string{bunshipKey, "an-older-secret-of-theirs"}, map[string]string{
			"Content-Type": "application/json", "User-Agent": "Posthorn-Webhooks/1.0",
			"X-Bun-Webhook-Signature": "t=1614265330,v1=" + bunshipMAC + ",v1=" + olderMAC}},
	} {
		c := builtinContract(t, tt.contract)
		var secrets []Secret
		var err error
		for _, text := range tt.secrets {
			s, e := c.ParseSecret(text)
			secrets, err = append(secrets, s), errors.Join(err, e)
		}
		if tt.want == nil {
			if err == nil {
				t.Errorf("%s: secrets %v were accepted", tt.contract, tt.secrets)
			}
			continue
		}
		h, herr := c.Headers(delivery(), vectorTime, secrets)
		if err := errors.Join(err, herr); err != nil {
			t.Errorf("%s: %v", tt.contract, err)
			continue
		}
		got := map[string]string{}
		for name, values := range h {
			if name != http.CanonicalHeaderKey(name) || len(values) != 1 {
				t.Errorf("%s: header %q has values %q", tt.contract, name, values)
			}
			got[name] = values[0]
		}
		if !maps.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", tt.contract, got, tt.want)
		}
	}
}

func with(m map[string]string, key, value string) map[string]string {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// TestReferenceLibraryVerifies signs and verifies against the specification's
// own Go library, both ways.
func TestReferenceLibraryVerifies(t *testing.T) {
	for _, name := range []string{"standard", "bigcommerce"} {
		c := builtinContract(t, name)
		older, newer := c.GenerateSecret(), c.GenerateSecret()
		d := delivery()
		now := time.Now()
		h, err := c.Headers(d, now, secretsOf(t, c, newer, older))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{older, newer} {
			wh, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := wh.Verify(d.Body, h); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := wh.Verify([]byte(vectorBody+" "), h); err == nil {
				t.Errorf("%s: another body passes", name)
			}
			want, err := wh.Sign(d.ID, now, d.Body)
			if err != nil || !slices.Contains(strings.Fields(h.Get("webhook-signature")), want) {
				t.Errorf("%s: signature %q lacks %q, %v", name, h.Get("webhook-signature"), want, err)
			}
		}
	}
}

// TestEd25519SignsBesideHMAC holds the whole of the v1a scheme; the key is
// that of RFC 8032 section 7.1 test 1.
func TestEd25519SignsBesideHMAC(t *testing.T) {
	seed := []byte("\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60")
	public := []byte("\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a")
	c := builtinContract(t, "standard")
	for _, private := range [][]byte{seed, slices.Concat(seed, public)} {
		text := "whsk_" + base64.StdEncoding.EncodeToString(private)
		secrets := secretsOf(t, c, "whsec_"+vectorKey, text)
		if got, ok := secrets[1].PublicKey(); !ok || got != "whpk_"+base64.StdEncoding.EncodeToString(public) {
			t.Errorf("public key %q, %v", got, ok)
		}
		if _, ok := secrets[0].PublicKey(); ok {
			t.Error("a symmetric secret has a public key")
		}
		h, err := c.Headers(delivery(), vectorTime, secrets)
		if err != nil {
			t.Fatal(err)
		}
		first, second, _ := strings.Cut(h.Get("webhook-signature"), " ")
		encoded, ok := strings.CutPrefix(second, "v1a,")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		signed := "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330." + vectorBody
		if first != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" || !ok || err != nil || !ed25519.Verify(public, []byte(signed), signature) {
			t.Errorf("webhook-signature %q, %v", h.Get("webhook-signature"), err)
		}
		if _, err := builtinContract(t, "bunship").Headers(delivery(), vectorTime, secrets[1:]); !errors.Is(err, ErrSecretKind) {
			t.Errorf("ed25519 under t-v1: %v, want ErrSecretKind", err)
		}
	}
}

func TestADeliveryIsNeverUnsigned(t *testing.T) {
	for _, name := range Builtin().Names() {
		for _, secrets := range [][]Secret{nil, {{}}} {
			if h, err := builtinContract(t, name).Headers(delivery(), vectorTime, secrets); h != nil || !errors.Is(err, ErrNoSecret) {
				t.Errorf("%s with secrets %v: %v, %v; want ErrNoSecret", name, secrets, h, err)
			}
		}
	}
}

func TestHeaderInjectionIsRefused(t *testing.T) {
	d := delivery()
	d.EventType = "a\r\nX-Evil: 1"
	c := builtinContract(t, "bunship")
	if _, err := c.Headers(d, vectorTime, secretsOf(t, c, bunshipKey)); err == nil || !strings.Contains(err.Error(), "X-Webhook-Event") {
		t.Errorf("event type with a line break: %v", err)
	}
	d = delivery()
	d.ContentType = "a\nb"
	if _, err := c.Headers(d, vectorTime, secretsOf(t, c, bunshipKey)); err == nil || !strings.Contains(err.Error(), "Content-Type") {
		t.Errorf("content type with a line break: %v", err)
	}
}

func TestCustomHeadersCannotTakeTheContractsOwn(t *testing.T) {
	for name, own := range map[string][]string{
		"standard":    {"webhook-id", "WEBHOOK-TIMESTAMP", "Webhook-Signature", "user-agent", "content-type"},
		"bunship":     {"x-webhook-signature", "x-webhook-event", "X-Webhook-Delivery-ID", "User-Agent"},
		"bunjang":     {"X-Bun-Webhook-Signature", "user-agent"},
		"bigcommerce": {"webhook-id", "webhook-timestamp", "webhook-signature"},
	} {
		c := builtinContract(t, name)
		for _, header := range append(own, "host", "content-length", "transfer-encoding", "connection", "idempotency-key", "x-idempotency-key") {
			if !c.Reserved(header) || !slices.Contains(c.ReservedHeaders(), http.CanonicalHeaderKey(header)) {
				t.Errorf("%s: %s isn't reserved", name, header)
			}
		}
		for _, header := range []string{"authorization", "x-custom", "x-auth-token"} {
			if c.Reserved(header) {
				t.Errorf("%s: %s is reserved", name, header)
			}
		}
	}
}

func TestSecretsOfEachFormat(t *testing.T) {
	b64 := func(prefix string, n int) string {
		return prefix + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("key", n)[:n]))
	}
	hex64 := strings.Repeat("0e0f", 16)
	for _, tt := range []struct {
		contract string
		good     []string
		bad      []string
	}{
		{"standard",
			[]string{b64("whsec_", 24), b64("whsec_", 64), b64("", 32), b64("whsk_", 32)},
			[]string{"", "whsec_", b64("whsec_", 23), b64("whsec_", 65), "whsec_" + hex64[:3], b64("whsec_", 25)[:30], b64("whsec_", 32) + "\n",
				"whsec_" + vectorKey[:10] + "\n" + vectorKey[10:], b64("whsk_", 31), b64("whsk_", 64), b64("whpk_", 32), b64("WHSEC_", 32)}},
		{"bunship",
			[]string{"whsec_" + hex64, "whsec_" + strings.ToUpper(hex64)},
			[]string{"", hex64, "whsec_" + hex64[1:], "whsec_" + hex64 + "00", "whsec_" + strings.Repeat("xy", 32), b64("whsec_", 32)}},
		{"bunjang",
			[]string{hex64, "whsec_" + hex64, "0123456789abcdef", strings.Repeat("!?", 128)},
			[]string{"", "0123456789abcde", "0123456789 abcdef", "0123456789abcdéf", strings.Repeat("!?", 128) + "!"}},
	} {
		c := builtinContract(t, tt.contract)
		for _, text := range tt.good {
			if _, err := c.ParseSecret(text); err != nil {
				t.Errorf("%s: %q: %v", tt.contract, text, err)
			}
		}
		for _, text := range tt.bad {
			_, err := c.ParseSecret(text)
			if err == nil {
				t.Errorf("%s: %q was accepted", tt.contract, text)
			} else if len(text) > 8 && strings.Contains(err.Error(), text[6:]) {
				t.Errorf("%s: the error shows the secret: %v", tt.contract, err)
			}
		}
	}
}

func TestGeneratedSecretsParseAndDiffer(t *testing.T) {
	generateEd25519 := mustLoad(t, strings.Replace(withBody("{form: data}"), "format: standard", "format: standard, generate: ed25519", 1))
	for c, form := range map[*Contract]struct {
		prefix string
		length int
	}{
		builtinContract(t, "standard"): {"whsec_", 6 + 44}, builtinContract(t, "bigcommerce"): {"whsec_", 6 + 44},
		builtinContract(t, "bunship"): {"whsec_", 6 + 64}, builtinContract(t, "bunjang"): {"whsec_", 6 + 64},
		generateEd25519: {"whsk_", 5 + 88},
	} {
		a, b := c.GenerateSecret(), c.GenerateSecret()
		if a == b || !strings.HasPrefix(a, form.prefix) || len(a) != form.length {
			t.Errorf("%s: generated secrets of the wrong form or equal", c.Name())
		}
		secretsOf(t, c, a, b)
	}
}

func TestPrintingASecretShowsNothing(t *testing.T) {
	s := secretsOf(t, builtinContract(t, "bunship"), bunshipKey)[0]
	var log strings.Builder
	noTime := func(_ []string, a slog.Attr) slog.Attr { // whose digits are anything
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{ReplaceAttr: noTime})).Info("x", "secret", s, "list", []Secret{s})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb+verb+verb, s, &s, []Secret{s})
	}
	if got := log.String(); strings.Contains(got, "0001") || strings.Contains(got, "48, 48") || strings.Contains(got, "whsec") || strings.Contains(got, "7768") || strings.Contains(got, "119") {
		t.Errorf("the secret shows: %s", got)
	}
}

func BenchmarkHeaders(b *testing.B) {
	for _, name := range []string{"standard", "bunship"} {
		c := builtinContract(b, name)
		secrets := secretsOf(b, c, c.GenerateSecret())
		d := delivery()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Headers(d, vectorTime, secrets); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestKeysOfOneRepeatedByteAreRefused(t *testing.T) {
	repeated := func(prefix string, b byte, n int) string {
		return prefix + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, n))
	}
	for name, texts := range map[string][]string{
		"standard": {repeated("whsec_", 0, 32), repeated("whsec_", 'k', 24), repeated("", 0xff, 64), repeated("whsk_", 0, 32)},
		"bunship":  {"whsec_" + strings.Repeat("0", 64), "whsec_" + strings.Repeat("Aa", 32)},
		"bunjang":  {strings.Repeat("x", 16), "whsec_" + strings.Repeat("0", 64)},
	} {
		for _, text := range texts {
			if _, err := builtinContract(t, name).ParseSecret(text); err == nil || !strings.Contains(err.Error(), "over and over") {
				t.Errorf("%s: %q: %v", name, text, err)
			}
		}
	}
	// 24 different bytes above ASCII, each of them alone no UTF-8.
	high := make([]byte, 24)
	for i := range high {
		high[i] = byte(0x80 + i)
	}
	if _, err := builtinContract(t, "standard").ParseSecret(base64.StdEncoding.EncodeToString(high)); err != nil {
		t.Error(err)
	}
}
