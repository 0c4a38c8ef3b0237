package main

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/bench/sink"
)

// event is the record of event n.
func event(n int64, kind string) *kgo.Record {
	id := strconv.FormatInt(n, 10)
	return &kgo.Record{Topic: eventTopic, Key: []byte(id), Value: sink.Body(n), Headers: []kgo.RecordHeader{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_source", Value: []byte("/shop")},
		{Key: "ce_type", Value: []byte(kind)}, {Key: "ce_tenant", Value: []byte(tenant)},
		{Key: "content-type", Value: []byte("application/json")},
	}}
}

// load is what is fed.
type load struct {
	// kinds gives the type of event n.
	kind func(n int64) string
	// perSecond is the rate; 0 is as fast as window lets it.
	perSecond float64
	// window is how far the feeder may be ahead of the receiver, in
	// deliveries; each event makes fan of them.
	window int64
	fan    int64
}

// round spreads events over the first n endpoints in turn.
func round(n int) func(int64) string {
	kinds := make([]string, n)
	for i := range kinds {
		kinds[i] = kind(i)
	}
	return func(e int64) string { return kinds[e%int64(n)] }
}

// feed produces until stop is called, which returns how many events there were.
func (r *rig) feed(ctx context.Context, l load) (stop func() int64) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	var count atomic.Int64
	wait.Go(func() {
		if l.perSecond > 0 {
			r.feedPaced(ctx, l, &count)
		} else {
			r.feedFast(ctx, l, &count)
		}
	})
	return func() int64 {
		cancel()
		wait.Wait()
		// What was cut short may have no broker any more.
		within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = r.client.Flush(within)
		return count.Load()
	}
}

func (r *rig) produce(n int64, kind string) {
	rec := event(n, kind)
	sink.SetTime(rec.Value, time.Now())
	// Not cancelled with the feed: what was produced is waited for.
	r.client.Produce(context.Background(), rec, func(_ *kgo.Record, err error) {
		if err != nil {
			r.s.log("producing an event: %v", err)
		}
	})
}

func (r *rig) feedPaced(ctx context.Context, l load, count *atomic.Int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begun, done := time.Now(), int64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for due := int64(time.Since(begun).Seconds() * l.perSecond); done < due; done++ {
			r.produce(r.fed, l.kind(r.fed))
			r.fed++
			count.Add(1)
		}
	}
}

func (r *rig) feedFast(ctx context.Context, l load, count *atomic.Int64) {
	fan := max(l.fan, 1)
	ahead := r.sink.Delivered()
	for ctx.Err() == nil {
		room := (l.window - (count.Load()*fan - (r.sink.Delivered() - ahead))) / fan
		if room <= 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		for range min(room, 256) {
			r.produce(r.fed, l.kind(r.fed))
			r.fed++
			count.Add(1)
		}
	}
}
