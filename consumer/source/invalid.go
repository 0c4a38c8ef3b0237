package source

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"posthorn/webhook"
)

// Reason says why a record is no event. The set is closed: it is a metric
// label.
type Reason string

// The reasons.
const (
	ReasonEmpty       Reason = "empty"        // no value, or a CloudEvent without data
	ReasonOversize    Reason = "oversize"     // the value is larger than the source allows
	ReasonUTF8        Reason = "utf8"         // JSON that is not UTF-8
	ReasonJSON        Reason = "json"         // not JSON, or not the object it has to be
	ReasonDepth       Reason = "depth"        // JSON nested too deep
	ReasonDuplicate   Reason = "duplicate"    // an attribute is given twice
	ReasonContentType Reason = "content_type" // malformed, or an event format that is not read
	ReasonSpecVersion Reason = "specversion"  // not a CloudEvent, or not of version 1.0
	ReasonType        Reason = "missing_type"
	ReasonTenant      Reason = "missing_tenant"
	ReasonAttribute   Reason = "attribute" // too long, forbidden characters, of the wrong kind
	ReasonTime        Reason = "time"      // the event's time can't be read
	ReasonData        Reason = "data"      // the data is missing or of the wrong kind
)

// Reasons are all of them, for registering metrics.
func Reasons() []Reason {
	return []Reason{
		ReasonEmpty, ReasonOversize, ReasonUTF8, ReasonJSON, ReasonDepth, ReasonDuplicate, ReasonContentType,
		ReasonSpecVersion, ReasonType, ReasonTenant, ReasonAttribute, ReasonTime, ReasonData,
	}
}

// Invalid says why a record could not be read.
type Invalid struct {
	Reason Reason
	// Detail is for people: what was wrong, where, and what would be right. It
	// holds nothing of the value, and 200 bytes of valid UTF-8 at most.
	Detail string
}

// String returns "reason: detail".
func (i *Invalid) String() string { return string(i.Reason) + ": " + i.Detail }

func invalid(reason Reason, format string, args ...any) *Invalid {
	detail := strings.ToValidUTF8(fmt.Sprintf(format, args...), "?")
	if len(detail) > 200 {
		detail = strings.ToValidUTF8(detail[:200], "")
	}
	return &Invalid{reason, detail}
}

// The headers that [InvalidRecord] adds behind the original ones.
const (
	HeaderReason = "posthorn_reason"
	HeaderDetail = "posthorn_detail"
	// HeaderSource is the record's topic/partition/offset.
	HeaderSource = "posthorn_source"
	// HeaderLength and HeaderSHA256 are the length in bytes and the hex digest
	// of a value that was cut.
	HeaderLength = "posthorn_length"
	HeaderSHA256 = "posthorn_sha256"
	// HeaderKeyLength is the length in bytes of a key that was cut.
	HeaderKeyLength = "posthorn_key_length"
	// HeaderDropped is the number of original headers that were left out.
	HeaderDropped = "posthorn_headers_dropped"
)

// Limits of a record of the invalid topic. Key, value and headers together stay
// below 200 KiB, well within Kafka's default max.message.bytes of 1 MiB, so
// that the record that reports an oversize event is never too large itself.
const (
	maxInvalidValue   = 64 << 10
	maxInvalidKey     = 64 << 10
	maxInvalidHeaders = 64 << 10
	// headerOverhead bounds what a header costs besides its bytes: two varint
	// lengths of up to 5 bytes. A megabyte of empty headers has no bytes.
	headerOverhead = 10
)

// InvalidRecord describes an unreadable record for the topic of invalid events:
// the original key, value and headers, and behind them headers of ours that
// begin with "posthorn_". A header of the producer's by such a name is kept, so
// ours is the last of that name. A value of up to 64 KiB is whole; of a larger
// one the first 64 KiB are kept, and its length and SHA-256 are noted. A nil
// value stays nil. The result shares memory with rec.
func InvalidRecord(rec *Record, inv *Invalid) (key, value []byte, headers []webhook.Header) {
	add := func(key, value string) {
		headers = append(headers, webhook.Header{Key: key, Value: []byte(value)})
	}
	budget, dropped := maxInvalidHeaders, 0
	for _, h := range rec.Headers {
		if budget -= len(h.Key) + len(h.Value) + headerOverhead; budget < 0 {
			break
		}
		headers = append(headers, h)
	}
	dropped = len(rec.Headers) - len(headers)

	add(HeaderReason, string(inv.Reason))
	add(HeaderDetail, inv.Detail)
	add(HeaderSource, rec.Position.String())
	if dropped > 0 {
		add(HeaderDropped, strconv.Itoa(dropped))
	}
	if key = rec.Key; len(key) > maxInvalidKey {
		add(HeaderKeyLength, strconv.Itoa(len(key)))
		key = key[:maxInvalidKey:maxInvalidKey]
	}
	if value = rec.Value; len(value) > maxInvalidValue {
		sum := sha256.Sum256(value)
		add(HeaderLength, strconv.Itoa(len(value)))
		add(HeaderSHA256, hex.EncodeToString(sum[:]))
		value = value[:maxInvalidValue:maxInvalidValue]
	}
	return key, value, headers
}
