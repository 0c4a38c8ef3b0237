package embedded

import (
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
)

// clickHouseRequest is what a request's URL and headers ask for.
type clickHouseRequest struct {
	id       string // of the query, the client's own or a new one
	text     string // the parameter query
	database string
	format   string // unless the statement names one
	revision uint64 // client_protocol_version
	settings map[string]string
	comment  string // the log_comment by which this query can be found, unless the client gave its own
	params   []parameter
	body     *requestBody
	wait     bool   // wait_end_of_query: no part before all is known to be right
	frames   bool   // compress: the answer in ClickHouse's compressed blocks
	method   string // of those blocks: LZ4, LZ4HC, ZSTD or NONE
	gzip     bool   // the answer in HTTP's own compression
}

// parameter is the value of a {name:Type} in a statement, as text that the engine
// unescapes.
type parameter struct{ name, value string }

// parseRequest reads all but the statement. What isn't known is a setting, as on a
// server, and the engine refuses those that it doesn't know.
func parseRequest(r *http.Request) (clickHouseRequest, error) {
	q := clickHouseRequest{id: uuid.NewString(), format: "TabSeparated", method: "LZ4", settings: map[string]string{}}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, badArguments("Reading the parameters of the URL: %v", err)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return q, notImplemented("External tables and parameters in a multipart body are not supported by the embedded ClickHouse")
	}
	if name := r.Header.Get("X-Clickhouse-Database"); name != "" {
		q.database = name
	}
	if name := r.Header.Get("X-Clickhouse-Format"); name != "" {
		q.format = name
	}
	frames := false
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values.Get(name)
		switch name {
		case "query":
			q.text = value
		case "query_id":
			if value != "" {
				q.id = value
			}
		case "database":
			q.database = value
		case "default_format":
			q.format = value
		case "client_protocol_version":
			if q.revision, err = strconv.ParseUint(value, 10, 32); err != nil {
				return q, badArguments("client_protocol_version: %q is no number", value)
			}
		case "compress":
			q.frames = isTrue(value)
		case "decompress":
			frames = isTrue(value)
		case "network_compression_method":
			q.method = strings.ToUpper(value)
		case "wait_end_of_query":
			q.wait = isTrue(value)
		case "enable_http_compression":
			q.gzip = isTrue(value) && acceptsGzip(r.Header)
		case "user", "password", "quota_key", "buffer_size", "stacktrace", "session_timeout", "session_check", "network_zstd_compression_level":
			// There is one user without a password, and nothing is kept between requests.
		case "session_id", "role":
			if value != "" {
				return q, notImplemented("The parameter %s is not supported by the embedded ClickHouse", name)
			}
		default:
			if param, ok := strings.CutPrefix(name, "param_"); ok {
				q.params = append(q.params, parameter{param, value})
			} else {
				q.settings[name] = value
			}
		}
	}
	if q.settings["log_comment"] == "" {
		q.comment = uuid.NewString()
		q.settings["log_comment"] = q.comment
	}
	q.body, err = openBody(r, frames)
	return q, err
}

func isTrue(value string) bool { return value == "1" || strings.EqualFold(value, "true") }

func acceptsGzip(h http.Header) bool {
	for v := range strings.SplitSeq(h.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(strings.TrimSpace(v), ";"); name == "gzip" {
			return true
		}
	}
	return false
}

// setStatement makes the settings hold for the connection.
func (q clickHouseRequest) setStatement() string {
	var sets []string
	for _, name := range slices.Sorted(maps.Keys(q.settings)) {
		sets = append(sets, quoteName(name)+" = "+quoteText(q.settings[name]))
	}
	if len(sets) == 0 {
		return ""
	}
	return "SET " + strings.Join(sets, ", ")
}

var escaper = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "`", "\\`", "\x00", `\0`, "\n", `\n`)

func quoteName(name string) string { return "`" + escaper.Replace(name) + "`" }

func quoteText(text string) string { return "'" + escaper.Replace(text) + "'" }

// requestBody is the body, decompressed, up to maxInsert bytes before and after.
type requestBody struct {
	from io.Reader // decompressed
	raw  *rawBody
	left int64
}

var errTooLong = errors.New("the body is too long")

func (b *requestBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && errors.Is(err, io.EOF) {
		err = io.EOF // the reader of compressed blocks wraps it
	}
	return n, err
}

// cut is the error by which the client's sending ended, unless it came to its end.
func (b *requestBody) cut() error { return b.raw.err }

// rawBody remembers how the body ended: decompressors and readers of whole parts
// tell a connection that broke off from an end in their own ways.
type rawBody struct {
	io.Reader
	err error
}

func (b *rawBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func openBody(r *http.Request, frames bool) (*requestBody, error) {
	raw := &rawBody{Reader: http.MaxBytesReader(nil, r.Body, maxInsert)}
	b := &requestBody{from: raw, raw: raw, left: maxInsert + 1}
	var err error
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		b.from, err = gzip.NewReader(raw)
	case "deflate":
		b.from, err = zlib.NewReader(raw)
	case "br":
		b.from = brotli.NewReader(raw)
	case "zstd":
		// The memory of one frame is bounded; the decoder needs no goroutines.
		b.from, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	default:
		return nil, notImplemented("Content-Encoding %s: gzip, deflate, br and zstd are supported", encoding)
	}
	if err != nil {
		return nil, badArguments("Content-Encoding %s: %v", r.Header.Get("Content-Encoding"), err)
	}
	if frames {
		b.from = compress.NewReader(b.from)
	}
	return b, nil
}
