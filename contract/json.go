package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, escaped no more than RFC 8785
// section 3.2.2.2 asks for. Invalid UTF-8 becomes U+FFFD. It is written here,
// not left to encoding/json, because bodies and digests must not change with
// the toolchain.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	begin := 0 // of the stretch that is copied as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[begin:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			} else {
				dst = utf8.AppendRune(dst, utf8.RuneError)
			}
		}
		i++
		begin = i
	}
	dst = append(dst, s[begin:]...)
	return append(dst, '"')
}

// validJSON reports whether b is one JSON value in UTF-8 (RFC 8259 section
// 8.1), so that it can stand inside another document as it is.
// encoding/json alone lets invalid UTF-8 in strings pass.
func validJSON(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }

// maxDepth is how deep embedded data may nest: as deep as the sources allow
// data that is declared as JSON. Data of another media type, which they don't
// look into, meets the limit here; a receiver's parser may have no other.
const maxDepth = 128

// tooDeep reports whether valid JSON nests deeper than maxDepth.
func tooDeep(b []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++
			}
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// appendCanonical appends the canonical form of one valid JSON value: RFC 8785
// but for numbers, which keep the digits they were written with, because two
// IDs beyond 2^53 must not become the same double. Of members with the same
// name the last counts.
func appendCanonical(dst, value []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	return appendCanonicalValue(dst, v), nil
}

func appendCanonicalValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case string:
		return appendString(dst, v)
	case json.Number:
		return append(dst, v...)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCanonicalValue(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.SortFunc(names, compareUTF16)
		dst = append(dst, '{')
		for i, name := range names {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, name)
			dst = append(dst, ':')
			dst = appendCanonicalValue(dst, v[name])
		}
		return append(dst, '}')
	default: // nil is the one other thing that the decoder makes
		return append(dst, "null"...)
	}
}

// compareUTF16 orders names by UTF-16 code units (RFC 8785 section 3.2.3).
func compareUTF16(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}
