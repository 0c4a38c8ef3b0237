package app

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"posthorn/internal/config"
	"posthorn/webhook"
)

func TestBigCommerce_01_AWebhookIsRegisteredSwitchedUpdatedAndDeletedByItsIDWithAToken(t *testing.T) {
	onPlatform(t, "bigcommerce", func(c *config.Config) {
		c.HTTP.Auth, c.HTTP.AdminKeys = config.AuthRequired, []config.Secret{adminKey}
	}, func(p *platform) {
		p.hooks(nil)
		p.call("POST", "/v1/tenants/abc123/endpoints", p.with(fields{"url": "https://hooks.example.com/a"}), nil, http.StatusUnauthorized)
		p.token = adminKey
		var key struct{ Key string }
		p.call("POST", "/v1/keys", fields{"tenant": "abc123"}, &key, http.StatusCreated)
		p.token = key.Key
		if wrong := p.refused("abc123", fields{"url": "http://hooks.example.com/a"}); !slices.Equal(wrong, []string{"url"}) {
			t.Errorf("an http destination: the problem is with %q", wrong)
		}
		made := p.register("abc123", "a", fields{"events": []string{"store/order/created"}, "headers": map[string]string{"X-Own": "mine"}})
		if made.ID == "" || made.Tenant != "abc123" || made.URL != "https://hooks.example.com/a" || !slices.Equal(made.Events, []string{"store/order/created"}) || made.Disabled {
			t.Errorf("answered %+v", made)
		}
		path := "/v1/tenants/abc123/endpoints/" + made.ID
		line := p.process()
		time.Sleep(settle)
		order := 0
		fire := func() {
			order++
			p.happen(happening{tenant: "abc123", id: fmt.Sprint("e", order), kind: "store/order/created", data: `{"type":"order","id":250}`})
			time.Sleep(settle)
		}
		arrived := func(path string, want int, when string) {
			t.Helper()
			if got := len(p.received(path)); got != want {
				t.Errorf("%s: %d POSTs to %s, want %d", when, got, path, want)
			}
		}
		fire()
		arrived("/a", 1, "registered")
		if h := p.one("/a"); h.header.Get("X-Own") != "mine" || p.verifies(h, made.Secret) != nil {
			t.Errorf("headers %v", h.header)
		}
		p.call("PATCH", path, fields{"disabled": true}, nil, http.StatusOK)
		time.Sleep(time.Second)
		fire()
		arrived("/a", 1, "switched off")
		p.call("PATCH", path, fields{"disabled": false, "url": "https://hooks.example.com/b"}, nil, http.StatusOK)
		time.Sleep(time.Second)
		fire()
		arrived("/b", 1, "switched on and moved")
		p.call("DELETE", path, nil, nil, http.StatusNoContent)
		time.Sleep(time.Second)
		fire()
		arrived("/a", 1, "deleted")
		arrived("/b", 1, "deleted")
		p.call("GET", path, nil, nil, http.StatusNotFound)
		line.terminate()
	})
}

func TestBigCommerce_02_ScopesArePathsAndAChannelIsANumberOrAny(t *testing.T) {
	onPlatform(t, "bigcommerce", nil, func(p *platform) {
		p.hooks(nil)
		events := []string{"store/product/created", "store/product/metafield/updated", "store/channel/created", "store/cart/couponApplied",
			"store/customer/address/updated", "store/channel/7/cart/couponApplied", "store/channel/8/cart/couponApplied", "store/channel/7/settings/profile/updated"}
		scopes := []struct {
			scope string
			want  []string
		}{
			{"store/product/created", events[:1]},
			{"store/product/metafield/updated", events[1:2]},
			{"store/channel/created", events[2:3]},
			{"store/cart/couponApplied", events[3:4]},
			{"store/customer/address/updated", events[4:5]},
			{"store/channel/{channel_id}/cart/couponApplied", events[5:7]},
			{"store/channel/7/cart/couponApplied", events[5:6]},
			{"store/channel/{channel_id}/settings/profile/updated", events[7:8]},
		}
		for i, s := range scopes {
			p.register("abc123", fmt.Sprint(i), fields{"events": []string{s.scope}})
		}
		line := p.process()
		time.Sleep(settle)
		for i, kind := range events {
			p.happen(happening{tenant: "abc123", id: fmt.Sprint("e", i), kind: kind})
		}
		time.Sleep(settle)
		for i, s := range scopes {
			got := p.kinds(fmt.Sprint("/", i), "scope")
			slices.Sort(got)
			if !slices.Equal(got, s.want) {
				t.Errorf("%s got %q, want %q", s.scope, got, s.want)
			}
		}
		line.terminate()
	})
}

func TestBigCommerce_03_AStarSubscribesToEveryEventOfAnEntity(t *testing.T) {
	onPlatform(t, "bigcommerce", nil, func(p *platform) {
		p.hooks(nil)
		p.register("abc123", "a", fields{"events": []string{"store/order/*"}})
		line := p.process()
		time.Sleep(settle)
		for i, kind := range []string{"store/order/created", "store/order/statusUpdated", "store/order/transaction/created", "store/orders/created", "store/product/created"} {
			p.happen(happening{tenant: "abc123", id: fmt.Sprint("e", i), kind: kind})
		}
		time.Sleep(settle)
		got := p.kinds("/a", "scope")
		slices.Sort(got)
		if !slices.Equal(got, []string{"store/order/created", "store/order/statusUpdated", "store/order/transaction/created"}) {
			t.Errorf("got %q", got)
		}
		line.terminate()
	})
}

func TestBigCommerce_04_TheBodyNamesScopeStoreDataAndProducer(t *testing.T) {
	onPlatform(t, "bigcommerce", nil, func(p *platform) {
		p.hooks(nil)
		for _, store := range []string{"abc123", "xyz789"} {
			p.register(store, store, nil)
		}
		line := p.process()
		time.Sleep(settle)
		at := time.Unix(1561479335, 400_000_000)
		p.happen(happening{tenant: "abc123", id: "e1", kind: "store/order/created", data: `{"type":"order","id":250}`, at: at, extensions: map[string]string{"storeid": "1234567"}},
			happening{tenant: "xyz789", id: "e2", kind: "store/order/statusUpdated", data: `{"type":"order","id":250,"status":{"previous_status_id":0,"new_status_id":11}}`,
				at: at, extensions: map[string]string{"storeid": "7654321"}})
		time.Sleep(settle)
		digest := func(canonical string) string {
			sum := sha1.Sum([]byte(canonical))
			return hex.EncodeToString(sum[:])
		}
		one := digest(`{"data":{"id":250,"type":"order"},"producer":"stores/abc123","scope":"store/order/created","store_id":"1234567"}`)
		if got, want := p.one("/abc123").body, `{"scope":"store/order/created","store_id":"1234567","data":{"type":"order","id":250},"hash":"`+one+
			`","created_at":1561479335,"producer":"stores/abc123"}`; got != want {
			t.Errorf("body %s, want %s", got, want)
		}
		two := digest(`{"data":{"id":250,"status":{"new_status_id":11,"previous_status_id":0},"type":"order"},"producer":"stores/xyz789","scope":"store/order/statusUpdated","store_id":"7654321"}`)
		if got, want := p.one("/xyz789").body, `{"scope":"store/order/statusUpdated","store_id":"7654321","data":{"type":"order","id":250,"status":{"previous_status_id":0,"new_status_id":11}},"hash":"`+two+
			`","created_at":1561479335,"producer":"stores/xyz789"}`; got != want {
			t.Errorf("body %s, want %s", got, want)
		}
		line.terminate()
	})
}

func TestBigCommerce_05_TwoFiringsOfOneChangeHaveOneHash(t *testing.T) {
	onPlatform(t, "bigcommerce", nil, func(p *platform) {
		p.hooks(nil)
		p.register("abc123", "a", nil)
		line := p.process()
		time.Sleep(settle)
		for i, data := range []string{`{"type":"order","id":250}`, `{"id": 250, "type": "order"}`, `{"type":"order","id":251}`} {
			p.happen(happening{tenant: "abc123", id: fmt.Sprint("e", i), kind: "store/order/created", data: data})
			time.Sleep(settle)
		}
		var hashes []string
		times := map[int64]bool{}
		for _, h := range p.received("/a") {
			var body struct {
				Hash      string `json:"hash"`
				CreatedAt int64  `json:"created_at"`
			}
			if err := json.Unmarshal([]byte(h.body), &body); err != nil {
				t.Fatal(err)
			}
			hashes, times[body.CreatedAt] = append(hashes, body.Hash), true
		}
		if len(hashes) != 3 || hashes[0] != hashes[1] || hashes[0] == hashes[2] || len(times) != 3 {
			t.Errorf("hashes %q at %d times", hashes, len(times))
		}
		line.terminate()
	})
}

func TestBigCommerce_06_WhatIsNotAcknowledgedComesAgainAtIntervals(t *testing.T) {
	onPlatform(t, "bigcommerce", nil, func(p *platform) {
		seen := newArrivals()
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			n := seen.note(h)
			switch {
			case h.endpoint == "/accepted":
				h.status = http.StatusAccepted
			case h.endpoint == "/never" || n < 2:
				h.status = map[int]int{0: 404, 1: 500, 2: 301, 3: 503}[n%4]
			}
		})
		for _, path := range []string{"accepted", "third", "never"} {
			p.register("abc123", path, nil)
		}
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "abc123", id: "e", kind: "store/order/created"})
		time.Sleep(24 * time.Minute)
		line.terminate()
		p.one("/accepted")
		if got := p.gaps("/third"); !near(got, time.Minute, 5*time.Minute) {
			t.Errorf("until it was acknowledged it came again after %v", got)
		}
		if got := p.gaps("/never"); !near(got, time.Minute, 5*time.Minute, 15*time.Minute) {
			t.Errorf("never acknowledged it came again after %v", got)
		}
		same := map[string]bool{}
		for _, h := range p.received("/never") {
			same[h.id+" "+h.body] = true
		}
		if len(same) != 1 {
			t.Errorf("%d different notifications, want the same each time", len(same))
		}
	})
}

func TestBigCommerce_07_AWebhookThatFailsConsistentlyIsDeactivatedItsOwnerToldAndItCanBeSwitchedOnAgain(t *testing.T) {
	// Days are minutes here: virtual time isn't for nothing.
	onPlatform(t, "bigcommerce", func(c *config.Config) {
		c.Lifecycle.FailingFor = 3 * time.Minute
		c.Delivery.Schedule = []time.Duration{time.Minute}
	}, func(p *platform) {
		failing := true
		p.hooks(func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if h.endpoint == "/a" && failing {
				h.status = 500
			}
		})
		made := p.register("abc123", "a", fields{"events": []string{"store/order/*"}})
		p.register("abc123", "owner", fields{"events": []string{"endpoint.*"}})
		p.register("xyz789", "other", nil)
		path := "/v1/tenants/abc123/endpoints/" + made.ID
		line := p.process()
		time.Sleep(settle)
		fire := func(id string) {
			p.happen(happening{tenant: "abc123", id: id, kind: "store/order/created"})
			time.Sleep(30 * time.Second)
		}
		for i := range 8 {
			fire(fmt.Sprint("e", i))
		}
		type answer struct {
			Disabled bool
			Reason   string            `json:"disabled_reason"`
			Missed   map[string]string `json:"missed"`
		}
		var off, on answer
		p.call("GET", path, nil, &off, http.StatusOK)
		if !off.Disabled || off.Reason != "failing" {
			t.Fatalf("after %v of failing it is %+v", 4*time.Minute, off)
		}
		told := p.kinds("/owner", "scope")
		if !slices.Equal(told, []string{"endpoint.failing", "endpoint.failing", "endpoint.disabled"}) {
			t.Errorf("its owner was told %q", told)
		}
		if n := len(p.received("/other")); n != 0 {
			t.Errorf("another store was told %d times", n)
		}
		failing = false
		before := len(p.received("/a"))
		fire("missed")
		p.call("PATCH", path, fields{"disabled": false}, &on, http.StatusOK)
		if on.Disabled || on.Missed["from"] == "" || on.Missed["until"] == "" {
			t.Errorf("switched on: %+v", on)
		}
		time.Sleep(time.Second)
		fire("again")
		line.terminate()
		if n := len(p.received("/a")) - before; n != 1 {
			t.Errorf("switched on again it got %d, want 1", n)
		}
	})
}

func TestBigCommerce_08_OneWithoutAnyEventFor90DaysIsDeactivated(t *testing.T) {
	onPlatform(t, "bigcommerce", nil, func(p *platform) {
		p.hooks(nil)
		aged := func(path string, days int) string {
			made := p.register("abc123", path, fields{"events": []string{"store/" + path + "/*"}})
			p.change(p.stored(made.ID), func(e *webhook.Endpoint) { e.CreatedAt = e.CreatedAt.AddDate(0, 0, -days) })
			return made.ID
		}
		quiet, young, busy := aged("quiet", 90), aged("young", 89), aged("busy", 200)
		p.register("abc123", "owner", fields{"events": []string{"endpoint.disabled"}})
		line := p.process()
		time.Sleep(settle)
		p.happen(happening{tenant: "abc123", id: "e", kind: "store/busy/created"})
		time.Sleep(inactiveFirst)
		line.terminate()
		for id, want := range map[string]bool{quiet: true, young: false, busy: false} {
			if e := p.stored(id); e.Disabled != want || want && e.DisabledReason != webhook.DisabledInactive {
				t.Errorf("%+v", e)
			}
		}
		p.one("/owner")
	})
}
