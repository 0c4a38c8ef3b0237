package source

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"posthorn/webhook"
)

// Record is a Kafka record as the reader sees it.
type Record struct {
	Position   webhook.Position
	Timestamp  time.Time // Kafka's
	Key, Value []byte
	Headers    []webhook.Header
}

// AppendHeaders appends the headers of a Kafka client's record to dst, which a
// caller can use again for the next record: events keep nothing of it.
func AppendHeaders[H ~struct {
	Key   string
	Value []byte
}](dst []webhook.Header, headers []H) []webhook.Header {
	for i := range headers {
		dst = append(dst, webhook.Header(headers[i]))
	}
	return dst
}

// The slots of the scanner, one for each attribute that a pointer can lead to,
// in the order of Mapping.fields.
const (
	slotID = iota
	slotType
	slotTenant
	slotTime
	slotSubject
	slotSource
	slotData
)

// Reader reads the records of one source. It is immutable: any number of
// goroutines may use it.
type Reader struct {
	format   Format
	maxBytes int
	mapping  Mapping
	root     *node // search tree of the mapping's pointers; nil when it has none
}

// NewReader returns a reader; the error is that of [Config.Validate].
func NewReader(cfg Config) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring source: %w", err)
	}
	r := &Reader{format: cfg.Format, maxBytes: cfg.MaxBytes, mapping: cfg.Mapping}
	if r.maxBytes == 0 {
		r.maxBytes = DefaultMaxBytes
	}
	if r.format == FormatCloudEvents && r.mapping.Tenant.IsZero() {
		r.mapping.Tenant = Field{Attribute: "tenant"}
	}
	var tree paths
	point := func(slot int, pointer string) {
		if pointer == "" {
			return
		}
		tokens, _ := parsePointer(pointer) // Validate has read it
		tree.add(slot, tokens)
		r.root = &tree.root
	}
	for slot, f := range r.mapping.fields() {
		point(slot, f.field.Pointer)
	}
	point(slotData, r.mapping.Data)
	return r, nil
}

// Read reads one record: either the event or the reason why it is none. The
// event's Data shares memory with rec.Value wherever its bytes stand there.
func (r *Reader) Read(rec *Record) (*webhook.Event, *Invalid) {
	switch {
	case len(rec.Value) == 0:
		return nil, invalid(ReasonEmpty, "the record has no value: an event needs data")
	case len(rec.Value) > r.maxBytes:
		return nil, invalid(ReasonOversize, "the value is %d bytes long, the limit is %d (max_size of the source)", len(rec.Value), r.maxBytes)
	}
	if r.format == FormatJSON {
		return r.readJSON(rec)
	}
	return r.readCloudEvent(rec)
}

// finish completes an event with what every format has in common.
func (r *Reader) finish(ev *webhook.Event, rec *Record) (*webhook.Event, *Invalid) {
	if ev.Type == "" {
		return nil, invalid(ReasonType, "the event has no type")
	}
	if ev.Tenant == "" {
		return nil, invalid(ReasonTenant, "the event has no tenant: %s", r.mapping.Tenant.wanted())
	}
	ev.Position = rec.Position
	// A producer may write any timestamp, even none (-1). The ones that no codec
	// can carry become the nearest that it can; the record is still an event.
	ev.Timestamp = rec.Timestamp
	if ev.Timestamp.Before(minTime) {
		ev.Timestamp = minTime
	} else if ev.Timestamp.After(maxTime) {
		ev.Timestamp = maxTime
	}
	if ev.ID == "" {
		ev.ID = recordID(ev)
	}
	if ev.Source == "" {
		ev.Source = rec.Position.Topic
	}
	if ev.Time.IsZero() {
		ev.Time = ev.Timestamp
	}
	if ev.Traceparent == "" {
		// The last one counts, as it was added last.
		setTrace(ev, lastHeader(rec, "traceparent"), lastHeader(rec, "tracestate"))
	}
	return ev, nil
}

// recordID names an event by its record: "topic/partition/offset@timestamp",
// in Unix milliseconds. The timestamp is what tells the records of a topic that
// was made anew from those that had their offsets before; it is as it was
// however often the record is read.
func recordID(ev *webhook.Event) string {
	return ev.Position.String() + "@" + strconv.FormatInt(ev.Timestamp.UnixMilli(), 10)
}

// wanted says where the attribute was looked for.
func (f Field) wanted() string {
	switch {
	case f.Header != "":
		return fmt.Sprintf("header %.64q is missing or empty", f.Header)
	case f.Pointer != "":
		return fmt.Sprintf("nothing at pointer %.64q of the JSON data", f.Pointer)
	default:
		return fmt.Sprintf("attribute %.64q (header ce_%.64s in binary mode) is missing or empty", f.Attribute, f.Attribute)
	}
}

// header returns the value of a header, "" if it is missing. Two different
// values of one key are refused: nobody can tell which of them is meant.
func header(rec *Record, key string) (string, *Invalid) {
	var value string
	for i := range rec.Headers {
		h := &rec.Headers[i]
		if h.Key != key || len(h.Value) == 0 {
			continue
		}
		if value != "" && value != string(h.Value) {
			return "", invalid(ReasonDuplicate, "header %.64q is there twice, with different values", key)
		}
		value = string(h.Value)
	}
	return value, nil
}

func lastHeader(rec *Record, key string) string {
	for _, v := range slices.Backward(rec.Headers) {
		if v.Key == key {
			return string(v.Value)
		}
	}
	return ""
}

// scan validates a JSON document and finds what the search tree points to.
func (s *scanner) scan(doc []byte, root *node) *Invalid {
	if !utf8.Valid(doc) {
		return invalid(ReasonUTF8, "JSON has to be UTF-8 (RFC 8259, section 8.1); it is not at byte %d", validUpTo(doc))
	}
	s.doc = doc
	if !s.run(root) {
		return invalid(s.reason, "%s", s.detail)
	}
	return nil
}

func validUpTo(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// scalar reads a string, number or boolean as text; null is absent.
func scalar(what string, raw []byte) (string, *Invalid) {
	switch raw[0] {
	case '"':
		inside := raw[1 : len(raw)-1]
		s, ok := unquote(inside, bytes.IndexByte(inside, '\\') >= 0)
		if !ok {
			return "", invalid(ReasonAttribute, "%s has an unpaired surrogate", what)
		}
		return s, nil
	case 'n':
		return "", nil
	case '{', '[':
		return "", invalid(ReasonAttribute, "%s is an object or an array: want a string, a number or a boolean", what)
	}
	return string(raw), nil
}
