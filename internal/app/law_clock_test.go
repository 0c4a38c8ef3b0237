package app

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"posthorn/internal/embedded"
)

// said keeps what was logged about the clock, by its level.
type said struct {
	slog.Handler
	mu     sync.Mutex
	levels []slog.Level
}

func (s *said) Enabled(context.Context, slog.Level) bool { return true }

func (s *said) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "clock") {
		s.mu.Lock()
		s.levels = append(s.levels, r.Level)
		s.mu.Unlock()
	}
	return nil
}

func TestAClockThatDiffersFromTheBrokersIsWarnedOfWithinAMinute(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		embedded.StampAppendTime(w.broker.Cluster, "posthorn.registry")
		log := &said{Handler: slog.DiscardHandler}
		var ahead atomic.Int64
		w.log = slog.New(log)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		l, err := build(ctx, Options{Config: w.cfg, Log: w.log, NoAdmin: true, Roles: Roles{RoleMatch}, Kafka: w.broker.ClientOpts(),
			Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- l.run(ctx) }()
		for _, c := range []struct {
			ahead  time.Duration
			warned bool
			logged int // lines in all
		}{
			{0, false, 0}, {400 * time.Millisecond, false, 0}, {2 * time.Second, true, 1}, {time.Hour, true, 1},
			{-2 * time.Second, true, 1}, {0, false, 2}, {-2 * time.Second, true, 3},
		} {
			ahead.Store(int64(c.ahead))
			time.Sleep(heartbeatEvery + 5*time.Second)
			warning := l.clockWarning()
			if (warning != "") != c.warned {
				t.Errorf("%v ahead: the warning is %q", c.ahead, warning)
			}
			metrics := make(map[string]float64)
			families, err := l.metrics.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if strings.HasPrefix(f.GetName(), "posthorn_clock_") {
					metrics[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
				}
			}
			skew, bound := metrics["posthorn_clock_skew_seconds"], metrics["posthorn_clock_skew_bound_seconds"]
			if off := max(skew-c.ahead.Seconds(), c.ahead.Seconds()-skew); off > bound+1e-9 || bound > 0.25 || bound == 0 {
				t.Errorf("%v ahead: the metrics say %v within %v", c.ahead, skew, bound)
			}
			log.mu.Lock()
			if len(log.levels) != c.logged || c.logged > 0 && (log.levels[c.logged-1] == slog.LevelWarn) != c.warned {
				t.Errorf("%v ahead: logged %v", c.ahead, log.levels)
			}
			log.mu.Unlock()
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := l.undo.run(); err != nil {
			t.Error(err)
		}
	})
}
