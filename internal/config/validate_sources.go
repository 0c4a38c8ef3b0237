package config

import (
	"fmt"
	"regexp"
	"strings"
)

// maxSourceSize bounds max_size: the topics and producers that carry an event
// are sized by it.
const maxSourceSize = 16 * MiB

// maxPointerDepth is how many levels of a record a pointer may go down.
const maxPointerDepth = 8

func (j *judge) sources() {
	names, topics := map[string]int{}, map[string]int{}
	for i := range j.c.Sources {
		s, path := &j.c.Sources[i], fmt.Sprintf("sources[%d]", i)
		if s.Name == "" {
			j.fail(path+".name", "required: a short name for logs and metrics")
		} else if first, twice := names[s.Name]; twice {
			j.fail(path+".name", "%q is the name of sources[%d] already", s.Name, first)
		} else {
			names[s.Name] = i
		}
		j.sourceTopics(path, i, s, topics)
		if s.Format == "" {
			j.fail(path+".format", "required: %s or %s", FormatCloudEvents, FormatJSON)
		} else {
			j.oneOf(path+".format", s.Format, FormatCloudEvents, FormatJSON)
		}
		if s.Start.At == "" {
			j.fail(path+".start", "required: latest, earliest or an RFC 3339 time, where to begin on topics not read before")
		}
		j.mappings(path, s)
		j.jsonOnly(path, s)
		if s.MaxSize < KiB || s.MaxSize > maxSourceSize {
			j.fail(path+".max_size", "must be from 1KiB to %s, is %s", maxSourceSize, s.MaxSize)
		}
	}
}

func (j *judge) sourceTopics(path string, i int, s *Source, seen map[string]int) {
	if (len(s.Topics) == 0) == (s.Pattern == "") {
		j.fail(path, "want either topics (a list of names) or pattern (a regular expression)")
	}
	if s.Pattern != "" {
		if _, err := regexp.Compile(s.Pattern); err != nil {
			j.fail(path+".pattern", "not a regular expression: %v", err)
		}
	}
	for k, t := range s.Topics {
		p := fmt.Sprintf("%s.topics[%d]", path, k)
		switch first, twice := seen[t]; {
		case !topicName.MatchString(t):
			j.fail(p, "%q is not the name of a topic; want letters, digits, dots, underscores and hyphens (a regular expression goes to pattern)", t)
		case j.c.OwnTopic(t) && t != j.c.EventsTopic():
			j.fail(p, "%s is a topic of Posthorn's own; of these only %s can be a source", t, j.c.EventsTopic())
		case twice:
			j.fail(p, "%s is a topic of sources[%d] already", t, first)
		default:
			seen[t] = i
		}
	}
}

func (j *judge) mappings(path string, s *Source) {
	for _, m := range []struct {
		key      string
		m        Mapping
		required bool
		ce       bool // can be mapped for cloudevents
	}{
		{"id", s.ID, false, false}, {"type", s.Type, true, false}, {"tenant", s.Tenant, true, true},
		{"time", s.Time, false, false}, {"subject", s.Subject, false, false}, {"source", s.EventSource, false, false},
	} {
		p := path + "." + m.key
		switch {
		case m.m.set() > 1:
			j.fail(p, "want one of header, pointer, attribute and constant, got %d of them", m.m.set())
		case m.m.IsZero() && m.required && s.Format == FormatJSON:
			j.fail(p, "required for format json: one of {header: NAME}, {pointer: /a/b}, {constant: TEXT}")
		case m.m.IsZero() && j.given(p):
			j.fail(p, "want one of {header: NAME}, {pointer: /a/b}, {constant: TEXT}")
		case !m.m.IsZero() && !m.ce && s.Format == FormatCloudEvents:
			j.fail(p, "a CloudEvent carries its own %s; only tenant is mapped for format cloudevents", m.key)
		case m.key == "id" && m.m.Constant != "", m.key == "time" && m.m.Constant != "":
			j.fail(p, "every event has its own %s; want a header or a pointer, not a constant", m.key)
		case m.m.Attribute != "" && s.Format == FormatJSON:
			j.fail(p, "attributes are of CloudEvents; want a header, a pointer or a constant for format json")
		case m.m.Attribute != "" && !attributeName.MatchString(m.m.Attribute):
			j.fail(p+".attribute", "%q is not the name of a CloudEvents attribute; want lower-case letters and digits", m.m.Attribute)
		case m.m.Pointer != "":
			j.pointer(p+".pointer", m.m.Pointer)
		}
	}
}

// attributeName is CloudEvents 1.0.2, "Naming Conventions".
var attributeName = regexp.MustCompile(`^[a-z0-9]{1,64}$`)

// jsonOnly judges what belongs to format json alone.
func (j *judge) jsonOnly(path string, s *Source) {
	if s.Format == FormatCloudEvents {
		if s.TimeForm != "" || s.Data != "" {
			j.fail(path, "time_form and data belong to format json; a CloudEvent has its own time and data")
		}
		return
	}
	if s.TimeForm != "" {
		j.oneOf(path+".time_form", s.TimeForm, TimeRFC3339, TimeUnix, TimeUnixMS)
	}
	if s.Data != "" {
		j.pointer(path+".data", s.Data)
	}
}

func (j *judge) pointer(path, p string) {
	switch {
	case !validPointer(p):
		j.fail(path, "%q is not a JSON Pointer (RFC 6901); want a form such as /data/customer/id", p)
	case strings.Count(p, "/") > maxPointerDepth:
		j.fail(path, "%q goes deeper than %d levels", p, maxPointerDepth)
	}
}

// given reports whether the file or the environment names the key.
func (j *judge) given(path string) bool {
	_, ok := j.c.origins[path]
	return ok
}

// validPointer checks RFC 6901, section 3: each token behind a slash, and ~
// only as ~0 or ~1.
func validPointer(p string) bool {
	if !strings.HasPrefix(p, "/") {
		return false
	}
	for i := range len(p) {
		if p[i] == '~' && (i+1 == len(p) || (p[i+1] != '0' && p[i+1] != '1')) {
			return false
		}
	}
	return true
}
