package registry

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/webhook"
)

func matched(s *Store, tenant, eventType string) []string {
	var ids []string
	for _, e := range s.Lookup(nil, tenant, eventType) {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestAChangeReachesEveryFollowerWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		mine, other := c.follow(t), c.follow(t)
		w := c.write(t, mine)
		began := time.Now()
		ep := endpoint(1)
		if err := w.Update(t.Context(), put(ep)); err != nil {
			t.Fatal(err)
		}
		if got := matched(mine.Store(), "acme", "order.created"); !slices.Equal(got, []string{ep.ID}) {
			t.Fatalf("the writer's own store has %v after Update", got)
		}
		if err := other.WaitReached(within(t, time.Second), mine.Version()); err != nil {
			t.Fatal(err)
		}
		if got := matched(other.Store(), "acme", "order.created"); !slices.Equal(got, []string{ep.ID}) {
			t.Fatalf("another follower has %v", got)
		}
		if d := time.Since(began); d > time.Second {
			t.Fatalf("it took %v", d)
		}

		// A tombstone takes it away again, with what was learned of it.
		key, value, err := BreakerState{State: BreakerOpen, Since: began.UTC(), Reason: webhook.ReasonTimeout}.Record(ep.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.learn(t).Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
		if err := other.readToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, ok := other.Store().Breaker(ep.ID); !ok || b.State != BreakerOpen || !b.Since.Equal(began) {
			t.Fatalf("breaker %+v, %v", b, ok)
		}
		if err := w.Update(t.Context(), func(tx *Tx) error { return tx.Delete(ep.ID) }); err != nil {
			t.Fatal(err)
		}
		if err := other.WaitReached(t.Context(), mine.Version()); err != nil {
			t.Fatal(err)
		}
		if _, ok := other.Store().Get(ep.ID); ok || other.Store().Len() != 0 || len(matched(other.Store(), "acme", "order.created")) != 0 {
			t.Fatal("the endpoint outlives its tombstone")
		}
		if _, ok := other.Store().Breaker(ep.ID); ok {
			t.Fatal("the breaker's record outlives its endpoint")
		}
	})
}

func TestANewProcessReadsAllBeforeItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		cl, err := kgo.NewClient(append(c.opts, kgo.DefaultProduceTopic(topic))...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		const n = 20_000
		var records []*kgo.Record
		for i := range n {
			value, _ := json.Marshal(endpoint(i))
			records = append(records, &kgo.Record{Key: []byte(Key(KindEndpoint, endpoint(i).ID)), Value: value})
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		f := c.follow(t)
		if !f.Ready() || !f.Current(time.Now()) || f.Lag() != 0 {
			t.Fatal("started, but not current")
		}
		if got := f.Store().Len(); got != n {
			t.Fatalf("%d endpoints, want %d", got, n)
		}
		if got := len(f.Store().Lookup(nil, "acme", "order.paid")); got != n {
			t.Fatalf("%d match, want %d", got, n)
		}
	})
}

func TestThePositionPassesMarkersAndAbortedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.follow(t)
		cl, err := kgo.NewClient(append(c.opts, kgo.DefaultProduceTopic(topic), kgo.TransactionalID("x"))...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
			ep := endpoint(1)
			if commit {
				ep = endpoint(2)
			}
			value, _ := json.Marshal(ep)
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			r := &kgo.Record{Key: []byte(Key(KindEndpoint, ep.ID)), Value: value}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			// An open transaction is invisible, and holds nobody up.
			if err := f.WaitCurrent(within(t, time.Second)); err != nil {
				t.Fatal(err)
			}
			if f.Version().Offset > r.Offset {
				t.Fatal("the position is past an open transaction")
			}
			if err := cl.EndTransaction(t.Context(), commit); err != nil {
				t.Fatal(err)
			}
			v := f.Version()
			v.Offset = r.Offset + 2 // the record and its marker
			if err := f.WaitReached(within(t, time.Second), v); err != nil {
				t.Fatal(err)
			}
		}
		if f.Store().Len() != 1 || len(matched(f.Store(), "acme", "order.x")) != 1 {
			t.Fatal("the aborted endpoint is there")
		}
	})
}

func TestNotCurrentWhenTheBrokerStopsAnswering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.follow(t)
		wake := make(chan struct{})
		var hold sync.Once
		c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			hold.Do(func() { c.SleepControl(func() { <-wake }) })
			return nil, nil, false
		})
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		time.Sleep(900 * time.Millisecond)
		if f.Current(time.Now()) {
			t.Fatal("current although no fetch has been answered for a second")
		}
		if !f.Ready() {
			t.Fatal("a broker that doesn't answer makes no store incomplete")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := f.WaitCurrent(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("waiting to be current gave %v", err)
		}
		close(wake)
		if err := f.WaitCurrent(within(t, 30*time.Second)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStaysCurrentWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newCluster(t).follow(t)
		for range 1000 {
			time.Sleep(37 * time.Millisecond)
			if !f.Current(time.Now()) {
				t.Fatal("not current on an idle topic")
			}
		}
	})
}

func TestVersionsOfOtherLogsAreWaitedForOnceAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var n incidents
		f := c.follow(t, func(cfg *FollowerConfig) { cfg.Count = n.add })
		foreign := webhook.RegistryVersion{TopicID: [16]byte{1}, Offset: 1 << 40}
		if f.Reached(foreign) {
			t.Fatal("a foreign version counts as reached before the end was read")
		}
		for range 3 {
			if err := f.WaitReached(within(t, time.Second), foreign); err != nil {
				t.Fatal(err)
			}
		}
		if n.of(IncidentForeignVersion) != 1 || !f.Reached(foreign) {
			t.Fatalf("counted %d times, want once", n.of(IncidentForeignVersion))
		}
		beyond := f.Version()
		beyond.Offset += 100
		if err := f.WaitReached(within(t, time.Second), beyond); err != nil {
			t.Fatal(err)
		}
		if n.of(IncidentBeyondEnd) != 1 || !f.Reached(beyond) {
			t.Fatal("a version beyond the end: not counted, or waited for for ever")
		}
		beyond.Offset--
		if f.Reached(beyond) {
			t.Fatal("one absurd version made another count as reached")
		}
	})
}

func TestBadRecordsAreCountedAndLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var n incidents
		var changes []string
		f := c.follow(t, func(cfg *FollowerConfig) {
			cfg.Count = n.add
			cfg.OnChange = func(kind, id string) { changes = append(changes, kind+" "+id) }
		})
		cl, err := kgo.NewClient(append(c.opts, kgo.DefaultProduceTopic(topic))...)
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		good, _ := json.Marshal(endpoint(1))
		for _, r := range []*kgo.Record{
			{Key: []byte("endpoint/ep_x"), Value: []byte("{")},
			{Key: []byte("nothing"), Value: []byte("{}")},
			{Key: nil, Value: []byte("{}")},
			{Key: []byte("endpoint/ep_y"), Value: good}, // says another ID
			{Key: []byte("endpoint/ep_z"), Value: []byte(`{"id":"ep_z","tenant":"t","url":"u","events":["a**"]}`)},
			{Key: []byte("tenant/acme"), Value: []byte(`{"plan":"pro"}`)},
			{Key: []byte(Key(KindEndpoint, endpoint(1).ID)), Value: good},
		} {
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.readToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.of(IncidentBadRecord) != 5 || f.Store().Bad() != 5 {
			t.Fatalf("%d bad records counted, want 5", n.of(IncidentBadRecord))
		}
		if want := []string{"tenant acme", "endpoint " + endpoint(1).ID}; !slices.Equal(changes, want) {
			t.Fatalf("changes %v, want %v", changes, want)
		}
		if v, ok := f.Store().Raw(KindTenant, "acme"); !ok || string(v) != `{"plan":"pro"}` {
			t.Fatalf("tenant record %s", v)
		}
	})
}

func TestATopicMadeAnewIsReadAnewAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var n incidents
		f := c.follow(t, func(cfg *FollowerConfig) { cfg.Count = n.add })
		w := c.write(t, f)
		for i := range 3 {
			if err := w.Update(t.Context(), put(endpoint(i))); err != nil {
				t.Fatal(err)
			}
		}
		old := f.Version()
		if err := c.DeleteTopic(topic); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.wait(within(t, time.Minute), func() (bool, error) { return f.at.topicID != old.TopicID && f.ready, nil }); err != nil {
			t.Fatal(err)
		}
		if n.of(IncidentRecreated) != 1 || f.Store().Len() != 0 {
			t.Fatalf("counted %d, %d endpoints left", n.of(IncidentRecreated), f.Store().Len())
		}
		if err := w.Update(within(t, time.Minute), put(endpoint(7))); err != nil {
			t.Fatal(err)
		}
		if f.Store().Len() != 1 {
			t.Fatal("the writer doesn't go on with the new topic")
		}
	})
}

func TestRecordsLostBelowThePositionAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var n incidents
		f := c.follow(t, func(cfg *FollowerConfig) { cfg.Count = n.add })
		w := c.write(t, f)
		if err := w.Update(t.Context(), put(endpoint(1))); err != nil {
			t.Fatal(err)
		}
		// The broker claims once that the position isn't in its log.
		c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			fetch := req.(*kmsg.FetchRequest)
			resp := fetch.ResponseKind().(*kmsg.FetchResponse)
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = fetch.Topics[0].Topic, fetch.Topics[0].TopicID
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.ErrorCode = 1 // OFFSET_OUT_OF_RANGE
			rt.Partitions = append(rt.Partitions, rp)
			resp.Topics = append(resp.Topics, rt)
			return resp, nil, true
		})
		if err := f.wait(within(t, time.Minute), func() (bool, error) { return f.at.round == 1 && f.ready, nil }); err != nil {
			t.Fatal(err)
		}
		if n.of(IncidentDataLoss) != 1 || f.Store().Len() != 1 {
			t.Fatalf("counted %d, %d endpoints", n.of(IncidentDataLoss), f.Store().Len())
		}
	})
}

func TestATailRemovedByCompactionDoesNotHoldThePosition(t *testing.T) {
	f, err := NewFollower(FollowerConfig{Topic: topic, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	f.reader.next = 5
	empty := &kmsg.FetchResponseTopicPartition{LastStableOffset: 9, HighWatermark: 9}
	for i := range maxGaps {
		if f.Ready() || f.Version().Offset == 9 {
			t.Fatalf("skipped after %d empty answers", i)
		}
		if err := f.reader.absorb(empty, f.place(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if !f.Ready() || f.Version().Offset != 9 {
		t.Fatalf("the position stays at %d", f.Version().Offset)
	}
}

func TestStartSaysWhatIsWrongWithTheTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		if err := c.CreateTopic("wide", 2, nil); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"missing": "topics apply", "wide": "exactly one"} {
			f, err := NewFollower(FollowerConfig{Topic: name, Opts: c.opts, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Start(t.Context()); !errors.Is(err, ErrTopic) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want something with %q", name, err, want)
			}
			f.Wait()
		}
	})
}
