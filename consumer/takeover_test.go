package consumer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (r *rig) adm() *kadm.Client { return kadm.NewClient(r.client) }

// resetByHand commits as kafka-consumer-groups --reset-offsets does.
func (r *rig) resetByHand(group, topic string, p int32, at int64) {
	r.t.Helper()
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: topic, Partition: p, At: at, LeaderEpoch: -1})
	if _, err := r.adm().CommitOffsets(context.Background(), group, os); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) deleteBelow(topic string, p int32, at int64) {
	r.t.Helper()
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: topic, Partition: p, At: at})
	if _, err := r.adm().DeleteRecords(context.Background(), os); err != nil {
		r.t.Fatal(err)
	}
}

func TestLostRecordsStopTheirPartitionUntilTheLossIsAccepted(t *testing.T) {
	inVirtualTime(t, 2, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		r.produce("d", 1, 100)
		first := r.member("d", values("0", "1", "100"))
		time.Sleep(5 * time.Second)
		first.leave(t)
		r.deleteBelow("d", 0, 5)
		r.produce("d", 1, 101)

		second := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got, want := second.hand.values(), []string{"101"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v: the other partition goes on, this one waits", got, want)
		}
		var loss *LossError
		if err := second.Ready(); !errors.As(err, &loss) || loss.Committed != 2 || loss.Start != 5 {
			t.Errorf("ready: %v", err)
		}
		if second.counts.lost != 1 {
			t.Errorf("%d losses counted", second.counts.lost)
		}
		second.leave(t)

		third := r.member("d", all, func(c *Config) { c.AcceptLoss = true })
		time.Sleep(5 * time.Second)
		if got, want := third.hand.values(), []string{"5", "6", "7", "8", "9"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if err := third.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		third.leave(t)
	})
}

func TestAGroupThatWasResetByHandIsRefusedOrHasNoHoles(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 5)...)
		first := r.member("d", all)
		time.Sleep(5 * time.Second)
		first.leave(t)
		r.resetByHand("g", "d", 0, 2)

		second := r.member("d", all, func(c *Config) { c.RefuseForeign, c.DedupWindow = true, 0 })
		time.Sleep(5 * time.Second)
		var foreign *ForeignCommitError
		if err := second.Ready(); !errors.As(err, &foreign) || !strings.Contains(err.Error(), "--accept-reset") {
			t.Errorf("ready: %v", err)
		}
		if got := second.hand.values(); len(got) != 0 {
			t.Errorf("got %v though refused", got)
		}
		second.leave(t)

		third := r.member("d", all, func(c *Config) { c.DedupWindow = 0 })
		time.Sleep(5 * time.Second)
		if got, want := third.hand.values(), []string{"2", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		third.leave(t)
	})
}

func TestAForeignCommitStillKnowsTheRepeatsBeforeIt(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, 1, 2, 3, 1, 2, 4)
		r.resetByHand("g", "d", 0, 3)
		m := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got, want := m.hand.values(), []string{"4"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		m.leave(t)
	})
}

func TestSourcesStartWhereTheyWereToldOnceAndForAll(t *testing.T) {
	inVirtualTime(t, 2, []string{"early", "late", "timed"}, func(r *rig) {
		for _, topic := range []string{"early", "late", "timed"} {
			r.produce(topic, 0, 1)
		}
		time.Sleep(time.Hour)
		at := time.Now()
		for _, topic := range []string{"early", "late", "timed"} {
			r.produce(topic, 0, 2)
		}
		starts := []Start{{Topic: "early", Earliest: true}, {Topic: "late", Latest: true}, {Topic: "timed", At: at}}
		commit := func() {
			t.Helper()
			if _, err := CommitStarts(context.Background(), r.adm(), "g", starts, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
		}
		commit()
		for _, topic := range []string{"early", "late", "timed"} {
			r.produce(topic, 0, 3)
		}
		commit() // a restart before anything was read: no effect
		want := map[string][]string{"early": {"1", "2", "3"}, "late": {"3"}, "timed": {"2", "3"}}
		for topic, vs := range want {
			m := r.member(topic, all, func(c *Config) { c.RefuseForeign, c.DedupWindow = true, 0 })
			time.Sleep(5 * time.Second)
			if got := m.hand.values(); !slices.Equal(got, vs) || m.Ready() != nil {
				t.Errorf("%s: got %v, want %v; ready: %v", topic, got, vs, m.Ready())
			}
			m.leave(t)
		}
	})
}

func TestAStartThatABusyGroupCantCommitIsUsedByItsNextMember(t *testing.T) {
	inVirtualTime(t, 1, []string{"old", "new"}, func(r *rig) {
		busy := r.member("old", all)
		time.Sleep(5 * time.Second)
		r.produce("new", 0, 1)
		starts, err := CommitStarts(context.Background(), r.adm(), "g", []Start{{Topic: "new", Latest: true}}, slog.New(slog.DiscardHandler))
		if err != nil || starts["new"][0] != 1 {
			t.Fatalf("starts %v, error %v", starts, err)
		}
		r.produce("new", 0, 2)
		m := r.member("new", all, func(c *Config) { c.Starts = starts })
		time.Sleep(15 * time.Second)
		if got, want := m.hand.values(), []string{"2"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		m.leave(t)
		busy.leave(t)
	})
}

func TestALeaseDiesWithinSecondsOfItsCoordinator(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		m := r.member("d", none)
		r.produce("d", 0, 1)
		time.Sleep(5 * time.Second)
		l := m.hand.at(0).Lease()
		if !l.Live(time.Now()) {
			t.Error("an idle lease is not live")
		}
		r.cluster.ControlKey(8, func(kreq kmsg.Request) (kmsg.Response, error, bool) { // OffsetCommit
			r.cluster.KeepControl()
			return nil, errors.New("the coordinator is gone"), true
		})
		time.Sleep(zombieAfter + idleCommit + time.Second)
		if l.Live(time.Now()) {
			t.Error("live without an answered commit")
		}
		m.leave(t)
	})
}

func TestThePartitionOfAMemberThatIsGoneGoesToAnotherWithItsHoles(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 1000)...)
		first := r.member("d", func(w *Work) bool { return w.Record.Offset%100 != 7 })
		time.Sleep(5 * time.Second)
		second := r.member("d", all)
		time.Sleep(5 * time.Second)
		first.leave(t)
		time.Sleep(15 * time.Second)
		if got := second.hand.values(); len(got) != 10 || got[0] != "7" || got[9] != "907" {
			t.Errorf("got %v, want the ten that were unfinished", got)
		}
		second.leave(t)
	})
}

// slowFetches has every fetch answered that much later.
func (r *rig) slowFetches(by time.Duration) {
	r.cluster.ControlKey(1, func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.cluster.SleepControl(func() { time.Sleep(by) })
		return nil, nil, false
	})
}

func TestASuccessorReadsOnThoughItsPredecessorsRunsFillTheMetadata(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 4000)...)
		first := r.member("d", func(w *Work) bool { return w.Record.Offset%2 == 1 })
		time.Sleep(10 * time.Second)
		first.leave(t)
		r.slowFetches(50 * time.Millisecond) // so that it commits before it has read much
		second := r.member("d", all)
		time.Sleep(30 * time.Second)
		got := second.hand.values()
		if len(got) < 2000 || got[0] != "0" || !slices.Contains(got, "3998") {
			t.Errorf("%d records, want the 2,000 that were unfinished", len(got))
		}
		second.leave(t)
	})
}

func TestAPartitionIsNotReadFurtherAheadThanACommitCanSay(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 12_000)...)
		r.slowFetches(50 * time.Millisecond)
		m := r.member("d", func(w *Work) bool { return w.Record.Offset%2 == 1 })
		time.Sleep(10 * time.Second)
		if n := len(m.hand.values()); n == 12_000 {
			t.Error("all of it was read, though thousands of runs find no room")
		}
		m.hand.mu.Lock()
		open := slices.Clone(m.hand.got)
		m.hand.finish = all
		m.hand.mu.Unlock()
		for _, w := range open {
			w.Done() // twice for the odd ones, which does nothing
		}
		time.Sleep(10 * time.Second)
		if n := len(m.hand.values()); n != 12_000 {
			t.Errorf("%d read after the holes were closed, want all 12,000", n)
		}
		m.leave(t)
	})
}
