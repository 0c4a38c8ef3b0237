package send

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"posthorn/webhook"
)

func TestGzipBombIsNeverDecompressed(t *testing.T) {
	var bomb bytes.Buffer
	zw := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(zw, zeros{}, 10<<20); err != nil {
		t.Fatal(err)
	}
	zw.Close()
	var asked string
	s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		if req, ok := s.readPost(br); ok {
			asked = req.Header.Get("Accept-Encoding")
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", bomb.Len())
			conn.Write(bomb.Bytes())
		}
	})
	r := post(t, newClient(t, nil), s.url)
	wantReason(t, r, webhook.ReasonOK)
	if !strings.HasPrefix(r.Response, "\x1f\uFFFD\b") {
		t.Errorf("the response is %.20q, not the compressed bytes as they came", r.Response)
	}
	if asked != "" {
		t.Errorf("asked for encoding %q", asked)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestEndlessBodyIsCutAndItsStatusCounts(t *testing.T) {
	for status, want := range map[int]webhook.Reason{200: webhook.ReasonOK, 500: webhook.ReasonStatus5xx} {
		for name, framing := range map[string]string{"until close": "", "chunked": "Transfer-Encoding: chunked\r\n", "length": "Content-Length: 99999999999\r\n"} {
			hungUp := make(chan struct{}, 1)
			s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
				s.readPost(br)
				fmt.Fprintf(conn, "HTTP/1.1 %d X\r\n%s\r\n", status, framing)
				chunk := strings.Repeat("x", 1024)
				if name == "chunked" {
					chunk = "400\r\n" + chunk + "\r\n"
				}
				flood(conn, chunk, hungUp)
			})
			r := post(t, newClient(t, nil), s.url)
			wantReason(t, r, want)
			if r.Response != strings.Repeat("x", 500) {
				t.Errorf("%s: kept %d bytes of the response", name, len(r.Response))
			}
			<-hungUp
		}
	}
}

func TestEndlessOrOversizeHeadersAreRefused(t *testing.T) {
	hungUp := make(chan struct{}, 1)
	endless := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		s.readPost(br)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		flood(conn, "X-More: "+strings.Repeat("x", 100)+"\r\n", hungUp)
	})
	wantReason(t, post(t, newClient(t, nil), endless.url), webhook.ReasonProtocol)
	<-hungUp
	oversize := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "+strings.Repeat("x", 33<<10)+"\r\n\r\n"))
	wantReason(t, post(t, newClient(t, nil), oversize.url), webhook.ReasonProtocol)
	large := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "+strings.Repeat("x", 31<<10)+"\r\n\r\n"))
	wantReason(t, post(t, newClient(t, nil), large.url), webhook.ReasonOK)
}

func TestInterimAnswersAreSkippedAndTheirFloodIsBounded(t *testing.T) {
	hungUp := make(chan struct{}, 1)
	endless := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
		s.readPost(br)
		flood(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", hungUp)
	})
	wantReason(t, post(t, newClient(t, nil), endless.url), webhook.ReasonProtocol)
	<-hungUp
	few := newRawServer(t, answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
	wantReason(t, post(t, newClient(t, nil), few.url), webhook.ReasonOK)
	switching := newRawServer(t, answering("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"))
	if r := post(t, newClient(t, nil), switching.url); wantReason(t, r, webhook.ReasonStatusOther).Health != Sick {
		t.Error("a receiver that switches protocols counts as well")
	}
}

func TestRedirectsAreFailuresAndNeverFollowed(t *testing.T) {
	elsewhere := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	for _, location := range []string{elsewhere.url, "http://169.254.169.254/latest/meta-data/", "/other"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			s := newRawServer(t, answering(fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", status, location)))
			r := post(t, newClient(t, nil), s.url)
			out := wantReason(t, r, webhook.ReasonStatus3xx)
			if r.Status != status || out.Verdict != Retryable || s.posts.Load() != 1 {
				t.Errorf("%d to %s: status %d, %v, %d requests", status, location, r.Status, out.Verdict, s.posts.Load())
			}
		}
	}
	if n := elsewhere.conns.Load(); n != 0 {
		t.Errorf("%d connections to where the redirect pointed", n)
	}
}

func TestAStatusLineDecidesWhenTheBodyBreaks(t *testing.T) {
	for status, want := range map[int]webhook.Reason{200: webhook.ReasonOK, 204: webhook.ReasonOK, 299: webhook.ReasonOK, 404: webhook.ReasonStatus4xx, 503: webhook.ReasonStatus5xx} {
		for name, rest := range map[string]string{
			"short body":   "Content-Length: 100\r\n\r\npartial",
			"broken chunk": "Transfer-Encoding: chunked\r\n\r\n7\r\npartial\r\nzz\r\n",
			"chunk cut":    "Transfer-Encoding: chunked\r\n\r\nffff\r\npartial",
		} {
			s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
				s.readPost(br)
				fmt.Fprintf(conn, "HTTP/1.1 %d X\r\n%s", status, rest)
			})
			r := post(t, newClient(t, nil), s.url)
			wantReason(t, r, want)
			if r.Status != status || r.Err != nil {
				t.Errorf("%s: status %d, %v", name, r.Status, r.Err)
			}
			if status != 204 && r.Response != "partial" {
				t.Errorf("%s: response %q", name, r.Response)
			}
		}
	}
}

func TestWhatIsNotHTTPIsAProtocolFailure(t *testing.T) {
	for name, answer := range map[string]string{
		"garbage":        "\x00\x01\x02 hello\r\n\r\n",
		"ssh":            "SSH-2.0-OpenSSH_9.6\r\n",
		"bad status":     "HTTP/1.1 abc\r\n\r\n",
		"bad header":     "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
		"two lengths":    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"bad length":     "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"unknown coding": "HTTP/1.1 200 OK\r\nTransfer-Encoding: strange\r\n\r\n",
		"tls alert":      "\x15\x03\x01\x00\x02\x02\x46\r\n",
	} {
		s := newRawServer(t, func(s *rawServer, conn net.Conn, br *bufio.Reader) {
			s.readPost(br)
			io.WriteString(conn, answer)
			io.Copy(io.Discard, br)
		})
		r := post(t, newClient(t, nil), s.url)
		if out := Classify(r, retryAll); out.Reason != webhook.ReasonProtocol || out.Verdict != Retryable {
			t.Errorf("%s: %v, %v (%v)", name, out.Reason, out.Verdict, r.Err)
		}
	}
}

func TestCRLFInCustomHeadersIsRefusedBeforeAnythingIsSent(t *testing.T) {
	s := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	c := newClient(t, nil)
	for name, value := range map[string]string{
		"X-A":               "b\r\nX-Evil: 1",
		"X-B":               "b\nX-Evil: 1",
		"X-C":               "b\rc",
		"X-D":               "b\x00",
		"X-E\r\nX-Evil":     "1",
		"X F":               "space in the name",
		"":                  "no name",
		"X-G:":              "colon in the name",
		"Idempotency-Key":   "net/http would POST twice",
		"x-idempotency-key": "net/http would POST twice",
	} {
		custom := map[string]string{name: value}
		for _, err := range []error{CheckHeaders(custom), AddCustom(http.Header{}, custom)} {
			if err == nil {
				t.Errorf("%q: %q passed", name, value)
			} else if strings.Contains(err.Error(), "Evil: 1") {
				t.Errorf("the error shows the value: %v", err)
			}
		}
		r := c.Do(t.Context(), &Request{URL: mustURL(t, s.url), Header: http.Header{name: {value}}, Body: []byte("x")})
		if out := wantReason(t, r, webhook.ReasonRequest); out.Health != Unknown || out.Verdict != Retryable {
			t.Errorf("%q: %+v", name, out)
		}
	}
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
