package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// awayLedger is a ClickHouse that doesn't answer.
type awayLedger struct{ Ledger }

var errAway = errors.New("dial tcp 10.1.2.3:9000: connection refused")

func (awayLedger) Deliveries(context.Context, string, DeliveryFilter) ([]Delivery, string, error) {
	return nil, "", errAway
}
func (awayLedger) Delivery(context.Context, string, string) (*DeliveryDetail, error) {
	return nil, errAway
}
func (awayLedger) Attempts(context.Context, string, string, string, int) ([]Attempt, string, error) {
	return nil, "", errAway
}
func (awayLedger) Backlog(context.Context, string, string) (*Backlog, error) { return nil, errAway }

func TestWithoutALedgerItsRequestsSaySo(t *testing.T) {
	none, away := start(t), start(t, func(c *Config) { c.Ledger = awayLedger{} })
	for _, c := range []*client{none, away} {
		ep := c.create(plainBody)
		for _, path := range []string{"/v1/tenants/acme/deliveries", "/v1/tenants/acme/deliveries/dlv_x", "/v1/tenants/acme/deliveries/dlv_x/attempts", acme + "/" + ep.ID + "/backlog"} {
			a := c.do("GET", path, "").want(http.StatusServiceUnavailable)
			if said := strings.Contains(a.body, "clickhouse.addr"); said != (c == none) || strings.Contains(a.body, "10.1.2.3") {
				t.Errorf("%s: %s", path, a.body)
			}
		}
	}
	away.do("GET", acme+"/ep_none/backlog", "").want(http.StatusNotFound)
}

func TestAListOfDeliveriesIsAskedForInItsOwnWords(t *testing.T) {
	c := start(t, func(c *Config) { c.Ledger = awayLedger{} })
	for query, fields := range map[string][]string{
		"limit=0": {"query.limit"}, "limit=501": {"query.limit"}, "state=lost": {"query.state"}, "since=yesterday": {"query.since"},
		"since=2026-03-02T14:00:00Z&until=2026-03-02T14:00:00Z": {"query.until"}, "cursor=*": {"query.cursor"}, "tenant=globex": {"query.tenant"},
	} {
		c.do("GET", "/v1/tenants/acme/deliveries?"+query, "").wantFields(fields...)
	}
}

func TestABodyThatIsntTextIsGivenInBase64(t *testing.T) {
	for body, want := range map[string]string{"": "utf-8", `{"a":"ü"}`: "utf-8", "\xff\x00": "/wA= base64"} {
		text, encoding := EncodePayload([]byte(body))
		if encoding == "utf-8" && (text != body || want != "utf-8") || encoding != "utf-8" && text+" "+encoding != want {
			t.Errorf("%q is %q in %s", body, text, encoding)
		}
	}
}

func TestABacklogNeedsAsLongAsItsRateAndItsPlanSay(t *testing.T) {
	now := time.Now()
	old, due := now.Add(-time.Minute), now.Add(90*time.Second)
	for _, c := range []struct {
		b     Backlog
		limit float64
		want  float64 // below 0: nobody knows
	}{
		{Backlog{}, 0, 0},
		{Backlog{Waiting: 100, Rate: 10}, 0, 10},
		{Backlog{Waiting: 100, Rate: 10}, 4, 25},
		{Backlog{Waiting: 100, Rate: 10, LastDueAt: &due}, 0, 90},
		{Backlog{Waiting: 100}, 5, -1},
		{Backlog{Waiting: 100, Rate: 10}, 1e-310, -1}, // as it could be registered once
	} {
		c.b.OldestAt = &old
		c.b.estimate(now, c.limit)
		if got := c.b.DrainSeconds; (got == nil) != (c.want < 0) || got != nil && *got != c.want || c.b.AgeSeconds != 60 {
			t.Errorf("%d at %v (limit %v): %v, age %v", c.b.Waiting, c.b.Rate, c.limit, got, c.b.AgeSeconds)
		}
	}
}
