package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// writeJSON writes v indented, as one document.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	if err == nil {
		_, err = w.Write(printableJSON(b.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// steersTerminal reports whether a character moves a terminal's cursor, changes
// its colours or the order in which text is read: the control characters C0 and
// C1, separators of lines, and what controls bidirectional text (UAX #9, 2).
func steersTerminal(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r <= 0x9f:
		return true
	case r == '\u061c', r == '\u200e', r == '\u200f', r >= '\u2028' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
		return true
	}
	return false
}

// printable replaces what would steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && steersTerminal(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// printableJSON escapes in a JSON document what would steer a terminal, which
// changes nothing for a parser: above U+007E it can only be inside a string.
// Bytes that are no UTF-8, some of which steer one as well, become U+FFFD.
func printableJSON(doc []byte) []byte {
	out := make([]byte, 0, len(doc))
	for i := 0; i < len(doc); {
		r, size := utf8.DecodeRune(doc[i:])
		switch {
		case r > '~' && steersTerminal(r), r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, doc[i:i+size]...)
		}
		i += size
	}
	return out
}

func writef(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

func flush(w *tabwriter.Writer) error {
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}
