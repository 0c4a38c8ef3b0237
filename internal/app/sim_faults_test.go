package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// crash notes that what was done in that time may be done again: what was in
// flight, or not committed.
func (s *sim) crash(from, to time.Time, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes = append(s.crashes, simWindow{from, to, what})
}

// committed returns when the dispatchers committed last, by what the broker has:
// every 100 ms and, if nothing is finished, every second, unless commits are
// refused or a rebalance blocks them.
func (s *sim) committed() time.Time {
	last := time.Now()
	info := s.w.broker.GroupInfo("posthorn.dispatch")
	for p := range int32(s.w.cfg.Partitions.Deliveries) {
		if info == nil {
			return s.began
		}
		c, ok := info.Commits["posthorn.deliveries"][p]
		if !ok {
			return s.began
		}
		if c.At.Before(last) {
			last = c.At
		}
	}
	return last.Add(-simSlack)
}

// simSlack is how long a commit may be under way.
const simSlack = 2 * time.Second

// kill is kill -9.
func (s *sim) kill(i int) {
	s.mu.Lock()
	l := s.slots[i].life
	s.slots[i].life = nil
	s.mu.Unlock()
	if l != nil {
		s.crash(s.committed(), time.Now(), fmt.Sprintf("process %d is killed", i))
		l.kafka.Cut()
		l.http.Cut()
		l.stop()
	}
}

// simSession is when a dead process's sessions end: the stages' session timeout
// less the time since its last heartbeat. Later would do harm: kfake ends the
// session of a member that waits for a rebalance, which Apache Kafka doesn't.
const simSession = 9 * time.Second

var simGroups = []string{"posthorn.match", "posthorn.fanout", "posthorn.dispatch", "posthorn.retry.2s"}

// expire removes what is left of a dead process from its groups. kfake forgets
// to start the session of a member whose connection died while it joined; Apache
// Kafka would end it.
func (s *sim) expire(l *simLife) {
	for _, group := range simGroups {
		info := s.w.broker.GroupInfo(group)
		if info == nil {
			continue
		}
		for _, m := range info.Members {
			if !strings.HasPrefix(m.MemberID, l.client+"-") {
				continue
			}
			req := kmsg.NewLeaveGroupRequest()
			req.Group = group
			member := kmsg.NewLeaveGroupRequestMember()
			member.MemberID = m.MemberID
			req.Members = append(req.Members, member)
			if _, err := req.RequestWith(context.Background(), s.w.client); err == nil {
				s.note("expired %s of %s", m.MemberID, group)
			}
		}
	}
}

// terminate is SIGTERM.
func (s *sim) terminate(i int) {
	s.mu.Lock()
	l := s.slots[i].life
	s.slots[i].life = nil
	s.mu.Unlock()
	if l != nil {
		l.stop()
	}
}

// disturb begins to make a zombie of a process.
func (s *sim) disturb(i int, m simMode) {
	s.mu.Lock()
	l := s.slots[i].life
	s.mu.Unlock()
	if l != nil {
		// It finds out within a session's timeout that it was gone.
		s.crash(s.committed(), time.Now().Add(30*time.Second), fmt.Sprintf("process %d is a zombie", i))
		l.kafka.begin(m)
	}
}

func (s *sim) undisturb(i int, m simMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.slots[i].life; l != nil {
		l.kafka.end(m)
	}
}

// failProduce has the next produces to a topic fail.
func (s *sim) failProduce(topic string, err *kerr.Error, n int) {
	s.fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: err, Count: n, When: func(kmsg.Request) bool {
		s.crash(time.Now().Add(-simSlack), time.Now().Add(simSlack), "a produce failed")
		return true
	}})
}

// refuse has the next requests of a kind fail.
func (s *sim) refuse(key kmsg.Key, group string, err *kerr.Error, n int) {
	f := kfake.Fault{Keys: []kmsg.Key{key}, Group: group, Err: err, Count: n}
	if key == kmsg.OffsetCommit && group == "posthorn.dispatch" {
		// A handover meanwhile forgets what wasn't committed, like a crash.
		at := -1
		f.When = func(kmsg.Request) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if at < 0 {
				at = len(s.crashes)
				s.crashes = append(s.crashes, simWindow{from: time.Now().Add(-simSlack), what: "commits were refused"})
			}
			s.crashes[at].to = time.Now().Add(2 * simSlack)
			return true
		}
	}
	s.fault(f)
}

func (s *sim) fault(f kfake.Fault) {
	s.faults = append(s.faults, s.w.broker.Fault(f))
}

// heal ends all that is wrong.
func (s *sim) heal() {
	s.note("all heals")
	for _, f := range s.faults {
		f.Remove()
	}
	s.mu.Lock()
	for _, l := range s.lives {
		for _, m := range simModes {
			l.kafka.end(m)
		}
	}
	s.mu.Unlock()
	for i := range s.slots {
		s.revive(i)
	}
}

// moveBack resets a group that has no members, as an operator would.
func (s *sim) moveBack(group, topic string, part float64) {
	adm := kadm.NewClient(s.w.client)
	at := s.w.broker.GroupInfo(group)
	if at == nil {
		return
	}
	var offsets kadm.Offsets
	for p, c := range at.Commits[topic] {
		offsets.Add(kadm.Offset{Topic: topic, Partition: p, At: int64(part * float64(c.Offset)), LeaderEpoch: -1})
	}
	if len(offsets) == 0 {
		return
	}
	resp, err := adm.CommitOffsets(context.Background(), group, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		s.w.t.Errorf("resetting group %s: %v", group, err)
	}
}
