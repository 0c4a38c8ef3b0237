package send

import (
	"bufio"
	"bytes"
	"strconv"
)

// plainAnswer is an answer of the most common form, read where it lies: its
// whole header is buffered, its length is given, and nothing about it is
// unusual.
type plainAnswer struct {
	status     int
	length     int // of the body
	head       int // bytes of the header
	retryAfter string
	close      bool
}

// readPlain looks at what is buffered and reports whether it begins with a
// plain answer; nothing is taken out. Whatever it isn't sure of, from an interim
// answer to a line that ends without CR, is left to net/http: so it needs to be
// right only about the answers that it takes (RFC 9112 sections 4 to 6).
func readPlain(br *bufio.Reader) (a plainAnswer, ok bool) {
	b, _ := br.Peek(br.Buffered())
	const start = "HTTP/1.1 "
	if len(b) < len(start)+4 || string(b[:len(start)]) != start {
		return a, false
	}
	end := bytes.Index(b, crlf)
	if end < len(start)+3 || bytes.IndexByte(b[:end], '\n') >= 0 {
		return a, false
	}
	code := b[len(start):end]
	for _, c := range code[:3] {
		if c < '0' || c > '9' {
			return a, false
		}
		a.status = a.status*10 + int(c-'0')
	}
	if len(code) > 3 && code[3] != ' ' || a.status < 200 || a.status == 204 || a.status == 304 || a.status > 599 {
		return a, false
	}
	a.length = -1
	at := end + 2
	for {
		end = bytes.Index(b[at:], crlf)
		if end < 0 {
			return a, false // the header isn't all here
		}
		line := b[at : at+end]
		at += end + 2
		if len(line) == 0 {
			a.head = at
			return a, a.length >= 0
		}
		if !a.field(line) {
			return a, false
		}
	}
}

var crlf = []byte("\r\n")

// field takes in a header line; false if it is anything but plain.
func (a *plainAnswer) field(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return false
	}
	name, value := line[:colon], line[colon+1:]
	for _, c := range name {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			if c != '-' && (c < '0' || c > '9') && c != '_' {
				return false
			}
		}
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	value = bytes.Trim(value, " \t")
	switch {
	case is(name, "content-length"):
		if a.length >= 0 || len(value) == 0 || len(value) > 9 {
			return false
		}
		for _, c := range value {
			if c < '0' || c > '9' {
				return false
			}
		}
		a.length, _ = strconv.Atoi(string(value))
	case is(name, "retry-after"):
		if a.retryAfter == "" { // of several the first counts, as with http.Header.Get
			a.retryAfter = string(value)
		}
	case is(name, "connection"):
		if !is(value, "keep-alive") {
			if !is(value, "close") {
				return false
			}
			a.close = true
		}
	case is(name, "transfer-encoding"), is(name, "trailer"):
		return false
	}
	return true
}

func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
