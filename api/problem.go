package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"
)

// The types of problems that a client can tell apart by more than the status
// (RFC 9457, section 3.1.1); all others are "about:blank".
const (
	TypeInvalidRequest = "urn:posthorn:problem:invalid-request"
	TypeLimitReached   = "urn:posthorn:problem:limit-reached"
	TypeKeyReused      = "urn:posthorn:problem:idempotency-key-reused"
	TypeForbidden      = "urn:posthorn:problem:forbidden"
)

// Problem is the body of every error: Problem Details for HTTP APIs (RFC 9457)
// with the extension member "errors". It holds no value of the request's
// body: a signing secret may be among them.
type Problem struct {
	_      struct{}     `additionalProperties:"true"`
	Type   string       `json:"type" format:"uri-reference" doc:"What kind of problem; about:blank says no more than the status"`
	Title  string       `json:"title" doc:"The kind of problem in words"`
	Status int          `json:"status" doc:"The HTTP status" example:"400"`
	Detail string       `json:"detail,omitempty" doc:"What happened here"`
	Errors []FieldError `json:"errors,omitempty" doc:"Each thing that is wrong with the request"`

	header http.Header // besides the content type
}

// Error returns the title, the detail and the fields.
func (p *Problem) Error() string {
	var s strings.Builder
	s.WriteString(p.Title)
	if p.Detail != "" {
		s.WriteString(": " + p.Detail)
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&s, "; %s: %s", e.Field, e.Problem)
	}
	return s.String()
}

// GetStatus implements [huma.StatusError].
func (p *Problem) GetStatus() int { return p.Status }

// ContentType implements [huma.ContentTypeFilter].
func (p *Problem) ContentType(string) string { return problemType }

// GetHeaders implements [huma.HeadersError].
func (p *Problem) GetHeaders() http.Header {
	return p.header
}

const problemType = "application/problem+json"

func newProblem(status int, format string, args ...any) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// invalid is a request whose content is at fault.
func invalid(errs ...FieldError) *Problem {
	slices.SortStableFunc(errs, func(a, b FieldError) int { return cmp.Compare(a.Field, b.Field) })
	return &Problem{
		Type: TypeInvalidRequest, Title: "Invalid request", Status: http.StatusBadRequest,
		Detail: "The request was not carried out; see errors.", Errors: errs,
	}
}

func notFound(id string) *Problem {
	return newProblem(http.StatusNotFound, "The tenant has no endpoint %.80q.", id)
}

// init sets what huma only takes process-wide. This package is the only one
// that uses it.
func init() {
	// By default {"URL": …} would pass as {"url": …}, and a client that sends
	// both would not know which of them counts.
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
	validation.MsgUnexpectedProperty = "there is no such field"
	validation.MsgExpectedRequiredProperty = missingField + "%s"
	// By default an error quotes the value that it is about, and for an
	// unknown field that is the whole body with the secret in it.
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return fromHuma(status, msg, errs)
	}
}

const missingField = "missing field "

// fromHuma turns what huma found wrong with a request into a Problem. Handlers
// make their own, so a 422 here is always a matter of content: a 400.
func fromHuma(status int, msg string, errs []error) *Problem {
	switch {
	case status == http.StatusUnsupportedMediaType:
		return newProblem(status, "%s", wantJSON)
	case status >= 500:
		return newProblem(status, "Something went wrong here.")
	case status != http.StatusBadRequest && status != http.StatusUnprocessableEntity:
		return newProblem(status, "%s.", msg)
	}
	if len(errs) == 0 {
		return invalid(FieldError{"body", "it is missing"})
	}
	fields := make([]FieldError, 0, len(errs))
	for _, err := range errs {
		var d huma.ErrorDetailer
		if !errors.As(err, &d) {
			fields = append(fields, FieldError{"body", "it can't be read"})
			continue
		}
		detail := d.ErrorDetail()
		where, what := detail.Location, detail.Message
		// huma places a field that is missing where it is missing from.
		if name, missing := strings.CutPrefix(what, missingField); missing {
			where, what = where+"."+name, "it is missing"
		}
		fields = append(fields, FieldError{fieldName(where), what})
	}
	return invalid(fields...)
}

// fieldName turns huma's "body.headers.X-Team" into "headers[X-Team]".
func fieldName(location string) string {
	name, ok := strings.CutPrefix(location, "body.")
	if !ok {
		return location
	}
	if header, ok := strings.CutPrefix(name, "headers."); ok {
		return fmt.Sprintf("headers[%.64s]", header)
	}
	return fmt.Sprintf("%.64s", name)
}

// problemOf decides what a client is told of an error. What isn't the
// client's business is logged instead.
func (s *server) problemOf(ctx context.Context, operation string, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		s.log.WarnContext(ctx, "request given up", "operation", operation, "error", err)
		p = newProblem(http.StatusServiceUnavailable,
			"The registry did not answer in time. A change may have been made all the same: repeat it with Idempotency-Key or If-Match.")
		p.header = http.Header{"Retry-After": {"1"}}
		return p
	}
	s.log.ErrorContext(ctx, "request failed", "operation", operation, "error", err)
	return newProblem(http.StatusInternalServerError, "Something went wrong here.")
}
