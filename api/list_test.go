package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"posthorn/webhook"
)

func (m *memory) fill(tenant string, n int, each func(i int, ep *webhook.Endpoint)) (ids []string) {
	for i := range n {
		ep := &webhook.Endpoint{ID: fmt.Sprintf("ep_%s%06d", tenant, i), Tenant: tenant, URL: "https://a.b", Contract: "standard", Version: 1}
		if each != nil {
			each(i, ep)
		}
		m.endpoints[ep.ID] = ep
		ids = append(ids, ep.ID)
	}
	return ids
}

// pages follows the cursors from the start to the end.
func (c *client) pages(path string) (ids []string, sizes []int) {
	c.t.Helper()
	for cursor := ""; ; {
		list := decode[EndpointList](c.do("GET", path+"&cursor="+cursor, "").want(http.StatusOK))
		for _, ep := range list.Items {
			ids = append(ids, ep.ID)
		}
		sizes = append(sizes, len(list.Items))
		if cursor = list.Next; cursor == "" {
			return ids, sizes
		}
	}
}

func TestPagesShowEveryEndpointOfTheTenantOnceAndInOrder(t *testing.T) {
	c := start(t)
	want := c.store.fill("acme", 120, nil)
	c.store.fill("acm", 3, nil)
	c.store.fill("acmee", 3, nil)
	for limit, sizes := range map[int][]int{1: slices.Repeat([]int{1}, 120), 7: append(slices.Repeat([]int{7}, 17), 1), 40: {40, 40, 40}, 500: {120}} {
		ids, got := c.pages(fmt.Sprintf("%s?limit=%d", acme, limit))
		if !slices.Equal(ids, want) || !slices.Equal(got, sizes) {
			t.Errorf("limit %d: %d IDs on pages of %v, want %v", limit, len(ids), got, sizes)
		}
	}
	if ids, sizes := c.pages(acme + "?"); !slices.Equal(ids, want) || !slices.Equal(sizes, []int{50, 50, 20}) {
		t.Errorf("by default %d IDs on pages of %v", len(ids), sizes)
	}
	a := c.do("GET", "/v1/tenants/nobody/endpoints", "").want(http.StatusOK)
	if strings.TrimSpace(a.body) != `{"items":[]}` {
		t.Errorf("of nobody: %s", a.body)
	}
}

func TestFiltersAreExactOnEveryPage(t *testing.T) {
	c := start(t)
	all := c.store.fill("acme", 1200, func(i int, ep *webhook.Endpoint) {
		ep.Disabled = i%3 == 0
		if i%2 == 0 {
			ep.Contract = "plain"
		}
		switch i % 4 {
		case 0:
			ep.Events = []string{"cart.created", "order.*"}
		case 1:
			ep.Events = []string{"cart.created"}
		case 2:
			ep.Events = []string{"order.paid"}
		}
	})
	for query, keep := range map[string]func(i int) bool{
		"status=disabled":                 func(i int) bool { return i%3 == 0 },
		"status=enabled":                  func(i int) bool { return i%3 != 0 },
		"contract=plain":                  func(i int) bool { return i%2 == 0 },
		"contract=nosuch":                 func(int) bool { return false },
		"type=order.paid":                 func(i int) bool { return i%4 != 1 },
		"type=cart.created":               func(i int) bool { return i%4 != 2 },
		"type=order.paid&status=disabled": func(i int) bool { return i%4 != 1 && i%3 == 0 },
		"type=nosuch&contract=plain":      func(int) bool { return false },
		"type=order.x&contract=standard":  func(i int) bool { return i%4 == 3 },
	} {
		var want []string
		for i, id := range all {
			if keep(i) {
				want = append(want, id)
			}
		}
		for _, limit := range []int{1, 100, 500} {
			if limit == 1 && len(want) > 150 {
				continue
			}
			ids, _ := c.pages(fmt.Sprintf("%s?limit=%d&%s", acme, limit, query))
			if !slices.Equal(ids, want) {
				t.Errorf("%s by %d: %d IDs, want %d", query, limit, len(ids), len(want))
			}
		}
	}
}

func TestOneRequestExaminesABoundedNumberOfEndpoints(t *testing.T) {
	c := start(t)
	c.store.fill("acme", maxExamined+listBatch, func(i int, ep *webhook.Endpoint) { ep.Disabled = i == maxExamined+3 })
	first := decode[EndpointList](c.do("GET", acme+"?status=disabled", "").want(http.StatusOK))
	if len(first.Items) != 0 || first.Next == "" {
		t.Errorf("first page: %d endpoints, next %q; want none yet, and a cursor", len(first.Items), first.Next)
	}
	if ids, sizes := c.pages(acme + "?status=disabled"); len(ids) != 1 || len(sizes) != 2 {
		t.Errorf("found %q on pages of %v", ids, sizes)
	}
}

func TestPagingIsNotUpsetByChangesInBetween(t *testing.T) {
	c := start(t)
	ids := c.store.fill("acme", 10, nil)
	first := decode[EndpointList](c.do("GET", acme+"?limit=5", "").want(http.StatusOK))
	c.do("DELETE", acme+"/"+ids[4], "").want(http.StatusNoContent) // the cursor's own
	c.do("DELETE", acme+"/"+ids[5], "").want(http.StatusNoContent)
	second := decode[EndpointList](c.do("GET", acme+"?limit=5&cursor="+first.Next, "").want(http.StatusOK))
	if len(second.Items) != 4 || second.Items[0].ID != ids[6] || second.Next != "" {
		t.Errorf("second page %+v", second)
	}
}

func TestQueriesThatMakeNoSenseAreRefused(t *testing.T) {
	c := start(t)
	for query, field := range map[string]string{
		"limit=0": "query.limit", "limit=501": "query.limit", "limit=-1": "query.limit", "limit=x": "query.limit",
		"cursor=x": "query.cursor", "cursor=ep_1": "query.cursor", "cursor=%00": "query.cursor",
		"status=yes": "query.status", "evnt=x": "query.evnt", "type=" + strings.Repeat("x", 256): "query.type",
	} {
		c.do("GET", acme+"?"+query, "").wantFields(field)
	}
}
