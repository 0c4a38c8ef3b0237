package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxInsert bounds the rows of one INSERT, as they are sent and as they are
	// after decompression.
	maxInsert = 1 << 30
	// maxStatement bounds a statement without the rows of an INSERT.
	maxStatement = 16 << 20
	// maxQueries is how many statements run at once; each holds a thread.
	maxQueries = 100
	// peekSize is how far into a body an INSERT's data is looked for.
	peekSize = 64 << 10
)

// clickHouseHandler answers as ClickHouse's HTTP interface does. Every request has
// a connection of its own to the engine (it costs about 0.3 ms), so that settings,
// parameters and the current database hold for that request alone, and requests
// run at the same time.
type clickHouseHandler struct {
	lib   *chdb
	log   *slog.Logger
	name  string
	slots chan struct{}
}

func newClickHouseHandler(lib *chdb, log *slog.Logger, name string) *clickHouseHandler {
	return &clickHouseHandler{lib: lib, log: log, name: name, slots: make(chan struct{}, maxQueries)}
}

func (h *clickHouseHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := foreign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "only GET, HEAD and POST are served", http.StatusMethodNotAllowed)
	case r.URL.Path == "/ping", r.URL.Path == "/" && r.Method != http.MethodPost && r.URL.RawQuery == "":
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n")
	case r.URL.Path != "/":
		http.Error(w, "There is no handle "+r.URL.Path, http.StatusNotFound)
	default:
		h.serveQuery(w, r)
	}
}

// foreign says why a request is none of a client's on this machine. The engine
// asks for no password, so a page in this machine's browser must not reach it:
// neither directly (browsers name the page's origin) nor by a name that its owner
// makes resolve to this machine (the Host isn't loopback then).
func foreign(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	if !strings.EqualFold(host, "localhost") && (err != nil || !ip.Unmap().IsLoopback()) {
		return "the Host of the request is not this machine's loopback"
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		return "the request comes from a web page of another origin"
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
			return "the request comes from a web page of another origin"
		}
	}
	return ""
}

func (h *clickHouseHandler) serveQuery(w http.ResponseWriter, r *http.Request) {
	q := &clickHouseQuery{started: time.Now(), w: w, r: r}
	var err error
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		err = h.runQuery(q)
	default:
		err = newException(codeTooMany, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many simultaneous queries. Maximum: %d", maxQueries)
	}
	if err == nil {
		err = q.finish()
	}
	if err != nil {
		q.fail(err)
	}
}

func (h *clickHouseHandler) runQuery(q *clickHouseQuery) (err error) {
	q.w.Header().Set("X-Clickhouse-Server-Display-Name", h.name)
	q.w.Header().Set("X-Clickhouse-Timezone", "UTC")
	if q.clickHouseRequest, err = parseRequest(q.r); err != nil {
		return err
	}
	q.w.Header().Set("X-Clickhouse-Query-Id", q.id)
	conn, err := h.lib.open()
	if err != nil {
		return err
	}
	defer conn.close()
	if q.database != "" {
		if err := h.run(conn, "USE "+quoteName(q.database)); err != nil {
			return err
		}
	}
	if set := q.setStatement(); set != "" {
		if err := h.run(conn, set); err != nil {
			return err
		}
	}
	sql, rest, err := q.statement()
	if err != nil {
		return err
	}
	s := parseStatement(sql)
	if s.file {
		return notImplemented("INTO OUTFILE and FROM INFILE belong to a client's command line")
	}
	checked := sql
	if s.insert && !s.values() {
		checked = s.head
	}
	if namesFile(checked) {
		return newException(codeDenied, "ACCESS_DENIED", "The embedded ClickHouse reads no files")
	}
	if foreignSource(checked) {
		return newException(codeDenied, "ACCESS_DENIED", "The embedded ClickHouse makes dictionaries of its own tables alone: SOURCE(CLICKHOUSE(DB '…' TABLE '…'))")
	}
	defer h.killWhenGone(q)()
	if s.insert {
		return q.insert(conn, s, sql, rest)
	}
	return q.query(conn, s, sql)
}

// run runs a statement of our own.
func (h *clickHouseHandler) run(conn *chdbConn, sql string) error {
	r, err := conn.query(sql, "TabSeparated", nil)
	if err != nil {
		return err
	}
	r.destroy()
	return nil
}

// killWhenGone ends a statement whose client has gone, until the returned function
// is called. The library lets nobody choose a query's ID, so it is found by its
// log_comment.
func (h *clickHouseHandler) killWhenGone(q *clickHouseQuery) (stop func()) {
	if q.comment == "" {
		return func() {}
	}
	killed := make(chan struct{})
	stopped := context.AfterFunc(q.r.Context(), func() {
		defer close(killed)
		conn, err := h.lib.open()
		if err != nil {
			return
		}
		defer conn.close()
		if err := h.run(conn, "KILL QUERY WHERE Settings['log_comment'] = "+quoteText(q.comment)+" ASYNC"); err != nil {
			h.log.Warn("ending a query whose client has gone", "err", err)
		}
	})
	return func() {
		if !stopped() {
			<-killed
		}
	}
}

// statement reads the statement: the parameter query, then the body. Of an INSERT
// whose rows are in the body it returns the head, and the rows as rest; not those of
// VALUES, which are expressions and so part of the statement.
func (q *clickHouseQuery) statement() (sql string, rest io.Reader, err error) {
	body := bufio.NewReaderSize(q.body, peekSize)
	if q.text != "" {
		if s := parseStatement(q.text); s.insert && !s.values() {
			return q.text, body, nil
		}
		text, err := readStatement(body)
		if err != nil {
			return "", nil, err
		}
		if text = strings.TrimSpace(text); text != "" {
			return q.text + "\n" + text, nil, nil
		}
		return q.text, nil, nil
	}
	peek, err := body.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", nil, badArguments("Reading the request: %v", err)
	}
	if s := parseStatement(string(peek)); s.insert && !s.values() && s.data < len(peek) {
		head := string(peek[:s.data])
		_, _ = body.Discard(s.data) // it has been peeked at
		return head, body, nil
	}
	sql, err = readStatement(body)
	if err == nil && strings.TrimSpace(sql) == "" {
		err = newException(codeSyntax, "SYNTAX_ERROR", "Empty query")
	}
	return sql, nil, err
}

func readStatement(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxStatement+1))
	switch {
	case err != nil && isTooLarge(err), len(text) > maxStatement:
		return "", newException(codeTooLarge, "QUERY_IS_TOO_LARGE", "The statement is longer than %d bytes", maxStatement)
	case err != nil:
		return "", badArguments("Reading the request: %v", err)
	}
	return string(text), nil
}

func isTooLarge(err error) bool {
	var large *http.MaxBytesError
	return errors.As(err, &large) || errors.Is(err, errTooLong)
}

// insert streams the rows into the engine.
func (q *clickHouseQuery) insert(conn *chdbConn, s statement, sql string, rest io.Reader) error {
	if err := q.mayWrite(); err != nil {
		return err
	}
	inline := sql[s.data:]
	if rest != nil && inline != "" {
		inline += "\n"
	}
	insert, err := conn.insert(strings.TrimSpace(s.head), s.format, q.params)
	if err != nil {
		return err
	}
	defer insert.destroy()
	going := insert.append([]byte(inline))
	if rest != nil {
		part := make([]byte, 1<<20)
		for going {
			n, err := io.ReadFull(rest, part)
			going = insert.append(part[:n])
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				// The latter is also a body that was cut off.
				if cut := q.body.cut(); cut != nil {
					insert.cancel()
					return badArguments("Reading the rows: %v", cut)
				}
				break
			}
			if err != nil {
				insert.cancel()
				if isTooLarge(err) {
					return newException(codeTooLarge, "QUERY_IS_TOO_LARGE", "The rows of the INSERT are longer than %d bytes", maxInsert)
				}
				return badArguments("Reading the rows: %v", err)
			}
		}
	}
	q.sum, err = insert.done()
	return err
}

func (q *clickHouseQuery) mayWrite() error {
	if q.r.Method == http.MethodPost {
		return nil
	}
	return newException(codeReadonly, "READONLY", "Cannot execute query in readonly mode. For queries over HTTP, method %s implies readonly. You should use method POST for modifying queries", q.r.Method)
}

// query runs a statement that isn't an INSERT with rows.
func (q *clickHouseQuery) query(conn *chdbConn, s statement, sql string) error {
	readOnly, statements := conn.class(sql)
	if statements > 1 {
		return newException(codeSyntax, "SYNTAX_ERROR", "Multi-statements are not allowed")
	}
	if statements == 1 && !readOnly {
		if err := q.mayWrite(); err != nil {
			return err
		}
	}
	if s.format != "" {
		q.format = s.format
	}
	if readOnly && concatenates(q.format) && !q.wait && startsRows(sql) {
		if err := q.stream(conn, sql); err != nil || q.out != nil || !strings.EqualFold(q.format, "Native") {
			return err
		}
		return q.noRows(conn, s.unformatted(sql))
	}
	return q.whole(conn, sql)
}

// whole writes the result when all of it is there, from the library's own memory.
func (q *clickHouseQuery) whole(conn *chdbConn, sql string) error {
	r, err := conn.query(sql, q.format, q.params)
	if err != nil {
		return err
	}
	defer r.destroy()
	q.sum = r.summary()
	return q.write(r.data())
}

// noRows writes the names and types of the columns: a server sends a block without
// rows, from which clients know them, and the library sends nothing.
func (q *clickHouseQuery) noRows(conn *chdbConn, sql string) error {
	r, err := conn.query("DESCRIBE TABLE (\n"+sql+"\n)", "Native", q.params)
	if err != nil {
		return nil // no rows is the answer all the same
	}
	defer r.destroy()
	if err := encodeColumns(r.data(), q.revision, &q.native); err != nil {
		return err
	}
	if err := q.header(); err != nil {
		return err
	}
	if _, err := q.out.Write(q.native.Buf); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// startsRows reports whether a statement gives its rows block by block.
func startsRows(sql string) bool {
	l := lexer{sql: sql}
	for t := l.next(); ; t = l.next() {
		if t.text != "(" {
			return t.is("SELECT") || t.is("WITH") || t.is("FROM")
		}
	}
}

// concatenates reports whether the parts of a result in this format, one after the
// other, are the result: those with a beginning or an end aren't.
func concatenates(format string) bool {
	switch strings.ToLower(format) {
	case "native", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv", "jsoneachrow", "ndjson", "jsonlines", "jsoncompacteachrow", "rowbinary":
		return true
	}
	return false
}

// stream writes the result as it comes. It holds one part back, so that a result
// of one part has its whole summary in the header.
func (q *clickHouseQuery) stream(conn *chdbConn, sql string) error {
	stream, err := conn.stream(sql, q.format, q.params)
	if err != nil {
		return err
	}
	defer stream.destroy()
	var held chdbResult
	defer func() {
		if held != (chdbResult{}) {
			held.destroy()
		}
	}()
	for {
		if err := q.r.Context().Err(); err != nil {
			return fmt.Errorf("the client has gone: %w", err)
		}
		part, err := stream.next()
		if err != nil {
			return err
		}
		q.sum.add(part.summary())
		if held != (chdbResult{}) {
			err := q.write(held.data())
			held.destroy()
			held = chdbResult{}
			if err != nil {
				part.destroy()
				return err
			}
		}
		held = part
		if len(part.data()) == 0 {
			return nil
		}
	}
}

// summary counts what a statement read and wrote.
type summary struct {
	readRows, readBytes, writtenRows, writtenBytes, resultRows, resultBytes uint64
}

func (s *summary) add(o summary) {
	s.readRows += o.readRows
	s.readBytes += o.readBytes
	s.writtenRows += o.writtenRows
	s.writtenBytes += o.writtenBytes
	s.resultRows += o.resultRows
	s.resultBytes += o.resultBytes
}

// json is the value of X-ClickHouse-Summary; its numbers are strings.
func (s summary) json(elapsed time.Duration) string {
	var b strings.Builder
	for i, f := range []struct {
		name  string
		value uint64
	}{
		{"read_rows", s.readRows}, {"read_bytes", s.readBytes}, {"written_rows", s.writtenRows}, {"written_bytes", s.writtenBytes},
		{"total_rows_to_read", s.readRows}, {"result_rows", s.resultRows}, {"result_bytes", s.resultBytes}, {"elapsed_ns", uint64(elapsed)},
	} {
		b.WriteString([]string{"{", ","}[min(i, 1)] + `"` + f.name + `":"` + strconv.FormatUint(f.value, 10) + `"`)
	}
	return b.String() + "}"
}
