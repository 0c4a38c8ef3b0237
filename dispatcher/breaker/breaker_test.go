package breaker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSet(t testing.TB, c Config) *Set {
	t.Helper()
	s, err := NewSet(c, 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request lets one through and ends it at once.
func request(t *testing.T, s *Set, key string, v Verdict) {
	t.Helper()
	done, ok := s.Allow(key)
	if !ok {
		t.Fatalf("refused while %v", s.State(key))
	}
	done(v)
}

func refused(t *testing.T, s *Set, key string) {
	t.Helper()
	if done, ok := s.Allow(key); ok || done != nil {
		t.Fatalf("let through while %v", s.State(key))
	}
}

// open makes the endpoint fail until its breaker opens.
func open(t *testing.T, s *Set, key string) {
	t.Helper()
	for range 10 {
		request(t, s, key, Failure)
	}
	if s.State(key) != Open {
		t.Fatalf("state %v after ten failures", s.State(key))
	}
}

func TestBreakerOpensStaysOpenProbesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		for range 9 {
			request(t, s, "k", Failure)
		}
		if s.State("k") != Closed {
			t.Fatal("judged before ten requests")
		}
		request(t, s, "k", Failure)
		if s.State("k") != Open {
			t.Fatal("ten failures did not open it")
		}
		refused(t, s, "k")
		time.Sleep(30 * time.Second)
		refused(t, s, "k")
		time.Sleep(time.Millisecond)

		first, ok1 := s.Allow("k")
		second, ok2 := s.Allow("k")
		if !ok1 || !ok2 || s.State("k") != HalfOpen {
			t.Fatalf("%v, %v, %v: want two probes", ok1, ok2, s.State("k"))
		}
		refused(t, s, "k")
		first(Success)
		refused(t, s, "k")
		second(Success)
		if s.State("k") != Closed {
			t.Fatalf("state %v after two successes", s.State("k"))
		}
		request(t, s, "k", Failure) // a new window: one is not judged
		if s.State("k") != Closed {
			t.Fatal("the old window counted on")
		}
	})
}

func TestFailedProbeOpensAgainForTheWholeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		open(t, s, "k")
		time.Sleep(30*time.Second + time.Millisecond)
		first, _ := s.Allow("k")
		second, _ := s.Allow("k")
		first(Failure)
		refused(t, s, "k")
		time.Sleep(29 * time.Second)
		refused(t, s, "k")
		time.Sleep(2 * time.Second)
		request(t, s, "k", Success)
		second(Failure) // of the probing before: it says nothing about this one
		request(t, s, "k", Success)
		if s.State("k") != Closed {
			t.Errorf("state %v", s.State("k"))
		}
	})
}

func TestExcludedProbeGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		open(t, s, "k")
		time.Sleep(31 * time.Second)
		for range 100 {
			request(t, s, "k", Excluded)
		}
		if s.State("k") != HalfOpen {
			t.Fatalf("state %v: excluded requests decided something", s.State("k"))
		}
		request(t, s, "k", Success)
		request(t, s, "k", Excluded)
		request(t, s, "k", Success)
		if s.State("k") != Closed {
			t.Errorf("state %v", s.State("k"))
		}
	})
}

func TestExcludedRequestsAreNotJudged(t *testing.T) {
	s := newSet(t, Config{})
	for range 100 {
		request(t, s, "k", Excluded)
	}
	for range 9 {
		request(t, s, "k", Failure)
	}
	if s.State("k") != Closed {
		t.Error("excluded requests counted towards the ten")
	}
}

func TestFailuresBelowTheRatioKeepItClosed(t *testing.T) {
	s := newSet(t, Config{FailureRatio: 0.5})
	for range 1000 {
		request(t, s, "k", Success)
		request(t, s, "k", Success)
		request(t, s, "k", Failure)
	}
	if s.State("k") != Closed {
		t.Fatal("a third of failures opened it")
	}
	for range 1000 {
		request(t, s, "k", Failure)
		if s.State("k") == Open {
			return
		}
	}
	t.Error("half of failures did not open it")
}

// Requests still out say nothing yet.
func TestRequestsInFlightDoNotDiluteFailures(t *testing.T) {
	s := newSet(t, Config{})
	for range 100 {
		done, _ := s.Allow("k")
		defer done(Success)
	}
	open(t, s, "k")
}

func TestWindowRolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{Window: time.Minute})
		for range 9 {
			request(t, s, "k", Failure)
			time.Sleep(5 * time.Second)
		}
		time.Sleep(30 * time.Second) // the first four are out of the window
		for range 4 {
			request(t, s, "k", Failure)
		}
		if s.State("k") != Closed {
			t.Error("failures older than the window counted")
		}
		request(t, s, "k", Failure)
		if s.State("k") != Open {
			t.Error("failures within the window did not count")
		}
	})
}

// An endpoint that only times out, on a lane that narrows to one request at a
// time, is judged within the default window.
func TestTimeoutsOfANarrowLaneOpenIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		var four []func(Verdict)
		for range 4 {
			done, _ := s.Allow("k")
			four = append(four, done)
		}
		time.Sleep(15 * time.Second)
		for _, done := range four {
			done(Failure)
		}
		for range 6 {
			done, ok := s.Allow("k")
			if !ok {
				t.Fatal("refused too early")
			}
			time.Sleep(15 * time.Second)
			done(Failure)
		}
		if s.State("k") != Open {
			t.Errorf("state %v", s.State("k"))
		}
	})
}

func TestDoneCountsOnce(t *testing.T) {
	s := newSet(t, Config{})
	done, _ := s.Allow("k")
	for range 50 {
		done(Failure)
	}
	if s.State("k") != Closed {
		t.Error("one request was counted more than once")
	}
	if e := s.breakers["k"]; e.pending.Load() != 0 {
		t.Errorf("%d pending", e.pending.Load())
	}
}

func TestEndpointsDoNotShareABreaker(t *testing.T) {
	s := newSet(t, Config{})
	open(t, s, "bad")
	request(t, s, "good", Success)
	if s.State("good") != Closed || s.State("unknown") != Closed || s.Len() != 2 {
		t.Errorf("good %v, unknown %v, %d breakers", s.State("good"), s.State("unknown"), s.Len())
	}
}

func TestChangesAreTakenOnceAndOneForEachEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		if got := s.Changes(); len(got) != 0 {
			t.Fatalf("%v before anything", got)
		}
		open(t, s, "a")
		open(t, s, "b")
		<-s.Changed()
		if got, want := s.Changes(), []Change{{"a", Closed, Open}, {"b", Closed, Open}}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if got := s.Changes(); len(got) != 0 {
			t.Errorf("%v taken twice", got)
		}
		time.Sleep(31 * time.Second)
		request(t, s, "b", Failure)
		request(t, s, "a", Success)
		<-s.Changed()
		if got, want := s.Changes(), []Change{{"b", Open, Open}, {"a", Open, HalfOpen}}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		request(t, s, "a", Success)
		if got, want := s.Changes(), []Change{{"a", HalfOpen, Closed}}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func TestOnlyClosedAndEmptyBreakersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		request(t, s, "idle", Success)
		open(t, s, "open")
		busy, _ := s.Allow("busy")
		if n := s.Sweep(100); n != 0 {
			t.Fatalf("%d dropped within the window", n)
		}
		time.Sleep(3 * time.Minute)
		if n := s.Sweep(100); n != 1 || s.Len() != 2 {
			t.Fatalf("%d dropped, %d left; want the idle one gone", n, s.Len())
		}
		if s.State("open") != HalfOpen {
			t.Errorf("state %v", s.State("open"))
		}
		busy(Success) // its window has passed: not counted
		if n := s.Sweep(1); n+s.Sweep(1) != 1 {
			t.Errorf("%d breakers left, want the half-open one", s.Len())
		}
		s.Forget("open")
		s.Forget("open")
		if s.Len() != 0 || s.State("open") != Closed {
			t.Errorf("%d breakers left", s.Len())
		}
	})
}

// Meeting ever new endpoints drops those that are no longer in use.
func TestSetDoesNotGrowWithEveryEndpointEverMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet(t, Config{})
		for i := range 5000 {
			request(t, s, fmt.Sprint("k", i), Success)
			time.Sleep(time.Second)
		}
		if s.Len() > 300 {
			t.Errorf("%d breakers, where 120 were in use within a window", s.Len())
		}
		for i, e := range s.order {
			if e.at != i || s.breakers[e.key] != e {
				t.Fatalf("breaker %q is misfiled", e.key)
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	s := newSet(t, Config{OpenFor: time.Microsecond})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				key := fmt.Sprint("k", i%7)
				if done, ok := s.Allow(key); ok {
					done(Verdict(1 + (i+g)%3))
				}
				switch i % 50 {
				case 0:
					s.Sweep(3)
				case 1:
					s.Changes()
				case 2:
					s.Forget(key)
				}
			}
		})
	}
	wg.Wait()
	for _, e := range s.order {
		if n := e.pending.Load(); n != 0 {
			t.Errorf("%s: %d pending", e.key, n)
		}
	}
}

func TestValidateNamesEveryMistake(t *testing.T) {
	if err := (Config{}).Validate(30 * time.Second); err != nil {
		t.Errorf("the zero config: %v", err)
	}
	for _, c := range []struct {
		config Config
		names  []string
	}{
		{Config{Window: -1, MinRequests: -1, FailureRatio: 2, OpenFor: -1, Probes: -1},
			[]string{"Window", "MinRequests", "FailureRatio", "OpenFor", "Probes"}},
		{Config{Window: 16 * time.Second}, []string{"longest request"}},
		{Config{Window: time.Hour, Bucket: time.Second}, []string{"buckets"}},
		{Config{Window: time.Minute, Bucket: time.Minute}, []string{"two buckets"}},
	} {
		_, err := NewSet(c.config, 15*time.Second)
		if err == nil {
			t.Errorf("%+v: no error", c.config)
			continue
		}
		for _, name := range c.names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%q is not named in: %v", name, err)
			}
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	s := newSet(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		done, _ := s.Allow("k")
		done(Success)
	}
}
