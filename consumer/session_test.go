package consumer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// cord is a network connection that can be pulled.
type cord struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	mu     sync.Mutex
	pulled bool
	conns  []net.Conn
}

func (c *cord) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pulled {
		_ = conn.Close()
		return nil, errors.New("the cord is pulled")
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

func (c *cord) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

func TestAMemberThatIsCutOffHasStoppedBeforeItsSessionIsOver(t *testing.T) {
	for _, session := range []time.Duration{MinSessionTimeout, 0, 30 * time.Second} {
		want := session
		if want == 0 {
			want = defaultSessionTimeout
		}
		inVirtualTime(t, 1, []string{"d"}, func(r *rig) {
			r.produce("d", 0, 1)
			with := func(c *Config) { c.SessionTimeout = session }
			wire := &cord{dial: r.net.DialContext}
			first := r.member("d", none, with, func(c *Config) { c.Client = append(c.Client, kgo.Dialer(wire.Dial)) })
			time.Sleep(5 * time.Second)
			l := first.hand.at(0).Lease()
			second := r.member("d", all, with)
			time.Sleep(5 * time.Second)
			if !l.Live(time.Now()) || len(second.hand.values()) != 0 {
				t.Fatal("the first member isn't the owner")
			}
			wire.pull()
			begun, stopped := time.Now(), time.Duration(0)
			for len(second.hand.values()) == 0 && time.Since(begun) < time.Minute {
				if stopped == 0 && !l.Live(time.Now()) {
					stopped = time.Since(begun)
				}
				time.Sleep(10 * time.Millisecond)
			}
			took := time.Since(begun)
			if stopped == 0 || stopped > zombieAfter {
				t.Errorf("session %v: it stopped after %v and the other took over after %v", want, stopped, took)
			}
			// The last sign of life may be a second old; joining anew takes some.
			if took < want-heartbeatInterval || took > want+5*time.Second {
				t.Errorf("session %v: taken over after %v", want, took)
			}
			second.leave(t)
			first.stop()
			<-first.ended
		})
	}
}

func TestASessionThatIsShorterThanAZombieActsIsRefused(t *testing.T) {
	cfg := Config{Name: "test", Group: "g", Topics: []string{"d"}, DrainWithin: time.Second, Handler: &hand{}, Observer: &counts{},
		Log: slog.New(slog.DiscardHandler)}
	for session, ok := range map[time.Duration]bool{0: true, MinSessionTimeout: true, MinSessionTimeout - 1: false, zombieAfter: false, -1: false} {
		cfg.SessionTimeout = session
		if err := cfg.Validate(); (err == nil) != ok {
			t.Errorf("%v: %v", session, err)
		}
	}
}
