package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"posthorn/webhook"
)

// rss returns the resident memory of a process, in MiB, now and at its highest
// (proc(5), /proc/PID/status).
func rss(pid int) (now, peak float64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kb / 1024
		case "VmHWM":
			peak = kb / 1024
		}
	}
	return now, peak
}

// memoryAtRate is the memory at full rate with 10,000 endpoints.
func memoryAtRate(ctx context.Context, s *settings) ([]row, error) {
	const name = "10,000 endpoints"
	peakRSS := &figure{what: "peak RSS at full rate", unit: "MiB", goal: atMost(256)}
	conns := &figure{what: "open connections", unit: "", goal: atMost(2000)}
	rate := &figure{what: "deliveries", unit: "1/s"}
	for range runsOf(s, 3) {
		r, err := newRig(ctx, s, setup{ports: 1000, endpoints: 10_000})
		if err != nil {
			return nil, err
		}
		err = func() error {
			defer r.close()
			stop := r.feed(ctx, load{kind: round(10_000), window: 20_000})
			if err := sleep(ctx, 4*time.Second); err != nil {
				return err
			}
			from, begun := r.sink.Delivered(), time.Now()
			if err := sleep(ctx, windowOf(s, 6*time.Second)); err != nil {
				return err
			}
			rate.values = append(rate.values, float64(r.sink.Delivered()-from)/time.Since(begun).Seconds())
			r.takeProfile(ctx, name, time.Second)
			if err := r.complete(ctx, stop()); err != nil {
				return err
			}
			_, peak := rss(r.lines[0].pid())
			peakRSS.values = append(peakRSS.values, peak)
			conns.values = append(conns.values, float64(r.sink.Conns()))
			s.log("%s: peak RSS %.0f MiB, %d connections open", name, peak, r.sink.Conns())
			return nil
		}()
		if err != nil {
			return nil, err
		}
	}
	return rowsOf(name, rate, peakRSS, conns), nil
}

// million is the registry of 1,000,000 endpoints of 100,000 tenants: the time
// to read it, and the memory that it takes.
func million(ctx context.Context, s *settings) ([]row, error) {
	const name = "1,000,000 endpoints"
	read := &figure{what: "registry read at start", unit: "s", goal: atMost(15)}
	resident := &figure{what: "RSS", unit: "MiB", goal: atMost(1.2 * 1024)}
	peakRSS := &figure{what: "peak RSS", unit: "MiB"}
	r, err := newRig(ctx, s, setup{ports: 10, endpoints: 1_000_000, idle: true, endpoint: func(i int, e *webhook.Endpoint) {
		e.Tenant = fmt.Sprintf("tenant-%05d", i/10)
		e.URL = fmt.Sprintf("https://hooks-%d.example.com/receive/%d", i/10, i)
		e.Events = [][]string{{"order.*"}, {"order.created", "order.paid"}, nil, {"invoice.{kind}.sent"}}[i%4]
	}})
	if err != nil {
		return nil, err
	}
	defer r.close()
	for range runsOf(s, 3) {
		begun := time.Now()
		l, err := r.start(ctx, "")
		if err != nil {
			return nil, err
		}
		took := time.Since(begun).Seconds()
		if err := sleep(ctx, 2*time.Second); err != nil {
			return nil, err
		}
		now, peak := rss(l.pid())
		r.takeProfile(ctx, name, time.Second)
		s.log("%s: running after %.1f s, RSS %.0f MiB, peak %.0f MiB", name, took, now, peak)
		read.values = append(read.values, took)
		resident.values = append(resident.values, now)
		peakRSS.values = append(peakRSS.values, peak)
		l.stop()
		r.lines = r.lines[:0]
	}
	return rowsOf(name, read, resident, peakRSS), nil
}

// wide is one event for 100,000 endpoints, and the memory it takes.
func wide(ctx context.Context, s *settings) ([]row, error) {
	const name = "fan-out 100,000"
	const endpoints = 100_000
	took := &figure{what: "until all have it", unit: "s", goal: atMost(8)}
	peakRSS := &figure{what: "peak RSS", unit: "MiB"}
	for range runsOf(s, 3) {
		r, err := newRig(ctx, s, setup{ports: 200, endpoints: endpoints, events: func(int) []string { return []string{kind(0)} }})
		if err != nil {
			return nil, err
		}
		err = func() error {
			defer r.close()
			if err := sleep(ctx, 2*time.Second); err != nil {
				return err
			}
			begun := time.Now()
			r.sink.CountPosts()
			r.produce(0, kind(0))
			r.takeProfile(ctx, name, 5*time.Second)
			if err := until(ctx, 3*time.Minute, "all deliveries", func() bool { return r.sink.Posts() >= endpoints }); err != nil {
				return fmt.Errorf("%w: %d arrived", err, r.sink.Posts())
			}
			took.values = append(took.values, time.Since(begun).Seconds())
			_, peak := rss(r.lines[0].pid())
			peakRSS.values = append(peakRSS.values, peak)
			s.log("%s: %.1f s, peak RSS %.0f MiB", name, time.Since(begun).Seconds(), peak)
			return nil
		}()
		if err != nil {
			return nil, err
		}
	}
	return rowsOf(name, took, peakRSS), nil
}

// backlog is the memory while 2,000,000 deliveries to endpoints that hang wait on
// Kafka, beside what it was before.
func backlog(ctx context.Context, s *settings) ([]row, error) {
	const name = "backlog of 2,000,000"
	const ports, deliveries = 100, 2_000_000
	grown := &figure{what: "RSS beside an idle one's", unit: "MiB", goal: atMost(256)}
	before := &figure{what: "RSS before", unit: "MiB"}
	late := &figure{what: "RSS after the first half, to after the second", unit: "MiB", goal: atMost(32)}
	r, err := newRig(ctx, s, setup{ports: ports, events: func(i int) []string { return []string{kind(i), "for.all"} }})
	if err != nil {
		return nil, err
	}
	defer r.close()
	if _, err := r.paced(ctx, load{kind: round(ports), perSecond: 1000}, 2*time.Second, time.Second); err != nil {
		return nil, err
	}
	begin := r.deliveries(ctx)
	start, _ := rss(r.lines[0].pid())
	for i := range ports {
		if err := r.sink.Behave(i, behaviourHang); err != nil {
			return nil, err
		}
	}
	var held [2]float64
	for half := range held {
		for range deliveries / ports / 2 {
			r.produce(r.fed, "for.all")
			r.fed++
		}
		want := begin + int64(half+1)*deliveries/2
		if err := until(ctx, 5*time.Minute, "the deliveries to be on Kafka", func() bool { return r.deliveries(ctx) >= want }); err != nil {
			return nil, err
		}
		if err := sleep(ctx, 15*time.Second); err != nil { // its memory of repeats goes over a minute: both halves have much of one
			return nil, err
		}
		held[half], _ = rss(r.lines[0].pid())
	}
	r.takeProfile(ctx, name, time.Second)
	s.log("%s: RSS %.0f MiB before, %.0f with half of it, %.0f with all", name, start, held[0], held[1])
	before.values, grown.values, late.values = []float64{start}, []float64{held[1] - start}, []float64{held[1] - held[0]}
	return rowsOf(name, before, grown, late), nil
}
