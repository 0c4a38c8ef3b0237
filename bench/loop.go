package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/bench/sink"
)

// looped is what a limit loop reports.
type looped struct {
	PerSecond float64 `json:"per_second"`
	CPUPer1k  float64 `json:"cpu_per_1k"`
}

// limit runs a limit loop against the receiver as a process of its own.
func limit(ctx context.Context, k *sink.Sink, ports int, kind string, d time.Duration) (l looped, err error) {
	self, err := os.Executable()
	if err != nil {
		return l, err
	}
	var urls []string
	for i := range ports {
		urls = append(urls, k.URL(i))
	}
	var said string
	c, err := start(func(text string) { said = text }, nil, self, "loop", "-kind", kind, "-for", d.String(), "-urls", strings.Join(urls, ","))
	if err != nil {
		return l, err
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.kill()
		return l, ctx.Err()
	}
	if err := json.Unmarshal([]byte(said), &l); err != nil {
		return l, fmt.Errorf("the limit loop said %q: %w", said, err)
	}
	k.Reset()
	return l, nil
}

// loop is the process of a limit loop: 64 workers that sign and POST, without
// queue, retry or record.
func loop(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("loop", flag.ContinueOnError)
	kind := flags.String("kind", "nethttp", "nethttp or raw")
	urls := flags.String("urls", "", "where to POST to")
	d := flags.Duration("for", 5*time.Second, "how long to measure")
	if err := flags.Parse(args); err != nil {
		return err
	}
	targets := strings.Split(*urls, ",")
	post := postNetHTTP(targets)
	if *kind == "raw" {
		post = postRaw(targets)
	}
	const workers = 64
	const warm = time.Second
	ctx, cancel := context.WithTimeout(ctx, warm+*d)
	defer cancel()
	var count, number atomic.Int64
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			do := post()
			for ctx.Err() == nil {
				n := number.Add(1)
				body := sink.Body(n % 1000)
				sink.SetTime(body, time.Now())
				if err := do(int(n), body); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				count.Add(1)
			}
		})
	}
	time.Sleep(warm)
	from, fromCPU := count.Load(), self()
	begun := time.Now()
	time.Sleep(*d)
	n, used, took := count.Load()-from, self()-fromCPU, time.Since(begun)
	wait.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return json.NewEncoder(os.Stdout).Encode(looped{float64(n) / took.Seconds(), used.Seconds() / float64(n) * 1000})
}

func self() time.Duration {
	used, _ := cpu(os.Getpid())
	return used
}

// sign returns the three headers of Standard Webhooks.
func sign(n int, body []byte) (id, timestamp, signature string) {
	id, timestamp = "dlv_"+strconv.Itoa(n), strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, signingKey)
	_, _ = io.WriteString(mac, id+"."+timestamp+".")
	_, _ = mac.Write(body)
	return id, timestamp, "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func postNetHTTP(targets []string) func() func(n int, body []byte) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxIdleConns: 0}}
	return func() func(n int, body []byte) error {
		return func(n int, body []byte) error {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, targets[n%len(targets)], bytes.NewReader(body))
			if err != nil {
				return err
			}
			id, timestamp, signature := sign(n, body)
			req.Header = http.Header{"Content-Type": {"application/json"}, "Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.Body.Close()
		}
	}
}

// postRaw is the least that a POST over HTTP/1.1 can be: one write, one read
// of an answer whose form is known.
func postRaw(targets []string) func() func(n int, body []byte) error {
	hosts := make([]string, len(targets))
	for i, t := range targets {
		u, err := url.Parse(t)
		if err != nil {
			panic(err)
		}
		hosts[i] = u.Host
	}
	return func() func(n int, body []byte) error {
		conns := make(map[string]net.Conn)
		readers := make(map[string]*bufio.Reader)
		var out []byte
		return func(n int, body []byte) error {
			host := hosts[n%len(hosts)]
			conn := conns[host]
			if conn == nil {
				var err error
				if conn, err = net.Dial("tcp", host); err != nil { //nolint:noctx // loopback, for seconds
					return err
				}
				conns[host], readers[host] = conn, bufio.NewReader(conn)
			}
			id, timestamp, signature := sign(n, body)
			out = append(out[:0], "POST /hook HTTP/1.1\r\nHost: "...)
			out = append(out, host...)
			out = append(out, "\r\nContent-Type: application/json\r\nWebhook-Id: "...)
			out = append(out, id...)
			out = append(out, "\r\nWebhook-Timestamp: "...)
			out = append(out, timestamp...)
			out = append(out, "\r\nWebhook-Signature: "...)
			out = append(out, signature...)
			out = append(out, "\r\nContent-Length: "...)
			out = strconv.AppendInt(out, int64(len(body)), 10)
			out = append(out, "\r\n\r\n"...)
			out = append(out, body...)
			if _, err := conn.Write(out); err != nil {
				return err
			}
			r := readers[host]
			for {
				text, err := r.ReadSlice('\n')
				if err != nil {
					return err
				}
				if len(text) == 2 {
					break
				}
			}
			_, err := r.Discard(2)
			return err
		}
	}
}
