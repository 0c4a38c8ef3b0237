package main

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	rates := []int{1000, 100}
	if kafka {
		rates = rates[:1]
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
					arrivals, err := r.paced(ctx, load{kind: round(100), perSecond: float64(rate)}, 3*time.Second, windowOf(s, 6*time.Second))
					if err != nil {
						return err
					}
					p50, p99 := quantile(arrivals, 0.5), quantile(arrivals, 0.99)
					s.log("%s: %d/s: p50 %.2f ms, p99 %.2f ms", name, rate, p50, p99)
					figures[2*i].values = append(figures[2*i].values, p50)
					figures[2*i+1].values = append(figures[2*i+1].values, p99)
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
