package embedded

import (
	"slices"
	"strings"
)

// statement is what the HTTP interface must know about a statement before the
// engine has it: where an INSERT's data begins, and which format is asked for.
// All else is left to the engine's own parser.
type statement struct {
	// insert says that rows follow the statement, in format, from data on; head
	// is the statement without them and without its FORMAT or VALUES.
	insert bool
	head   string
	data   int
	// format is the one that the statement itself names, in the clause from
	// formatFrom to formatTo.
	format               string
	formatFrom, formatTo int
	// file says that it reads or writes files on the client's side, and so here.
	file bool
}

// parseStatement looks at a statement's outermost tokens. It never fails: what it
// doesn't understand is the engine's to refuse.
func parseStatement(sql string) statement {
	l := lexer{sql: sql}
	first := l.next()
	if first.is("INSERT") {
		return parseInsert(sql, &l)
	}
	var s statement
	for t := first; t.kind != end; {
		next := l.next()
		switch {
		case l.depth > 0:
		case t.is("OUTFILE"), t.is("INFILE"):
			s.file = true
		case t.is("FORMAT") && next.kind == word:
			// The last clause but SETTINGS; elsewhere it is a name.
			rest := l
			if after := rest.next(); after.kind == end || after.text == ";" || after.is("SETTINGS") {
				s.format, s.formatFrom, s.formatTo = next.text, t.at, next.at+len(next.text)
			}
		}
		t = next
	}
	return s
}

// values reports whether the rows of an INSERT are VALUES, which may be expressions.
func (s statement) values() bool { return strings.EqualFold(s.format, "Values") }

// unformatted is the statement without its FORMAT and what ends it, so that it can
// stand in brackets.
func (s statement) unformatted(sql string) string {
	return strings.TrimRight(sql[:s.formatFrom]+sql[s.formatTo:], "; \t\r\n")
}

// namesFile reports whether a statement plainly calls file(…), as a function or as
// the source of a dictionary: ways to files for which ClickHouse asks no privilege. It
// is there for a clear answer; what hides from it meets the kernel (see confine). A
// table of that name must be written with its database.
func namesFile(sql string) bool {
	l := lexer{sql: sql}
	before := token{}
	for t := l.next(); t.kind != end; {
		next := l.next()
		if next.text == "(" && before.text != "." && strings.EqualFold(strings.Trim(t.text, "`\""), "file") {
			return true
		}
		before, t = t, next
	}
	return false
}

// foreignSource reports whether a statement plainly makes a dictionary of anything
// but a table of this engine: other sources run programs, read files or connect to
// addresses, and ClickHouse asks no privilege for them either.
func foreignSource(sql string) bool {
	l := lexer{sql: sql}
	dictionary := false
	for t := l.next(); t.kind != end; t = l.next() {
		dictionary = dictionary || t.is("DICTIONARY")
		if !dictionary || !t.is("SOURCE") {
			continue
		}
		if t = l.next(); t.text != "(" {
			continue
		}
		if t = l.next(); !t.is("CLICKHOUSE") {
			return true
		}
		for within := l.depth; t.kind != end && l.depth >= within; t = l.next() {
			if t.kind == quoted && t.text[0] != '\'' || slices.ContainsFunc(beyondTables, t.is) {
				return true
			}
		}
	}
	return false
}

// beyondTables are what a dictionary's ClickHouse source may name besides a table:
// another server, or statements in texts.
var beyondTables = []string{"HOST", "PORT", "SECURE", "REPLICA", "NAME", "QUERY", "WHERE", "INVALIDATE_QUERY"}

func parseInsert(sql string, l *lexer) statement {
	t := l.next()
	if t.is("INTO") {
		t = l.next()
	}
	if t.is("TABLE") {
		t = l.next()
	}
	if t.is("FUNCTION") {
		l.next()
	}
	// The table's name, which may be a keyword otherwise.
	for t = l.next(); t.text == "."; t = l.next() {
		l.next()
	}
	var s statement
	for ; t.kind != end; t = l.next() {
		switch {
		case l.depth > 0:
		case t.is("VALUES"):
			return statement{insert: true, head: sql[:t.at], data: l.at, format: "Values", file: s.file}
		case t.is("FORMAT"):
			name := l.next()
			if name.kind != word {
				return s
			}
			return statement{insert: true, head: sql[:t.at], data: dataStart(sql, l.at), format: name.text, file: s.file}
		case t.is("SELECT"), t.is("WITH"), t.is("WATCH"):
			return s
		case t.is("INFILE"):
			s.file = true
		}
	}
	// Rows of an INSERT that names no format are VALUES.
	return statement{insert: !s.file, head: strings.TrimRight(sql, "; \t\r\n"), data: len(sql), format: "Values", file: s.file}
}

// dataStart skips the blanks after a format's name, and one line break.
func dataStart(sql string, at int) int {
	for at < len(sql) && (sql[at] == ' ' || sql[at] == '\t' || sql[at] == '\r' || sql[at] == ';') {
		at++
	}
	if at < len(sql) && sql[at] == '\n' {
		at++
	}
	return at
}

type tokenKind int

const (
	end tokenKind = iota
	word
	quoted
	sign
)

type token struct {
	kind tokenKind
	text string
	at   int
}

func (t token) is(keyword string) bool { return t.kind == word && strings.EqualFold(t.text, keyword) }

// lexer splits ClickHouse's SQL into words, quoted texts and signs; comments and
// blanks are skipped. depth is that of brackets, after the token last returned.
type lexer struct {
	sql   string
	at    int
	depth int
}

func (l *lexer) next() token {
	l.skip()
	start := l.at
	if start >= len(l.sql) {
		return token{kind: end, at: start}
	}
	kind := sign
	switch c := l.sql[start]; {
	case c == '\'' || c == '"' || c == '`':
		kind = quoted
		l.quote(c)
	case c == '$' && l.heredoc():
		kind = quoted
	case inWord(c):
		kind = word
		for l.at < len(l.sql) && inWord(l.sql[l.at]) {
			l.at++
		}
	default:
		l.at++
		switch c {
		case '(', '[', '{':
			l.depth++
		case ')', ']', '}':
			l.depth--
		}
	}
	return token{kind: kind, text: l.sql[start:l.at], at: start}
}

func inWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// skip passes blanks and comments: --, #!, # and a blank, /* … */.
func (l *lexer) skip() {
	for l.at < len(l.sql) {
		rest := l.sql[l.at:]
		switch {
		case strings.IndexByte(" \t\r\n\f\v\x00", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "#!"), strings.HasPrefix(rest, "# "):
			l.to(rest, "\n", 0)
		case strings.HasPrefix(rest, "/*"):
			l.to(rest, "*/", 2)
		default:
			return
		}
	}
}

// to passes the next mark, which is looked for from an offset in rest.
func (l *lexer) to(rest, mark string, from int) {
	if i := strings.Index(rest[from:], mark); i >= 0 {
		l.at += from + i + len(mark)
	} else {
		l.at = len(l.sql)
	}
}

func (l *lexer) quote(by byte) {
	for l.at++; l.at < len(l.sql); l.at++ {
		switch l.sql[l.at] {
		case '\\':
			l.at++
		case by:
			l.at++
			if l.at >= len(l.sql) || l.sql[l.at] != by {
				return
			}
		}
	}
	l.at = len(l.sql)
}

// heredoc passes $tag$ … $tag$.
func (l *lexer) heredoc() bool {
	i := l.at + 1
	for i < len(l.sql) && inWord(l.sql[i]) {
		i++
	}
	if i >= len(l.sql) || l.sql[i] != '$' {
		return false
	}
	tag := l.sql[l.at : i+1]
	j := strings.Index(l.sql[i+1:], tag)
	if j < 0 {
		return false
	}
	l.at = i + 1 + j + len(tag)
	return true
}
