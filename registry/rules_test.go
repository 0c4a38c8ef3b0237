package registry

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"posthorn/webhook"
)

func problems(ep *webhook.Endpoint, p Policy) map[string]string {
	out := make(map[string]string)
	for _, e := range ValidateEndpoint(ep, p) {
		out[e.Field] = e.Problem
	}
	return out
}

func TestGoodEndpointsPass(t *testing.T) {
	for _, url := range []string{
		"https://example.com", "http://example.com:8080/hook?x=1&y=%20", "https://a-b.c_d.example.co.kr/웹훅",
		"https://xn--3e0b707e.example/", "https://8.8.8.8/x", "https://[2606:4700::1111]:8443/x", "https://example.com./",
		"https://1.example", "https://a.b3",
	} {
		ep := endpoint(1)
		ep.URL = url
		ep.Headers = map[string]string{"X-Team": "payments", "Authorization": "Bearer abc"}
		ep.Description = "two\nlines"
		if errs := ValidateEndpoint(ep, Policy{}); len(errs) > 0 {
			t.Errorf("%s: %v", url, errs)
		}
	}
}

func TestHostileURLsAreRefusedAtRegistration(t *testing.T) {
	for url, want := range map[string]string{
		"":                                                    "missing",
		"ftp://example.com":                                   "scheme",
		"javascript:alert(1)":                                 "scheme",
		"https:example.com":                                   "no host",
		"https:///x":                                          "no host",
		"https://user:pw@example.com":                         "user name or password",
		"https://example.com/#x":                              "fragment",
		"https://example.com/#":                               "fragment",
		"https://example.com:0/":                              "port",
		"https://example.com:99999/":                          "port",
		"https://example.com:/":                               "port",
		"https://example.com/a b":                             "spaces",
		"https://example.com/\r\nX: y":                        "control",
		"https://localhost/":                                  "localhost",
		"https://LOCALHOST./":                                 "localhost",
		"https://a.localhost/":                                "localhost",
		"https://kafka:9092/":                                 "no dot",
		"https://db.internal/":                                "not public",
		"https://printer.local/":                              "not public",
		"https://ex%61mple.com/":                              "can't be read",
		"https://user:TOPSECRET":                              "can't be read",
		"https://exämple.com/":                                "xn--",
		"https://-a.example/":                                 "host name",
		"https://a..example/":                                 "host name",
		"https://127.0.0.1/":                                  "loopback",
		"https://127.1/":                                      "number",
		"https://2130706433/":                                 "number",
		"https://0x7f000001/":                                 "number",
		"https://0x7f.1/":                                     "number",
		"https://0177.0.0.1/":                                 "number",
		"https://1.2.3.4.5/":                                  "number",
		"https://0.0.0.0/":                                    "this network",
		"https://10.1.2.3/":                                   "private",
		"https://172.31.255.255/":                             "private",
		"https://192.168.0.1/":                                "private",
		"https://100.64.1.1/":                                 "carrier NAT",
		"https://169.254.1.1/":                                "link-local",
		"https://169.254.169.254/latest":                      "metadata",
		"https://168.63.129.16/":                              "metadata",
		"https://224.0.0.1/":                                  "multicast",
		"https://255.255.255.255/":                            "reserved",
		"https://[::1]/":                                      "loopback",
		"https://[::]/":                                       "unspecified",
		"https://[fc00::1]/":                                  "private",
		"https://[fe80::1]/":                                  "link-local",
		"https://[fe80::1%25eth0]/":                           "zone",
		"https://[ff02::1]/":                                  "multicast",
		"https://[::ffff:127.0.0.1]/":                         "IPv4",
		"https://[::ffff:8.8.8.8]/":                           "IPv4",
		"https://[64:ff9b::8.8.8.8]/":                         "NAT64",
		"https://[64:ff9b::169.254.169.254]/":                 "metadata",
		"https://[2002:a9fe:a9fe::1]/":                        "metadata",
		"https://[2002:808:808::1]/":                          "6to4",
		"https://[::7f00:1]/":                                 "not a public IPv6",
		"https://[fd00:ec2::254]/":                            "metadata",
		"https://" + strings.Repeat("a", 64) + ".example":     "63",
		"https://" + strings.Repeat("abc.", 70) + "example":   "253",
		"https://example.com/" + strings.Repeat("a", 2048-19): "2048",
		"https://user:TOPSECRET@exa mple.com/":                "spaces",
		"https://user:TOPSECRET@[::1/":                        "can't be read",
		"https://example.com/%zz":                             "can't be read",
		"https://user:TOPSECRET%zz@example.com/":              "can't be read",
	} {
		ep := endpoint(1)
		ep.URL = url
		got := problems(ep, Policy{})["url"]
		if !strings.Contains(got, want) {
			t.Errorf("%.60q: got %q, want something with %q", url, got, want)
		}
		if strings.Contains(got, "TOPSECRET") {
			t.Errorf("%.60q: the answer tells the password", url)
		}
	}
}

func TestTheOperatorsPolicyDecides(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("::/0")}
	for _, c := range []struct {
		url    string
		policy Policy
		ok     bool
	}{
		{"http://127.0.0.1:8080/", Policy{AllowCIDRs: loopback}, true},
		{"http://localhost:8080/", Policy{AllowCIDRs: loopback}, true},
		{"http://[::ffff:127.0.0.1]/", Policy{AllowCIDRs: loopback[:1]}, true},
		{"http://10.0.0.1/", Policy{AllowCIDRs: loopback[:1]}, false},
		{"http://169.254.169.254/", Policy{AllowCIDRs: loopback}, false},
		{"http://[fd00:ec2::254]/", Policy{AllowCIDRs: loopback}, false},
		{"http://[64:ff9b::a9fe:a9fe]/", Policy{AllowCIDRs: loopback}, false},
		{"http://receiver:8080/", Policy{AllowInternalNames: true}, true},
		{"http://receiver.internal/", Policy{AllowInternalNames: true}, true},
		{"http://2130706433/", Policy{AllowInternalNames: true}, false},
		{"http://example.com/", Policy{HTTPSOnly: true}, false},
		{"https://example.com/", Policy{HTTPSOnly: true}, true},
		{"https://example.com/", Policy{Ports: []uint16{80, 443}}, true},
		{"http://example.com/", Policy{Ports: []uint16{443}}, false},
		{"https://example.com:8443/", Policy{Ports: []uint16{80, 443}}, false},
	} {
		ep := endpoint(1)
		ep.URL = c.url
		if got := problems(ep, c.policy); (len(got) == 0) != c.ok {
			t.Errorf("%s with %+v: %v", c.url, c.policy, got)
		}
	}
}

func TestHeadersThatWouldChangeTheRequestAreRefused(t *testing.T) {
	policy := Policy{ReservedHeaders: func(contract string) []string { return []string{"webhook-id", "User-Agent"} }}
	for name, want := range map[string]string{
		"Host": "connection", "content-length": "connection", "Transfer-Encoding": "connection", "CONNECTION": "connection",
		"idempotency-key": "connection", "X-Idempotency-Key": "connection", "Trailer": "connection", "Upgrade": "connection",
		"TE": "connection", "Keep-Alive": "connection", "Proxy-Authorization": "connection", "Expect": "connection", "HTTP2-Settings": "connection",
		"Webhook-Id": "contract", "user-agent": "contract",
		"": "token", "a b": "token", "a:b": "token", "a\r\nb": "token", "ä": "token",
	} {
		ep := endpoint(1)
		ep.Headers = map[string]string{name: "x"}
		errs := ValidateEndpoint(ep, policy)
		if len(errs) != 1 || !strings.Contains(errs[0].Problem, want) || strings.ContainsAny(errs[0].Field, "\r\n") {
			t.Errorf("%q: got %v, want something with %q", name, errs, want)
		}
	}
	for _, value := range []string{"TOPSECRET\r\nX: y", "TOPSECRET\n", "TOPSECRET\x00", " TOPSECRET"} {
		ep := endpoint(1)
		ep.Headers = map[string]string{"X-A": value}
		errs := ValidateEndpoint(ep, policy)
		if len(errs) != 1 || strings.Contains(errs[0].Error(), "TOPSECRET") {
			t.Errorf("%q: %v", value, errs)
		}
	}
	ep := endpoint(1)
	ep.Headers = map[string]string{"X-A": "1", "x-a": "2"}
	if got := problems(ep, policy); len(got) != 1 {
		t.Errorf("the same header twice: %v", got)
	}
	ep.Headers = map[string]string{"X-A": strings.Repeat("x", MaxHeaderBytes)}
	if got := problems(ep, policy); len(got) != 1 {
		t.Errorf("large headers: %v", got)
	}
	ep.Headers = map[string]string{}
	for i := range MaxHeaders + 1 {
		ep.Headers[fmt.Sprintf("X-%d", i)] = "x"
	}
	if got := problems(ep, policy); len(got) != 1 {
		t.Errorf("many headers: %v", got)
	}
}

func TestARateLimitIsOneADayAtLeastOrNone(t *testing.T) {
	for rate, good := range map[float64]bool{
		0: true, MinRateLimit: true, 0.5: true, 1e6: true,
		MinRateLimit / 2: false, 1e-310: false, -1: false, math.Inf(1): false, math.NaN(): false,
	} {
		ep := endpoint(1)
		ep.RateLimit = rate
		if got := problems(ep, Policy{}); (got["rate_limit"] == "") != good {
			t.Errorf("%v: %q", rate, got["rate_limit"])
		}
	}
}

func TestEveryMistakeIsListedAtOnce(t *testing.T) {
	ep := &webhook.Endpoint{
		ID: "x", Tenant: "a/b", URL: "http://localhost", Description: "\x00", Contract: "nope",
		Events: []string{"ok.*", "a**"}, Headers: map[string]string{"Host": "x"}, RateLimit: math.NaN(), MaxInFlight: -1,
	}
	got := problems(ep, Policy{CheckContract: func(name string) error { return errors.New("no contract " + name) }})
	for _, field := range []string{"id", "tenant", "url", "description", "contract", "events[1]", "headers[Host]", "rate_limit", "max_in_flight"} {
		if got[field] == "" {
			t.Errorf("nothing about %s", field)
		}
	}
	if len(got) != 9 {
		t.Errorf("%d problems: %v", len(got), got)
	}
	many := endpoint(1)
	many.Events = make([]string, MaxPatterns+1)
	for i := range many.Events {
		many.Events[i] = "a"
	}
	if got := problems(many, Policy{}); len(got) != 1 || got["events"] == "" {
		t.Errorf("many patterns: %v", got)
	}
}

func TestHeadersThatSendingRefusesAreRefused(t *testing.T) {
	ep := endpoint(1)
	ep.Headers = map[string]string{"X-Fine": "1", "X-Unsendable": "TOPSECRET"}
	errs := ValidateEndpoint(ep, Policy{CheckHeader: func(name, value string) error {
		if name == "X-Unsendable" && value == "TOPSECRET" {
			return errors.New("it can't be sent")
		}
		return nil
	}})
	if len(errs) != 1 || errs[0] != (FieldError{"headers[X-Unsendable]", "it can't be sent"}) {
		t.Errorf("got %v", errs)
	}
}

func TestADeniedNetworkIsRefusedAtRegistrationBeforeAnyAllow(t *testing.T) {
	policy := Policy{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, DenyCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("8.8.8.0/24")}}
	for url, refused := range map[string]bool{"https://8.8.8.8/x": true, "https://[::ffff:8.8.8.8]/x": true, "https://10.1.2.3/x": true, "https://10.2.2.3/x": false, "https://9.9.9.9/x": false} {
		ep := endpoint(1)
		ep.URL = url
		if errs := ValidateEndpoint(ep, policy); (len(errs) > 0) != refused {
			t.Errorf("%s: %v", url, errs)
		}
	}
}
