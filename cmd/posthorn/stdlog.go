package main

import (
	"bytes"
	"log" //nolint:depguard // what libraries write to it has to be caught
	"log/slog"
	"strings"
	"sync/atomic"
)

// maxLibraryLine is how many characters of a library's log line are kept.
const maxLibraryLine = 200

// unsolicited begins net/http's line about bytes that came on an idle
// connection (transport.go, readLoopPeekFailLocked). It quotes all of them, up
// to 4 KiB, and a receiver may have put there what we sent: bodies, headers
// with credentials.
var unsolicited = []byte("Unsolicited response received on idle HTTP channel")

// routeLog sends what libraries write to the standard library's log to logger,
// which also becomes slog's default. It is for before anything runs.
func routeLog(logger *slog.Logger) {
	slog.SetDefault(logger) // it points log at itself, so it comes first
	log.SetFlags(0)
	log.SetOutput(&libraryLog{to: logger})
}

// libraryLog takes one line at each Write, as log.Logger promises.
type libraryLog struct {
	to          *slog.Logger
	unsolicited atomic.Uint64
}

func (l *libraryLog) Write(line []byte) (int, error) {
	if !bytes.Contains(line, unsolicited) {
		l.to.Warn("a library logged", "text", firstChars(string(bytes.TrimSpace(line)), maxLibraryLine))
		return len(line), nil
	}
	// At 1, 2, 4, 8, …: a receiver chooses how often, and 64 lines are enough.
	if n := l.unsolicited.Add(1); n&(n-1) == 0 {
		l.to.Warn("receivers sent bytes that no request asked for; their connections were closed", "times", n)
	}
	return len(line), nil
}

// firstChars cuts text to its first n characters.
func firstChars(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}
