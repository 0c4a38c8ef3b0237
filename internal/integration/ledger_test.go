//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// attempt names what is POSTed once: an attempt of a run of a delivery.
type attempt struct {
	id  string
	run int64
	n   int
}

// entry is what the laws ask of one settlement, and where it lies in the
// ledger.
type entry struct {
	attempt
	deferrals int
	kind      webhook.Kind
	outcome   webhook.Outcome
	reason    webhook.Reason
	endpoint  string
	record    webhook.Position // that is settled
	begun     time.Time        // produced, for a first run
	matched   time.Time
	started   time.Time
	next      time.Time
	partition int32
	offset    int64
}

// before reports whether the entry lies before these ends of the ledger.
func (e *entry) before(ends map[int32]int64) bool { return e.offset < ends[e.partition] }

// ledger follows the attempts topic and the dead letters.
type ledger struct {
	t testing.TB

	mu        sync.Mutex
	entries   []entry
	delivered map[string]bool           // by delivery ID
	dead      map[string]webhook.Reason // of the dead letters, by delivery ID
	read      map[int32]int64           // next offset of attempts
	changed   chan struct{}             // closed and replaced at every change
}

// follow reads both topics from their start until the test ends.
func (w *world) follow() *ledger {
	w.t.Helper()
	l := &ledger{t: w.t, delivered: make(map[string]bool), dead: make(map[string]webhook.Reason),
		read: make(map[int32]int64), changed: make(chan struct{})}
	attempts := w.prefix + ".attempts"
	opts := append(w.client.Opts(), kgo.ConsumeTopics(attempts, w.prefix+".dead"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			fetches := cl.PollFetches(ctx)
			if ctx.Err() != nil {
				return
			}
			l.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) { l.take(r, r.Topic == attempts) })
			close(l.changed)
			l.changed = make(chan struct{})
			l.mu.Unlock()
		}
	})
	w.t.Cleanup(func() { cancel(); wg.Wait(); cl.Close() })
	return l
}

func (l *ledger) take(r *kgo.Record, settled bool) {
	if !settled {
		d, err := webhook.DecodeDelivery(r.Key, r.Value, r.Headers)
		if err != nil {
			l.t.Errorf("dead letter at %d/%d: %v", r.Partition, r.Offset, err)
			return
		}
		for _, h := range r.Headers {
			if h.Key == webhook.HeaderReason {
				l.dead[d.ID] = webhook.Reason(h.Value)
			}
		}
		return
	}
	var s webhook.Settlement
	if err := json.Unmarshal(r.Value, &s); err != nil {
		l.t.Errorf("settlement at %d/%d: %v", r.Partition, r.Offset, err)
		return
	}
	l.entries = append(l.entries, entry{attempt: attempt{s.DeliveryID, s.Run, s.N}, deferrals: s.Deferrals, kind: s.Kind,
		outcome: s.Outcome, reason: s.Reason, endpoint: s.EndpointID, record: s.Record, begun: s.BegunAt, matched: s.MatchedAt, started: s.StartedAt, next: s.NextAt, partition: r.Partition, offset: r.Offset})
	if s.Outcome == webhook.OutcomeDelivered {
		l.delivered[s.DeliveryID] = true
	}
	l.read[r.Partition] = r.Offset + 1
}

// waitFor waits until a condition holds; it is asked with the ledger locked.
func (l *ledger) waitFor(within time.Duration, what string, holds func() bool) bool {
	l.t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		l.mu.Lock()
		ok, changed := holds(), l.changed
		l.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.t.Errorf("waiting for %s: not within %v; %d settlements, %d delivered, %d dead", what, within,
				len(l.entries), len(l.delivered), len(l.dead))
			return false
		}
	}
}

// upTo waits until the ledger has been read that far, and returns all of it.
func (l *ledger) upTo(ends map[int32]int64) []entry {
	l.t.Helper()
	l.waitFor(30*time.Second, "the end of the ledger", func() bool {
		for p, end := range ends {
			if l.read[p] < end {
				return false
			}
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]entry(nil), l.entries...)
}

// history describes what became of a delivery; the ledger is locked.
func (l *ledger) history(id string) string {
	var b strings.Builder
	for _, e := range l.entries {
		if e.id == id {
			fmt.Fprintf(&b, "  %s n=%d deferrals=%d %s %s %s next %s from %v\n", e.started.Format("05.000"), e.n, e.deferrals, e.kind, e.outcome,
				e.reason, e.next.Format("05.000"), e.record)
		}
	}
	return b.String()
}
