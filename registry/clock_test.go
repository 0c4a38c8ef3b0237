package registry

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	kafka "posthorn/internal/embedded"
)

// sampled is one measurement: a heartbeat sent and read back by a host whose
// clock is ahead, over a way of so long there and back.
func sampled(ahead, there, back time.Duration) (*Clock, Skew, bool) {
	broker := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	now := broker.Add(ahead - there)
	c := NewClock(func() time.Time { return now })
	h := c.send()
	now = broker.Add(ahead + back)
	s, ok := c.read(stamped(h.ID, broker.Truncate(time.Millisecond), logAppendTime))
	return c, s, ok
}

func stamped(id string, at time.Time, kind int8) *kgo.Record {
	return &kgo.Record{Value: []byte(`{"at":"2000-01-01T00:00:00Z","id":"` + id + `"}`), Timestamp: at, Attrs: kgo.NewRecordAttrs(kgo.RecordAttrsOpts{TimestampType: kind})}
}

func TestTheSkewIsKnownToWithinTheRoundTrip(t *testing.T) {
	const ms = time.Millisecond
	for _, ahead := range []time.Duration{0, 499 * ms, -499 * ms, 501 * ms, -501 * ms, 3 * time.Second, -time.Hour} {
		for _, way := range [][2]time.Duration{{0, 0}, {40 * ms, 0}, {0, 40 * ms}, {ms, 200 * ms}, {9 * time.Second, ms}} {
			_, s, said := sampled(ahead, way[0], way[1])
			if !said {
				// Only what leaves the question open says nothing.
				if way[0]+way[1]+ms <= SkewLimit {
					t.Errorf("%v ahead over %v says nothing", ahead, way)
				}
				continue
			}
			if off := (s.Ahead - ahead).Abs(); off > s.Within {
				t.Errorf("%v ahead over %v was measured as %v: off by %v", ahead, way, s, off)
			}
			if want := (way[0] + way[1] + ms) / 2; s.Within != want {
				t.Errorf("over %v the bound is %v, want %v", way, s.Within, want)
			}
			if s.Excessive() && ahead.Abs() <= SkewLimit {
				t.Errorf("%v ahead over %v is called too much", ahead, way)
			}
			if !s.Excessive() && ahead.Abs() > SkewLimit+2*s.Within {
				t.Errorf("%v ahead over %v is let pass", ahead, way)
			}
		}
	}
}

func TestAHeartbeatThatSaysNothingLeavesTheSkewAsItWas(t *testing.T) {
	c, was, ok := sampled(2*time.Second, 0, 0)
	if !ok {
		t.Fatal("no measurement")
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c.now = func() time.Time { return now }
	id := c.send().ID
	for what, r := range map[string]*kgo.Record{
		"another process's": stamped("another", now, logAppendTime),
		"one of old":        {Value: []byte(`{"at":"2000-01-01T00:00:00Z"}`)},
		"no JSON":           {Value: []byte("?")},
		"a removal":         {},
	} {
		if _, ok := c.read(r); ok {
			t.Errorf("%s was taken for ours", what)
		}
	}
	if _, ok := c.read(stamped(id, now.Add(time.Hour), 0)); ok {
		t.Error("a time that the broker didn't give was taken")
	}
	id = c.send().ID
	now = now.Add(time.Minute) // on its way that long
	if _, ok := c.read(stamped(id, now.Add(-30*time.Second), logAppendTime)); ok {
		t.Error("a round trip of a minute was taken")
	}
	if got, ok := c.Skew(); !ok || got != was {
		t.Errorf("the skew is %v now, want %v", got, was)
	}
	id = c.send().ID
	if s, ok := c.read(stamped(id, now, logAppendTime)); !ok || s.Excessive() {
		t.Errorf("the next one that says something gives %v, %v", s, ok)
	}
	if _, ok := c.read(stamped(id, now.Add(-time.Hour), logAppendTime)); ok {
		t.Error("a heartbeat that is read a second time was taken")
	}
}

func TestAHeartbeatThatIsReadBackTellsTheSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		kafka.StampAppendTime(c.Cluster, topic)
		var ahead atomic.Int64
		clock := NewClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
		told := make(chan Skew, 1)
		c.follow(t, func(cfg *FollowerConfig) { cfg.Clock, cfg.OnSkew = clock, func(s Skew) { told <- s } })
		l := c.learn(t, func(cfg *LearnedConfig) { cfg.Clock = clock })
		others := c.learn(t)
		for _, want := range []time.Duration{0, 2 * time.Second, -time.Minute, 0} {
			ahead.Store(int64(want))
			if err := others.Heartbeat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := l.Heartbeat(t.Context()); err != nil {
				t.Fatal(err)
			}
			var s Skew
			select {
			case s = <-told:
			case <-time.After(time.Minute):
				t.Fatalf("%v ahead wasn't measured", want)
			}
			if (s.Ahead-want).Abs() > s.Within || s.Within > time.Second || s.Excessive() != (want != 0) {
				t.Errorf("%v ahead was measured as %v", want, s)
			}
		}
	})
}
