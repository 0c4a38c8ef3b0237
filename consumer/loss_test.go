package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A quiet partition's window of repeats may be older than the topic's retention.
func TestARestartBelowTheLogsStartLosesNothingAndGoesOn(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		m := r.member("d", func(w *Work) bool { return !values("11")(w) })
		time.Sleep(5 * time.Second)
		r.deleteBelow("d", 0, 5) // finished and committed long ago
		r.produce("d", 0, 11)
		time.Sleep(5 * time.Second)
		m.hand.mu.Lock()
		m.hand.finish = all
		m.hand.mu.Unlock()
		m.hand.at(10).Lease().Fail(errTest)
		time.Sleep(time.Minute)
		r.produce("d", 0, 12, 11)
		time.Sleep(time.Minute)
		if got, want := m.hand.values()[10:], []string{"11", "11", "12"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v: the last 11 is a repeat", got, want)
		}
		if m.counts.lost != 0 || m.Ready() != nil {
			t.Errorf("nothing was lost; counted: %d, ready: %v", m.counts.lost, m.Ready())
		}
		m.leave(t)
	})
}

func TestAnUncheckedTakeoverBelowTheLogsStartLosesNothingAndGoesOn(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		first := r.member("d", all)
		time.Sleep(5 * time.Second)
		first.leave(t)
		r.deleteBelow("d", 0, 5)
		r.withoutOffsets(2)
		second := r.member("d", all)
		time.Sleep(5 * time.Second)
		r.produce("d", 0, 10)
		time.Sleep(5 * time.Second)
		if got, want := second.hand.values(), []string{"10"}; !slices.Equal(got, want) || second.Ready() != nil {
			t.Errorf("got %v, want %v; ready: %v", got, want, second.Ready())
		}
		second.leave(t)
	})
}

// withoutOffsets answers the next n requests for offsets as a partition without
// a leader would.
func (r *rig) withoutOffsets(n int) {
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl() // it can't be undone: what is not to be answered here is passed on
		if n--; n < 0 {
			return nil, nil, false
		}
		req := kreq.(*kmsg.ListOffsetsRequest)
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewListOffsetsResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewListOffsetsResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.LeaderNotAvailable.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
}

// What retention took before it was read is lost, whoever finds it.
func TestWhatIsGoneBeforeItWasReadHaltsARunningPartition(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		m := r.member("d", all)
		time.Sleep(5 * time.Second)
		m.hand.at(0).Lease().Pause()
		time.Sleep(time.Second)
		r.produce("d", 0, numbers(10, 30)...)
		r.deleteBelow("d", 0, 20)
		m.hand.at(0).Lease().Resume()
		time.Sleep(5 * time.Second)
		var loss *LossError
		if err := m.Ready(); !errors.As(err, &loss) || loss.Committed != 10 || loss.Start != 20 || m.counts.lost != 1 {
			t.Errorf("ready: %v; %d losses counted", err, m.counts.lost)
		}
		if n := len(m.hand.values()); n != 10 {
			t.Errorf("%d handed on, want 10", n)
		}
		m.leave(t)
	})
}

func TestAPartitionHaltedWhileItRunsStaysSoUntilTheLossIsAccepted(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		first := r.member("d", func(w *Work) bool { return !values("3", "7")(w) })
		time.Sleep(5 * time.Second)
		// The leader's log was cut to 5: what lies from there on are other records now.
		first.fetchFailed("d", 0, &kgo.ErrDataLoss{Topic: "d", ConsumedTo: 10, ResetTo: 5})
		r.produce("d", 0, numbers(10, 20)...)
		time.Sleep(5 * time.Second)
		if n := len(first.hand.values()); n != 10 {
			t.Errorf("%d handed on, want the 10 of before the cut", n)
		}
		lost := func(m *member) {
			t.Helper()
			var loss *LossError
			if err := m.Ready(); !errors.As(err, &loss) || loss.Committed != 10 || loss.End != 5 || !strings.Contains(err.Error(), "--accept-loss") {
				t.Errorf("ready: %v", err)
			}
		}
		lost(first)
		first.leave(t)

		second := r.member("d", all)
		time.Sleep(5 * time.Second)
		lost(second)
		if got := second.hand.values(); len(got) != 0 {
			t.Errorf("got %v though nobody accepted the loss", got)
		}
		second.leave(t)

		third := r.member("d", all, func(c *Config) { c.AcceptLoss = true })
		time.Sleep(5 * time.Second)
		want := []string{"3"} // unfinished before the cut
		for _, v := range numbers(5, 20) {
			want = append(want, fmt.Sprint(v))
		}
		if got := third.hand.values(); !slices.Equal(got, want) || third.Ready() != nil {
			t.Errorf("got %v, want %v; ready: %v", got, want, third.Ready())
		}
		third.leave(t)

		fourth := r.member("d", all)
		time.Sleep(5 * time.Second)
		if got := fourth.hand.values(); len(got) != 0 || fourth.Ready() != nil {
			t.Errorf("after the loss was accepted: got %v, ready: %v", got, fourth.Ready())
		}
		fourth.leave(t)
	})
}

func TestALossFoundAtATakeoverIsNotForgottenWhenTheLogGrows(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 10)...)
		var os kadm.Offsets
		os.Add(kadm.Offset{Topic: "d", At: 20, LeaderEpoch: -1, Metadata: freshMetadata(20)})
		if _, err := r.adm().CommitOffsets(context.Background(), "g", os); err != nil {
			t.Fatal(err)
		}
		for _, grown := range [][]int{nil, numbers(10, 40)} {
			r.produce("d", 0, grown...)
			m := r.member("d", all)
			time.Sleep(time.Minute)
			var loss *LossError
			if err := m.Ready(); !errors.As(err, &loss) || loss.Committed != 20 || loss.End != 10 || len(m.hand.values()) != 0 {
				t.Errorf("ready: %v; got %v", err, m.hand.values())
			}
			m.leave(t)
		}
		m := r.member("d", all, func(c *Config) { c.AcceptLoss = true })
		time.Sleep(5 * time.Second)
		if n := len(m.hand.values()); n != 40 || m.Ready() != nil {
			t.Errorf("%d handed on after the loss was accepted, want all 40; ready: %v", n, m.Ready())
		}
		m.leave(t)
	})
}

// No commit goes out for partitions that are kept as they were found; that
// proves nothing of our membership.
func TestAMemberWithHaltedPartitionsAloneNamesTheirReasonsOnly(t *testing.T) {
	inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
		r.produce("d", 0, numbers(0, 5)...)
		r.resetByHand("g", "d", 0, 2)
		m := r.member("d", all, func(c *Config) { c.RefuseForeign, c.DedupWindow = true, 0 })
		time.Sleep(time.Minute)
		if err := m.Ready(); err == nil || strings.Contains(err.Error(), "no commit was answered") {
			t.Errorf("ready: %v", err)
		}
		m.leave(t)
	})
}
