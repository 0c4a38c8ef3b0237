package retrytopics

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestProducesInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.InFlight = 100 })
		hold := make(chan struct{})
		b.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			b.cluster.KeepControl()
			b.cluster.SleepControl(func() { <-hold })
			return nil, nil, false
		})
		var recs []Parked
		for i := range 1000 {
			rec, _ := parked(delivery(i, time.Now()), time.Now())
			recs = append(recs, rec)
		}
		b.r.Take(new(lease), recs)
		time.Sleep(time.Minute + 2*time.Second)
		synctest.Wait()
		if n, s := len(b.out.all()), b.r.Stats(); n != 100 || s.InFlight != 100 || s.Records != 900 {
			t.Fatalf("%d produced, %+v; want 100 in flight, 900 waiting", n, s)
		}
		close(hold)
		time.Sleep(longestNap / 2) // acks wake Run, it doesn't oversleep
		synctest.Wait()
		if n := len(b.out.all()); n != 1000 || b.r.Stats() != (Stats{}) {
			t.Fatalf("%d produced, %+v; want all", n, b.r.Stats())
		}
	})
}

func TestAnOverdueRecordIsMovedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		time.Sleep(longestNap / 2) // Run sleeps
		rec, _ := parked(delivery(1, time.Now()), time.Now().Add(-time.Hour))
		b.r.Take(new(lease), []Parked{rec})
		synctest.Wait()
		if n := len(b.out.all()); n != 1 {
			t.Errorf("%d records were produced, want the overdue one", n)
		}
	})
}

// A partition with a backlog takes turns with one whose head falls due now.
func TestABacklogDoesNotGoBeforeAHeadThatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.InFlight = burst })
		var backlog []Parked
		for i := range 10 * burst {
			rec, _ := parked(delivery(i, time.Now()), time.Now().Add(-time.Hour))
			backlog = append(backlog, rec)
		}
		fresh, _ := parked(delivery(1e6, time.Now()), time.Now().Add(-time.Minute))
		// Clocks go on while records are produced.
		b.out.before = func(*kgo.Record) { time.Sleep(10 * time.Microsecond) }
		b.r.Take(new(lease), backlog)
		b.r.Take(new(lease), []Parked{fresh})
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, r := range b.out.all() {
			if decode(r).ID == fresh.Delivery.ID {
				if i > 2*burst {
					t.Fatalf("the head of the other partition was moved as number %d", i)
				}
				return
			}
		}
		t.Fatal("the head of the other partition was not moved")
	})
}

// Pause and Resume are decided by Take and by acks at the same time: what a
// lease was told last is what holds.
func TestALeaseIsNeverLeftPausedWithNothingHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.HeldBytes = 1000 })
		var overlap atomic.Int32
		l := &lease{onPause: func(paused bool) {
			if overlap.Add(1) != 1 {
				t.Error("Pause and Resume overlap")
			}
			if paused {
				time.Sleep(time.Millisecond) // so that a Resume could overtake it
			}
			overlap.Add(-1)
		}}
		for i := range 300 {
			rec, _ := parked(delivery(i, time.Now()), time.Now().Add(-time.Hour))
			b.r.Take(l, []Parked{rec, rec, rec})
			time.Sleep(time.Duration(i%7) * 300 * time.Microsecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		flows := l.flows()
		if len(flows) == 0 || flows[len(flows)-1] {
			t.Fatalf("%d pauses and resumes, the last a pause: %v", len(flows), len(flows) > 0)
		}
		for i, paused := range flows {
			if paused != (i%2 == 0) {
				t.Fatalf("number %d is a pause: %v; want them to alternate", i, paused)
			}
		}
	})
}
