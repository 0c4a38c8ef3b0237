package schema_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"posthorn/analytics/schema"
	"posthorn/internal/ledgertest"
)

// randomProgress makes a past of progress rows for five partitions, some of which
// know nothing before as_of.
func randomProgress(r *rand.Rand, end time.Time) (out []ledgertest.Progress) {
	for partition := range int32(5) {
		for i := range 10 {
			reached := end.Add(-time.Duration(r.Int64N(int64(10*time.Hour))) - time.Duration(10-i)*time.Hour/4).Truncate(time.Millisecond)
			p := ledgertest.Progress{Topic: "deliveries", Partition: partition, ReachedAt: reached, TakenAt: reached.Add(time.Duration(1+i) * time.Second),
				DoneOffset: r.Int64N(20_000), DoneAt: reached.Add(-time.Duration(r.IntN(600)) * time.Second)}
			if partition == 4 {
				p.ReachedAt, p.TakenAt = end, end.Add(time.Second)
			}
			out = append(out, p)
			p.Topic, p.DoneOffset, p.DoneAt = "attempts", -1, p.TakenAt
			out = append(out, p)
		}
	}
	return out
}

func TestEveryViewIsExactHoweverOftenAndInWhichBatchesRowsCome(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 4))
			// The TTL would drop rows of a fixed time.
			const ttl = 20 * 365 * 24 * time.Hour
			l := ledgertest.New(t, schema.Options{Grace: 5 * time.Minute, DeliveriesTTL: ttl, AttemptsTTL: ttl, BodiesTTL: ttl})
			l.Exec("ALTER TABLE progress REMOVE TTL")
			end := time.Date(2026, 3, 2, 15, 0, 0, 0, time.UTC)
			rows := ledgertest.Random(r, 200, end)
			progress := randomProgress(r, end)
			check := func(when string) {
				t.Helper()
				same(t, when+": delivery_status", lines(t, l, askStatus), wantStatus(rows))
				same(t, when+": endpoint_minutes", lines(t, l, askMinutes), wantMinutes(rows))
				same(t, when+": exhausted_by_reason", lines(t, l, askExhausted), wantExhausted(rows))
				same(t, when+": reconciliation", lines(t, l, askReconciliation), wantReconciliation(rows, progress, 5*time.Minute))
			}
			for _, when := range []string{"once", "twice", "three times"} {
				ledgertest.InBatches(r, rows.Deliveries, l.Deliver)
				ledgertest.InBatches(r, rows.Settlements, l.Settle)
				ledgertest.InBatches(r, progress, l.Note)
				check(when)
			}
			l.Merge()
			check("merged")
		})
	}
}
