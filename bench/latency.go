package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/bench/sink"
)

// quantile of arrivals' latencies, in milliseconds.
func quantile(arrivals []sink.Arrival, q float64) float64 {
	if len(arrivals) == 0 {
		return 0
	}
	took := make([]time.Duration, len(arrivals))
	for i, a := range arrivals {
		took[i] = a.Took
	}
	slices.Sort(took)
	return float64(took[min(len(took)-1, int(q*float64(len(took))))].Microseconds()) / 1000
}

// latency measures produced → received at paced rates, and the broker's own
// hop beside it: the same events to a plain reader.
func latency(name string, kafka bool, runs int, goals map[int][2]float64) func(context.Context, *settings) ([]row, error) {
	rates, warm := []int{1000, 100}, 2*time.Second
	if kafka {
		rates, warm = rates[:1], 20*time.Second // its compiler has to see the load first
	}
	return func(ctx context.Context, s *settings) ([]row, error) {
		var figures []*figure
		for _, rate := range rates {
			g := goals[rate]
			figures = append(figures,
				&figure{what: fmt.Sprintf("%d/s p50", rate), unit: "ms", goal: atMost(g[0])},
				&figure{what: fmt.Sprintf("%d/s p99", rate), unit: "ms", goal: atMost(g[1])})
		}
		for range runsOf(s, runs) {
			r, err := newRig(ctx, s, setup{ports: 100, kafka: kafka})
			if err != nil {
				return nil, err
			}
			err = func() error {
				defer r.close()
				for i, rate := range rates {
					hop := r.watchHop(ctx)
					arrivals, err := r.paced(ctx, load{kind: round(100), perSecond: float64(rate)}, warm, windowOf(s, 5*time.Second))
					if err != nil {
						return err
					}
					hops := hop()
					p50, p99 := quantile(arrivals, 0.5), quantile(arrivals, 0.99)
					s.log("%s: %d/s: p50 %.2f ms, p99 %.2f ms; to a plain reader %.2f and %.2f ms", name, rate, p50, p99, quantile(hops, 0.5), quantile(hops, 0.99))
					for k, f := range figures[2*i : 2*i+2] {
						f.values = append(f.values, []float64{p50, p99}[k])
						f.limits = append(f.limits, quantile(hops, []float64{0.5, 0.99}[k]))
					}
				}
				return nil
			}()
			if err != nil {
				return nil, err
			}
		}
		return rowsOf(name, figures...), nil
	}
}

// watchHop reads the events as they come with a plain reader until the answer is
// called, which returns the second half of what it saw.
func (r *rig) watchHop(ctx context.Context) func() []sink.Arrival {
	reading, stop := context.WithCancel(ctx)
	reader, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ConsumeTopics(eventTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	if err != nil {
		stop()
		return func() []sink.Arrival { return nil }
	}
	var seen []sink.Arrival
	done := make(chan struct{})
	go func() {
		defer close(done)
		for reading.Err() == nil {
			fetches := reader.PollFetches(reading)
			now := time.Now()
			fetches.EachRecord(func(rec *kgo.Record) {
				if at, _, ok := sink.Stamp(rec.Value); ok {
					seen = append(seen, sink.Arrival{Took: now.Sub(at)})
				}
			})
		}
	}()
	return func() []sink.Arrival {
		stop()
		<-done
		reader.Close()
		return seen[len(seen)/2:]
	}
}

func rowsOf(target string, figures ...*figure) (rows []row) {
	for _, f := range figures {
		if len(f.values) > 0 {
			rows = append(rows, f.row(target))
		}
	}
	return rows
}

// paced feeds at a rate, first to warm up and then to measure, waits until all
// of it has arrived, and returns what was produced in the second part.
func (r *rig) paced(ctx context.Context, l load, warm, window time.Duration) ([]sink.Arrival, error) {
	stop := r.feed(ctx, l)
	if err := sleep(ctx, warm); err != nil {
		return nil, err
	}
	stop()
	before := r.fed
	if err := sleep(ctx, 500*time.Millisecond); err != nil {
		return nil, err
	}
	r.sink.Reset()
	stop = r.feed(ctx, l)
	if err := sleep(ctx, window); err != nil {
		return nil, err
	}
	stop()
	if err := r.complete(ctx, r.fed-before); err != nil {
		return nil, err
	}
	return r.sink.Arrivals(nil), nil
}
