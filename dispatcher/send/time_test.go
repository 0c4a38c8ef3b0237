package send

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"posthorn/webhook"
)

// took asserts an exact duration, in virtual time.
func took(t *testing.T, r Result, want time.Duration) {
	t.Helper()
	if r.Duration != want {
		t.Errorf("took %v, want %v (%v)", r.Duration, want, r.Err)
	}
}

func hang(conn net.Conn) { io.Copy(io.Discard, conn) } // until the client hangs up

func readRequest(conn net.Conn) {
	if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
		io.Copy(io.Discard, req.Body)
	}
}

func TestTheTimeoutCoversEveryPhaseBeforeTheStatus(t *testing.T) {
	phases := []struct {
		stage Stage
		url   string
		body  int
		serve func(net.Conn) // nil: connecting hangs
		check func(webhook.Phases) bool
	}{
		{StageStart, "http://x.test/", 1, nil, func(p webhook.Phases) bool { return p == webhook.Phases{} }},
		{StageTLS, "https://x.test/", 1, hang, func(p webhook.Phases) bool { return p.TLS == 3*time.Second }},
		{StageSend, "http://x.test/", 1 << 20, func(conn net.Conn) {
			io.CopyN(io.Discard, conn, 1000)
			time.Sleep(4 * time.Second)
		}, nil},
		{StageWait, "http://x.test/", 1, hang, func(p webhook.Phases) bool { return p.FirstByte == 3*time.Second }},
		{StageAnswer, "http://x.test/", 1, func(conn net.Conn) {
			readRequest(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-Slow: ")
			for {
				if _, err := io.WriteString(conn, "x"); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}, nil},
	}
	for _, phase := range phases {
		synctest.Test(t, func(t *testing.T) {
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			if phase.serve != nil {
				dial = inMemory(t, phase.serve)
			}
			c := newClient(t, func(cfg *Config) { cfg.Dial = dial })
			r := c.Do(t.Context(), &Request{URL: mustURL(t, phase.url), Body: make([]byte, phase.body), Timeout: 3 * time.Second})
			out := wantReason(t, r, webhook.ReasonTimeout)
			took(t, r, 3*time.Second)
			if r.Stage != phase.stage || !errors.Is(r.Err, ErrTimeout) || out.Health != Sick || out.Verdict != Retryable || r.Cut {
				t.Errorf("stage %q, want %q: %+v (%v)", r.Stage, phase.stage, out, r.Err)
			}
			if want := fmt.Sprintf("timed out after 3s while %s", phase.stage); out.Detail != want {
				t.Errorf("detail %q, want %q", out.Detail, want)
			}
			if phase.check != nil && !phase.check(r.Phases) {
				t.Errorf("%s: phases %+v", phase.stage, r.Phases)
			}
		})
	}
}

func TestASilentResolverIsATimeoutWhileResolving(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// net goes on reading for 5 s after the lookup was given up; closing its
	// sockets ends that.
	var mu sync.Mutex
	var asked []net.Conn
	over := false
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil, errNever
		}
		conn, err := new(net.Dialer).DialContext(ctx, "udp4", silent.LocalAddr().String())
		if err == nil {
			asked = append(asked, conn)
		}
		return conn, err
	}}
	defer func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		for _, conn := range asked {
			conn.Close()
		}
	}()
	c := newClient(t, func(cfg *Config) { cfg.Resolver = resolver })
	var r Result
	// A busy machine may not have begun to resolve when a short time is over:
	// then it gets twice as long.
	for timeout := 50 * time.Millisecond; timeout < 10*time.Second; timeout *= 2 {
		r = c.Do(t.Context(), &Request{URL: mustURL(t, "http://slow.example.test/"), Timeout: timeout})
		wantReason(t, r, webhook.ReasonTimeout)
		if r.Stage != StageStart {
			break
		}
	}
	if r.Stage != StageResolve || r.Phases.DNS == 0 {
		t.Errorf("stage %q, phases %+v", r.Stage, r.Phases)
	}
}

func TestADeadlineOfTheCallerIsATimeoutAndACancellationIsACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, func(cfg *Config) { cfg.Dial = inMemory(t, hang) })
		req := &Request{URL: mustURL(t, "http://x.test/"), Body: []byte("x"), Timeout: 10 * time.Second}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantReason(t, c.Do(ctx, req), webhook.ReasonTimeout)

		for name, cut := range map[string]func(context.CancelCauseFunc){
			"cancelled": func(cancel context.CancelCauseFunc) { cancel(nil) },
			"cause":     func(cancel context.CancelCauseFunc) { cancel(errors.New("handing the partition over")) },
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(2*time.Second, func() { cut(cancel) })
			r := c.Do(ctx, req)
			out := wantReason(t, r, webhook.ReasonCut)
			took(t, r, 2*time.Second)
			if !r.Cut || out.Verdict != Cut || out.Health != Unknown || r.Stage != StageWait {
				t.Errorf("%s: %+v, %+v", name, r, out)
			}
		}
		ctx2, cancel2 := context.WithCancel(t.Context())
		cancel2()
		if r := c.Do(ctx2, req); !r.Cut || r.Stage != StageStart {
			t.Errorf("cancelled before it began: %+v", r)
		}
	})
}

func TestA2xxWithAHangingBodyIsDeliveredWithinASecondMore(t *testing.T) {
	bodies := map[string]func(net.Conn){
		"silent": hang,
		"drip": func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, "x"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		},
	}
	for name, body := range bodies {
		for _, status := range []int{200, 500} {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, func(cfg *Config) {
					cfg.Dial = inMemory(t, func(conn net.Conn) {
						readRequest(conn)
						time.Sleep(2900 * time.Millisecond) // just within the timeout
						fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nContent-Length: 1000\r\n\r\nbegin", status)
						body(conn)
					})
				})
				r := c.Do(t.Context(), &Request{URL: mustURL(t, "http://x.test/"), Body: []byte("x"), Timeout: 3 * time.Second})
				took(t, r, 3900*time.Millisecond)
				if r.Status != status || r.Err != nil || !strings.HasPrefix(r.Response, "begin") {
					t.Errorf("%s: %+v", name, r)
				}
				if out := Classify(r, retryAll); status == 200 && out.Verdict != Delivered {
					t.Errorf("%s: %+v", name, out)
				}
			})
		}
	}
}

func TestAShutdownAfterTheStatusLineDoesNotUndoIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c := newClient(t, func(cfg *Config) {
			cfg.Dial = inMemory(t, func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegin")
				time.Sleep(100 * time.Millisecond)
				cancel()
				hang(conn)
			})
		})
		r := c.Do(ctx, &Request{URL: mustURL(t, "http://x.test/"), Body: []byte("x")})
		took(t, r, 100*time.Millisecond)
		if out := wantReason(t, r, webhook.ReasonOK); r.Cut || out.Verdict != Delivered {
			t.Errorf("%+v, %+v", r, out)
		}
	})
}

func TestPhasesAddUpOnANewConnectionAndVanishOnAReusedOne(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, func(cfg *Config) {
			cfg.RootCAs = roots
			cfg.Dial = inMemory(t, func(conn net.Conn) {
				time.Sleep(50 * time.Millisecond)
				server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, Time: time.Now, SessionTicketsDisabled: true})
				br := bufio.NewReader(server)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					time.Sleep(200 * time.Millisecond)
					io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
		})
		r := post(t, c, "https://example.com/")
		if r.Phases != (webhook.Phases{TLS: 50 * time.Millisecond, FirstByte: 200 * time.Millisecond}) || r.Reused {
			t.Errorf("new connection: %+v (%v)", r.Phases, r.Err)
		}
		took(t, r, 250*time.Millisecond)
		r = post(t, c, "https://example.com/")
		if r.Phases != (webhook.Phases{FirstByte: 200 * time.Millisecond}) || !r.Reused {
			t.Errorf("reused connection: %+v (%v)", r.Phases, r.Err)
		}
	})
}

func TestRetryAfterCountsFromTheAnswersArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var value string
		c := newClient(t, func(cfg *Config) {
			cfg.Dial = inMemory(t, func(conn net.Conn) {
				readRequest(conn)
				time.Sleep(time.Second)
				fmt.Fprintf(conn, "HTTP/1.1 429 X\r\nRetry-After: %s\r\nConnection: close\r\nContent-Length: 9\r\n\r\n", value)
				hang(conn) // the body's second must not count
			})
		})
		for _, wait := range []time.Duration{61 * time.Second, 90 * time.Second, 120 * time.Second} {
			begun := time.Now()
			value = fmt.Sprint(int(wait / time.Second))
			if r := post(t, c, "http://x.test/"); !r.RetryAt.Equal(begun.Add(time.Second + wait)) {
				t.Errorf("%v: asked to wait until %v after the start", wait, r.RetryAt.Sub(begun))
			}
			at := time.Now().Add(wait).Truncate(time.Second)
			value = at.UTC().Format(http.TimeFormat)
			if r := post(t, c, "http://x.test/"); !r.RetryAt.Equal(at) {
				t.Errorf("date %v: got %v", at, r.RetryAt)
			}
		}
	})
}

func TestRetryAfterIsBoundedAndNeverInThePast(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "61": 61 * time.Second, " 90 ": 90 * time.Second,
		"86400": MaxRetryAfter, "86401": MaxRetryAfter, "9223372036854775808": MaxRetryAfter, strings.Repeat("9", 400): MaxRetryAfter,
		"Fri, 01 May 2026 12:01:30 GMT":  90 * time.Second,
		"Friday, 01-May-26 12:01:30 GMT": 90 * time.Second,
		"Fri May  1 12:01:30 2026":       90 * time.Second,
		"Fri, 01 May 2026 11:00:00 GMT":  0,
		"Fri, 01 May 2099 11:00:00 GMT":  MaxRetryAfter,
	} {
		if got := parseRetryAfter(value, now); !got.Equal(now.Add(want)) {
			t.Errorf("%.40q: %v, want %v later", value, got, want)
		}
	}
	for _, value := range []string{"", " ", "-1", "+1", "1.5", "1e3", "soon", "0x10", "1 2"} {
		if got := parseRetryAfter(value, now); !got.IsZero() {
			t.Errorf("%q: %v, want none", value, got)
		}
	}
}

func TestADialOvertakenByAFreeConnectionIsNoPhaseOfTheRequest(t *testing.T) {
	cert, roots := certificate(t, certSpec{})
	synctest.Test(t, func(t *testing.T) {
		var conns atomic.Int64
		c := newClient(t, func(cfg *Config) {
			cfg.RootCAs, cfg.HTTP2 = roots, true // net/http's own doing
			cfg.Dial = inMemory(t, func(conn net.Conn) {
				if conns.Add(1) > 1 {
					hang(conn)
					return
				}
				server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
				br := bufio.NewReader(server)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					time.Sleep(time.Second)
					io.WriteString(server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
		})
		first := make(chan Result, 1)
		go func() { first <- post(t, c, "https://example.com/") }()
		synctest.Wait()
		r := post(t, c, "https://example.com/") // dials, hangs in TLS, and gets the first one's connection
		wantReason(t, <-first, webhook.ReasonOK)
		if r.Phases != (webhook.Phases{FirstByte: time.Second}) || !r.Reused || conns.Load() != 2 {
			t.Errorf("%+v, reused %v, %d connections (%v)", r.Phases, r.Reused, conns.Load(), r.Err)
		}
	})
}
