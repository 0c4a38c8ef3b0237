package send

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// BenchmarkDo measures one POST to a receiver on loopback that allocates
// nothing, so that what -benchmem shows is the client's.
func BenchmarkDo(b *testing.B) {
	s := newRawServer(b, func(_ *rawServer, conn net.Conn, br *bufio.Reader) {
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		for {
			length := 0
			for {
				line, err := br.ReadSlice('\n')
				if err != nil {
					return
				}
				if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
					length, _ = strconv.Atoi(string(bytes.TrimSpace(rest)))
				}
				if len(line) == 2 {
					break
				}
			}
			if _, err := br.Discard(length); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
	c := newClient(b, nil)
	u := mustURL(b, s.url)
	body := bytes.Repeat([]byte("x"), 1000)
	header := http.Header{
		"Content-Type": {"application/json"}, "Webhook-Id": {"dlv_abcdefghijklmnopqrstuvwxyz"}, "User-Agent": {"Posthorn"},
		"Webhook-Timestamp": {"1614265330"}, "Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}
	one := func(b *testing.B) {
		r := c.Do(b.Context(), &Request{URL: u, Header: header, Body: body})
		if out := Classify(r, retryAll); out.Verdict != Delivered {
			b.Errorf("%+v (%v)", out, r.Err)
		}
	}
	b.Run("sequential", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			one(b)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one(b)
			}
		})
	})
}
