package app

import (
	"context"
	"errors"
	"testing"

	"posthorn/api"
	"posthorn/contract"
	"posthorn/webhook"
)

// A topic that was made anew may have another tenant's event where the ledger says
// that a delivery's lies, and under the same ID where producers count from one again.
func TestAnEventReadAgainIsNeverAnotherTenants(t *testing.T) {
	meant := webhook.Event{ID: "orders/0/7", Source: "shop", Type: "order.paid", Tenant: "acme", ContentType: "application/json", Data: []byte(`{"to":"acme"}`)}
	for what, change := range map[string]func(*webhook.Event){
		"":          func(*webhook.Event) {},
		"tenant":    func(e *webhook.Event) { e.Tenant = "globex" },
		"no tenant": func(e *webhook.Event) { e.Tenant = "" },
		"type":      func(e *webhook.Event) { e.Type = "order.made" },
		"source":    func(e *webhook.Event) { e.Source = "till" },
		"ID":        func(e *webhook.Event) { e.ID = "orders/0/8" },
	} {
		lies := meant
		change(&lies)
		rebuild := func(context.Context, webhook.Position) (*webhook.Event, error) { return &lies, nil }
		line := &apiLine{rebuild: rebuild}
		d := &api.DeliveryDetail{Delivery: api.Delivery{EventID: meant.ID, EventSource: meant.Source, EventType: meant.Type},
			Source: &api.SourcePosition{Topic: "orders", Offset: 7}}
		if e, err := line.Event(t.Context(), "acme", d); what == "" && err != nil || what != "" && (e != nil || !errors.Is(err, api.ErrEventGone)) {
			t.Errorf("resent, %q is another: %+v, %v", what, e, err)
		}
		failed := &failedLedger{rebuild: rebuild, bodies: bodies{contract.Builtin()}}
		again := &webhook.Delivery{Tenant: "acme", EventID: meant.ID, EventSource: meant.Source, EventType: meant.Type, Contract: api.DefaultContract}
		if err := failed.again(t.Context(), again); err != nil || (again.Body != nil) != (what == "") {
			t.Errorf("retried, %q is another: body %s, %v", what, again.Body, err)
		}
	}
}
