//go:build (linux || darwin) && !nochdb

package embedded

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// chdb is the loaded library. The functions and their types are those of chDB's
// C header (programs/local/chdb.h in chdb-io/chdb-core), of which these are the
// ones that take lengths, so that statements and values may hold any byte.
//
// The library has one engine per process. It allows many connections to it, each
// a session of its own with its own settings and current database, and each for
// one statement at a time.
type chdb struct {
	setSignals       func(enabled int32)
	connect          func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn        func(conn unsafe.Pointer)
	query            func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, params uintptr) unsafe.Pointer
	streamQuery      func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, params uintptr) unsafe.Pointer
	streamFetch      func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamCancel     func(conn, stream unsafe.Pointer)
	destroyResult    func(result unsafe.Pointer)
	insert           func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, params uintptr) unsafe.Pointer
	insertAppend     func(insert, data unsafe.Pointer, size uintptr) int32
	insertDone       func(insert unsafe.Pointer) unsafe.Pointer
	insertCancel     func(insert unsafe.Pointer)
	insertError      func(insert unsafe.Pointer) string
	insertDestroy    func(insert unsafe.Pointer)
	resultBuffer     func(result unsafe.Pointer) unsafe.Pointer
	resultLength     func(result unsafe.Pointer) uintptr
	resultError      func(result unsafe.Pointer) string
	resultRows       func(result unsafe.Pointer) uint64
	resultBytes      func(result unsafe.Pointer) uint64
	storageRows      func(result unsafe.Pointer) uint64
	storageBytes     func(result unsafe.Pointer) uint64
	rowsWritten      func(result unsafe.Pointer) uint64
	bytesWritten     func(result unsafe.Pointer) uint64
	classify         func(conn, sql unsafe.Pointer, sqlLen uintptr, database unsafe.Pointer, databaseLen uintptr, out unsafe.Pointer) int32
	connectArguments []string
}

// loadCHDB loads the library. It can't be unloaded.
func loadCHDB(path string) (_ *chdb, err error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	l := new(chdb)
	for name, fn := range map[string]any{
		"chdb_set_signal_handlers_enabled": &l.setSignals,
		"chdb_connect":                     &l.connect,
		"chdb_close_conn":                  &l.closeConn,
		"chdb_query_with_params_n":         &l.query,
		"chdb_stream_query_with_params_n":  &l.streamQuery,
		"chdb_stream_fetch_result":         &l.streamFetch,
		"chdb_stream_cancel_query":         &l.streamCancel,
		"chdb_destroy_query_result":        &l.destroyResult,
		"chdb_stream_insert_with_params_n": &l.insert,
		"chdb_stream_append":               &l.insertAppend,
		"chdb_stream_done":                 &l.insertDone,
		"chdb_stream_cancel_insert":        &l.insertCancel,
		"chdb_stream_insert_error":         &l.insertError,
		"chdb_destroy_insert_stream":       &l.insertDestroy,
		"chdb_result_buffer":               &l.resultBuffer,
		"chdb_result_length":               &l.resultLength,
		"chdb_result_error":                &l.resultError,
		"chdb_result_rows_read":            &l.resultRows,
		"chdb_result_bytes_read":           &l.resultBytes,
		"chdb_result_storage_rows_read":    &l.storageRows,
		"chdb_result_storage_bytes_read":   &l.storageBytes,
		"chdb_result_rows_written":         &l.rowsWritten,
		"chdb_result_bytes_written":        &l.bytesWritten,
		"chdb_classify_query_n":            &l.classify,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("loading %s: it has no %s, so it isn't the version that Posthorn knows: %w", path, name, err)
		}
		purego.RegisterFunc(fn, symbol)
	}
	// Its handler of a segmentation fault would take the Go runtime's place and
	// wait five minutes before it ends the process.
	l.setSignals(0)
	return l, nil
}

// errConnect is what the library says when it can't open a data directory; its
// reason goes to its log alone, the child's standard error.
var errConnect = errors.New("libchdb could not open the data directory; its log says why")

// open makes a connection. The first one starts the engine with these arguments
// (--path=…), and the engine lives as long as one is open.
func (l *chdb) open() (*chdbConn, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]unsafe.Pointer, len(l.connectArguments)+1) // ends with a null pointer
	for i, arg := range l.connectArguments {
		text := append([]byte(arg), 0)
		pin.Pin(&text[0])
		argv[i] = unsafe.Pointer(&text[0])
	}
	pin.Pin(&argv[0])
	handle := l.connect(int32(len(l.connectArguments)), unsafe.Pointer(&argv[0]))
	if handle == nil {
		return nil, errConnect
	}
	return &chdbConn{lib: l, handle: handle}, nil
}

// chdbConn is a session of the engine. Its methods are for one goroutine at a time.
type chdbConn struct {
	lib    *chdb
	handle unsafe.Pointer // chdb_connection*
}

func (c *chdbConn) conn() unsafe.Pointer { return *(*unsafe.Pointer)(c.handle) }

func (c *chdbConn) close() { c.lib.closeConn(c.handle) }

// class is what a statement does.
func (c *chdbConn) class(sql string) (readOnly bool, statements int) {
	analysis := struct{ size, statements, flags, class uint32 }{size: 16}
	if c.lib.classify(c.conn(), text(sql), uintptr(len(sql)), nil, 0, unsafe.Pointer(&analysis)) != 0 {
		return false, 0
	}
	runtime.KeepAlive(sql)
	return analysis.class == 0, int(analysis.statements)
}

// query runs a statement and waits for all of its result.
func (c *chdbConn) query(sql, format string, params []parameter) (chdbResult, error) {
	return c.lib.result(withParameters(c.lib.query, c.conn(), sql, format, params))
}

// stream begins a statement whose result comes block by block.
func (c *chdbConn) stream(sql, format string, params []parameter) (*chdbStream, error) {
	r, err := c.lib.result(withParameters(c.lib.streamQuery, c.conn(), sql, format, params))
	if err != nil {
		return nil, err
	}
	return &chdbStream{c, r}, nil
}

// insert begins an INSERT that has neither FORMAT nor VALUES.
func (c *chdbConn) insert(sql, format string, params []parameter) (*chdbInsert, error) {
	i := &chdbInsert{c.lib, withParameters(c.lib.insert, c.conn(), sql, format, params)}
	if message := c.lib.insertError(i.handle); message != "" {
		i.destroy()
		return nil, engineError(message)
	}
	return i, nil
}

type statementFunc = func(conn, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr, names, nameLens, values, valueLens unsafe.Pointer, params uintptr) unsafe.Pointer

func withParameters(run statementFunc, conn unsafe.Pointer, sql, format string, params []parameter) unsafe.Pointer {
	var pin runtime.Pinner
	defer pin.Unpin()
	names, values := make([]unsafe.Pointer, len(params)+1), make([]unsafe.Pointer, len(params)+1)
	nameLens, valueLens := make([]uintptr, len(params)+1), make([]uintptr, len(params)+1)
	for i, p := range params {
		names[i], nameLens[i] = text(p.name), uintptr(len(p.name))
		values[i], valueLens[i] = text(p.value), uintptr(len(p.value))
		pin.Pin(names[i])
		pin.Pin(values[i])
	}
	sqlText, formatText := text(sql), text(format)
	for _, p := range []unsafe.Pointer{sqlText, formatText} {
		pin.Pin(p)
	}
	pin.Pin(&names[0])
	pin.Pin(&values[0])
	handle := run(conn, sqlText, uintptr(len(sql)), formatText, uintptr(len(format)),
		unsafe.Pointer(&names[0]), unsafe.Pointer(&nameLens[0]), unsafe.Pointer(&values[0]), unsafe.Pointer(&valueLens[0]), uintptr(len(params)))
	runtime.KeepAlive(nameLens)
	runtime.KeepAlive(valueLens)
	return handle
}

// noText stands for empty strings: the library wants a pointer for them too.
var noText = new(byte)

func text(s string) unsafe.Pointer {
	if s == "" {
		return unsafe.Pointer(noText)
	}
	return unsafe.Pointer(unsafe.StringData(s))
}

// chdbResult is a result, or a part of one, in the library's memory.
type chdbResult struct {
	lib    *chdb
	handle unsafe.Pointer
}

func (l *chdb) result(handle unsafe.Pointer) (chdbResult, error) {
	if handle == nil {
		return chdbResult{}, errors.New("libchdb gave no result")
	}
	if message := l.resultError(handle); message != "" {
		l.destroyResult(handle)
		return chdbResult{}, engineError(message)
	}
	return chdbResult{l, handle}, nil
}

// data is valid until destroy.
func (r chdbResult) data() []byte {
	n := r.lib.resultLength(r.handle)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.lib.resultBuffer(r.handle)), n)
}

func (r chdbResult) summary() summary {
	return summary{
		readRows: r.lib.storageRows(r.handle), readBytes: r.lib.storageBytes(r.handle),
		writtenRows: r.lib.rowsWritten(r.handle), writtenBytes: r.lib.bytesWritten(r.handle),
		resultRows: r.lib.resultRows(r.handle), resultBytes: r.lib.resultBytes(r.handle),
	}
}

func (r chdbResult) destroy() { r.lib.destroyResult(r.handle) }

// chdbStream is a running statement.
type chdbStream struct {
	conn   *chdbConn
	handle chdbResult
}

// next returns the next part, which is empty at the end.
func (s *chdbStream) next() (chdbResult, error) {
	return s.conn.lib.result(s.conn.lib.streamFetch(s.conn.conn(), s.handle.handle))
}

// destroy cancels the statement unless it has ended.
func (s *chdbStream) destroy() {
	s.conn.lib.streamCancel(s.conn.conn(), s.handle.handle)
	s.handle.destroy()
}

// chdbInsert is a running INSERT.
type chdbInsert struct {
	lib    *chdb
	handle unsafe.Pointer
}

// append copies data; it waits while the engine is behind. False says that the
// INSERT has failed, and done says why.
func (i *chdbInsert) append(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	ok := i.lib.insertAppend(i.handle, unsafe.Pointer(&data[0]), uintptr(len(data))) == 0
	runtime.KeepAlive(data)
	return ok
}

// done ends the data and waits until the engine has taken all of it.
func (i *chdbInsert) done() (summary, error) {
	r, err := i.lib.result(i.lib.insertDone(i.handle))
	if err != nil {
		return summary{}, err
	}
	defer r.destroy()
	return r.summary(), nil
}

func (i *chdbInsert) cancel() { i.lib.insertCancel(i.handle) }

func (i *chdbInsert) destroy() { i.lib.insertDestroy(i.handle) }
