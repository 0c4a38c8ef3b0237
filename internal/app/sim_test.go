package app

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"posthorn/internal/config"
)

// The simulation runs the product's own stages, in several processes, against
// kfake in virtual time, and does to them what production does: kills, zombies,
// refused produces and commits, a registry that changes, groups that are reset
// by hand. A run follows from its seed, but for the order in which goroutines
// happen to run. When everything has healed and nothing is left to do, the laws
// are checked from the outside: by the topics and by what the receivers saw.
//
//	POSTHORN_SIM_SEEDS=1000 go test -tags synctests ./internal/app -run TestNoFaultLosesOrRepeatsADelivery
//	POSTHORN_SIM_SEED=17 go test -tags synctests ./internal/app -run TestNoFaultLosesOrRepeatsADelivery -v
//
// POSTHORN_TEST_LOG=1 adds the product's log, POSTHORN_KGO_LOG=1 kgo's.

func TestNoFaultLosesOrRepeatsADelivery(t *testing.T) {
	needYieldingLocks(t)
	t.Parallel()
	from, n := uint64(1), 25
	verbose := false
	if s := os.Getenv("POSTHORN_SIM_SEEDS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("POSTHORN_SIM_SEEDS: %v", err)
		}
	}
	if s := os.Getenv("POSTHORN_SIM_SEED"); s != "" {
		var err error
		if from, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("POSTHORN_SIM_SEED: %v", err)
		}
		n, verbose = 1, true
	}
	for seed := from; seed < from+uint64(n); seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			p := newSimPlan(seed)
			broken, diary := simulate(t, p, nil)
			if verbose {
				t.Logf("%s%s", p, strings.Join(diary, "\n"))
			}
			for _, b := range broken {
				t.Error(b)
			}
			if len(broken) > 0 {
				t.Errorf("replay: POSTHORN_SIM_SEED=%d go test -tags synctests ./internal/app -run 'TestNoFaultLosesOrRepeatsADelivery$' -count 20 -v", seed)
			}
		})
	}
}

func TestTheSimulationSeesRepeatsWhenTheyAreNotDropped(t *testing.T) {
	needYieldingLocks(t)
	t.Parallel()
	const most = 60
	for seed := range uint64(most) {
		broken, _ := simulate(t, newSimPlan(seed), func(c *config.Config) { c.Delivery.DedupWindow = 0 })
		for _, b := range broken {
			if strings.HasPrefix(b, lawOnce) {
				t.Logf("seed %d: %s", seed, b)
				return
			}
		}
	}
	t.Fatalf("without the dropping of repeats %d seeds passed", most)
}

func needYieldingLocks(t *testing.T) {
	if !kgoLocksYield {
		t.Skip("virtual time needs kgo's yielding locks: go test -tags synctests")
	}
}

// simulate plays a plan and returns which laws were broken, and what happened.
func simulate(t *testing.T, p *simPlan, change func(*config.Config)) (broken, diary []string) {
	t.Helper()
	contracts := t.TempDir()
	quick := fmt.Sprintf("body: {form: data}\nsignature: {scheme: standard}\nsecret: {format: standard, rotation_overlap: 24h}\n"+
		"timeout: %s\nretry: {except: [410], gone: [410]}\n", simPostFor)
	if err := os.WriteFile(contracts+"/"+simContract+".yaml", []byte(quick), 0o600); err != nil {
		t.Fatal(err)
	}
	inVirtualTimeFrom(t, time.Time{}, func(c *config.Config) {
		c.Partitions = config.Partitions{Deliveries: 2, Fanout: 1, Attempts: 1, Dead: 1, Events: 1, Invalid: 1}
		c.Delivery.Tiers = []time.Duration{simTier}
		c.Delivery.Schedule = []time.Duration{simTier, 2 * simTier}
		c.Delivery.DrainTimeout = simPostFor + 2*time.Second
		c.Breaker.OpenFor = 3 * time.Second
		c.Fanout.TaskSize = p.taskSize
		c.ContractsDir = contracts
		if change != nil {
			change(c)
		}
	}, func(w *world) {
		s := newSim(w, p)
		s.play()
		broken, diary = s.check(), s.diary
	})
	return broken, diary
}

// play does what the plan says and returns when nothing is left to do.
func (s *sim) play() {
	for i := range s.slots {
		s.revive(i)
	}
	for _, step := range s.plan.steps {
		time.Sleep(time.Until(s.began.Add(step.at)))
		s.note("%s", step.what)
		step.do(s)
	}
	time.Sleep(time.Until(s.began.Add(simChaos)))
	s.heal()
	if s.plan.reset {
		s.resetByHand()
	}
	s.settleDown()
	s.note("stopping")
	for i := range s.slots {
		s.terminate(i)
	}
	for _, l := range s.lives {
		<-l.ended
	}
}

// settleDown waits until every group has committed to the end of its topics.
func (s *sim) settleDown() {
	const patience = 3 * time.Minute
	deadline := time.Now().Add(patience)
	quiet := 0
	for quiet < 2 {
		lag := s.lag()
		if lag == "" {
			quiet++
		} else {
			quiet = 0
		}
		if time.Now().After(deadline) {
			s.breaks(lawLive, "not done %v after everything had healed: %s", patience, lag)
			return
		}
		time.Sleep(simTier + 500*time.Millisecond)
	}
}

// lag says which partitions aren't done, by what the broker holds.
func (s *sim) lag() string {
	var behind []string
	for group, topics := range map[string][]string{
		"posthorn.match": {"orders"}, "posthorn.fanout": {"posthorn.fanout"}, "posthorn.dispatch": {"posthorn.deliveries"},
		"posthorn.retry.2s": {"posthorn.retry.2s"},
	} {
		info := s.w.broker.GroupInfo(group)
		for _, t := range topics {
			for _, p := range s.w.broker.PartitionInfos(t) {
				at := int64(0)
				if info != nil {
					at = info.Commits[t][p.Partition].Offset
				}
				if at != p.HighWatermark {
					behind = append(behind, fmt.Sprintf("%s/%d: committed %d of %d by %s", t, p.Partition, at, p.HighWatermark, membersOf(info)))
				}
			}
		}
	}
	return strings.Join(behind, ", ")
}

func membersOf(g *kfake.GroupInfo) string {
	if g == nil {
		return "nobody"
	}
	text := fmt.Sprintf("a group that is %s, generation %d", g.State, g.Epoch)
	for _, m := range g.Members {
		text += fmt.Sprintf(", %s with %v", m.MemberID, m.Assignment)
	}
	return text
}

// resetByHand stops the matchers, moves their group back and starts them to go
// on from there.
func (s *sim) resetByHand() {
	for i := range s.slots {
		if s.plan.slots[i].Has(RoleMatch) {
			s.terminate(i)
		}
	}
	for {
		info := s.w.broker.GroupInfo("posthorn.match")
		if info == nil || len(info.Members) == 0 {
			break
		}
		time.Sleep(time.Second)
	}
	s.note("resetting the matchers' group")
	s.moveBack("posthorn.match", "orders", s.plan.resetTo)
	s.acceptReset = true
	for i := range s.slots {
		s.revive(i)
	}
	for i := range 3 {
		time.Sleep(500 * time.Millisecond)
		s.send(fmt.Sprintf("r%d", i), simKinds[i])
	}
	time.Sleep(time.Duration(s.plan.seed%7) * time.Second)
	slot := int(s.plan.seed) % len(s.slots)
	s.note("process %d is killed and started", slot)
	s.kill(slot)
	s.revive(slot)
}
