package registry

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"posthorn/webhook"
)

// BenchmarkApply takes in the records of a registry that is read at start.
func BenchmarkApply(b *testing.B) {
	const n = 20_000
	keys, values := make([][]byte, n), make([][]byte, n)
	for i := range n {
		e := &webhook.Endpoint{ID: fmt.Sprintf("%sbench%07d", webhook.EndpointPrefix, i), Tenant: fmt.Sprintf("tenant-%05d", i/10),
			URL: fmt.Sprintf("https://hooks-%d.example.com/receive/%d", i/10, i), Events: [][]string{{"order.*"}, {"order.created", "order.paid"}, nil}[i%3],
			Contract: "standard", CreatedAt: time.Now(), UpdatedAt: time.Now(), Version: 1,
			Secrets: []webhook.SealedSecret{{ID: "sec_1", Sealed: make([]byte, 90), CreatedAt: time.Now()}}}
		keys[i] = []byte(Key(KindEndpoint, e.ID))
		values[i], _ = json.Marshal(e)
	}
	s := NewStore()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%n == 0 {
			b.StopTimer()
			s = NewStore()
			b.StartTimer()
		}
		if err := s.Apply(keys[i%n], values[i%n]); err != nil {
			b.Fatal(err)
		}
	}
}
