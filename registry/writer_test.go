package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"posthorn/webhook"
)

var errLimit = errors.New("limit reached")

func limitOf(n int) func(*WriterConfig) {
	return func(cfg *WriterConfig) {
		cfg.Check = func(tx *Tx, before, after *webhook.Endpoint) error {
			if before == nil && tx.Count(after.Tenant) >= n {
				return errLimit
			}
			return nil
		}
	}
}

func TestALimitHoldsAgainstRacingWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var n incidents
		fenced := func(cfg *WriterConfig) { cfg.Count = n.add }
		f1, f2 := c.follow(t), c.follow(t)
		writers := []*Writer{c.write(t, f1, limitOf(10), fenced), c.write(t, f2, limitOf(10), fenced)}
		var made, refused atomic.Int32
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				// Spread out, so that the two take the lock from each other.
				time.Sleep(time.Duration(i%17) * 5 * time.Millisecond)
				create := func(tx *Tx) error {
					err := tx.Put(endpoint(i))
					time.Sleep(2 * time.Millisecond) // for the rival
					return err
				}
				switch err := writers[i%2].Update(t.Context(), create); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, errLimit):
					refused.Add(1)
				default:
					t.Errorf("create %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 10 || refused.Load() != 40 {
			t.Fatalf("%d made and %d refused, want 10 and 40", made.Load(), refused.Load())
		}
		if err := f1.readToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f1.Store().Count("acme") != 10 {
			t.Fatalf("%d endpoints in the store", f1.Store().Count("acme"))
		}
		if n.of(IncidentFenced) == 0 {
			t.Fatal("the writers didn't race")
		}
		t.Logf("fenced %d times", n.of(IncidentFenced))
	})
}

func TestAFencedWriterDecidesAgainFromWhatTheRivalWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		var n incidents
		f1, f2 := c.follow(t), c.follow(t)
		w1 := c.write(t, f1, limitOf(1), func(cfg *WriterConfig) { cfg.Count = n.add })
		w2 := c.write(t, f2, limitOf(1))
		calls := 0
		err := w1.Update(t.Context(), func(tx *Tx) error {
			calls++
			if err := tx.Put(endpoint(1)); err != nil {
				return err
			}
			if calls == 1 {
				// Between this writer's decision and its commit.
				if err := w2.Update(t.Context(), put(endpoint(2))); err != nil {
					t.Errorf("rival: %v", err)
				}
			}
			return nil
		})
		if !errors.Is(err, errLimit) || calls != 2 {
			t.Fatalf("after %d calls: %v", calls, err)
		}
		if n.of(IncidentFenced) != 1 {
			t.Fatalf("fenced %d times", n.of(IncidentFenced))
		}
		if _, ok := f1.Store().Get(endpoint(2).ID); !ok || f1.Store().Len() != 1 {
			t.Fatal("the rival's endpoint isn't the only one")
		}
	})
}

func TestAWriterWithASlowFollowerWaitsForWhatWasCommittedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(kfake.VirtualNetwork)
		c := newClusterOn(t, network.Listen, network.DialContext)
		quick := c.follow(t)
		slow := c.follow(t, func(cfg *FollowerConfig) {
			cfg.Opts = []kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.Dialer(slowly(network.DialContext, 100*time.Millisecond))}
		})
		if err := c.write(t, quick, limitOf(1)).Update(t.Context(), put(endpoint(1))); err != nil {
			t.Fatal(err)
		}
		if slow.Store().Len() != 0 {
			t.Fatal("the follower isn't slow")
		}
		if err := c.write(t, slow, limitOf(1)).Update(t.Context(), put(endpoint(2))); !errors.Is(err, errLimit) {
			t.Fatalf("got %v, want the limit", err)
		}
	})
}

// endTxn lets a test tamper with the answers to EndTxn requests.
func endTxn(c *cluster, control func(req *kmsg.EndTxnRequest) (kmsg.Response, error, bool)) {
	c.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return control(r.(*kmsg.EndTxnRequest))
	})
}

func TestALostAnswerToACommitIsFoundOut(t *testing.T) {
	// Whether the broker had committed or not, the caller gets success, once.
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed=%v", committed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cut := &cutter{}
				network := new(kfake.VirtualNetwork)
				c := newClusterOn(t, network.Listen, network.DialContext)
				f := c.follow(t)
				opts := append([]kgo.Opt{}, c.opts...)
				opts = append(opts, kgo.WithHooks(cut), kgo.RequestRetries(0), kgo.RetryTimeout(time.Second))
				w := c.write(t, f, func(cfg *WriterConfig) { cfg.Opts = opts })
				var ends atomic.Int32
				endTxn(c, func(req *kmsg.EndTxnRequest) (kmsg.Response, error, bool) {
					if ends.Add(1) == 1 {
						if !committed {
							return nil, errors.New("closed before it is handled"), true
						}
						cut.cut() // handled, but its answer finds no connection
					}
					return nil, nil, false
				})
				var locks atomic.Int32
				c.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
					c.KeepControl()
					locks.Add(1)
					return nil, nil, false
				})
				creates := 0
				err := w.Update(t.Context(), func(tx *Tx) error {
					creates++
					if _, ok := tx.Get(endpoint(1).ID); ok {
						return errors.New("exists already")
					}
					return tx.Put(endpoint(1))
				})
				if err != nil {
					t.Fatal(err)
				}
				if want := map[bool]int{true: 1, false: 2}[committed]; creates != want {
					t.Fatalf("decided %d times, want %d", creates, want)
				}
				if locks.Load() < 2 {
					t.Fatal("the answer wasn't lost")
				}
				ep, ok := f.Store().Get(endpoint(1).ID)
				if !ok || ep.Version != 1 {
					t.Fatalf("got %+v", ep)
				}
			})
		})
	}
}

func TestChangesThatWaitShareATransactionAndSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.follow(t)
		w := c.write(t, f, limitOf(5))
		var ends atomic.Int32
		endTxn(c, func(*kmsg.EndTxnRequest) (kmsg.Response, error, bool) { ends.Add(1); return nil, nil, false })
		blocked, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		var wg sync.WaitGroup
		wg.Go(func() {
			err := w.Update(t.Context(), func(tx *Tx) error {
				once.Do(func() { close(blocked); <-release })
				return tx.PutRaw(KindTenant, "acme", []byte(`{}`))
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-blocked
		var made, refused atomic.Int32
		for i := range 20 {
			wg.Go(func() {
				switch err := w.Update(t.Context(), put(endpoint(i))); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, errLimit):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if made.Load() != 5 || refused.Load() != 15 || f.Store().Len() != 5 {
			t.Fatalf("%d made, %d refused, %d stored", made.Load(), refused.Load(), f.Store().Len())
		}
		if ends.Load() != 2 {
			t.Fatalf("%d transactions for 21 changes, want 2", ends.Load())
		}
	})
}

func TestTxShowsItsOwnChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		f := c.follow(t)
		w := c.write(t, f)
		for i := range 6 {
			if err := w.Update(t.Context(), put(endpoint(i))); err != nil {
				t.Fatal(err)
			}
		}
		before, _ := f.Store().Get(endpoint(3).ID)
		boom := errors.New("boom")
		err := w.Update(t.Context(), func(tx *Tx) error {
			if err := tx.Delete(endpoint(0).ID); err != nil {
				return err
			}
			if err := tx.Put(endpoint(9)); err != nil {
				return err
			}
			ep, _ := tx.Get(endpoint(3).ID)
			ep.Disabled = true
			if err := tx.Put(ep); err != nil {
				return err
			}
			if ep.Version != before.Version+1 || !ep.CreatedAt.Equal(before.CreatedAt) {
				t.Errorf("version %d, created %v", ep.Version, ep.CreatedAt)
			}
			var ids []string
			for after := ""; ; {
				page, next := tx.List("acme", after, 4)
				for _, ep := range page {
					ids = append(ids, strings.TrimLeft(ep.ID, "ep_0"))
				}
				if after = next; next == "" {
					break
				}
			}
			if got := strings.Join(ids, " "); got != "1 2 3 4 5 9" || tx.Count("acme") != 6 {
				t.Errorf("listed %q, counted %d", got, tx.Count("acme"))
			}
			if err := tx.Delete(endpoint(0).ID); !errors.Is(err, ErrNotFound) {
				t.Errorf("deleting twice: %v", err)
			}
			foreign := endpoint(3)
			foreign.Tenant = "other"
			if err := tx.Put(foreign); err == nil {
				t.Error("an endpoint went to another tenant")
			}
			bad := endpoint(4)
			bad.Events = []string{"a**"}
			if err := tx.Put(bad); err == nil {
				t.Error("a pattern that followers leave out was written")
			}
			large := endpoint(4)
			large.Description = strings.Repeat("x", MaxRecordBytes)
			if err := tx.Put(large); !errors.Is(err, ErrTooLarge) {
				t.Errorf("large: %v", err)
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if ep, _ := f.Store().Get(endpoint(3).ID); ep.Disabled || f.Store().Len() != 6 {
			t.Fatal("a failed change left something")
		}
	})
}

func TestUpdateEndsWithItsContextAndCallsNoFunctionAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		w := c.write(t, c.follow(t), func(cfg *WriterConfig) { cfg.Patience = 3 * time.Second })
		// Nobody can take the lock: the coordinator closes every connection.
		c.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			return nil, errors.New("closed"), true
		})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := w.Update(ctx, func(*Tx) error { t.Error("called"); return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err := w.Update(t.Context(), put(endpoint(1))); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
		w.Close()
		if err := w.Update(t.Context(), put(endpoint(1))); !errors.Is(err, ErrStopped) {
			t.Fatalf("got %v, want ErrStopped", err)
		}
	})
}

func TestLearnedNeverTouchesAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		l := c.learn(t)
		for _, key := range []string{"endpoint/ep_1", "tenant/acme", "breaker", "breaker/", ""} {
			if err := l.Put(t.Context(), key, []byte("{}")); err == nil {
				t.Errorf("%q was written", key)
			}
		}
		f := c.follow(t)
		l.Send("health/ep_1", []byte(`{"failing_since":"2026-01-02T03:04:05Z"}`))
		if err := l.Heartbeat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.readToEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := f.Store().Raw(KindHealth, "ep_1"); !ok {
			t.Fatal("the health record isn't there")
		}
		if _, ok := f.Store().Raw(KindHeartbeat, "registry"); !ok {
			t.Fatal("the heartbeat isn't there")
		}
	})
}

func TestFollowersAndWritersSurviveARestartOfTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		network := new(kfake.VirtualNetwork)
		first := newClusterOn(t, network.Listen, network.DialContext, kfake.DataDir(dir))
		f := first.follow(t)
		w := first.write(t, f)
		if err := w.Update(t.Context(), put(endpoint(1))); err != nil {
			t.Fatal(err)
		}
		first.Close()
		time.Sleep(3 * time.Second)
		if f.Current(time.Now()) {
			t.Fatal("current without a broker")
		}
		second, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(network.Listen), kfake.DataDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(second.Close)
		if err := f.WaitCurrent(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := w.Update(within(t, time.Minute), put(endpoint(2))); err != nil {
			t.Fatal(err)
		}
		if f.Store().Len() != 2 {
			t.Fatalf("%d endpoints, want 2", f.Store().Len())
		}
	})
}
