package send

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

// FuzzAPlainAnswerIsReadAsNetHTTPReadsIt holds what readPlain takes against
// net/http; what it doesn't take is net/http's anyway.
func FuzzAPlainAnswerIsReadAsNetHTTPReadsIt(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 200\r\ncontent-length:2 \r\nX-A:\t\r\n\r\nokmore",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n folded\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
		"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nBad Name: x\r\n\r\n.",
		"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nRetry-After: a\r\nRetry-After: b\r\nContent-Length: 1\r\n\r\n.",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4000 {
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(b), 4<<10)
		if _, err := br.Peek(1); err != nil {
			return
		}
		p, ok := readPlain(br)
		if !ok || p.head+p.length > br.Buffered() {
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), postRequest) //nolint:bodyclose // there is no connection to free
		if err != nil {
			t.Fatalf("%q is taken as %+v, net/http refuses it: %v", b, p, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != p.status || string(body) != string(b[p.head:p.head+p.length]) ||
			resp.Close != p.close || resp.Header.Get("Retry-After") != p.retryAfter {
			t.Fatalf("%q is taken as %+v, to net/http it is %d, %q, close %v, retry after %q (%v)",
				b, p, resp.StatusCode, body, resp.Close, resp.Header.Get("Retry-After"), err)
		}
	})
}

func TestTheCommonAnswersArePlain(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 03 Mar 2026 10:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
		"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
	} {
		br := bufio.NewReaderSize(bytes.NewReader([]byte(text)), 4<<10)
		br.Peek(1)
		if p, ok := readPlain(br); !ok || p.close {
			t.Errorf("%q: %+v, %v", text, p, ok)
		}
	}
}
