package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"posthorn/internal/clickhousetest"
	"posthorn/internal/embedded"
)

func run(t *testing.T, conn driver.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func count(t *testing.T, conn driver.Conn, query string) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// request sends a request as curl would and returns its answer.
func request(t *testing.T, method, addr string, params url.Values, body string, more ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+"/?"+params.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range more {
		f(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v (%q)", err, text)
	}
	return resp, string(text)
}

func with(method clickhouse.CompressionMethod) func(*clickhouse.Options) {
	return func(o *clickhouse.Options) { o.Compression = &clickhouse.Compression{Method: method} }
}

const everyType = `CREATE TABLE every (
	s String, lc LowCardinality(String), f FixedString(16), id UUID, u8 UInt8, u16 UInt16, u32 UInt32, u64 UInt64,
	i32 Int32, i64 Int64, f64 Float64, b Bool, d Date, dt DateTime('UTC'), dt64 DateTime64(3, 'UTC'), n Nullable(DateTime64(3, 'UTC')), ns Nullable(String),
	nlc LowCardinality(Nullable(String)), m Map(String, UInt64), ml Map(LowCardinality(String), UInt64), a Array(Tuple(UInt64, UInt32, String)), dec Decimal(18, 4)
) ENGINE = MergeTree ORDER BY i64`

func TestEveryColumnTypeComesBackAsItWasInserted(t *testing.T) {
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionZSTD, clickhouse.CompressionGZIP, clickhouse.CompressionDeflate, clickhouse.CompressionBrotli} {
		t.Run(method.String(), func(t *testing.T) {
			conn := clickhousetest.Dial(t, clickhousetest.Shared(t), clickhousetest.Database(t), with(method))
			run(t, conn, everyType)
			batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO every")
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2026, 7, 3, 1, 2, 3, 4_000_000, time.UTC)
			text := "ä\x00\xff'\\\n"
			var rows [][]any
			for i := range 3 {
				var none *time.Time
				var noText *string
				if i == 1 {
					none, noText = &at, &text
				}
				rows = append(rows, []any{text, "lc", "0123456789abcdef", uuid.UUID{1, byte(i)}, uint8(255), uint16(65535), uint32(1 << 31), uint64(1 << 63),
					int32(-5), int64(i), 0.1, true, at.Truncate(24 * time.Hour), at.Truncate(time.Second), at, none, noText,
					noText, map[string]uint64{"a": 1, "": 2}, map[string]uint64{"timeout": uint64(i)}, [][]any{{uint64(1), uint32(2), "x"}, {uint64(3), uint32(4), ""}}, "12.3456"})
				if err := batch.Append(rows[i]...); err != nil {
					t.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				t.Fatal(err)
			}
			got, err := conn.Query(t.Context(), "SELECT * REPLACE (toString(dec) AS dec) FROM every ORDER BY i64")
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			n := 0
			for ; got.Next(); n++ {
				values := make([]any, len(rows[n]))
				for i := range values {
					values[i] = reflect.New(got.ColumnTypes()[i].ScanType()).Interface()
				}
				if err := got.Scan(values...); err != nil {
					t.Fatal(err)
				}
				for i, name := range got.Columns() {
					if g := reflect.ValueOf(values[i]).Elem().Interface(); fmt.Sprint(deref(g)) != fmt.Sprint(deref(rows[n][i])) {
						t.Errorf("row %d, %s: got %v, want %v", n, name, deref(g), deref(rows[n][i]))
					}
				}
			}
			if err := got.Err(); err != nil || n != 3 {
				t.Errorf("%d rows, %v", n, err)
			}
			// No row is a result, too, with its columns.
			empty, err := conn.Query(t.Context(), "SELECT * FROM every WHERE i64 = 99")
			if err != nil {
				t.Fatal(err)
			}
			defer empty.Close()
			if empty.Next() || len(empty.Columns()) != len(rows[0]) {
				t.Errorf("an empty result has the columns %v", empty.Columns())
			}
		})
	}
}

func deref(v any) any {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer {
		if r.IsNil() {
			return nil
		}
		return r.Elem().Interface()
	}
	return v
}

// insertToken inserts one row under a deduplication token.
func insertToken(t *testing.T, conn driver.Conn, token string, n uint64) {
	t.Helper()
	settings := clickhouse.Settings{"insert_deduplicate": 1, "async_insert": 0, "deduplicate_blocks_in_dependent_materialized_views": 1}
	if token != "" {
		settings["insert_deduplication_token"] = token
	}
	batch, err := conn.PrepareBatch(clickhouse.Context(t.Context(), clickhouse.WithSettings(settings)), "INSERT INTO t")
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.Append(n); err != nil {
		t.Fatal(err)
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}

const tokenTable = "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100"

func TestATokenDropsTheSecondInsertAndIsForgottenAfterTheFirst(t *testing.T) {
	conn := clickhousetest.Conn(t)
	run(t, conn, tokenTable,
		"CREATE TABLE sums (k UInt8, n UInt64) ENGINE = SummingMergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 100",
		"CREATE MATERIALIZED VIEW v TO sums AS SELECT 1 AS k, sum(n) AS n FROM t")
	insertToken(t, conn, "topic:0:1-2", 1)
	insertToken(t, conn, "topic:0:1-2", 1)
	insertToken(t, conn, "topic:0:1-2", 2) // same token, other row: dropped, as the token decides
	if got := count(t, conn, "SELECT sum(n) FROM t"); got != 1 {
		t.Errorf("the table has %d after one insert and two repeats, want 1", got)
	}
	insertToken(t, conn, "topic:0:3-4", 1) // the same row under another token counts
	if got := count(t, conn, "SELECT sum(n) FROM t"); got != 2 {
		t.Errorf("the table has %d, want 2", got)
	}
	if got := count(t, conn, "SELECT sum(n) FROM sums"); got != 2 {
		t.Errorf("the view's table has %d, want 2", got)
	}
	// Without a token the row's own hash decides: a token that leaked would drop it.
	insertToken(t, conn, "", 7)
	if got := count(t, conn, "SELECT sum(n) FROM t"); got != 9 {
		t.Errorf("the table has %d, want 9", got)
	}
}

func TestSettingsHoldForTheirQueryAlone(t *testing.T) {
	conn := clickhousetest.Conn(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 25 {
				want := uint64(i*25 + j + 1)
				ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_result_rows": want}))
				query := "SELECT toUInt64(getSetting('max_result_rows')) + 0 * sleepEachRow(0.001)"
				if i == 0 {
					ctx, want = t.Context(), 0
				}
				var got uint64
				if err := conn.QueryRow(ctx, "SELECT toUInt64(x) FROM ("+query+" AS x)").Scan(&got); err != nil || got != want {
					t.Errorf("query with the setting %d has %d, %v", want, got, err)
				}
			}
		})
	}
	all.Wait()
	// Nor does SET, nor USE: a session is a request.
	run(t, conn, "SET max_result_rows = 5", "USE system")
	if got := count(t, conn, "SELECT toUInt64(getSetting('max_result_rows'))"); got != 0 {
		t.Errorf("SET reached another request: %d", got)
	}
}

func TestErrorsHaveClickHouseCodes(t *testing.T) {
	engine := clickhousetest.Shared(t)
	for query, want := range map[string]struct{ code, status int }{
		"SELECT nope":                  {47, 404},
		"SELEC 1":                      {62, 400},
		"SELECT * FROM nothing":        {60, 404},
		"SELECT * FROM nowhere.t":      {81, 404},
		"SELECT throwIf(1)":            {395, 500},
		"SELECT 1; SELECT 2":           {62, 400},
		"INSERT INTO nothing VALUES 1": {60, 404},
		"SELECT 1 INTO OUTFILE '/x'":   {48, 501},
		"SELECT 1 SETTINGS nope=1":     {115, 404},
		"SELECT * FROM remote('nowhere.invalid:1', system.one)": {0, 0},
	} {
		resp, body := request(t, http.MethodPost, engine.Addr(), nil, query)
		if want.code == 0 {
			if resp.StatusCode == http.StatusOK {
				t.Errorf("%s: succeeded", query)
			}
			continue
		}
		prefix := fmt.Sprintf("Code: %d. DB::Exception: ", want.code)
		if resp.StatusCode != want.status || resp.Header.Get("X-ClickHouse-Exception-Code") != fmt.Sprint(want.code) || !strings.HasPrefix(body, prefix) {
			t.Errorf("%s: status %d, code %s, %q; want %d, %d", query, resp.StatusCode, resp.Header.Get("X-ClickHouse-Exception-Code"), body, want.status, want.code)
		}
		for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
			conn := clickhousetest.Dial(t, engine, "", with(method))
			var e *clickhouse.Exception
			if err := conn.Exec(t.Context(), query); !errors.As(err, &e) || int(e.Code) != want.code {
				t.Errorf("%s: clickhouse-go has %v", query, err)
			}
		}
	}
	if resp, _ := request(t, http.MethodPost, engine.Addr(), url.Values{"nope": {"1"}}, "SELECT 1"); resp.Header.Get("X-ClickHouse-Exception-Code") != "115" {
		t.Errorf("an unknown setting in the URL gives %v", resp.Header)
	}
	if resp, _ := request(t, http.MethodPost, engine.Addr(), url.Values{"database": {"nope"}}, "SELECT 1"); resp.Header.Get("X-ClickHouse-Exception-Code") != "81" {
		t.Errorf("an unknown database in the URL gives %v", resp.Header)
	}
}

func TestAnErrorInTheMidstOfARowsReachesTheClient(t *testing.T) {
	conn := clickhousetest.Conn(t)
	rows, err := conn.Query(t.Context(), "SELECT throwIf(number = 900000, 'midst') FROM system.numbers LIMIT 1000000 SETTINGS max_block_size = 10000, max_threads = 1")
	if err == nil {
		defer rows.Close()
		for rows.Next() {
		}
		err = rows.Err()
	}
	var e *clickhouse.Exception
	if !errors.As(err, &e) || e.Code != 395 {
		t.Errorf("got %v", err)
	}
}

func TestCurlSpeaksItToo(t *testing.T) {
	engine := clickhousetest.Shared(t)
	db := clickhousetest.Database(t)
	params := func(more ...string) url.Values {
		v := url.Values{"database": {db}}
		for i := 0; i < len(more); i += 2 {
			v.Set(more[i], more[i+1])
		}
		return v
	}
	for _, s := range []struct {
		method string
		params url.Values
		body   string
		want   string
	}{
		{http.MethodPost, params(), "CREATE TABLE format (a UInt8, `values` String) ENGINE = MergeTree ORDER BY a", ""},
		{http.MethodPost, params(), "INSERT INTO format VALUES (1, 'one'), (2, 'FORMAT')", ""},
		{http.MethodPost, params("query", "INSERT INTO format FORMAT TSV"), "3\tthree\n4\tfour\n", ""},
		{http.MethodPost, params("query", "INSERT INTO format (a, values) VALUES"), "(5, 'five')", ""},
		{http.MethodPost, params(), "INSERT INTO format FORMAT JSONEachRow\n{\"a\":6,\"values\":\"six\"}\n", ""},
		{http.MethodPost, params(), "INSERT INTO format SELECT 7, 'seven'", ""},
		{http.MethodPost, params("param_v", `a\tb'`), "INSERT INTO format SELECT 8, {v:String}", ""},
		{http.MethodGet, params("query", "SELECT * FROM format ORDER BY a"), "", "1\tone\n2\tFORMAT\n3\tthree\n4\tfour\n5\tfive\n6\tsix\n7\tseven\n8\ta\\tb\\'\n"},
		{http.MethodGet, params("query", "SELECT a FROM format ORDER BY a LIMIT {n:UInt8} FORMAT CSV", "param_n", "2"), "", "1\n2\n"},
		{http.MethodGet, params("query", "SELECT a FROM format ORDER BY a LIMIT 2", "default_format", "JSONEachRow"), "", "{\"a\":1}\n{\"a\":2}\n"},
		{http.MethodPost, params("query", "SELECT a FROM format"), "WHERE a = 1 -- here\n", "1\n"},
		{http.MethodGet, params("query", "SELECT a FROM format WHERE a = 1 FORMAT JSONCompactColumns"), "", "[\n\t[1]\n]\n"},
		{http.MethodGet, params("query", "SELECT a FROM format WHERE a = 99"), "", ""},
		{http.MethodGet, params("query", "SELECT a FROM format WHERE a = 1 FORMAT CSVWithNames"), "", "\"a\"\n1\n"},
	} {
		resp, body := request(t, s.method, engine.Addr(), s.params, s.body)
		if resp.StatusCode != http.StatusOK || body != s.want {
			t.Errorf("%v %q: status %d, %q, want %q", s.params, s.body, resp.StatusCode, body, s.want)
		}
	}
	resp, body := request(t, http.MethodGet, engine.Addr(), params("query", "INSERT INTO format VALUES (1, '')"), "")
	if resp.StatusCode != http.StatusInternalServerError || !strings.HasPrefix(body, "Code: 164.") {
		t.Errorf("a GET that writes: status %d, %q", resp.StatusCode, body)
	}
	resp, _ = request(t, http.MethodGet, engine.Addr(), params("query", "SELECT sum(a) FROM format", "query_id", "mine"), "")
	for name, want := range map[string]string{"X-ClickHouse-Query-Id": "mine", "X-ClickHouse-Timezone": "UTC", "X-ClickHouse-Format": "TabSeparated"} {
		if resp.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, resp.Header.Get(name), want)
		}
	}
	if sum := resp.Header.Get("X-ClickHouse-Summary"); !strings.Contains(sum, `"read_rows":"8"`) || !strings.Contains(sum, `"result_rows":"1"`) {
		t.Errorf("the summary is %s", sum)
	}
	resp, _ = request(t, http.MethodPost, engine.Addr(), params("query", "INSERT INTO format VALUES"), "(9, ''), (10, '')")
	if sum := resp.Header.Get("X-ClickHouse-Summary"); !strings.Contains(sum, `"written_rows":"2"`) {
		t.Errorf("the summary of an insert is %s", sum)
	}
}

func TestTheAnswerIsCompressedWhenItIsAskedFor(t *testing.T) {
	engine := clickhousetest.Shared(t)
	resp, body := request(t, http.MethodGet, engine.Addr(), url.Values{"query": {"SELECT repeat('x', 10000)"}, "enable_http_compression": {"1"}}, "",
		func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") })
	if resp.Header.Get("Content-Encoding") != "gzip" || len(body) > 1000 {
		t.Errorf("Content-Encoding %q, %d bytes", resp.Header.Get("Content-Encoding"), len(body))
	}
}

func TestPagesOfBrowsersAreRefused(t *testing.T) {
	engine := clickhousetest.Shared(t)
	for name, change := range map[string]func(*http.Request){
		"rebound host": func(r *http.Request) { r.Host = "evil.example" },
		"origin":       func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"null origin":  func(r *http.Request) { r.Header.Set("Origin", "null") },
		"other port":   func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:3000") },
		"cross site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			resp, _ := request(t, method, engine.Addr(), url.Values{"query": {"SELECT 1"}}, "", change)
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s: status %d", name, method, resp.StatusCode)
			}
		}
	}
	if resp, body := request(t, http.MethodGet, engine.Addr(), nil, ""); resp.StatusCode != http.StatusOK || body != "Ok.\n" {
		t.Errorf("the root gives %d, %q", resp.StatusCode, body)
	}
}

func TestAMillionRowsComeAndGo(t *testing.T) {
	for _, method := range []clickhouse.CompressionMethod{clickhouse.CompressionNone, clickhouse.CompressionLZ4} {
		conn := clickhousetest.Dial(t, clickhousetest.Shared(t), clickhousetest.Database(t), with(method))
		rows, err := conn.Query(t.Context(), "SELECT number, toString(number) FROM numbers(1000000)")
		if err != nil {
			t.Fatal(err)
		}
		var n, sum uint64
		for rows.Next() {
			var v uint64
			var s string
			if err := rows.Scan(&v, &s); err != nil {
				t.Fatal(err)
			}
			n, sum = n+1, sum+v
		}
		if err := rows.Err(); err != nil || n != 1_000_000 || sum != 999_999*500_000 {
			t.Errorf("%s: %d rows, sum %d, %v", method, n, sum, err)
		}
		rows.Close()
	}
}

func TestALargeBatchIsOneInsert(t *testing.T) {
	conn := clickhousetest.Conn(t)
	run(t, conn, "CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO t")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100_000 {
		if err := batch.Append(uint64(i), fmt.Sprint("some text of an ordinary length ", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, conn, "SELECT count() FROM t"); n != 100_000 {
		t.Errorf("%d rows", n)
	}
	if n := count(t, conn, "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 't' AND active AND level = 0"); n != 1 {
		t.Errorf("%d parts", n)
	}
}

func TestADirectDictionaryOverALocalTableAnswers(t *testing.T) {
	conn := clickhousetest.Conn(t)
	run(t, conn, "CREATE TABLE messages (body_id String, body String) ENGINE = ReplacingMergeTree ORDER BY body_id",
		"INSERT INTO messages VALUES ('a', 'first'), ('b', 'second')",
		"CREATE DICTIONARY bodies (body_id String, body String) PRIMARY KEY body_id SOURCE(CLICKHOUSE(TABLE 'messages' DB currentDatabase())) LAYOUT(COMPLEX_KEY_DIRECT())")
	var body string
	if err := conn.QueryRow(t.Context(), "SELECT dictGet('bodies', 'body', {id:String})", clickhouse.Named("id", "b")).Scan(&body); err != nil || body != "second" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestParametersReachTheStatementUnharmed(t *testing.T) {
	conn := clickhousetest.Conn(t)
	for _, want := range []string{"", "plain", "it's", `back\slash`, "{x:String}", "ä€", "'; DROP TABLE t --"} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"v": want}))
		var got string
		if err := conn.QueryRow(ctx, "SELECT {v:String}").Scan(&got); err != nil || got != want {
			t.Errorf("%q came back as %q, %v", want, got, err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT ?", want).Scan(&got); err != nil || got != want {
			t.Errorf("%q came back as %q, %v", want, got, err)
		}
	}
	var n uint64
	ids := []uuid.UUID{{1}, {2}}
	if err := conn.QueryRow(t.Context(), "SELECT toUInt64({n:UInt64}) + length({ids:Array(UUID)})", clickhouse.Named("n", "40"), clickhouse.Named("ids", fmt.Sprintf("['%s','%s']", ids[0], ids[1]))).Scan(&n); err != nil || n != 42 {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestAStatementEndsWhenItsClientGoes(t *testing.T) {
	conn := clickhousetest.Conn(t)
	running := "SELECT count() FROM system.processes WHERE query LIKE '%4711471%' AND query NOT LIKE '%processes%'"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- conn.Exec(ctx, "SELECT sum(sleepEachRow(0.1)) FROM numbers(4711471) SETTINGS max_block_size = 10, function_sleep_max_microseconds_per_block = 0")
	}()
	eventually(t, func() bool { return count(t, conn, running) == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the query gave %v", err)
	}
	eventually(t, func() bool { return count(t, conn, running) == 0 })
}

// eventually asks until it is so; a test that hangs here fails by its deadline.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatal("it never became so")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestStatementsReachNeitherFilesNorAddresses(t *testing.T) {
	conn := clickhousetest.Conn(t)
	file := t.TempDir() + "/secret"
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, conn, "CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s")
	for _, s := range []string{
		"SELECT * FROM file('" + file + "', 'LineAsString', 's String')",
		"SELECT * FROM `" + file + "`",
		"SELECT * FROM default.`" + file + "`",
		"INSERT INTO FUNCTION file('" + file + "2', 'LineAsString', 's String') SELECT 'x'",
		"INSERT INTO FUNCTION file('" + file + "3', 'LineAsString', 's String') VALUES ('x')",
		"CREATE TABLE f (s String) ENGINE = File(LineAsString, '" + file + "')",
		"CREATE DATABASE fs ENGINE = Filesystem('/')",
		"SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 's String')",
		"SELECT * FROM executable('cat', 'LineAsString', 's String')",
		"SELECT * FROM s3('http://127.0.0.1:1/x', 'LineAsString', 's String')",
		"SELECT file('" + file + "')",
		"SELECT 1 + /* */ `File` (/**/'" + file + "')",
		"INSERT INTO t VALUES (file('" + file + "'))",
		"SELECT * FROM t INTO OUTFILE '" + file + "4'",
		"INSERT INTO t FROM INFILE '" + file + "' FORMAT LineAsString",
		"BACKUP TABLE t TO File('" + file + "5')",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(FILE(PATH '" + file + "' FORMAT 'LineAsString')) LAYOUT(COMPLEX_KEY_DIRECT())",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV')) LAYOUT(COMPLEX_KEY_DIRECT())",
		"CREATE OR REPLACE DICTIONARY d (s String) PRIMARY KEY s LAYOUT(COMPLEX_KEY_DIRECT()) SOURCE /**/ (`execut\\x61ble`(COMMAND 'id' FORMAT 'TSV'))",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(HTTP(URL 'http://127.0.0.1:1/' FORMAT 'TSV')) LAYOUT(COMPLEX_KEY_DIRECT())",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(CLICKHOUSE(DB currentDatabase() HOST '127.0.0.1' DB 'x' TABLE 'y')) LAYOUT(COMPLEX_KEY_DIRECT())",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(CLICKHOUSE(`host` '127.0.0.1' DB 'x' TABLE 'y')) LAYOUT(COMPLEX_KEY_DIRECT())",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(CLICKHOUSE(QUERY 'SELECT file(''x'')')) LAYOUT(COMPLEX_KEY_DIRECT())",
	} {
		err := conn.Exec(t.Context(), s)
		e, ok := errors.AsType[*clickhouse.Exception](err)
		if !ok {
			t.Errorf("%s: %v", s, err)
		} else {
			t.Logf("%s: %.150s", s, e.Message)
		}
	}
	for _, params := range []url.Values{{"query": {"INSERT INTO t VALUES"}}, {"query": {"INSERT INTO t FORMAT Values"}}, {"query": {"INSERT INTO t"}}} {
		if _, body := request(t, http.MethodPost, clickhousetest.Shared(t).Addr(), params, "(file('"+file+"'))"); !strings.HasPrefix(body, "Code: 497.") {
			t.Errorf("%v: %q", params, body)
		}
	}
	// Statements that hide it from a look at their text: these the kernel stops, where
	// it can.
	if embedded.Confined() {
		for _, s := range []string{
			"SELECT `fil\\x65`('" + file + "')",
			"SELECT arrayMap(file, ['" + file + "'])",
			"SELECT * APPLY file FROM (SELECT '" + file + "' AS x)",
			"SELECT b FROM values('a String, b String ALIAS file(a)', '" + file + "')",
			"SELECT file_content FROM format(JSONEachRow, 'a String, file_content String DEFAULT file(a)', '{\"a\":\"" + file + "\"}')",
			"SELECT `fil\\x65`('/proc/" + strconv.Itoa(os.Getpid()) + "/environ')",
		} {
			if err := conn.Exec(t.Context(), s); err == nil || strings.Contains(err.Error(), "secret") && !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %v", s, err)
			} else {
				t.Logf("%s: %.150s", s, err)
			}
		}
	}
	run(t, conn, "INSERT INTO t VALUES ('file(x)')") // a text
	if files, err := filepath.Glob(file + "?"); err != nil || len(files) > 0 {
		t.Errorf("files were written: %v", files)
	}
}
