package sink

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

func BenchmarkReadSettlement(b *testing.B) {
	now := time.Now()
	s := &webhook.Settlement{Kind: webhook.KindAttempt, AttemptID: uuid.Must(uuid.NewV7()).String(), DeliveryID: webhook.DeliveryID("a", "b", "c"),
		EndpointID: "ep_2al2gblqzhwgfedha5ib6n6rwk", Tenant: "acme", EventID: "ord-1001", EventSource: "shop", EventType: "order.created", Contract: "standard",
		Source: webhook.Position{Topic: "events", Partition: 3, Offset: 17}, Record: webhook.Position{Topic: "posthorn.deliveries", Partition: 6, Offset: 100},
		StartedAt: now, BegunAt: now, MatchedAt: now, Duration: time.Millisecond, Status: 200, Outcome: webhook.OutcomeDelivered, Reason: webhook.ReasonOK,
		Response: `{"ok":true}`, Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	value, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	r := &kgo.Record{Value: value, Timestamp: now}
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readSettlement(r); err != nil {
			b.Fatal(err)
		}
	}
}
