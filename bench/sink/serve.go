package sink

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// serve answers the requests of one connection. It knows as much of HTTP/1.1 as
// a sender with a Content-Length needs.
func (p *port) serve(conn net.Conn) {
	r := bufio.NewReaderSize(conn, 8<<10)
	var body []byte
	for {
		h, err := readHead(r)
		if err != nil {
			return
		}
		if cap(body) < h.length {
			body = make([]byte, h.length)
		}
		body = body[:h.length]
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		now := time.Now()
		does := p.does.Load()
		if !p.sink.verify(h.id, h.timestamp, h.signature, body) {
			p.sink.bad.Add(1)
		} else if at, n, ok := Stamp(body); ok && !does.Hang && !does.Reset && (does.Status == 0 || does.Status/100 == 2) {
			p.arrived(n, at, now)
		}
		if !p.answer(conn, does, now) {
			return
		}
	}
}

var ok = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

// answer reports whether the connection goes on.
func (p *port) answer(conn net.Conn, does *Behaviour, now time.Time) bool {
	switch {
	case does.Hang:
		_, _ = conn.Read(make([]byte, 1)) // until the sender has enough
		return false
	case does.Reset:
		if tcp, is := conn.(*net.TCPConn); is {
			_ = tcp.SetLinger(0)
		}
		return false
	}
	if does.PerSecond > 0 {
		time.Sleep(time.Until(p.turnAt(now, does.PerSecond)))
	}
	if does.Delay > 0 {
		time.Sleep(does.Delay)
	}
	text := ok
	if does.Status != 0 {
		text = []byte("HTTP/1.1 " + strconv.Itoa(does.Status) + " Told So\r\nContent-Length: 0\r\n\r\n")
	}
	_, err := conn.Write(text)
	return err == nil
}

// head is what is asked of a request's header. Its slices are valid until the
// next read.
type head struct {
	id, timestamp, signature []byte
	length                   int
}

func readHead(r *bufio.Reader) (h head, err error) {
	if _, err = r.ReadSlice('\n'); err != nil { // the request line
		return h, err
	}
	// ReadSlice's result is gone with the next read: the three are kept.
	var keep [3][]byte
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return h, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			h.id, h.timestamp, h.signature = keep[0], keep[1], keep[2]
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case equalFold(name, "content-length"):
			if h.length, err = strconv.Atoi(string(value)); err != nil || h.length > 1<<20 {
				return h, io.ErrUnexpectedEOF
			}
		case equalFold(name, "webhook-id"):
			keep[0] = bytes.Clone(value)
		case equalFold(name, "webhook-timestamp"):
			keep[1] = bytes.Clone(value)
		case equalFold(name, "webhook-signature"):
			keep[2] = bytes.Clone(value)
		}
	}
}

func equalFold(b []byte, lower string) bool {
	return len(b) == len(lower) && bytes.EqualFold(b, []byte(lower))
}

// verifier returns a check of Standard Webhooks signatures (v1, HMAC-SHA256
// over "id.timestamp.body").
func verifier(key []byte) func(id, timestamp, signature, body []byte) bool {
	pool := sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
	return func(id, timestamp, signature, body []byte) bool {
		mac := pool.Get().(interface {
			io.Writer
			Reset()
			Sum([]byte) []byte
		})
		defer pool.Put(mac)
		mac.Reset()
		_, _ = mac.Write(id)
		_, _ = mac.Write([]byte{'.'})
		_, _ = mac.Write(timestamp)
		_, _ = mac.Write([]byte{'.'})
		_, _ = mac.Write(body)
		var sum [sha256.Size]byte
		var text [3 + 44]byte
		copy(text[:], "v1,")
		base64.StdEncoding.Encode(text[3:], mac.Sum(sum[:0]))
		return bytes.Contains(signature, text[:])
	}
}
