package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// The formats of a source.
const (
	// FormatCloudEvents is the CloudEvents 1.0 Kafka binding, binary and
	// structured mode.
	FormatCloudEvents = "cloudevents"
	// FormatJSON is any JSON value whose attributes are found by mapping.
	FormatJSON = "json"
)

// The forms of a mapped time.
const (
	TimeRFC3339 = "rfc3339"
	TimeUnix    = "unix"    // seconds, a fraction is allowed
	TimeUnixMS  = "unix_ms" // milliseconds
)

// DefaultMaxSize is the largest event that a source reads unless it says so.
const DefaultMaxSize = 256 * KiB

// Source maps topics of yours to events.
type Source struct {
	// Name is the source's own, in logs and metrics.
	Name string `yaml:"name"`
	// Topics are names, or Pattern is a regular expression (RE2) that the
	// whole name of a topic matches. A pattern never matches our own topics.
	Topics  []string `yaml:"topics"`
	Pattern string   `yaml:"pattern"`
	// Format is "cloudevents" or "json".
	Format string `yaml:"format"`
	// Start says where topics that have not been read before are begun. It is
	// required.
	Start Start `yaml:"start"`
	// ID, Type, Tenant, Time, Subject and EventSource say where events of
	// format json have their attributes; Type and Tenant are required. Of
	// format cloudevents only Tenant can be mapped, which is the extension
	// attribute "tenant" otherwise.
	ID          Mapping `yaml:"id"`
	Type        Mapping `yaml:"type"`
	Tenant      Mapping `yaml:"tenant"`
	Time        Mapping `yaml:"time"`
	Subject     Mapping `yaml:"subject"`
	EventSource Mapping `yaml:"source"`
	// TimeForm is how a mapped Time is written: "rfc3339" (the default),
	// "unix" (seconds) or "unix_ms".
	TimeForm string `yaml:"time_form"`
	// Data is a JSON Pointer to the part of a JSON record that is the event's
	// data; empty means all of it.
	Data string `yaml:"data"`
	// MaxSize is of a record's value; what is larger goes to the invalid topic.
	MaxSize Size `yaml:"max_size"`
}

// Mapping says where an attribute of an event is found. One field is set, or
// none when the attribute isn't mapped.
type Mapping struct {
	// Header is the key of a Kafka record header.
	Header string `yaml:"header"`
	// Pointer is a JSON Pointer (RFC 6901) into the record's value; of a
	// CloudEvent, into its data.
	Pointer string `yaml:"pointer"`
	// Attribute is the name of a CloudEvents attribute.
	Attribute string `yaml:"attribute"`
	// Constant is the value itself.
	Constant string `yaml:"constant"`
}

// IsZero reports whether the attribute isn't mapped.
func (m Mapping) IsZero() bool { return m == Mapping{} }

// set counts the fields that are set.
func (m Mapping) set() (n int) {
	for _, s := range [...]string{m.Header, m.Pointer, m.Attribute, m.Constant} {
		if s != "" {
			n++
		}
	}
	return n
}

// setDefaults gives an element of the list of sources what a file leaves out.
func (s *Source) setDefaults() { s.MaxSize = DefaultMaxSize }

// EventsTopic is the name of the one topic of ours that may be a source.
func (c *Config) EventsTopic() string { return c.Prefix + "." + eventsSuffix }

const eventsSuffix = "events"

// OwnTopic reports whether a topic's name begins with our prefix.
func (c *Config) OwnTopic(topic string) bool {
	_, own := c.ownSuffix(topic)
	return own
}

// ownSuffix returns what follows our prefix and its dot. Like [Config.SourceOf],
// which is asked for every record, it puts no strings together.
func (c *Config) ownSuffix(topic string) (suffix string, own bool) {
	rest, ours := strings.CutPrefix(topic, c.Prefix)
	if !ours {
		return "", false
	}
	return strings.CutPrefix(rest, ".")
}

// SourceOf returns the source that reads a topic, or nil. A source that names
// the topic goes before those whose pattern matches it, and of these the first
// counts. Kafka's internal topics (__…) and our own match no pattern.
//
// It is cheap enough to be asked for every record, and safe for concurrent use
// as long as nobody changes the configuration.
func (c *Config) SourceOf(topic string) *Source {
	suffix, own := c.ownSuffix(topic)
	if own && suffix != eventsSuffix {
		return nil
	}
	for i := range c.Sources {
		if slices.Contains(c.Sources[i].Topics, topic) {
			return &c.Sources[i]
		}
	}
	if own || strings.HasPrefix(topic, "__") {
		return nil
	}
	for i := range c.Sources {
		if re, err := c.Sources[i].Regexp(); err == nil && re != nil && re.MatchString(topic) {
			return &c.Sources[i]
		}
	}
	return nil
}

// Regexp returns Pattern so compiled that it matches whole names; nil without
// one.
func (s *Source) Regexp() (*regexp.Regexp, error) {
	if s.Pattern == "" {
		return nil, nil
	}
	if re := (*compiled.Load())[s.Pattern]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(`^(?:` + s.Pattern + `)$`)
	if err != nil {
		return nil, err
	}
	remember(s.Pattern, re)
	return re, nil
}

// compiled are the patterns that were asked for. Compiling one takes longer than
// everything else that is done with a record, and a [Config], which is copied,
// can't hold what several goroutines fill in. The map that it points to is never
// changed, so that reading needs no lock.
var compiled atomic.Pointer[map[string]*regexp.Regexp]

// maxCompiled bounds the memory of processes that read many configurations.
const maxCompiled = 1000

func init() { compiled.Store(&map[string]*regexp.Regexp{}) }

func remember(pattern string, re *regexp.Regexp) {
	for {
		old := compiled.Load()
		next := make(map[string]*regexp.Regexp, len(*old)+1)
		if len(*old) < maxCompiled {
			maps.Copy(next, *old)
		}
		next[pattern] = re
		if compiled.CompareAndSwap(old, &next) {
			return
		}
	}
}
