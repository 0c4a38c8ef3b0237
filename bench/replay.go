package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"posthorn/bench/sink"
)

const (
	replayPorts = 100
	replayLive  = 1000.0 // live deliveries a second
	// replayFloor is what p99 may be later beside a replay, whatever it was
	// without: below it windows of the same kind differ by as much, ms.
	replayFloor = 1.0
	// replayWithin bounds a run, unless it is long: with what is still produced when
	// it is cut short it takes less than a minute.
	replayWithin = 48 * time.Second
)

// replayLoad is how many events are replayed, and at which rate.
type replayLoad struct {
	events   int
	rate     float64
	window   time.Duration // of a turn
	patience time.Duration // how long it may take; half of that it is paused
}

// replayed measures what live deliveries feel of a replay to an endpoint that is
// newer than the events. The replay is paused and resumed in turn, so that
// whatever else the machine does is in both kinds of windows.
func replayed(ctx context.Context, s *settings) ([]row, error) {
	u := replayLoad{events: 3_000, rate: 500, window: windowOf(s, 3*time.Second), patience: 28 * time.Second}
	within := replayWithin
	if s.long {
		u = replayLoad{events: 100_000, rate: 500, window: windowOf(s, 10*time.Second), patience: 12 * time.Minute}
		within = u.patience + 2*time.Minute
	}
	name := fmt.Sprintf("replay of %d", u.events)
	before := &figure{what: "live p99 while it is paused", unit: "ms"}
	during := &figure{what: "live p99 while it runs", unit: "ms"}
	ratio := &figure{what: "running / paused", unit: "", goal: atMost(1.2)}
	rate := &figure{what: "replayed while it runs", unit: "1/s"}
	best := &figure{what: "replayed in its best turn", unit: "1/s", goal: atLeast(0.8 * u.rate)}
	rows := func() []row { return rowsOf(name, before, during, ratio, rate, best) }
	for range runsOf(s, 1) {
		turns, err := func() (turns, error) {
			ctx, cancel := context.WithTimeout(ctx, within)
			defer cancel()
			return replayRun(ctx, s, u)
		}()
		was, is, took, played := turns.p99(false), turns.p99(true), turns.ran(), turns.played()
		if len(was) > 0 && len(is) > 0 {
			before.values = append(before.values, was...)
			during.values = append(during.values, is...)
			ratio.values = append(ratio.values, median(is)/median(was))
			during.goal = atMost(1.2*median(before.values) + replayFloor)
		}
		if took > 0 {
			rate.values = append(rate.values, float64(played)/took.Seconds())
			best.values = append(best.values, turns.best())
		}
		if err != nil {
			return rows(), err
		}
		s.log("%s: %d in %s", name, played, took.Round(time.Second))
	}
	return rows(), nil
}

// replayRun is one replay from its beginning to its end, or as far as the patience
// goes; the turns that were are returned with an error too.
func replayRun(ctx context.Context, s *settings, u replayLoad) (turns, error) {
	r, err := newRig(ctx, s, setup{ports: replayPorts + 1, endpoints: replayPorts})
	if err != nil {
		return nil, err
	}
	defer r.close()
	defer func() { // a line that is behind ends slowly, and nothing is learned from that
		for _, l := range r.lines {
			l.kill()
		}
	}()
	since := time.Now()
	for range u.events {
		r.produce(r.fed, "past")
		r.fed++
	}
	if err := r.client.Flush(ctx); err != nil {
		return nil, err
	}
	// Warm, and until what nobody wants has been matched.
	live := load{kind: round(replayPorts), perSecond: replayLive}
	if _, err := r.paced(ctx, live, 4*time.Second, time.Second); err != nil {
		return nil, err
	}
	var endpoint struct {
		ID string `json:"id"`
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString(signingKey)
	if err := r.call(ctx, http.MethodPost, "endpoints", map[string]any{"url": r.sink.URL(replayPorts), "events": []string{"past"}, "secret": secret}, &endpoint); err != nil {
		return nil, err
	}
	r.sink.Reset()
	started := time.Now() // as the receiver counts
	stop := r.feed(ctx, live)
	all, err := r.playInTurns(ctx, u, started, map[string]any{"endpoint": endpoint.ID, "since": since.UTC(), "rate": u.rate, "paused": true})
	fed := stop()
	all.share(r.sink.Arrivals(func(i int) bool { return i < replayPorts }), r.sink.Arrivals(func(i int) bool { return i == replayPorts }))
	if errors.Is(err, errPatience) {
		n, _ := r.sink.Count(replayPorts)
		s.log("%v: %d of %d events were replayed", err, n, u.events)
		return all, nil
	}
	if err != nil {
		return all, err
	}
	if err := r.complete(ctx, fed+int64(u.events)); err != nil {
		return all, err
	}
	if n, _ := r.sink.Count(replayPorts); n != int64(u.events) {
		return all, fmt.Errorf("%d of %d events were replayed", n, u.events)
	}
	return all, nil
}

// errPatience says that a replay yields to what else the machine does.
var errPatience = errors.New("the replay isn't over in time")

// playInTurns has a replay run and wait in turn until it has completed.
func (r *rig) playInTurns(ctx context.Context, u replayLoad, started time.Time, asked map[string]any) (all turns, err error) {
	var replay struct {
		ID     string `json:"id"`
		State  string `json:"state"`
		Reason string `json:"reason"`
	}
	if err := r.call(ctx, http.MethodPost, "replays", asked, &replay); err != nil {
		return nil, err
	}
	over := func() bool { return replay.State == "completed" || replay.State == "failed" }
	deadline := time.Now().Add(u.patience)
	for runs := false; !over(); runs = !runs {
		if time.Now().After(deadline) {
			return all, errPatience
		}
		verb := "pause"
		if runs {
			verb = "resume"
		}
		t := &turn{runs: runs, begun: time.Since(started)}
		if err := r.call(ctx, http.MethodPost, "replays/"+replay.ID+"/"+verb, nil, &replay); err != nil {
			return all, err
		}
		if err := sleep(ctx, time.Second); err != nil { // until it is so
			return all, err
		}
		t.from = time.Since(started)
		for time.Since(started) < t.from+u.window && !over() {
			if err := sleep(ctx, 250*time.Millisecond); err != nil {
				return all, err
			}
			if err := r.call(ctx, http.MethodGet, "replays/"+replay.ID, nil, &replay); err != nil {
				return all, err
			}
		}
		t.to = time.Since(started)
		all = append(all, t)
	}
	if replay.State == "failed" {
		return all, fmt.Errorf("the replay failed: %s", replay.Reason)
	}
	return all, nil
}

// turn is a stretch of a run in which the replay runs or is paused, and what
// arrived live in it, and of the replay. Its first second doesn't count.
type turn struct {
	begun, from, to time.Duration
	runs            bool
	live            []sink.Arrival
	replayed        int // with the first second
	counted         int // without
}

type turns []*turn

// share gives each turn what arrived in it.
func (all turns) share(live, replayed []sink.Arrival) {
	for _, t := range all {
		for _, a := range live {
			if a.At >= t.from && a.At < t.to {
				t.live = append(t.live, a)
			}
		}
		for _, a := range replayed {
			if a.At >= t.begun && a.At < t.to {
				t.replayed++
			}
			if a.At >= t.from && a.At < t.to {
				t.counted++
			}
		}
	}
}

// played is how much was replayed in the turns in which the replay ran.
func (all turns) played() (n int) {
	for _, t := range all {
		if t.runs {
			n += t.replayed
		}
	}
	return n
}

// best is how much a second was replayed in the fastest turn that the replay's end
// didn't cut short.
func (all turns) best() (perSecond float64) {
	for _, t := range all {
		if d := t.to - t.from; t.runs && d >= time.Second {
			perSecond = max(perSecond, float64(t.counted)/d.Seconds())
		}
	}
	return perSecond
}

// p99 is that of each turn of a kind, but of those cut short by the replay's end.
func (all turns) p99(runs bool) (ms []float64) {
	for _, t := range all {
		if t.runs == runs && t.to-t.from >= time.Second {
			ms = append(ms, quantile(t.live, 0.99))
		}
	}
	return ms
}

// ran is how long the replay ran.
func (all turns) ran() (total time.Duration) {
	for _, t := range all {
		if t.runs {
			total += t.to - t.begun
		}
	}
	return total
}

// call asks the API of the first process.
func (r *rig) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.lines[0].admin+"/v1/tenants/"+tenant+"/"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return json.Unmarshal(text, out)
}
