package webhook

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Header is one Kafka record header. It has the shape of kgo.RecordHeader.
type Header struct {
	Key   string
	Value []byte
}

// HeadersAs returns headers as those of a Kafka client, whose header type has
// the shape of [Header]; more of the client's own may be appended to the
// result.
func HeadersAs[H ~struct {
	Key   string
	Value []byte
}](headers []Header) []H {
	out := make([]H, len(headers), len(headers)+2)
	for i, h := range headers {
		out[i] = H(h)
	}
	return out
}

// RecordVersion is the value of header "v" of the records that this package
// writes; another version is refused.
const RecordVersion = "1"

// The header keys of a delivery record, readable with kcat.
const (
	hdrVersion     = "v"
	hdrDelivery    = "delivery"
	hdrRun         = "run"
	hdrN           = "n"
	hdrStep        = "step"
	hdrDeferrals   = "deferrals"
	hdrOrigin      = "origin"
	hdrEventID     = "event_id"
	hdrEventSource = "event_source"
	hdrEventType   = "event_type"
	hdrTenant      = "tenant"
	hdrContract    = "contract"
	hdrContentType = "content_type"
	hdrNotBefore   = "not_before"
	hdrBegunAt     = "begun_at"
	hdrMatchedAt   = "matched_at"
	hdrBodyID      = "body_id"
	hdrSource      = "source"
	hdrRegistry    = "registry"
	hdrTraceparent = "traceparent"
	hdrTracestate  = "tracestate"
)

// HeaderReason is the header of a dead delivery that says why it died, and
// HeaderStatus the last HTTP status, if there was one.
const (
	HeaderReason = "reason"
	HeaderStatus = "status"
)

// AppendHeaders appends the delivery's headers to dst. Times are Unix
// milliseconds in decimal; empty strings and zero times are left out.
func (d *Delivery) AppendHeaders(dst []Header) []Header {
	return AppendDeliveryHeaders(dst, d)
}

// AppendDeliveryHeaders is [Delivery.AppendHeaders] for a Kafka client's own
// header type.
func AppendDeliveryHeaders[H ~struct {
	Key   string
	Value []byte
}](dst []H, d *Delivery) []H {
	// All values lie in one piece of memory. Where that has to grow, what was
	// written before stays in the old one.
	values := make([]byte, 0, 256+len(d.ID)+len(d.EventID)+len(d.EventSource)+len(d.EventType)+len(d.Tenant)+len(d.Source.Topic)+len(d.Traceparent)+len(d.Tracestate))
	from := 0
	add := func(key string) {
		dst = append(dst, H{key, values[from:len(values):len(values)]})
		from = len(values)
	}
	str := func(key, value string) {
		if value != "" {
			values = append(values, value...)
			add(key)
		}
	}
	num := func(key string, value int64) {
		values = strconv.AppendInt(values, value, 10)
		add(key)
	}
	at := func(key string, t time.Time) {
		if !t.IsZero() {
			num(key, t.UnixMilli())
		}
	}
	str(hdrVersion, RecordVersion)
	str(hdrDelivery, d.ID)
	num(hdrRun, d.Run)
	num(hdrN, int64(d.N))
	num(hdrStep, int64(d.Step))
	num(hdrDeferrals, int64(d.Deferrals))
	str(hdrOrigin, string(d.Origin))
	str(hdrEventID, d.EventID)
	str(hdrEventSource, d.EventSource)
	str(hdrEventType, d.EventType)
	str(hdrTenant, d.Tenant)
	str(hdrContract, d.Contract)
	str(hdrContentType, d.ContentType)
	// Rounded up: a delivery must not become due earlier by being written.
	at(hdrNotBefore, ceilMilli(d.NotBefore))
	at(hdrBegunAt, d.BegunAt)
	at(hdrMatchedAt, d.MatchedAt)
	values = hex.AppendEncode(values, d.BodyID[:])
	add(hdrBodyID)
	if d.Source.Topic != "" { // a test event has no record
		values = d.Source.append(values)
		add(hdrSource)
	}
	values = d.Registry.append(values)
	add(hdrRegistry)
	str(hdrTraceparent, d.Traceparent)
	str(hdrTracestate, d.Tracestate)
	return dst
}

func ceilMilli(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(time.Millisecond - 1).Truncate(time.Millisecond)
}

// MalformedError says which header of a record is missing or unreadable.
type MalformedError struct {
	Header string // the header's key
	Detail string // what is wrong with it and what would be right
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("reading delivery record: header %q: %s", e.Header, e.Detail)
}

// DecodeDelivery reads a delivery from a record's key, value and headers.
// Unknown headers are ignored; of a repeated one the first counts. The body
// isn't copied. The error is a [*MalformedError].
func DecodeDelivery[H ~struct {
	Key   string
	Value []byte
}](key, value []byte, headers []H) (*Delivery, error) {
	d := &Delivery{Body: value}
	var version string
	var err error
	// All strings are cut from one copy: the record's memory is that of the
	// whole batch that it was read in, which they must not keep.
	size := len(key)
	for i := range headers {
		size += len(Header(headers[i]).Value)
	}
	var all strings.Builder
	all.Grow(size)
	text := func(b []byte) string {
		from := all.Len()
		all.Write(b)
		return all.String()[from:]
	}
	d.EndpointID = text(key)
	fail := func(key, format string, args ...any) {
		if err == nil {
			err = &MalformedError{key, fmt.Sprintf(format, args...)}
		}
	}
	num := func(h Header, bits int) int64 {
		n, perr := strconv.ParseInt(string(h.Value), 10, bits)
		if perr != nil || n < 0 {
			fail(h.Key, "%.40q is not a decimal number of 0 or more", h.Value)
		}
		return n
	}
	at := func(h Header) time.Time { return time.UnixMilli(num(h, 64)) }
	for i := range headers {
		h := Header(headers[i])
		if repeated(headers[:i], h.Key) {
			continue
		}
		switch h.Key {
		case hdrVersion:
			version = string(h.Value)
		case hdrDelivery:
			d.ID = text(h.Value)
		case hdrRun:
			d.Run = num(h, 64)
		case hdrN:
			d.N = int(num(h, 32))
		case hdrStep:
			d.Step = int(num(h, 32))
		case hdrDeferrals:
			d.Deferrals = int(num(h, 32))
		case hdrOrigin:
			d.Origin = Origin(text(h.Value))
		case hdrEventID:
			d.EventID = text(h.Value)
		case hdrEventSource:
			d.EventSource = text(h.Value)
		case hdrEventType:
			d.EventType = text(h.Value)
		case hdrTenant:
			d.Tenant = text(h.Value)
		case hdrContract:
			d.Contract = text(h.Value)
		case hdrContentType:
			d.ContentType = text(h.Value)
		case hdrNotBefore:
			d.NotBefore = at(h)
		case hdrBegunAt:
			d.BegunAt = at(h)
		case hdrMatchedAt:
			d.MatchedAt = at(h)
		case hdrBodyID:
			if n, herr := hex.Decode(d.BodyID[:], clip(h.Value, 32)); herr != nil || n != 16 || len(h.Value) != 32 {
				fail(h.Key, "want 32 hex digits")
			}
		case hdrSource:
			p, perr := ParsePosition(string(h.Value))
			if perr != nil {
				fail(h.Key, "%v", perr)
			}
			d.Source = p
		case hdrRegistry:
			v, ok := parseRegistryVersion(h.Value)
			if !ok {
				fail(h.Key, "%.80q: want 32 hex digits, a slash and an offset", h.Value)
			}
			d.Registry = v
		case hdrTraceparent:
			d.Traceparent = text(h.Value)
		case hdrTracestate:
			d.Tracestate = text(h.Value)
		}
	}
	switch {
	case version != RecordVersion:
		return nil, &MalformedError{hdrVersion, fmt.Sprintf("record version %.20q is not %q", version, RecordVersion)}
	case d.ID == "":
		return nil, &MalformedError{hdrDelivery, "missing"}
	case d.EndpointID == "":
		return nil, &MalformedError{"key", "the record key, the endpoint's ID, is empty"}
	case d.BegunAt.IsZero():
		fail(hdrBegunAt, "missing")
	case d.MatchedAt.IsZero():
		fail(hdrMatchedAt, "missing")
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// repeated reports whether a key is among earlier headers. There are two dozen,
// and their keys differ in length or first letters.
func repeated[H ~struct {
	Key   string
	Value []byte
}](earlier []H, key string) bool {
	for i := range earlier {
		if Header(earlier[i]).Key == key {
			return true
		}
	}
	return false
}

func clip(b []byte, n int) []byte { return b[:min(len(b), n)] }

func parseRegistryVersion(b []byte) (v RegistryVersion, ok bool) {
	id, off, found := bytes.Cut(b, []byte{'/'})
	if !found || len(id) != 32 {
		return v, false
	}
	if _, err := hex.Decode(v.TopicID[:], id); err != nil {
		return v, false
	}
	n, err := strconv.ParseInt(string(off), 10, 64)
	if err != nil || n < 0 || strings.HasPrefix(string(off), "+") {
		return v, false
	}
	v.Offset = n
	return v, true
}

// RecordIdentity reads just the identity from a delivery record's headers; ok
// is false where [DecodeDelivery] would fail on them too.
func RecordIdentity[H ~struct {
	Key   string
	Value []byte
}](headers []H) (id Identity, ok bool) {
	var d Delivery
	for _, header := range slices.Backward(headers) { // backwards, so that of a repeated header the first counts
		h := Header(header)
		var n int64
		var err error
		switch h.Key {
		case hdrDelivery:
			d.ID = string(h.Value)
			continue
		case hdrRun, hdrN, hdrDeferrals:
			n, err = strconv.ParseInt(string(h.Value), 10, 64)
		default:
			continue
		}
		if err != nil {
			return id, false
		}
		switch h.Key {
		case hdrRun:
			d.Run = n
		case hdrN:
			d.N = int(n)
		case hdrDeferrals:
			d.Deferrals = int(n)
		}
	}
	return d.Identity(), d.ID != ""
}
