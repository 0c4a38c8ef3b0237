package main

import (
	"context"
	"fmt"
	"time"
)

// target is one row of the table: a command that measures figures.
type target struct {
	name, about string
	measure     func(ctx context.Context, s *settings) ([]row, error)
}

var targets = []*target{
	{name: "one", about: "unpaced to 1 endpoint: rate and CPU per 1,000 deliveries", measure: throughput("1 endpoint", 1, 1, 0.055, 0)},
	{name: "hundred", about: "unpaced to 100 endpoints: the same", measure: throughput("100 endpoints", 100, 1, 0.055, 14_000)},
	{name: "fanout", about: "unpaced, each event to 10 of 100 endpoints", measure: throughput("fan-out 10", 100, 10, 0.045, 0)},
	{name: "sink", about: "CPU of the ClickHouse sink per 1,000 rows", measure: sinkRows},
	{name: "latency", about: "produced → received at 1,000/s and 100/s on the embedded broker", measure: latency("latency", false, 3, map[int][2]float64{1000: {2, 8}, 100: {3, 7.5}})},
	{name: "latency-kafka", about: "the same at 1,000/s on Apache Kafka", measure: latency("latency on Apache Kafka", true, 1, map[int][2]float64{1000: {4, 20}})},
	{name: "isolation", about: "healthy endpoints beside hanging, slow, refusing and flooded ones (-long: for 180 s each)", measure: isolation},
	{name: "replay", about: "live latency beside a replay of 3,000 events to a new endpoint (-long: 100,000)", measure: replayed},
	{name: "memory", about: "memory at full rate with 10,000 endpoints", measure: memoryAtRate},
	{name: "million", about: "a registry of 1,000,000 endpoints: time to read, memory", measure: million},
	{name: "wide", about: "one event to 100,000 endpoints", measure: wide},
	{name: "backlog", about: "memory while 2,000,000 deliveries wait for endpoints that hang", measure: backlog},
	{name: "matching", about: "an event among 1,000,000 subscriptions", measure: matching},
	{name: "retries", about: "half a million parked deliveries fall due; lateness at 10,000/s", measure: due},
	{name: "parked", about: "what a million parked deliveries of a dead endpoint cost the others", measure: parkedMillion},
	{name: "scaling", about: "CPU of two dispatching processes beside one's", measure: scaling},
}

// throughput measures unpaced runs: each event goes to fan of the endpoints.
func throughput(name string, endpoints, fan int, maxCPU, minRate float64) func(context.Context, *settings) ([]row, error) {
	return func(ctx context.Context, s *settings) ([]row, error) {
		rate := &figure{what: "deliveries", unit: "1/s"}
		if minRate > 0 {
			rate.goal = atLeast(minRate)
		}
		cost := &figure{what: "CPU", unit: "s/1k", goal: atMost(maxCPU)}
		ratio := &figure{what: "rate to net/http loop", unit: "", goal: atLeast(0.45)}
		if minRate == 0 {
			ratio.goal = nil
		}
		raw := &figure{what: "raw loop", unit: "1/s"}
		for i := range runsOf(s, 3) {
			if err := throughputRun(ctx, s, name, endpoints, fan, rate, cost, ratio, raw); err != nil {
				return nil, fmt.Errorf("run %d: %w", i+1, err)
			}
		}
		return []row{rate.row(name), cost.row(name), ratio.row(name), raw.row(name)}, nil
	}
}

func runsOf(s *settings, own int) int {
	if s.runs > 0 {
		return s.runs
	}
	return own
}

func windowOf(s *settings, own time.Duration) time.Duration {
	if s.seconds > 0 {
		return s.seconds
	}
	return own
}

func throughputRun(ctx context.Context, s *settings, name string, endpoints, fan int, rate, cost, ratio, raw *figure) error {
	u := setup{ports: endpoints}
	groups := endpoints / fan
	if fan > 1 {
		u.events = func(i int) []string { return []string{kind(i % groups)} }
	}
	r, err := newRig(ctx, s, u)
	if err != nil {
		return err
	}
	defer r.close()
	window := windowOf(s, 4*time.Second)
	// The limit first: the line isn't fed yet and idles.
	netHTTP, err := limit(ctx, r.sink, endpoints, "nethttp", window*2/5)
	if err != nil {
		return err
	}
	rawLoop, err := limit(ctx, r.sink, endpoints, "raw", window*2/5)
	if err != nil {
		return err
	}
	stop := r.feed(ctx, load{kind: round(groups), window: min(int64(endpoints)*2000, 20_000), fan: int64(fan)})
	if err := until(ctx, 30*time.Second, "the first deliveries", func() bool { return r.sink.Delivered() > 1000 }); err != nil {
		return fmt.Errorf("%w\n%s", err, r.lines[0].log())
	}
	if err := sleep(ctx, 3*time.Second); err != nil {
		return err
	}
	from, usedBefore, begun := r.sink.Delivered(), time.Duration(0), time.Now()
	if usedBefore, err = r.cpu(); err != nil {
		return err
	}
	if s.profile != "" {
		r.takeProfile(ctx, name, window)
	} else if err := sleep(ctx, window); err != nil {
		return err
	}
	used, err := r.cpu()
	if err != nil {
		return err
	}
	n, took := float64(r.sink.Delivered()-from), time.Since(begun).Seconds()
	events := stop()
	if err := r.complete(ctx, events*int64(fan)); err != nil {
		return err
	}
	rate.values = append(rate.values, n/took)
	cost.values = append(cost.values, (used-usedBefore).Seconds()/n*1000)
	cost.limits = append(cost.limits, netHTTP.CPUPer1k)
	rate.limits = append(rate.limits, netHTTP.PerSecond)
	ratio.values = append(ratio.values, n/took/netHTTP.PerSecond)
	raw.values = append(raw.values, rawLoop.PerSecond)
	s.log("%s: %.0f/s, %.4f CPU s/1k; net/http loop %.0f/s, %.4f; raw loop %.0f/s, %.4f", name, n/took, (used-usedBefore).Seconds()/n*1000,
		netHTTP.PerSecond, netHTTP.CPUPer1k, rawLoop.PerSecond, rawLoop.CPUPer1k)
	return nil
}

// complete waits until every delivery has arrived, and finds out whether any
// came twice or badly signed.
func (r *rig) complete(ctx context.Context, want int64) error {
	err := until(ctx, time.Minute, fmt.Sprintf("all %d deliveries", want), func() bool { return r.sink.Delivered() >= want })
	if err != nil {
		return fmt.Errorf("%w: %d arrived", err, r.sink.Delivered())
	}
	var repeats int64
	for i := range r.setup.ports {
		_, n := r.sink.Count(i)
		repeats += n
	}
	if bad := r.sink.Bad(); bad > 0 {
		return fmt.Errorf("%d signatures didn't verify", bad)
	}
	if repeats > 0 {
		return fmt.Errorf("%d deliveries came more than once", repeats)
	}
	return nil
}
