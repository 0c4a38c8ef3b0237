//go:build integration

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// missing fails the test for deliveries that didn't end as they should, and
// tells the whole story of the first of them.
func (s *stream) missing(well func(id string, endpoint int) bool) {
	s.t.Helper()
	s.ledger.mu.Lock()
	var ids []string
	for id, endpoint := range s.expected {
		if !well(id, endpoint) {
			ids = append(ids, id)
		}
	}
	s.ledger.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	s.t.Errorf("%d of %d deliveries did not end as they should; of these:", len(ids), len(s.expected))
	for _, id := range ids[:min(3, len(ids))] {
		s.ledger.mu.Lock()
		_, dead := s.ledger.dead[id]
		s.t.Errorf("delivery %s to endpoint %d (hanging: %v): delivered %v, dead %v\n%s%s", id, s.expected[id], s.receiver.hanging[s.expected[id]],
			s.ledger.delivered[id], dead, s.ledger.history(id), s.world.trace(id))
		s.ledger.mu.Unlock()
	}
}

// trace lists the records of a delivery in every topic that it may have gone
// through, in the order of their timestamps.
func (w *world) trace(id string) string {
	topics := []string{w.prefix + ".deliveries", w.prefix + ".retry.1s", w.prefix + ".retry.2s", w.prefix + ".retry.4s", w.prefix + ".dead"}
	left := 0
	for _, t := range topics {
		for _, end := range w.ends(t) {
			if end > 0 {
				left++
			}
		}
	}
	cl, err := kgo.NewClient(append(w.client.Opts(), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err.Error()
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	type line struct {
		at   time.Time
		text string
	}
	var lines []line
	for left > 0 && ctx.Err() == nil {
		cl.PollFetches(ctx).EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
				if err == nil && d.ID == id {
					lines = append(lines, line{r.Timestamp, fmt.Sprintf("  %s in %s/%d@%d: n=%d step=%d deferrals=%d not before %s", r.Timestamp.UTC().Format("05.000"),
						r.Topic, r.Partition, r.Offset, d.N, d.Step, d.Deferrals, d.NotBefore.UTC().Format("05.000"))})
				}
			}
			if n := len(p.Records); n > 0 && p.Records[n-1].Offset+1 >= p.HighWatermark {
				left--
			}
		})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}
