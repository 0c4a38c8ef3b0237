package send

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// maxResponseChars is how much of an answer the ledger keeps.
const maxResponseChars = 500

// keepBytes holds 500 characters of the longest encoding (4 bytes), so that
// the 500th is whole.
const keepBytes = maxResponseChars * utf8.UTFMax

// scratch buffers keep the beginning of an answer and take its rest.
var scratch = sync.Pool{New: func() any { return new([keepBytes + 4096]byte) }}

// readAnswer reads the body as far as the bounds allow and returns its
// beginning, and whether its end was reached. Whoever made the connection has
// bounded the time. Errors don't matter: the status has decided.
func readAnswer(resp *http.Response) (beginning string, complete bool) {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return "", false // its "body" is the raw connection
	}
	buf := scratch.Get().(*[keepBytes + 4096]byte)
	defer scratch.Put(buf)
	limit := maxAnswerBody
	if resp.ContentLength > maxAnswerBody {
		limit = keepBytes // the connection is lost anyhow
	}
	kept := 0
	for read := 0; read < limit; {
		into := buf[kept:keepBytes]
		if len(into) == 0 {
			into = buf[keepBytes:]
		}
		n, err := resp.Body.Read(into)
		read += n
		if kept < keepBytes {
			kept += n
		}
		if err != nil {
			complete = err == io.EOF
			break
		}
	}
	return clean(buf[:kept], maxResponseChars), complete
}

// clean returns the first chars characters as valid UTF-8 without NUL. Each
// byte that is no UTF-8 becomes one U+FFFD; a character cut off at the end is
// left out.
func clean(b []byte, chars int) string {
	var out strings.Builder
	out.Grow(min(len(b), chars))
	for ; len(b) > 0 && chars > 0; chars-- {
		if !utf8.FullRune(b) {
			break
		}
		r, size := utf8.DecodeRune(b)
		if r == 0 {
			r = utf8.RuneError
		}
		out.WriteRune(r)
		b = b[size:]
	}
	return out.String()
}

// MaxRetryAfter is the longest wait that a Retry-After is granted.
const MaxRetryAfter = 24 * time.Hour

// parseRetryAfter reads both forms of Retry-After (RFC 9110 section 10.2.3):
// seconds, or an HTTP-date. The result is not before arrived and at most
// MaxRetryAfter after it; zero when there is none or it can't be read.
func parseRetryAfter(value string, arrived time.Time) time.Time {
	value = strings.TrimSpace(value)
	if value == "" {
		return time.Time{}
	}
	var wait time.Duration
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(MaxRetryAfter/time.Second) { // err: out of range
			seconds = int64(MaxRetryAfter / time.Second)
		}
		wait = time.Duration(seconds) * time.Second
	} else {
		at, err := http.ParseTime(value)
		if err != nil {
			return time.Time{}
		}
		wait = at.Sub(arrived)
	}
	return arrived.Add(min(max(wait, 0), MaxRetryAfter))
}
