package embedded

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// exception is a ClickHouse error: "Code: 60. DB::Exception: …". Clients know it
// by its code, which is that of src/Common/ErrorCodes.cpp in ClickHouse.
type exception struct {
	code    int
	message string // with the prefix
}

func (e *exception) Error() string { return e.message }

// The codes that this package gives itself.
const (
	codeSyntax         = 62
	codeReadonly       = 164
	codeTooLarge       = 161
	codeNotImplemented = 48
	codeBadArguments   = 36
	codeTooMany        = 202
	codeDenied         = 497
	codeUnknown        = 1002
)

func newException(code int, name, format string, args ...any) *exception {
	return &exception{code, fmt.Sprintf("Code: %d. DB::Exception: %s. (%s)", code, fmt.Sprintf(format, args...), name)}
}

func notImplemented(format string, args ...any) *exception {
	return newException(codeNotImplemented, "NOT_IMPLEMENTED", format, args...)
}

func badArguments(format string, args ...any) *exception {
	return newException(codeBadArguments, "BAD_ARGUMENTS", format, args...)
}

var codePattern = regexp.MustCompile(`Code: (\d+)\. `)

// engineError reads what the library reports, which may have words before it.
func engineError(message string) *exception {
	message = strings.TrimSpace(message)
	if at := codePattern.FindStringSubmatchIndex(message); at != nil {
		if code, err := strconv.Atoi(message[at[2]:at[3]]); err == nil {
			return &exception{code, message[at[0]:]}
		}
	}
	return newException(codeUnknown, "UNKNOWN_EXCEPTION", "%s", message)
}

// status is the HTTP status that a ClickHouse server gives the code
// (exceptionCodeToHTTPStatus in src/Server/HTTP).
func (e *exception) status() int {
	switch e.code {
	case 6, 8, 15, 25, 26, 27, 36, 38, 40, 41, 42, 43, 44, 53, 62, 66, 69, 72, 117, 167, 168, 456:
		return http.StatusBadRequest
	case 46, 47, 50, 56, 60, 63, 73, 78, 81, 115:
		return http.StatusNotFound
	case 192, 193, 291, codeDenied, 516:
		return http.StatusForbidden
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeNotImplemented:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}
