package webhook

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// settlementJSON is the form on the attempts topic: snake case, RFC 3339 with
// milliseconds in UTC, durations in microseconds, zero values left out where
// they mean "none".
type settlementJSON struct {
	V           int     `json:"v"`
	Kind        Kind    `json:"kind"`
	AttemptID   string  `json:"attempt_id,omitempty"`
	DeliveryID  string  `json:"delivery_id"`
	Run         int64   `json:"run"`
	N           int     `json:"n"`
	Step        int     `json:"step"`
	Deferrals   int     `json:"deferrals"`
	Origin      Origin  `json:"origin"`
	Tenant      string  `json:"tenant"`
	EndpointID  string  `json:"endpoint_id"`
	EventID     string  `json:"event_id"`
	EventSource string  `json:"event_source"`
	EventType   string  `json:"event_type"`
	Contract    string  `json:"contract"`
	BodyID      string  `json:"body_id"`
	Source      string  `json:"source,omitempty"`
	Topic       string  `json:"topic"`
	Partition   int32   `json:"partition"`
	Offset      int64   `json:"offset"`
	StartedAt   string  `json:"started_at,omitempty"`
	DurationUS  int64   `json:"duration_us"`
	DNSUS       int64   `json:"dns_us"`
	ConnectUS   int64   `json:"connect_us"`
	TLSUS       int64   `json:"tls_us"`
	FirstByteUS int64   `json:"first_byte_us"`
	Status      int     `json:"status"`
	Outcome     Outcome `json:"outcome,omitempty"`
	Reason      Reason  `json:"reason"`
	Detail      string  `json:"detail,omitempty"`
	Response    string  `json:"response,omitempty"`
	NextAt      string  `json:"next_at,omitempty"`
	BegunAt     string  `json:"begun_at"`
	MatchedAt   string  `json:"matched_at"`
	Traceparent string  `json:"traceparent,omitempty"`
	TraceID     string  `json:"trace_id,omitempty"`
}

// AppendJSON appends the record of the attempts topic. It is written by hand:
// with encoding/json it was a tenth of the cost of a delivery.
func (s *Settlement) AppendJSON(b []byte) []byte {
	str := func(key, value string) {
		b = append(b, key...)
		b = appendString(b, value)
	}
	opt := func(key, value string) {
		if value != "" {
			str(key, value)
		}
	}
	num := func(key string, value int64) {
		b = append(b, key...)
		b = strconv.AppendInt(b, value, 10)
	}
	at := func(key string, t time.Time) {
		b = append(b, key...)
		b = append(b, '"')
		b = appendTime(b, t)
		b = append(b, '"')
	}
	str(`{"v":1,"kind":`, string(s.Kind))
	opt(`,"attempt_id":`, s.AttemptID)
	str(`,"delivery_id":`, s.DeliveryID)
	num(`,"run":`, s.Run)
	num(`,"n":`, int64(s.N))
	num(`,"step":`, int64(s.Step))
	num(`,"deferrals":`, int64(s.Deferrals))
	str(`,"origin":`, string(s.Origin))
	str(`,"tenant":`, s.Tenant)
	str(`,"endpoint_id":`, s.EndpointID)
	str(`,"event_id":`, s.EventID)
	str(`,"event_source":`, s.EventSource)
	str(`,"event_type":`, s.EventType)
	str(`,"contract":`, s.Contract)
	b = append(b, `,"body_id":"`...)
	b = hex.AppendEncode(b, s.BodyID[:])
	b = append(b, '"')
	if s.Source.Topic != "" {
		// The names of topics have no character that JSON would escape.
		b = append(b, `,"source":"`...)
		b = s.Source.append(b)
		b = append(b, '"')
	}
	str(`,"topic":`, s.Record.Topic)
	num(`,"partition":`, int64(s.Record.Partition))
	num(`,"offset":`, s.Record.Offset)
	if !s.StartedAt.IsZero() {
		at(`,"started_at":`, s.StartedAt)
	}
	num(`,"duration_us":`, s.Duration.Microseconds())
	num(`,"dns_us":`, s.Phases.DNS.Microseconds())
	num(`,"connect_us":`, s.Phases.Connect.Microseconds())
	num(`,"tls_us":`, s.Phases.TLS.Microseconds())
	num(`,"first_byte_us":`, s.Phases.FirstByte.Microseconds())
	num(`,"status":`, int64(s.Status))
	opt(`,"outcome":`, string(s.Outcome))
	str(`,"reason":`, string(s.Reason))
	opt(`,"detail":`, s.Detail)
	opt(`,"response":`, s.Response)
	if !s.NextAt.IsZero() {
		at(`,"next_at":`, s.NextAt)
	}
	for _, f := range [...]struct {
		key string
		t   time.Time
	}{{`,"begun_at":`, s.BegunAt}, {`,"matched_at":`, s.MatchedAt}} {
		if f.t.IsZero() {
			str(f.key, "")
		} else {
			at(f.key, f.t)
		}
	}
	opt(`,"traceparent":`, s.Traceparent)
	opt(`,"trace_id":`, s.TraceID)
	return append(b, '}')
}

// appendTime appends "2006-01-02T15:04:05.000Z", milliseconds cut off.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	ms := t.Nanosecond() / int(time.Millisecond)
	two := func(n int, after byte) { b = append(b, byte('0'+n/10), byte('0'+n%10), after) }
	b = append(b, byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	return append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// appendString appends a JSON string (RFC 8259 section 7). What is no UTF-8
// becomes U+FFFD, as with encoding/json.
func appendString(b []byte, s string) []byte {
	begin := len(b)
	b = append(b, '"')
	plain := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			continue
		}
		if c != '"' && c != '\\' && c != '\n' {
			escaped, _ := json.Marshal(s) // a string always encodes
			return append(b[:begin], escaped...)
		}
		// Responses are JSON as a rule.
		if b = append(append(b, s[plain:i]...), '\\'); c == '\n' {
			c = 'n'
		}
		b = append(b, c)
		plain = i + 1
	}
	return append(append(b, s[plain:]...), '"')
}

// MarshalJSON writes the record of the attempts topic.
func (s *Settlement) MarshalJSON() ([]byte, error) { return s.AppendJSON(make([]byte, 0, 1<<10)), nil }

// UnmarshalJSON reads the record of the attempts topic.
func (s *Settlement) UnmarshalJSON(b []byte) error {
	var j settlementJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("reading settlement: %w", err)
	}
	return s.from(&j)
}

// DecodeSettlement reads a record of the attempts topic. The forms that
// [Settlement.AppendJSON] writes are read in one pass; any other JSON of the
// same meaning by encoding/json.
func DecodeSettlement(b []byte) (*Settlement, error) {
	s := new(Settlement)
	var j settlementJSON
	if j.scan(string(b)) {
		return s, s.from(&j)
	}
	return s, s.UnmarshalJSON(b)
}

func (s *Settlement) from(j *settlementJSON) error {
	if j.V != 1 {
		return fmt.Errorf("reading settlement: record version %d is not 1", j.V)
	}
	var source Position
	var err error
	if j.Source != "" {
		if source, err = ParsePosition(j.Source); err != nil {
			return fmt.Errorf("reading settlement: %w", err)
		}
	}
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	*s = Settlement{
		Kind: j.Kind, AttemptID: j.AttemptID,
		DeliveryID: j.DeliveryID, Run: j.Run, N: j.N, Step: j.Step, Deferrals: j.Deferrals, Origin: j.Origin,
		Tenant: j.Tenant, EndpointID: j.EndpointID,
		EventID: j.EventID, EventSource: j.EventSource, EventType: j.EventType, Contract: j.Contract,
		Source: source, Record: Position{j.Topic, j.Partition, j.Offset},
		Duration: us(j.DurationUS), Phases: Phases{us(j.DNSUS), us(j.ConnectUS), us(j.TLSUS), us(j.FirstByteUS)},
		Status: j.Status, Outcome: j.Outcome, Reason: j.Reason, Detail: j.Detail, Response: j.Response,
		Traceparent: j.Traceparent, TraceID: j.TraceID,
	}
	if len(j.BodyID) != 32 {
		return fmt.Errorf("reading settlement: body_id %.40q: want 32 hex digits", j.BodyID)
	}
	if _, err := hex.Decode(s.BodyID[:], []byte(j.BodyID)); err != nil {
		return fmt.Errorf("reading settlement: body_id %.40q: want 32 hex digits", j.BodyID)
	}
	for _, f := range [...]struct {
		name, text string
		into       *time.Time
	}{
		{"started_at", j.StartedAt, &s.StartedAt}, {"next_at", j.NextAt, &s.NextAt},
		{"begun_at", j.BegunAt, &s.BegunAt}, {"matched_at", j.MatchedAt, &s.MatchedAt},
	} {
		if f.text == "" {
			continue
		}
		if *f.into, err = time.Parse(time.RFC3339Nano, f.text); err != nil {
			return fmt.Errorf("reading settlement: %s: %w", f.name, err)
		}
	}
	return nil
}

// scan reads a flat object of strings and integers, without white space, each key at most once. It reports whether that is what text is;
// if not, j holds nothing of use.
func (j *settlementJSON) scan(text string) bool {
	if len(text) < 2 || text[0] != '{' || !utf8.ValidString(text) {
		return false
	}
	var seen uint64
	for i := 1; ; {
		key, next, ok := scanString(text, i)
		if !ok || next >= len(text) || text[next] != ':' {
			return false
		}
		i = next + 1
		field := j.field(key)
		if field.bit == 0 || seen&field.bit != 0 { // unknown fields are encoding/json's to skip
			return false
		}
		seen |= field.bit
		if field.text != nil {
			if *field.text, i, ok = scanString(text, i); !ok {
				return false
			}
		} else {
			from := i
			for i < len(text) && (text[i] == '-' || '0' <= text[i] && text[i] <= '9') {
				i++
			}
			digits := text[from:i]
			if len(digits) > 1 && (digits[0] == '0' || digits[0] == '-' && digits[1] == '0') {
				return false // JSON has no leading zeros
			}
			n, err := strconv.ParseInt(digits, 10, field.bits)
			if err != nil {
				return false
			}
			switch p := field.num.(type) {
			case *int:
				*p = int(n)
			case *int32:
				*p = int32(n)
			case *int64:
				*p = n
			}
		}
		if i >= len(text) {
			return false
		}
		switch text[i] {
		case ',':
			i++
		case '}':
			return i == len(text)-1
		default:
			return false
		}
	}
}

// scanString reads the string that begins at i and returns where it ended.
func scanString(text string, i int) (value string, next int, ok bool) {
	if i >= len(text) || text[i] != '"' {
		return "", 0, false
	}
	escaped := false
	for k := i + 1; k < len(text); k++ {
		switch c := text[k]; {
		case c == '"' && !escaped:
			return text[i+1 : k], k + 1, true
		case c == '"':
			value, ok = unescape(text[i : k+1])
			return value, k + 1, ok
		case c == '\\':
			escaped = true
			k++ // what follows ends no string
		case c < ' ':
			return "", 0, false
		}
	}
	return "", 0, false
}

// unescape reads a JSON string with its quotes.
func unescape(quoted string) (string, bool) {
	inner := quoted[1 : len(quoted)-1]
	b := make([]byte, 0, len(inner))
	for {
		n := strings.IndexByte(inner, '\\')
		if n < 0 {
			return string(append(b, inner...)), true
		}
		b = append(b, inner[:n]...)
		switch c := inner[n+1]; c { // an escape has a second character: the closing quote isn't one's
		case '"', '\\', '/':
			b = append(b, c)
		case 'n':
			b = append(b, '\n')
		default: // rare
			var s string
			err := json.Unmarshal([]byte(quoted), &s)
			return s, err == nil
		}
		inner = inner[n+2:]
	}
}

// settlementField is where a field's value goes.
type settlementField struct {
	bit  uint64
	text *string
	num  any
	bits int
}

func (j *settlementJSON) field(key string) settlementField {
	text := func(n int, into *string) settlementField { return settlementField{bit: 1 << n, text: into} }
	num := func(n int, into any, bits int) settlementField {
		return settlementField{bit: 1 << n, num: into, bits: bits}
	}
	switch key {
	case "v":
		return num(0, &j.V, 32)
	case "kind":
		return text(1, (*string)(&j.Kind))
	case "attempt_id":
		return text(2, &j.AttemptID)
	case "delivery_id":
		return text(3, &j.DeliveryID)
	case "run":
		return num(4, &j.Run, 64)
	case "n":
		return num(5, &j.N, 32)
	case "step":
		return num(6, &j.Step, 32)
	case "deferrals":
		return num(7, &j.Deferrals, 32)
	case "origin":
		return text(8, (*string)(&j.Origin))
	case "tenant":
		return text(9, &j.Tenant)
	case "endpoint_id":
		return text(10, &j.EndpointID)
	case "event_id":
		return text(11, &j.EventID)
	case "event_source":
		return text(12, &j.EventSource)
	case "event_type":
		return text(13, &j.EventType)
	case "contract":
		return text(14, &j.Contract)
	case "body_id":
		return text(15, &j.BodyID)
	case "source":
		return text(16, &j.Source)
	case "topic":
		return text(17, &j.Topic)
	case "partition":
		return num(18, &j.Partition, 32)
	case "offset":
		return num(19, &j.Offset, 64)
	case "started_at":
		return text(20, &j.StartedAt)
	case "duration_us":
		return num(21, &j.DurationUS, 64)
	case "dns_us":
		return num(22, &j.DNSUS, 64)
	case "connect_us":
		return num(23, &j.ConnectUS, 64)
	case "tls_us":
		return num(24, &j.TLSUS, 64)
	case "first_byte_us":
		return num(25, &j.FirstByteUS, 64)
	case "status":
		return num(26, &j.Status, 32)
	case "outcome":
		return text(27, (*string)(&j.Outcome))
	case "reason":
		return text(28, (*string)(&j.Reason))
	case "detail":
		return text(29, &j.Detail)
	case "response":
		return text(30, &j.Response)
	case "next_at":
		return text(31, &j.NextAt)
	case "begun_at":
		return text(32, &j.BegunAt)
	case "matched_at":
		return text(33, &j.MatchedAt)
	case "traceparent":
		return text(34, &j.Traceparent)
	case "trace_id":
		return text(35, &j.TraceID)
	}
	return settlementField{}
}
