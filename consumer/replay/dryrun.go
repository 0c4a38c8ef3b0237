package replay

import (
	"cmp"
	"context"
	"slices"
	"time"

	"posthorn/webhook"
)

// dryRunFetchBytes is how much of a log a dry run reads at a time: someone waits
// for it.
const dryRunFetchBytes = 256 << 10

// Bounds of a dry run; whichever is reached first cuts it.
type Bounds struct {
	Records int64
	Bytes   int64
	// Samples is the most events that are kept.
	Samples int
}

// Why a dry run was cut.
const (
	CutNone   = "none"
	CutEvents = "events"
	CutBytes  = "bytes"
	CutTime   = "time"
)

// Tried is what a subscription would have got.
type Tried struct {
	Matched        int64
	Types          []TypeCount // most first
	Samples        []*webhook.Event
	Scanned, Bytes int64
	Cut            string
	// Until is about how far a scan came that was cut.
	Until time.Time
}

// TypeCount counts the events of a type.
type TypeCount struct {
	Type   string
	Events int64
}

// DryRun counts the events of a tenant with Kafka timestamps in [since, until)
// that a subscription wants. It ends when all are read, at a bound, or with its
// context.
func DryRun(ctx context.Context, cfg *EventsConfig, tenant string, wants func(*webhook.Event) bool, since, until time.Time, most Bounds) (*Tried, error) {
	topics, err := cfg.Topics(ctx)
	if err != nil {
		return nil, err
	}
	walk, err := cfg.Log.Stretches(ctx, topics, since, until)
	if err != nil {
		return nil, err
	}
	t := &Tried{Cut: CutNone}
	types := make(map[string]int64)
	for t.Cut == CutNone {
		i := walk.Next()
		if i < 0 {
			break
		}
		switch {
		case t.Scanned >= most.Records:
			t.Cut = CutEvents
		case t.Bytes >= most.Bytes:
			t.Cut = CutBytes
		case ctx.Err() != nil:
			t.Cut = CutTime
		}
		if t.Cut != CutNone {
			t.Until = walk.Reached()
			break
		}
		records, next, err := cfg.fetch(ctx, walk, i, dryRunFetchBytes)
		if err != nil {
			if ctx.Err() != nil {
				continue // as far as the time allowed
			}
			return nil, err
		}
		end, last := walk[i].To, time.Time{}
		for _, r := range records {
			if last = r.Timestamp; !within(r, end, since, until) {
				continue
			}
			t.Scanned++
			t.Bytes += int64(len(r.Key) + len(r.Value))
			task, why := cfg.Events.Read(r)
			if why != nil || task.Event.Tenant != tenant || !wants(task.Event) {
				continue
			}
			t.Matched++
			types[task.Event.Type]++
			if len(t.Samples) < most.Samples {
				t.Samples = append(t.Samples, task.Event)
			}
		}
		walk.Read(i, next, last)
	}
	for name, n := range types {
		t.Types = append(t.Types, TypeCount{name, n})
	}
	slices.SortFunc(t.Types, func(a, b TypeCount) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Type, b.Type))
	})
	return t, nil
}
