package api

import (
	"net/http"
	"strconv"
	"strings"

	"posthorn/webhook"
)

// etag is the entity tag (RFC 9110, section 8.8.3) of a version.
func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// precondition is a parsed If-Match header (RFC 9110, section 13.1.1).
type precondition struct {
	any  bool
	tags []string // with their quotes
}

// parseIfMatch reads the header; "" is one that was not sent. Weak tags never
// match here, as the RFC has it, so they are left out.
func parseIfMatch(header string) (precondition, *Problem) {
	rest := strings.Trim(header, " \t")
	if rest == "" || rest == "*" {
		return precondition{any: true}, nil
	}
	var p precondition
	for {
		tag, weak := strings.CutPrefix(rest, "W/")
		end := -1
		if strings.HasPrefix(tag, `"`) {
			end = strings.IndexByte(tag[1:], '"')
		}
		if end < 0 {
			return p, invalid(FieldError{"header.If-Match", `want the ETag of a response with its quotes, such as "3", several with commas between them, or *`})
		}
		if !weak {
			p.tags = append(p.tags, tag[:end+2])
		}
		rest = strings.TrimLeft(tag[end+2:], " \t")
		if rest == "" {
			return p, nil
		}
		next, comma := strings.CutPrefix(rest, ",")
		if !comma {
			next = "" // reported as a tag that is none
		}
		rest = strings.TrimLeft(next, " \t")
	}
}

// endpointOf is [endpointOf] of one that a change is asked for, under the
// registry's lock.
func (p precondition) endpointOf(tx Tx, tenant, id string) (*webhook.Endpoint, error) {
	ep, err := endpointOf(tx, tenant, id)
	if err != nil {
		return nil, err
	}
	return ep, p.check(ep.Version)
}

// check is called under the registry's lock.
func (p precondition) check(version int64) error {
	if p.any {
		return nil
	}
	for _, tag := range p.tags {
		if tag == etag(version) {
			return nil
		}
	}
	return newProblem(http.StatusPreconditionFailed, "It has changed: its ETag is %s. Read it again, and repeat what still applies.", etag(version))
}
