package embedded

import (
	"strings"
	"testing"
)

func TestTheStatementIsFoundBeforeItsRows(t *testing.T) {
	for _, c := range []struct{ sql, head, format, rows string }{
		{"INSERT INTO t VALUES (1)", "INSERT INTO t ", "Values", " (1)"},
		{"insert into t format TSV\n1\tFORMAT\n", "insert into t ", "TSV", "1\tFORMAT\n"},
		{"INSERT INTO db.`FORMAT` (a, `values`) FORMAT Native \r\nx", "INSERT INTO db.`FORMAT` (a, `values`) ", "Native", "x"},
		{"/* INSERT */ INSERT INTO values VALUES (1)", "/* INSERT */ INSERT INTO values ", "Values", " (1)"},
		{"INSERT INTO t SETTINGS x = 'VALUES' FORMAT CSV\n1", "INSERT INTO t SETTINGS x = 'VALUES' ", "CSV", "1"},
		{"INSERT INTO FUNCTION null('a String') VALUES ('x')", "INSERT INTO FUNCTION null('a String') ", "Values", " ('x')"},
		{"INSERT INTO t (a);", "INSERT INTO t (a)", "Values", ""},
	} {
		s := parseStatement(c.sql)
		if !s.insert || s.head != c.head || s.format != c.format || c.sql[s.data:] != c.rows {
			t.Errorf("%q: %+v, rows %q", c.sql, s, c.sql[min(s.data, len(c.sql)):])
		}
	}
	for _, sql := range []string{"INSERT INTO t SELECT 1", "INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x", "SELECT 'INSERT INTO t VALUES'", "", "("} {
		if s := parseStatement(sql); s.insert {
			t.Errorf("%q: %+v", sql, s)
		}
	}
}

func TestTheFormatOfAStatementIsItsLastClause(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 1 FORMAT JSON":                        "JSON",
		"SELECT 1 format JSON;":                       "JSON",
		"SELECT 1 FORMAT JSON SETTINGS max_threads=1": "JSON",
		"SELECT 1 FORMAT -- c\n JSON -- d":            "JSON",
		"SELECT format FROM t":                        "",
		"SELECT 1 AS format":                          "",
		"SELECT 'x FORMAT JSON'":                      "",
		"SELECT $$ FORMAT JSON $$":                    "",
		"SELECT (SELECT 1 FORMAT JSON)":               "",
		"SELECT 1 /* FORMAT JSON":                     "",
	} {
		s := parseStatement(sql)
		if s.format != want {
			t.Errorf("%q: %q, want %q", sql, s.format, want)
		}
		if rest := s.unformatted(sql); want != "" && strings.Contains(strings.ToLower(rest), "format") {
			t.Errorf("%q without its format is %q", sql, rest)
		}
	}
}

// The lexer gets whatever a client sends: it must end, and stay inside.
func FuzzStatement(f *testing.F) {
	for _, s := range []string{"INSERT INTO t FORMAT TSV\nx", "SELECT 'a\\", "$a$ $a", "/*", "`\\", "--", "SELECT $$x$$ FORMAT a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		s := parseStatement(sql)
		if s.insert && (s.data > len(sql) || len(s.head) > len(sql)) {
			t.Errorf("%q: %+v", sql, s)
		}
		_ = s.unformatted(sql)
		namesFile(sql)
		foreignSource(sql)
	})
}
