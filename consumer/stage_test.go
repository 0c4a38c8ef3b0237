package consumer

import (
	"slices"
	"testing"
	"time"
)

func numbers(from, to int) (ns []int) {
	for n := from; n < to; n++ {
		ns = append(ns, n)
	}
	return ns
}

func TestASuccessorGetsExactlyWhatWasUnfinished(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		first := r.member("d", func(w *Work) bool { return !values("3", "7")(w) })
		time.Sleep(5 * time.Second)
		first.leave(t)
		second := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got, want := second.hand.values(), []string{"3", "7"}; !slices.Equal(got, want) {
			t.Errorf("the successor got %v, want %v", got, want)
		}
		second.leave(t)
		third := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got := third.hand.values(); len(got) != 0 {
			t.Errorf("all was finished, yet the third member got %v", got)
		}
		third.leave(t)
	})
}

func TestARepeatIsDroppedAndCountedAlsoAfterATakeover(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, 1, 2, 2, 3)
		first := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got, want := first.hand.values(), []string{"1", "2", "3"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		first.leave(t)
		r.produce("d", 0, 3, 1, 4)
		second := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got, want := second.hand.values(), []string{"4"}; !slices.Equal(got, want) {
			t.Errorf("after the takeover got %v, want %v", got, want)
		}
		if first.counts.repeats != 1 || second.counts.repeats != 2 {
			t.Errorf("%d and %d repeats counted, want 1 and 2", first.counts.repeats, second.counts.repeats)
		}
		second.leave(t)
	})
}

func TestAFailedPartitionIsReadAgainFromWhatIsFinished(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, 1, 2, 3)
		m := r.member("d", values("1", "3"))
		time.Sleep(5 * time.Second)
		w := m.hand.at(1)
		m.hand.mu.Lock()
		m.hand.finish = all
		m.hand.mu.Unlock()
		w.Lease().Fail(errTest)
		if w.Lease().Live(time.Now()) {
			t.Error("a failed lease is live")
		}
		time.Sleep(5 * time.Second)
		if got, want := m.hand.values(), []string{"1", "2", "3", "2"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		w.Done() // late, of the failed lease: no effect
		r.produce("d", 0, 4)
		time.Sleep(time.Second)
		m.leave(t)
		if got, want := m.hand.values(), []string{"1", "2", "3", "2", "4"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestPartitionsMoveToANewMemberWithoutLossOrRepeat(t *testing.T) {
	inVirtualTime(t, 4, []string{"d"}, func(r *rig) {
		first := r.member("d", all)
		time.Sleep(5 * time.Second)
		for p := range int32(4) {
			r.produce("d", p, numbers(int(p)*100, int(p)*100+20)...)
		}
		second := r.member("d", all)
		time.Sleep(15 * time.Second)
		for p := range int32(4) {
			r.produce("d", p, numbers(int(p)*100+20, int(p)*100+40)...)
		}
		time.Sleep(5 * time.Second)
		if n := len(second.hand.values()); n != 40 {
			t.Errorf("the second member got %d records, want 40 of two partitions", n)
		}
		got := append(first.hand.values(), second.hand.values()...)
		slices.Sort(got)
		if u := slices.Compact(slices.Clone(got)); len(got) != 160 || len(u) != 160 {
			t.Errorf("%d records, %d distinct; want 160", len(got), len(u))
		}
		first.leave(t)
		second.leave(t)
	})
}

func TestAPausedPartitionIsNotReadUntilResumed(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		m := r.member("d", all)
		r.produce("d", 0, 1)
		time.Sleep(5 * time.Second)
		l := m.hand.at(0).Lease()
		l.Pause()
		time.Sleep(time.Second)
		r.produce("d", 0, 2)
		time.Sleep(5 * time.Second)
		if got := m.hand.values(); len(got) != 1 {
			t.Errorf("got %v while paused", got)
		}
		l.Resume()
		time.Sleep(5 * time.Second)
		if got := m.hand.values(); len(got) != 2 {
			t.Errorf("got %v after the resume", got)
		}
		m.leave(t)
	})
}
