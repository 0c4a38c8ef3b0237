package retrytopics

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestCutTakesTheLargestTierThatIsNotLonger(t *testing.T) {
	l := DefaultLadder()
	for _, c := range []struct {
		wait, tier time.Duration
		ok         bool
	}{
		{-time.Hour, 0, false}, {0, 0, false}, {5*time.Second - 1, 0, false},
		{5 * time.Second, 5 * time.Second, true}, {time.Minute - 1, 5 * time.Second, true},
		{time.Minute, time.Minute, true}, {2 * time.Minute, time.Minute, true},
		{5 * time.Minute, 5 * time.Minute, true}, {15*time.Minute - 1, 5 * time.Minute, true},
		{15 * time.Minute, 15 * time.Minute, true}, {24 * time.Hour, 15 * time.Minute, true},
	} {
		if tier, ok := l.Cut(c.wait); tier != c.tier || ok != c.ok {
			t.Errorf("Cut(%v) = %v, %v; want %v, %v", c.wait, tier, ok, c.tier, c.ok)
		}
	}
	if _, ok := (Ladder{}).Cut(time.Hour); ok {
		t.Error("the zero ladder has a tier")
	}
}

func TestLadderErrorsNameEveryMistake(t *testing.T) {
	for _, c := range []struct {
		tiers []time.Duration
		want  []string
	}{
		{nil, []string{"none given"}},
		{[]time.Duration{1500 * time.Millisecond, time.Second, time.Second},
			[]string{"tier 1 (1.5s)", "tier 2 (1s): want more than the tier before it (1.5s)", "tier 3 (1s): want more"}},
		{[]time.Duration{0, time.Minute}, []string{"tier 1 (0s): want a whole number of seconds"}},
		{[]time.Duration{-time.Second}, []string{"tier 1 (-1s)"}},
	} {
		_, err := NewLadder(c.tiers...)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("NewLadder(%v): error %v lacks %q", c.tiers, err, want)
			}
		}
	}
	tiers := []time.Duration{time.Second, time.Hour}
	l := must(NewLadder(tiers...))
	tiers[0], l.Tiers()[1] = time.Hour, 0
	if got := l.Tiers(); got[0] != time.Second || got[1] != time.Hour || l.Smallest() != time.Second {
		t.Errorf("the ladder changed with its caller's slice: %v", got)
	}
}

func TestTierNamesAreTheShortForm(t *testing.T) {
	for d, want := range map[time.Duration]string{
		5 * time.Second: "5s", time.Minute: "1m", 90 * time.Second: "90s", 15 * time.Minute: "15m",
		time.Hour: "1h", 90 * time.Minute: "90m", 24 * time.Hour: "24h",
	} {
		if got := TierName(d); got != want {
			t.Errorf("TierName(%v) = %q, want %q", d, got, want)
		}
	}
	if got := RetryTopic("posthorn", 15*time.Minute); got != "posthorn.retry.15m" {
		t.Errorf("RetryTopic = %q", got)
	}
}

// A wait whose base was read a little later than its end is still cut as the
// caller meant it.
func TestAWaitJustShortOfATierTakesThatTier(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)
	for _, c := range []struct{ wait, tier time.Duration }{
		{time.Minute - time.Nanosecond, time.Minute}, {time.Minute - 3*time.Millisecond, time.Minute},
		{time.Minute - slack, time.Minute}, {time.Minute - slack - 2*time.Millisecond, 5 * time.Second},
		{time.Minute + slack, time.Minute}, {15*time.Minute - 40*time.Millisecond, 15 * time.Minute},
	} {
		tier, at, ok := DefaultLadder().plan(now.Add(c.wait), now)
		if !ok || tier != c.tier || now.Sub(at) > slack+time.Millisecond {
			t.Errorf("a wait of %v: tier %v from %v before now, %v; want %v", c.wait, tier, now.Sub(at), ok, c.tier)
		}
	}
}

// Over random waits and clocks: no hop ends after not_before (as its header
// carries it), every hop gets nearer, and what is left at last is shorter than
// the smallest tier.
func TestHopsNeverPassNotBefore(t *testing.T) {
	l := DefaultLadder()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		base := time.UnixMilli(1.7e12).Add(time.Duration(rng.Int64N(int64(time.Hour))))
		notBefore := base.Add(time.Duration(rng.Int64N(int64(2 * time.Hour)))).Truncate(time.Millisecond)
		for hops := 0; ; hops++ {
			tier, at, ok := l.plan(notBefore, base)
			if !ok {
				if rest := notBefore.Sub(base); rest >= l.Smallest() {
					t.Fatalf("%v are left over", rest)
				}
				break
			}
			next := at.Add(tier)
			if next.After(notBefore) || !next.After(base) || hops > 40 {
				t.Fatalf("hop %d of %v from %v ends at %v, due at %v", hops, tier, base, next, notBefore)
			}
			base = next
		}
	}
}
