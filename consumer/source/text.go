package source

import (
	"unicode/utf16"
	"unicode/utf8"
)

// str scans the string that begins at pos, and tells whether it has escapes.
func (s *scanner) str() (escaped, ok bool) {
	if !s.take('"') {
		return false, s.syntax("a string")
	}
	doc, i := s.doc, s.pos
	for i < len(doc) {
		switch c := doc[i]; {
		case c == '"':
			s.pos = i + 1
			return escaped, true
		case c < 0x20:
			s.pos = i
			return false, s.syntax("an escape in place of the control character")
		case c == '\\':
			escaped = true
			n := escapeLen(doc[i:])
			if n == 0 {
				s.pos = i
				return false, s.syntax("an escape of RFC 8259")
			}
			i += n
		default:
			i++
		}
	}
	s.pos = i
	return false, s.syntax("a closing quote")
}

// escapeLen is the length of the escape that b begins with, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b); ok {
			return 6
		}
	}
	return 0
}

// hex4 reads the digits of a \uXXXX that b begins with.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		r <<= 4
		switch {
		case c >= '0' && c <= '9':
			r |= rune(c - '0')
		case c >= 'a' && c <= 'f':
			r |= rune(c-'a') + 10
		case c >= 'A' && c <= 'F':
			r |= rune(c-'A') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

// unquote decodes the inside of a string that was scanned. It refuses unpaired
// surrogates: encoding/json makes U+FFFD of every one of them, so that two
// tenants could become the same.
func unquote(b []byte, escaped bool) (string, bool) {
	if !escaped {
		return string(b), true
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			out = append(out, b[i])
			i++
			continue
		}
		switch c := b[i+1]; c {
		case 'u':
			r, _ := hex4(b[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				low, ok := hex4(b[i:])
				if !ok {
					return "", false
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", false
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
			continue
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default: // a quote, a backslash or a slash
			out = append(out, c)
		}
		i += 2
	}
	return string(out), true
}
