package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// apiTimeout bounds one request of the API.
	apiTimeout = 30 * time.Second
	// maxAnswer bounds what is read of an answer: a page of endpoints is far
	// below it.
	maxAnswer = 16 << 20
)

// API is a client of the HTTP API of a process with the role api.
type API struct {
	base   *url.URL
	client *http.Client
	key    string // empty for none
}

// NewAPI returns a client for a base URL such as http://127.0.0.1:9464 that
// shows an API key, unless that is empty. The error is a [*UsageError].
func NewAPI(base, key string) (*API, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usagef("--api %q: want a URL such as http://127.0.0.1:9464", base)
	}
	// What is asked and answered may hold a signing secret: it goes to the
	// address that was given and nowhere else, neither through a proxy of the
	// environment nor to where an answer redirects.
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 30 * time.Second}
	return &API{base: u, key: key, client: &http.Client{Timeout: apiTimeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// APIError is an answer of the API that refuses a request: a problem document
// (RFC 9457), or what could be made out of another answer.
type APIError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	// Errors name the single mistakes of a request.
	Errors []APIMistake `json:"errors"`
}

// APIMistake is one mistake of a request.
type APIMistake struct {
	// Field is the path of what is at fault, such as "url".
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Status, e.Title)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	for _, m := range e.Errors {
		b.WriteString("\n  ")
		if m.Field != "" {
			b.WriteString(m.Field + ": ")
		}
		b.WriteString(m.Problem)
	}
	return printable(b.String())
}

// call makes one request. in (if not nil) is sent as JSON, the answer's JSON is
// returned. Errors are [*APIError] when the API has answered.
func (a *API) call(ctx context.Context, method, path string, query url.Values, header http.Header, in any) ([]byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encoding request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := *a.base
	// path is escaped by its maker: IDs of tenants may hold anything.
	u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/") + path
	p, err := url.PathUnescape(u.RawPath)
	if err != nil {
		return nil, fmt.Errorf("building request: %w", err)
	}
	u.Path, u.RawQuery = p, query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("building request: %w", err)
	}
	maps.Copy(req.Header, header)
	if in != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the API: %w (is a process with the role api running there? --api says where)", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the API's answer: %w", err)
	case len(answer) > maxAnswer:
		return nil, errors.New("reading the API's answer: it is longer than 16 MiB")
	case resp.StatusCode >= 300:
		return nil, problemOf(resp, answer)
	}
	return answer, nil
}

// pageSize is how many items of a list are asked for at a time.
const pageSize = 500

// pages returns up to limit items of a list (0: all), page after page.
func pages[T any](ctx context.Context, a *API, path string, query url.Values, limit int) ([]T, error) {
	items := []T{}
	query = maps.Clone(query)
	if query == nil {
		query = url.Values{}
	}
	for seen := map[string]bool{}; ; {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		query.Set("limit", fmt.Sprint(size))
		answer, err := a.call(ctx, http.MethodGet, path, query, nil, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		if err := json.Unmarshal(answer, &page); err != nil {
			return nil, fmt.Errorf("reading the list: %w", err)
		}
		items = append(items, page.Items...)
		if page.Next == "" || limit > 0 && len(items) >= limit {
			return items, nil
		}
		if seen[page.Next] {
			return nil, errors.New("the API gave the same cursor twice")
		}
		seen[page.Next] = true
		query.Set("cursor", page.Next)
	}
}

// problemOf makes an error of a refusing answer.
func problemOf(resp *http.Response, answer []byte) *APIError {
	e := &APIError{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // "" for what can't be read
	if strings.HasSuffix(kind, "json") {
		if err := json.Unmarshal(answer, e); err != nil {
			e = &APIError{}
		}
	}
	e.Status = resp.StatusCode
	if e.Title == "" {
		e.Title = http.StatusText(resp.StatusCode)
	}
	if e.Detail == "" && len(e.Errors) == 0 && !strings.HasSuffix(kind, "json") {
		const excerpt = 200
		e.Detail = strings.TrimSpace(string(answer[:min(len(answer), excerpt)]))
	}
	return e
}
