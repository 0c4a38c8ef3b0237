package source

import (
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of the attributes, in bytes of UTF-8. They travel as Kafka headers
// with every delivery and are columns of the ledger.
const (
	maxType        = 256
	maxTenant      = 128
	maxID          = 512
	maxSource      = 1024 // a URI-reference
	maxSubject     = 1024
	maxTimeText    = 64
	maxContentType = 256
	maxExtension   = 4096 // each extension attribute's value
	maxExtensions  = 64   // extension attributes of an event
	maxName        = 64   // an attribute's name; CloudEvents recommends 20
)

// isAttributeName reports whether CloudEvents allows the name: lower-case ASCII
// letters and digits (CloudEvents 1.0.2, "Naming Conventions").
func isAttributeName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// checkText says what is wrong with an attribute, or "" if nothing is: too
// long, not UTF-8, or with characters that CloudEvents forbids in strings
// (control characters and noncharacters; 1.0.2, "Type System"). The rule holds
// for plain JSON as well, since attributes end in HTTP and Kafka headers.
func checkText(s string, limit int) string {
	if len(s) > limit {
		return fmt.Sprintf("is %d bytes long, the limit is %d", len(s), limit)
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == 0x7f:
			return fmt.Sprintf("has the control character %U", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if ascii {
		return ""
	}
	for i, r := range s {
		switch {
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return "is not valid UTF-8"
			}
		case r >= 0x80 && r <= 0x9f: // C1
			return fmt.Sprintf("has the control character %U", r)
		case r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe:
			return fmt.Sprintf("has the noncharacter %U", r)
		}
	}
	return ""
}

// mediaType reads a content type and tells whether it declares JSON: its
// subtype is json or ends in +json (CloudEvents JSON format 1.0.2, 3.1.1).
func mediaType(s string) (name string, json bool, why string) {
	if s == "application/json" {
		return s, true, ""
	}
	if why := checkText(s, maxContentType); why != "" {
		return "", false, why
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return "", false, "is not ASCII, so it can't be sent as an HTTP header"
		}
	}
	name, _, err := mime.ParseMediaType(s)
	_, subtype, ok := strings.Cut(name, "/")
	if err != nil || !ok {
		return "", false, "is not a media type; want one such as application/json"
	}
	return name, subtype == "json" || strings.HasSuffix(subtype, "+json"), ""
}

// Times are kept within what every codec behind the reader can write and read:
// Unix milliseconds of 0 or more (headers) and RFC 3339 (ledger).
var (
	minTime = time.UnixMilli(0).UTC()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC)
)

// parseTime reads an event's time.
func parseTime(form TimeForm, s string) (t time.Time, why string) {
	switch form {
	case TimeUnix:
		whole, frac, _ := strings.Cut(s, ".")
		sec, err := strconv.ParseInt(whole, 10, 64)
		var nsec uint64
		if err == nil && frac != "" {
			// Nine digits of the fraction; the rest is below a nanosecond.
			nsec, err = strconv.ParseUint((frac + "000000000")[:9], 10, 63)
		}
		if err != nil {
			return t, "is not a number of seconds since 1970"
		}
		t = time.Unix(sec, int64(nsec))
	case TimeUnixMsec:
		ms, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return t, "is not a whole number of milliseconds since 1970"
		}
		t = time.UnixMilli(ms)
	default:
		var err error
		if t, err = time.Parse(time.RFC3339, s); err != nil {
			return t, "is not an RFC 3339 time such as 2026-01-02T15:04:05Z"
		}
	}
	if t.Before(minTime) || t.After(maxTime) {
		return time.Time{}, "lies outside the years 1970 to 9999; is the time form right?"
	}
	return t.UTC(), ""
}
