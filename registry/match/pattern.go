package match

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a pattern. They bound the work of one lookup: a lookup visits no
// more nodes than a tenant's patterns have segments.
const (
	// MaxPatternBytes is the longest pattern.
	MaxPatternBytes = 255
	// MaxSegments is the largest number of segments of a pattern.
	MaxSegments = 32
)

// ErrPattern is wrapped by every error of [ValidatePattern].
var ErrPattern = errors.New("invalid event type pattern")

// ValidatePattern reports what is wrong with a pattern that a user would like
// to register, and what would be right. A valid pattern has 1 to [MaxSegments]
// segments between "." or "/", at most [MaxPatternBytes] bytes of printable
// UTF-8 without spaces, no empty segment, and "*", "{" and "}" only in
// segments that are "*" or "{name}" as a whole.
func ValidatePattern(pattern string) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w %.64q: %s", ErrPattern, pattern, fmt.Sprintf(format, args...))
	}
	switch {
	case pattern == "":
		return fail("it is empty; leave the list of patterns empty to subscribe to every type")
	case len(pattern) > MaxPatternBytes:
		return fail("it has %d bytes, at most %d are allowed", len(pattern), MaxPatternBytes)
	case !utf8.ValidString(pattern):
		return fail("it is not valid UTF-8")
	}
	for _, r := range pattern {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return fail("the character %q is not allowed", r)
		}
	}
	n := 0
	for rest, more := pattern, true; more; n++ {
		var token string
		token, rest, more = cut(rest, n == 0)
		if err := validateSegment(strings.TrimLeft(token, "./")); err != "" {
			return fail("segment %d: %s", n+1, err)
		}
	}
	if n > MaxSegments {
		return fail("it has %d segments, at most %d are allowed", n, MaxSegments)
	}
	return nil
}

func validateSegment(seg string) string {
	switch {
	case seg == "":
		return `it is empty: write segments of at least one character between "." or "/"`
	case seg == "*":
		return ""
	case strings.Contains(seg, "*"):
		return fmt.Sprintf(`"*" must be a segment of its own, not part of %q`, seg)
	case !strings.ContainsAny(seg, "{}"):
		return ""
	}
	name, ok := strings.CutPrefix(seg, "{")
	name, ok2 := strings.CutSuffix(name, "}")
	if !ok || !ok2 {
		return fmt.Sprintf(`braces must enclose a whole segment as in "{name}", not part of %q`, seg)
	}
	if name == "" {
		return `"{}" needs a name, as in "{channel_id}"`
	}
	for _, r := range name {
		if r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return fmt.Sprintf(`the name in %q may hold only letters, digits and "_"`, seg)
		}
	}
	return ""
}

// cut takes the next token off a type or pattern: the segment with the
// separator before it. Keeping them together makes "a.b" and "a/b" differ
// without a second comparison, and needs no allocation.
func cut(s string, first bool) (token, rest string, more bool) {
	i := 1 // past this token's own separator
	if first {
		i = 0
	}
	for ; i < len(s); i++ {
		if s[i] == '.' || s[i] == '/' {
			return s[:i], s[i:], true
		}
	}
	return s, "", false
}

// wildcard gives the token under which a pattern's token is stored: all
// wildcards behind the same separator share one node.
func wildcard(token string) (stored string, star, wild bool) {
	sep, seg := "", token
	if token != "" && (token[0] == '.' || token[0] == '/') {
		sep, seg = token[:1], token[1:]
	}
	star = seg == "*"
	if !star && (len(seg) < 2 || seg[0] != '{' || seg[len(seg)-1] != '}') {
		return token, false, false
	}
	switch sep {
	case ".":
		return wildDot, star, true
	case "/":
		return wildSlash, star, true
	}
	return wildFirst, star, true
}

// The stored tokens of wildcards. No literal token equals them, since a
// literal segment is never "*".
const (
	wildFirst = "*"
	wildDot   = ".*"
	wildSlash = "/*"
)
