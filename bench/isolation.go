package main

import (
	"context"
	"fmt"
	"time"

	"posthorn/bench/sink"
)

const (
	isolationPorts = 100
	isolationRate  = 2000.0 // events a second, one delivery each
	sickPorts      = 10
	// floodCapacity is what the flooded endpoint answers a second; it is sent
	// ten times as much.
	floodCapacity = 100.0
)

func isSick(i int) bool { return i%(isolationPorts/sickPorts) == 3 }

// scenario is a way in which some endpoints go wrong.
type scenario struct {
	name  string
	sick  sink.Behaviour
	flood bool // the first sick port alone, and it gets ten times its capacity
}

var scenarios = []scenario{
	{name: "10 hang", sick: sink.Behaviour{Hang: true}},
	{name: "10 take 5 s", sick: sink.Behaviour{Delay: 5 * time.Second}},
	{name: "10 refuse", sick: sink.Behaviour{Refuse: true}},
	{name: "1 flooded", sick: sink.Behaviour{PerSecond: floodCapacity}, flood: true},
}

// isolation measures what healthy endpoints feel of sick ones, from the first
// second on. It is one run of each scenario, and one without any before them.
func isolation(ctx context.Context, s *settings) ([]row, error) {
	window := windowOf(s, 30*time.Second)
	if s.long {
		window = windowOf(s, 180*time.Second)
	}
	name := fmt.Sprintf("isolation, %.0f s", window.Seconds())
	var figures []*figure
	base, err := isolationRun(ctx, s, scenario{}, window/2)
	if err != nil {
		return nil, fmt.Errorf("without sick endpoints: %w", err)
	}
	for _, sc := range scenarios {
		got, err := isolationRun(ctx, s, sc, window)
		if err != nil {
			return rowsOf(name, figures...), fmt.Errorf("%s: %w", sc.name, err)
		}
		s.log("%s: healthy p99 %.2f ms, in its first 5 s %.2f ms, without sick ones %.2f ms; %.4f of the rate kept, %.0f/s at the flooded one",
			sc.name, got.p99, got.first, base.p99, got.kept, got.flooded)
		bound := base.p99*1.2 + 5
		figures = append(figures,
			&figure{what: sc.name + ": healthy p99", unit: "ms", goal: atMost(bound), values: []float64{got.p99}, limits: []float64{base.p99}},
			&figure{what: sc.name + ": healthy p99, first 5 s", unit: "ms", goal: atMost(bound), values: []float64{got.first}, limits: []float64{base.p99}},
			&figure{what: sc.name + ": healthy rate kept", unit: "", goal: atLeast(0.99), values: []float64{got.kept}})
		if sc.flood {
			figures = append(figures, &figure{what: sc.name + ": part of its capacity", unit: "", goal: atLeast(0.9), values: []float64{got.flooded / floodCapacity}})
		}
	}
	return rowsOf(name, figures...), nil
}

type isolated struct {
	p99, first    float64 // ms
	kept, flooded float64
}

func isolationRun(ctx context.Context, s *settings, sc scenario, window time.Duration) (res isolated, err error) {
	r, err := newRig(ctx, s, setup{ports: isolationPorts})
	if err != nil {
		return res, err
	}
	defer r.close()
	var well []int
	for i := range isolationPorts {
		if !isSick(i) {
			well = append(well, i)
		}
	}
	healthy := func(i int) bool { return !isSick(i) }
	all := round(isolationPorts)
	wellOnly := func(n int64) string { return kind(well[n%int64(len(well))]) }
	// Warm, as a service in production is: everything well.
	if _, err := r.paced(ctx, load{kind: wellOnly, perSecond: isolationRate}, 2*time.Second, time.Second); err != nil {
		return res, err
	}
	r.sink.Reset()
	flooded := -1
	l := load{kind: wellOnly, perSecond: isolationRate * float64(len(well)) / isolationPorts}
	healthyRate := l.perSecond
	if sc.name != "" {
		for i := range isolationPorts {
			if isSick(i) && (!sc.flood || flooded < 0) {
				flooded = i
				if err := r.sink.Behave(i, sc.sick); err != nil {
					return res, err
				}
			}
		}
		l = load{kind: all, perSecond: isolationRate}
		if sc.flood {
			// Of each 28 events 10 go to the flooded one: 1,000/s beside 1,800/s.
			l.perSecond = healthyRate + 10*floodCapacity
			share := int64(healthyRate/(10*floodCapacity)*10) + 10
			l.kind = func(n int64) string {
				if n%share < 10 {
					return kind(flooded)
				}
				return wellOnly(n)
			}
		}
	}
	begun := time.Now()
	stop := r.feed(ctx, l)
	if err := sleep(ctx, window); err != nil {
		return res, err
	}
	took := time.Since(begun)
	stop()
	if err := sleep(ctx, 2*time.Second); err != nil {
		return res, err
	}
	arrivals := r.sink.Arrivals(healthy)
	res.p99 = quantile(arrivals, 0.99)
	var first []sink.Arrival
	for _, a := range arrivals {
		if a.At < 5*time.Second {
			first = append(first, a)
		}
	}
	res.first = quantile(first, 0.99)
	res.kept = float64(len(arrivals)) / (healthyRate * took.Seconds())
	if sc.flood {
		n, _ := r.sink.Count(flooded)
		res.flooded = float64(n) / (took + 2*time.Second).Seconds()
	}
	if bad := r.sink.Bad(); bad > 0 {
		return res, fmt.Errorf("%d signatures didn't verify", bad)
	}
	return res, nil
}
