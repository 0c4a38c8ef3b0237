// Package send makes the POST and says what came of it.
//
// [Client.Do] sends one request over a connection of its own pool (conn.go), or
// with HTTP/2 through a net/http Transport, and trusts nothing it meets:
// addresses pass the guard of package safedial when they are
// dialled, redirects aren't followed, nothing is decompressed, and headers,
// body and time of an answer are bounded. It returns a [Result], which holds
// facts only.
//
// [Classify] turns a Result into an [Outcome]: delivered, worth a retry, for
// good, or cut short; with its bounded reason. It is the only place where that
// is decided, and it is pure.
//
// # The status line decides
//
// Once a status line and its headers have arrived, the attempt is decided,
// whatever becomes of the body: a 2xx whose body fails, hangs or never ends is
// delivered. Treating it as a failure would send the receiver a second copy of
// what it said it has.
//
// # When a POST may be sent twice
//
// A request is sent again unseen in few cases, and each is bounded here:
//
//   - HTTP/1: only when a reused connection turned out to be dead before a
//     single byte was written. To net/http a request with Idempotency-Key or
//     X-Idempotency-Key is replayable even after it was read, so [Client.Do]
//     and [CheckHeaders] refuse both.
//   - HTTP/2: when the server says that it hasn't processed the stream
//     (REFUSED_STREAM, or GOAWAY with a lower stream ID; RFC 9113 sections 6.8
//     and 8.7). net/http takes PROTOCOL_ERROR for the same, and tries up to six
//     times; here once more and no further.
package send
