package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/bench/sink"
	"posthorn/webhook"
)

var behaviourHang = sink.Behaviour{Hang: true}

// parked is a delivery record of a tier, as the dispatcher writes it.
func parked(topic string, n int64, endpoint int, at, due time.Time) *kgo.Record {
	body := sink.Body(n)
	d := &webhook.Delivery{
		ID: webhook.DeliveryID("/shop", fmt.Sprint(n), endpointID(endpoint)), Origin: webhook.OriginMatch, N: 1, Step: 1,
		EventID: fmt.Sprint(n), EventSource: "/shop", EventType: kind(endpoint), Tenant: tenant, EndpointID: endpointID(endpoint),
		Contract: "standard", ContentType: "application/json", NotBefore: due, BegunAt: at, MatchedAt: time.Now(), BodyID: webhook.BodyID(body), Body: body,
	}
	return &kgo.Record{Topic: topic, Key: []byte(d.EndpointID), Value: body, Headers: webhook.AppendDeliveryHeaders(make([]kgo.RecordHeader, 0, 24), d), Timestamp: at}
}

// park fills a tier; make returns record i.
func (r *rig) park(ctx context.Context, n int, record func(i int) *kgo.Record) error {
	failed := make(chan error, 1)
	for i := range n {
		r.client.Produce(ctx, record(i), func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	err := r.client.Flush(ctx)
	select {
	case perr := <-failed:
		return errors.Join(err, perr)
	default:
		return err
	}
}

// deliveries returns the records that the topic of deliveries has ever had.
func (r *rig) deliveries(ctx context.Context) (n int64) {
	ends, err := kadm.NewClient(r.client).ListEndOffsets(ctx, prefix+".deliveries")
	if err != nil {
		return -1
	}
	ends.Each(func(o kadm.ListedOffset) { n += max(0, o.Offset) })
	return n
}

// due measures the due readers: how fast half a million parked deliveries that are
// all due move on, and how late each moves at 10,000 a second.
func due(ctx context.Context, s *settings) ([]row, error) {
	const name = "retries"
	const parkedOnes = 500_000
	rate := &figure{what: "parked that fall due", unit: "1/s", goal: atLeast(50_000)}
	late := &figure{what: "p99 late at 10,000/s", unit: "ms", goal: atMost(1000)}
	early := &figure{what: "moved early", unit: "", goal: atMost(0)}
	for range runsOf(s, 3) {
		if err := dueRun(ctx, s, parkedOnes, rate, late, early); err != nil {
			return rowsOf(name, rate, late, early), err
		}
	}
	return rowsOf(name, rate, late, early), nil
}

func dueRun(ctx context.Context, s *settings, n int, rate, late, early *figure) error {
	r, err := newRig(ctx, s, setup{ports: 100, idle: true})
	if err != nil {
		return err
	}
	defer r.close()
	at := time.Now().Add(-5 * time.Minute)
	if err := r.park(ctx, n, func(i int) *kgo.Record {
		return parked(prefix+".retry.1m", int64(i), i%100, at.Add(time.Duration(i)*time.Microsecond), at.Add(time.Minute))
	}); err != nil {
		return err
	}
	if _, err := r.start(ctx, "retry"); err != nil {
		return err
	}
	// From the first tenth to the last: the start of the process is none of it.
	var from int64
	if err := until(ctx, time.Minute, "the first to move", func() bool { from = r.deliveries(ctx); return from >= int64(n/10) }); err != nil {
		return err
	}
	begun := time.Now()
	if err := until(ctx, time.Minute, "all to move", func() bool { return r.deliveries(ctx) >= int64(n) }); err != nil {
		return fmt.Errorf("%w: %d have", err, r.deliveries(ctx))
	}
	moved := float64(int64(n)-from) / time.Since(begun).Seconds()
	rate.values = append(rate.values, moved)

	// Paced: each waits its 5 seconds.
	const perSecond, seconds = 10_000, 5
	seen := make(chan *kgo.Record, 1024)
	reader, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ConsumeTopics(prefix+".deliveries"), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(250*time.Millisecond))
	if err != nil {
		return err
	}
	defer reader.Close()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(seen)
		for reading.Err() == nil {
			reader.PollFetches(reading).EachRecord(func(rec *kgo.Record) { seen <- rec })
		}
	}()
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; i < perSecond*seconds; {
			<-tick.C
			now := time.Now()
			for range perSecond / 100 {
				r.client.Produce(ctx, parked(prefix+".retry.5s", int64(n+i), i%100, now, now.Add(5*time.Second)), nil)
				i++
			}
		}
	}()
	var lateness []time.Duration
	tooEarly := 0
	timeout := time.After((seconds + 30) * time.Second)
	for len(lateness) < perSecond*seconds {
		select {
		case rec := <-seen:
			d, err := webhook.DecodeDelivery(rec.Key, rec.Value, rec.Headers)
			if err != nil {
				return err
			}
			// The tier's delay counts from the record; what is left of it after
			// the move is the owner's to wait.
			by := rec.Timestamp.Sub(d.NotBefore)
			if by < -time.Millisecond { // timestamps are cut to milliseconds
				tooEarly++
			}
			lateness = append(lateness, by)
		case <-timeout:
			return fmt.Errorf("%d of %d moved", len(lateness), perSecond*seconds)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	slices.Sort(lateness)
	p99 := lateness[len(lateness)*99/100]
	s.log("retries: %.0f/s fall due; at 10,000/s p99 %.0f ms late, the earliest %v, %d early", moved, float64(p99.Microseconds())/1000, lateness[0], tooEarly)
	late.values = append(late.values, float64(p99.Microseconds())/1000)
	early.values = append(early.values, float64(tooEarly))
	return nil
}

// parkedMillion measures what a million parked deliveries of one dead endpoint
// cost: the rate to 100 healthy ones without and with them. Parked at 15
// minutes each, a million come round at 1,111 a second.
func parkedMillion(ctx context.Context, s *settings) ([]row, error) {
	const name = "a million parked"
	const n = 1_000_000
	cost := &figure{what: "rate lost", unit: "%", goal: atMost(5)}
	with := &figure{what: "deliveries beside them", unit: "1/s"}
	for range runsOf(s, 1) {
		r, err := newRig(ctx, s, setup{ports: 101})
		if err != nil {
			return nil, err
		}
		err = func() error {
			defer r.close()
			if err := r.sink.Behave(100, sink.Behaviour{Refuse: true}); err != nil {
				return err
			}
			measure := func() (float64, error) {
				stop := r.feed(ctx, load{kind: round(100), window: 20_000})
				defer stop()
				if err := sleep(ctx, 3*time.Second); err != nil {
					return 0, err
				}
				from, begun := r.sink.Delivered(), time.Now()
				if err := sleep(ctx, windowOf(s, 8*time.Second)); err != nil {
					return 0, err
				}
				return float64(r.sink.Delivered()-from) / time.Since(begun).Seconds(), nil
			}
			base, err := measure()
			if err != nil {
				return err
			}
			from := time.Now().Add(-15 * time.Minute)
			if err := r.park(ctx, n, func(i int) *kgo.Record {
				at := from.Add(time.Duration(i) * 15 * time.Minute / n)
				return parked(prefix+".retry.15m", int64(1e9)+int64(i), 100, at, at.Add(15*time.Minute))
			}); err != nil {
				return err
			}
			if err := sleep(ctx, 5*time.Second); err != nil {
				return err
			}
			beside, err := measure()
			if err != nil {
				return err
			}
			s.log("%s: %.0f/s without, %.0f/s with", name, base, beside)
			with.values, with.limits = append(with.values, beside), append(with.limits, base)
			cost.values = append(cost.values, max(0, 100*(1-beside/base)))
			return nil
		}()
		if err != nil {
			return nil, err
		}
	}
	return rowsOf(name, with, cost), nil
}

// scaling measures CPU per 1,000 with one and with two dispatching processes.
func scaling(ctx context.Context, s *settings) ([]row, error) {
	const name = "two dispatchers"
	cost := &figure{what: "CPU", unit: "s/1k"}
	ratio := &figure{what: "CPU to one dispatcher's", unit: "", goal: atMost(1.0)}
	for range runsOf(s, 3) {
		var used [2]float64
		for i, processes := range []int{1, 2} {
			r, err := newRig(ctx, s, setup{ports: 100, idle: true})
			if err != nil {
				return nil, err
			}
			err = func() error {
				defer r.close()
				if _, err := r.start(ctx, "match,retry,api"); err != nil {
					return err
				}
				for range processes {
					if _, err := r.start(ctx, "dispatch"); err != nil {
						return err
					}
				}
				if err := sleep(ctx, 4*time.Second); err != nil { // until both have their half
					return err
				}
				stop := r.feed(ctx, load{kind: round(100), perSecond: 3000})
				defer stop()
				if err := sleep(ctx, 2*time.Second); err != nil {
					return err
				}
				before, err := r.cpu()
				if err != nil {
					return err
				}
				from := r.sink.Delivered()
				if err := sleep(ctx, windowOf(s, 5*time.Second)); err != nil {
					return err
				}
				after, err := r.cpu()
				used[i] = (after - before).Seconds() / float64(r.sink.Delivered()-from) * 1000
				return err
			}()
			if err != nil {
				return nil, err
			}
		}
		s.log("%s: %.4f CPU s/1k, one %.4f, both at 3,000/s", name, used[1], used[0])
		cost.values, cost.limits = append(cost.values, used[1]), append(cost.limits, used[0])
		ratio.values = append(ratio.values, used[1]/used[0])
	}
	return rowsOf(name, cost, ratio), nil
}
