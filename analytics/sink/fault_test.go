package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

func TestASinkKilledBetweenInsertAndCommitCountsEverythingOnce(t *testing.T) {
	r := newRig(t)
	kills := 20
	for range kills {
		r.feed(150)
		inserted := make(chan struct{}, 1)
		hold := make(chan struct{})
		x := r.sink(func(c *Config) {
			c.MaxRows = 40
			n := r.random.IntN(6)
			c.Conn = &faults{Conn: r.conn, sent: func(table string) error {
				if table != TableAttempts {
					return nil
				}
				if n--; n < 0 { // it came through, and nobody will hear of it
					select {
					case inserted <- struct{}{}:
					default:
					}
					<-hold
					return errors.New("killed")
				}
				return nil
			}}
		})
		<-inserted
		x.mu.Lock()
		x.cut = true
		for _, c := range x.conns {
			c.Close()
		}
		x.mu.Unlock()
		close(hold)
		x.kill()
	}
	r.sink()
	r.await()
	t.Logf("killed %d times between an insert and its commit", kills)
	r.check()
}

func TestWhileClickHouseIsAwayNothingIsLostAndMemoryIsBounded(t *testing.T) {
	r := newRig(t)
	x := r.sink(func(c *Config) { c.Budget = 2 << 20; c.MaxRows = 1000 })
	r.feed(500)
	r.await()
	r.engine.Kill()
	r.feed(5000) // about 10,000 settlements
	deadline := time.After(time.Minute)
	for x.Failing() == nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatal("the sink never noticed")
		}
	}
	r.start()
	r.await()
	t.Logf("ClickHouse was away for %d settlements; %d batches failed; at most %d bytes were buffered", len(r.settlements), x.failed, x.most)
	if most := int64(2<<20 + 8<<20); x.most > most { // and one poll's records
		t.Errorf("%d bytes were buffered, of a budget of %d", x.most, 2<<20)
	}
	r.check()
}

func TestAnInsertWhoseAnswerIsLostCountsOnce(t *testing.T) {
	r := newRig(t)
	lost, random := 0, rand.New(rand.NewPCG(1, 2))
	r.sink(func(c *Config) {
		c.MaxRows = 50
		c.Conn = &faults{Conn: r.conn, sent: func(table string) error {
			if table != TableProgress && random.IntN(3) == 0 { // one batch at a time
				lost++
				return errors.New("the answer was lost")
			}
			return nil
		}}
	})
	r.feed(600)
	r.await()
	t.Logf("%d answers were lost", lost)
	if lost == 0 {
		t.Error("no answer was lost")
	}
	r.sinks[0].leave()
	r.check()
}

func TestARebalanceBetweenTwoSinksUnderLoadCountsEverythingOnce(t *testing.T) {
	r := newRig(t)
	small := func(c *Config) { c.MaxRows = 30 }
	r.sink(small)
	for i := range 8 {
		r.feed(200)
		switch {
		case i%2 == 0:
			r.sink(small)
		case i%4 == 1:
			r.sinks[len(r.sinks)-1].leave()
		default:
			r.sinks[len(r.sinks)-2].kill()
		}
	}
	r.await()
	t.Logf("%d sinks came and went", len(r.sinks))
	r.check()
}

func TestWhatIsNoRowGoesToTheInvalidTopicAndTheRestGoesOn(t *testing.T) {
	r := newRig(t)
	r.feed(50)
	for range 5 {
		r.put(attemptsTopic, []byte("ep_1"), []byte(`{"v":1,"kind":`))
		r.put(attemptsTopic, []byte("ep_1"), []byte(`{"v":2}`))
		r.put(deliveriesTopic, []byte("ep_1"), []byte(`{}`))
	}
	r.feed(50)
	x := r.sink()
	r.await()
	r.check()
	x.leave()
	ends, err := kadm.NewClient(r.producer).ListEndOffsets(t.Context(), invalidTopic)
	if err != nil {
		t.Fatal(err)
	}
	aside := int64(0)
	ends.Each(func(o kadm.ListedOffset) { aside += o.Offset })
	if aside != 15 {
		t.Errorf("%d records were set aside, want 15", aside)
	}
}

func TestRecordsThatTheLogLostStopTheirPartitionUntilTheLossIsAccepted(t *testing.T) {
	r := newRig(t)
	r.feed(100)
	x := r.sink()
	r.await()
	x.leave()
	r.feed(100)
	adm := kadm.NewClient(r.producer)
	ends, err := adm.ListEndOffsets(t.Context(), attemptsTopic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	y := r.sink()
	var loss *LossError
	for deadline := time.Now().Add(time.Minute); !errors.As(y.Ready(), &loss); {
		if time.Now().After(deadline) {
			t.Fatalf("ready: %v", y.Ready())
		}
		time.Sleep(10 * time.Millisecond)
	}
	y.leave()
	z := r.sink(func(c *Config) { c.AcceptLoss = true })
	r.await()
	if err := z.Ready(); err != nil {
		t.Error(err)
	}
	if y.losses == 0 || z.losses == 0 {
		t.Errorf("losses counted: %d and %d", y.losses, z.losses)
	}
}

// A zombie is a sink that no longer owns what it has planned.
func TestACommitForAPartitionThatWasGivenAwayIsRefused(t *testing.T) {
	s := &Sink{committing: make(chan struct{}, 1)}
	p := &part{tp: tp{"t", 0}, ended: true, buf: newBuffer(0, nil)}
	if err := s.commit(context.Background(), p, 1, nil); !errors.Is(err, errLeft) {
		t.Errorf("committed: %v", err)
	}
}
