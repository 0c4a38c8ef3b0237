package demo

import (
	"fmt"
	"time"

	"posthorn/webhook"
)

// manner is how the receiver answers for an endpoint.
type manner int

const (
	healthy manner = iota // 200 at once
	failing               // 503 to the first POST of every third delivery
	hanging               // no answer until it is released
)

// failEvery says which deliveries meet a 503 at a failing endpoint. One in
// three keeps its breaker closed, which opens at one in two.
const failEvery = 3

// endpoint is a sample endpoint.
type endpoint struct {
	name     string // its path at the receiver
	tenant   string
	contract string
	events   []string // subscribed patterns; none means all
	headers  map[string]string
	tls      bool
	manner   manner
	// The rest comes of registering it.
	id, url, secret string
}

// sampleEndpoints are two of the standard contract for one tenant, one of each
// other contract, and two of the first tenant that misbehave.
func sampleEndpoints() []*endpoint {
	return []*endpoint{
		{name: "shop", tenant: "acme", contract: "standard", events: []string{"order.*"}},
		{name: "audit", tenant: "acme", contract: "standard"},
		{name: "members", tenant: "atlas", contract: "bunship", events: []string{"member.added"}},
		{name: "partner", tenant: "moa", contract: "bunjang", events: []string{"order.status.changed"}, tls: true},
		{name: "store", tenant: "7k2x9q", contract: "bigcommerce", events: []string{"store/order/*"}, tls: true,
			headers: map[string]string{"X-Store-Region": "eu"}},
		{name: "billing", tenant: "acme", contract: "standard", events: []string{"invoice.paid"}, manner: failing},
		{name: "warehouse", tenant: "acme", contract: "standard", events: []string{"order.shipped"}, manner: hanging},
	}
}

// kind is a kind of event that the platform produces.
type kind struct {
	name, tenant string
	extension    [2]string // name and value; empty for none
	// to names the endpoints that have to get it. It is said here, not asked
	// of the matcher: the demo is to notice if that is wrong.
	to      []string
	subject func(i int) string
	data    func(i int, at string) string
}

var (
	orderCreated = kind{name: "order.created", tenant: "acme", to: []string{"shop", "audit"}, subject: subject("orders"),
		data: func(i int, at string) string {
			return fmt.Sprintf(`{"order_id":"ord_%05d","customer":"cus_%04d","total":{"amount":%d,"currency":"EUR"},"placed_at":%q}`, i, i%97, 1900+i%7*450, at)
		}}
	orderShipped = kind{name: "order.shipped", tenant: "acme", to: []string{"shop", "audit", "warehouse"}, subject: subject("orders"),
		data: func(i int, at string) string {
			return fmt.Sprintf(`{"order_id":"ord_%05d","carrier":"DHL","tracking":"JD%010d","shipped_at":%q}`, i, i*7919, at)
		}}
	invoicePaid = kind{name: "invoice.paid", tenant: "acme", to: []string{"billing", "audit"}, subject: subject("invoices"),
		data: func(i int, at string) string {
			return fmt.Sprintf(`{"invoice_id":"inv_%05d","amount":%d,"currency":"EUR","paid_at":%q}`, i, 1900+i%11*320, at)
		}}
	memberAdded = kind{name: "member.added", tenant: "atlas", to: []string{"members"}, subject: subject("members"),
		data: func(i int, _ string) string {
			return fmt.Sprintf(`{"member_id":"mem_%05d","team":"team_%02d","role":"editor"}`, i, i%12)
		}}
	memberRemoved = kind{name: "member.removed", tenant: "atlas", subject: subject("members"),
		data: func(i int, _ string) string {
			return fmt.Sprintf(`{"member_id":"mem_%05d","team":"team_%02d"}`, i, i%12)
		}}
	orderStatus = kind{name: "order.status.changed", tenant: "moa", extension: [2]string{"payloadversion", "v1"}, to: []string{"partner"}, subject: subject("orders"),
		data: func(i int, at string) string {
			return fmt.Sprintf(`{"orderId":%d,"from":"PAID","to":"SHIP_READY","changedAt":%q}`, 880000+i, at)
		}}
	storeOrder = kind{name: "store/order/created", tenant: "7k2x9q", extension: [2]string{"storeid", "1001234"}, to: []string{"store"}, subject: subject("orders"),
		data: func(i int, _ string) string { return fmt.Sprintf(`{"type":"order","id":%d}`, 4200+i) }}
)

func subject(of string) func(int) string {
	return func(i int) string { return fmt.Sprintf("%s/%d", of, i) }
}

// traffic is twenty events as they follow one another: thirty deliveries, and
// one event that nobody subscribes to.
var traffic = []*kind{
	&orderCreated, &storeOrder, &memberAdded, &orderStatus, &invoicePaid,
	&orderShipped, &storeOrder, &orderCreated, &memberAdded, &orderStatus,
	&invoicePaid, &orderCreated, &storeOrder, &memberRemoved, &orderShipped,
	&orderStatus, &orderCreated, &memberAdded, &invoicePaid, &storeOrder,
}

// eventSource is the CloudEvents source of the sample events.
const eventSource = "/demo/platform"

// event is a sample event.
type event struct {
	id       string
	kind     *kind
	number   int
	produced time.Time // guarded by the score
}

// pair is an event and an endpoint that has to get it.
type pair struct {
	event    *event
	endpoint *endpoint
	id       string // of the delivery
	// What came of it; guarded by the score.
	tries    []try // POSTs as the receiver saw them
	verified bool
	end      end
	last     *webhook.Settlement
}

// plan is what is sent, and every delivery that has to come of it.
func plan(events int, endpoints []*endpoint) ([]*event, []*pair) {
	byName := make(map[string]*endpoint, len(endpoints))
	for _, e := range endpoints {
		byName[e.name] = e
	}
	var all []*event
	var pairs []*pair
	for i := range events {
		k := traffic[i%len(traffic)]
		e := &event{id: fmt.Sprintf("evt_%06d", i+1), kind: k, number: i + 1}
		all = append(all, e)
		for _, name := range k.to {
			to := byName[name]
			pairs = append(pairs, &pair{event: e, endpoint: to, id: webhook.DeliveryID(eventSource, e.id, to.id)})
		}
	}
	return all, pairs
}
