package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
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

// A topic that was made anew begins at offset 0 again: its batches have the ranges
// of the old one's, and must not have their tokens.
func TestATopicMadeAnewIsNoRepeatOfTheOldOne(t *testing.T) {
	r := newRig(t)
	one := func(c *Config) { c.MaxRows = 1 } // so that ranges meet
	x := r.sink(one)
	r.feed(30)
	r.await()
	x.leave()
	adm := kadm.NewClient(r.producer)
	if _, err := adm.DeleteTopics(t.Context(), deliveriesTopic, attemptsTopic); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteGroups(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if _, err := adm.CreateTopics(t.Context(), partitions, 1, nil, deliveriesTopic, attemptsTopic); err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	r.producer = producer // the old one knows the old topics
	r.feed(30)
	y := r.sink(one)
	r.await()
	r.check()
	y.leave() // before the new producer is closed
}

func TestWhatTheLogLosesWhileClickHouseIsAwayHaltsTheRunningSink(t *testing.T) {
	r := newRig(t)
	var away atomic.Bool
	away.Store(true)
	x := r.sink(func(c *Config) {
		c.Budget = 1 // one poll is read, and no more
		c.Conn = &faults{Conn: r.conn, sending: func(string) error {
			if away.Load() {
				return errors.New("away")
			}
			return nil
		}}
	})
	r.feed(50)
	for deadline := time.Now().Add(time.Minute); x.Failing() == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the sink never failed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 4 { // more than the client holds ahead
		r.feed(3000)
	}
	adm := kadm.NewClient(r.producer)
	ends, err := adm.ListEndOffsets(t.Context(), attemptsTopic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	away.Store(false)
	var loss *LossError
	for deadline := time.Now().Add(time.Minute); !errors.As(x.Ready(), &loss); {
		if time.Now().After(deadline) {
			t.Fatalf("ready: %v", x.Ready())
		}
		time.Sleep(10 * time.Millisecond)
	}
	x.leave()
	if x.counts.losses == 0 {
		t.Error("no loss was counted")
	}
}

// A partition that nobody has read yet must hold the ledger's time back.
func TestTheLedgersTimeWaitsForEveryPartition(t *testing.T) {
	r := newRig(t)
	asOf := func() (at time.Time) {
		if err := r.conn.QueryRow(t.Context(), "SELECT as_of FROM ledger.ledger_as_of").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	r.feed(50)
	var away atomic.Bool
	away.Store(true)
	begun := time.Now()
	r.sink(func(c *Config) {
		c.Conn = &faults{Conn: r.conn, sending: func(table string) error {
			if away.Load() && table == TableAttempts {
				return errors.New("away")
			}
			return nil
		}}
	})
	for r.number("SELECT count() FROM ledger.progress") < 4*2*partitions { // a few rounds
		time.Sleep(10 * time.Millisecond)
	}
	if at := asOf(); at.Unix() != 0 {
		t.Errorf("as of %s, though no settlement is there", at)
	}
	away.Store(false)
	for deadline := time.Now().Add(time.Minute); asOf().Before(begun); {
		if time.Now().After(deadline) {
			t.Fatalf("as of %s", asOf())
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.await()
	r.check()
}
