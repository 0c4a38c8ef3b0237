package embedded

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
)

// frameSize is how much goes into one compressed block, ClickHouse's own default.
const frameSize = 1 << 20

// clickHouseQuery is one request while it is answered.
type clickHouseQuery struct {
	clickHouseRequest
	started time.Time
	w       http.ResponseWriter
	r       *http.Request
	sum     summary
	out     io.Writer // nil until the header is written
	close   func() error
	tag     string // marks an error that comes after the header
	native  chproto.Buffer
}

// header begins the answer.
func (q *clickHouseQuery) header() error {
	h := q.w.Header()
	h.Set("Content-Type", contentType(q.format))
	h.Set("X-Clickhouse-Format", q.format)
	h.Set("X-Clickhouse-Summary", q.sum.json(time.Since(q.started)))
	q.tag = strings.ToLower(rand.Text()[:16])
	h.Set("X-Clickhouse-Exception-Tag", q.tag)
	q.out, q.close = q.w, func() error { return nil }
	if q.gzip {
		h.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(q.w)
		q.out, q.close = z, z.Close
	}
	if q.frames {
		f, err := newFrameWriter(q.out, q.method)
		if err != nil {
			q.out = nil
			h.Del("Content-Encoding")
			return err
		}
		q.out = f
	}
	q.w.WriteHeader(http.StatusOK)
	return nil
}

// write sends a part of the result.
func (q *clickHouseQuery) write(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if q.revision > 0 && strings.EqualFold(q.format, "Native") {
		if err := reencode(data, q.revision, &q.native); err != nil {
			return notImplemented("The embedded ClickHouse can't give this result to a client of revision %d: %v", q.revision, err)
		}
		data = q.native.Buf
	}
	if q.out == nil {
		if err := q.header(); err != nil {
			return err
		}
	}
	if _, err := q.out.Write(data); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// finish ends the answer.
func (q *clickHouseQuery) finish() error {
	if q.out == nil {
		if q.frames || q.gzip {
			q.frames, q.gzip = false, false // nothing to compress
		}
		if err := q.header(); err != nil {
			return err
		}
	}
	if err := q.close(); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// fail answers with an error. When the header has gone out, the error ends the
// body, marked as ClickHouse marks it, and the connection breaks off.
func (q *clickHouseQuery) fail(err error) {
	e := new(exception)
	if !errors.As(err, &e) {
		e = newException(codeUnknown, "UNKNOWN_EXCEPTION", "%v", err)
		if errors.Is(err, context.Canceled) {
			panic(http.ErrAbortHandler)
		}
	}
	if q.out == nil {
		h := q.w.Header()
		h.Set("Content-Type", "text/plain; charset=UTF-8")
		h.Set("X-Clickhouse-Exception-Code", strconv.Itoa(e.code))
		q.w.WriteHeader(e.status())
		_, _ = io.WriteString(q.w, e.message+"\n")
		return
	}
	message := e.message[:min(len(e.message), 15<<10)] + "\n"
	_, _ = fmt.Fprintf(q.out, "\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n", q.tag, message, len(message), q.tag)
	if q.close() == nil {
		_ = http.NewResponseController(q.w).Flush()
	}
	panic(http.ErrAbortHandler) // no client takes this for the end of the result
}

func contentType(format string) string {
	switch lower := strings.ToLower(format); {
	case strings.HasPrefix(lower, "tabseparated"), strings.HasPrefix(lower, "tsv"):
		return "text/tab-separated-values; charset=UTF-8"
	case strings.HasPrefix(lower, "csv"):
		return "text/csv; charset=UTF-8; header=absent"
	case lower == "jsoneachrow", lower == "ndjson", lower == "jsonlines":
		return "application/x-ndjson; charset=UTF-8"
	case strings.HasPrefix(lower, "json"):
		return "application/json; charset=UTF-8"
	case strings.HasPrefix(lower, "pretty"), lower == "vertical", lower == "values":
		return "text/plain; charset=UTF-8"
	case lower == "xml":
		return "application/xml; charset=UTF-8"
	}
	return "application/octet-stream"
}

// frameWriter writes ClickHouse's compressed blocks.
type frameWriter struct {
	to io.Writer
	by *compress.Writer
}

func newFrameWriter(to io.Writer, method string) (*frameWriter, error) {
	methods := map[string]compress.Method{"LZ4": compress.LZ4, "LZ4HC": compress.LZ4HC, "ZSTD": compress.ZSTD, "NONE": compress.None}
	m, ok := methods[method]
	if !ok {
		return nil, notImplemented("network_compression_method %s: LZ4, LZ4HC, ZSTD and NONE are supported", method)
	}
	return &frameWriter{to: to, by: compress.NewWriter(compress.LevelZero, m)}, nil
}

func (w *frameWriter) Write(data []byte) (written int, err error) {
	for len(data) > 0 {
		part := data[:min(len(data), frameSize)]
		if err := w.by.Compress(part); err != nil {
			return written, fmt.Errorf("compressing: %w", err)
		}
		if _, err := w.to.Write(w.by.Data); err != nil {
			return written, err
		}
		written += len(part)
		data = data[len(part):]
	}
	return written, nil
}
