package cli

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// cloudEvent is one event to produce. Empty attributes are taken from the flags.
type cloudEvent struct {
	id, source, typ, subject, time, dataschema string
	contentType                                string
	extensions                                 map[string]string
	data                                       []byte
}

// defaultSource is the CloudEvents source of events whose sender names none.
const defaultSource = "posthorn/event-send"

// record lays the event out in the binary mode of the CloudEvents Kafka binding
// (1.0.2, section 3.2): attributes as headers ce_…, the content type as a header
// of its own, the data as the value. The extension partitionkey is the record's
// key (section 3.1).
func (e *cloudEvent) record(c *SendConfig) *kgo.Record {
	r := &kgo.Record{Topic: c.Topic, Value: e.data}
	add := func(key, value string) {
		if value != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
		}
	}
	add("content-type", e.contentType)
	add("ce_specversion", "1.0")
	add("ce_id", e.id)
	add("ce_source", firstOf(e.source, c.Source, defaultSource))
	add("ce_type", firstOf(e.typ, c.Type))
	add("ce_time", e.time)
	add("ce_subject", firstOf(e.subject, c.Subject))
	add("ce_dataschema", e.dataschema)

	ext := map[string]string{}
	maps.Copy(ext, c.Extensions)
	if c.Tenant != "" {
		ext["tenant"] = c.Tenant
	}
	maps.Copy(ext, e.extensions)
	for _, name := range sortedKeys(ext) {
		add("ce_"+name, ext[name])
	}
	if key := ext["partitionkey"]; key != "" {
		r.Key = []byte(key)
	}
	if ext["traceparent"] == "" {
		add("traceparent", c.Traceparent)
		add("tracestate", c.Tracestate)
	}
	return r
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// lineReader reads events as JSON lines: each line is one CloudEvent in the JSON
// format (CloudEvents JSON 1.0.2), of which type, source and extensions may be
// left to the flags, and id and time to be made.
type lineReader struct {
	name string
	in   *bufio.Scanner
	line int
}

// maxLine bounds a line; events are far below it.
const maxLine = 64 << 20

func newLineReader(name string, in io.Reader) *lineReader {
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	return &lineReader{name: name, in: s}
}

func (l *lineReader) next(c *SendConfig) (*cloudEvent, error) {
	for l.in.Scan() {
		l.line++
		text := bytes.TrimSpace(l.in.Bytes())
		if len(text) == 0 {
			continue
		}
		e, err := parseEvent(text)
		if err == nil && e.typ == "" && c.Type == "" {
			err = errors.New("the event has no type, and --type gives none")
		}
		if err != nil {
			return nil, fmt.Errorf("reading events: %s:%d: %w", l.name, l.line, err)
		}
		return e, nil
	}
	if err := l.in.Err(); err != nil {
		return nil, fmt.Errorf("reading events: %s:%d: %w", l.name, l.line+1, err)
	}
	return nil, io.EOF
}

// parseEvent reads one event. The text may be overwritten afterwards.
func parseEvent(text []byte) (*cloudEvent, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fmt.Errorf("want a CloudEvent as a JSON object on one line: %w", err)
	}
	e := &cloudEvent{extensions: map[string]string{}}
	core := map[string]*string{
		"id": &e.id, "source": &e.source, "type": &e.typ, "subject": &e.subject, "time": &e.time,
		"dataschema": &e.dataschema, "datacontenttype": &e.contentType,
	}
	var data, base []byte
	for name, raw := range members {
		if string(raw) == "null" && name != "data" {
			continue // null is absent (CloudEvents JSON 1.0.2, section 2.2)
		}
		into := core[name]
		switch {
		case name == "data":
			data = raw
		case name == "data_base64":
			base = raw
		case name == "specversion":
			if string(raw) != `"1.0"` {
				return nil, fmt.Errorf("specversion is %.20s, want \"1.0\"", raw)
			}
		case into != nil:
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, fmt.Errorf("%s is %.40s, want a string", name, raw)
			}
		default:
			value, err := extensionValue(name, raw)
			if err != nil {
				return nil, err
			}
			e.extensions[name] = value
		}
	}
	if e.id == "" {
		e.id = newID()
	}
	if e.time == "" {
		e.time = time.Now().UTC().Format(time.RFC3339Nano)
	}
	return e, e.setData(data, base)
}

// setData takes the payload from "data" or "data_base64" (CloudEvents JSON
// 1.0.2, section 3.1): text in another media type than JSON is a JSON string.
func (e *cloudEvent) setData(data, base []byte) error {
	switch {
	case data != nil && base != nil:
		return errors.New("has both data and data_base64")
	case base != nil:
		var text string
		if err := json.Unmarshal(base, &text); err != nil {
			return errors.New("data_base64 is not a string")
		}
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		e.data = b
		return nil
	case data == nil:
		e.data = []byte{} // no data is an empty value: a nil one would be a tombstone
		return nil
	}
	if e.contentType == "" {
		e.contentType = "application/json"
	}
	if isJSON(e.contentType) {
		e.data = bytes.Clone(data)
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("data in %s has to be a JSON string", e.contentType)
	}
	e.data = []byte(text)
	return nil
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json"))
}

func extensionValue(name string, raw json.RawMessage) (string, error) {
	if err := checkExtension(name); err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return s, nil
	}
	if raw[0] == '{' || raw[0] == '[' {
		return "", fmt.Errorf("%s: an extension attribute is a string, a number or a boolean", name)
	}
	return string(raw), nil
}

// checkExtension holds an attribute's name to CloudEvents 1.0.2, "Naming
// Conventions".
func checkExtension(name string) error {
	for i := range len(name) {
		if ch := name[i]; (ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') {
			return errors.New("names of attributes are lower-case letters and digits")
		}
	}
	switch name {
	case "":
		return errors.New("an attribute needs a name")
	case "id", "source", "type", "subject", "time", "specversion", "datacontenttype", "dataschema", "data":
		return errors.New("is an attribute of its own, not an extension")
	}
	return nil
}
