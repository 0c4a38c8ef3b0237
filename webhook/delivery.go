package webhook

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// DeliveryPrefix begins every delivery ID.
const DeliveryPrefix = "dlv_"

// Origin says what began a run of a delivery.
type Origin string

// The origins of a run.
const (
	OriginMatch  Origin = "match"  // an event matched a subscription
	OriginTest   Origin = "test"   // a test event was asked for
	OriginResend Origin = "resend" // one delivery was asked for again
	OriginRetry  Origin = "retry"  // a bulk retry of failed deliveries
	OriginReplay Origin = "replay" // a stretch of the event log was replayed
)

// Delivery takes one event to one endpoint. As a Kafka record its value is
// Body, the exact bytes that are signed and POSTed; everything else travels as
// headers (see [Delivery.AppendHeaders]), and the record's key is EndpointID.
type Delivery struct {
	// ID is derived from event and endpoint, see [DeliveryID].
	ID string
	// Run is 0 for what matching began; later runs (resend, retry, replay) are
	// named by the Unix milliseconds of their request.
	Run int64
	// N counts the POSTs made in this run so far.
	N int
	// Step is the place in the retry schedule.
	Step int
	// Deferrals counts the times that the delivery was put back unsent in this
	// run, so that what is put back is never taken for its own repeat.
	Deferrals int
	Origin    Origin

	EventID     string
	EventSource string
	EventType   string
	Tenant      string
	EndpointID  string
	// Contract names how Body was built and how it is to be signed.
	Contract    string
	ContentType string

	// NotBefore is the earliest time of the next POST; zero means at once.
	NotBefore time.Time
	// BegunAt is the Kafka timestamp of the source record for run 0, the same
	// however often it is matched; the request's time for later runs.
	BegunAt time.Time
	// MatchedAt is when this run was matched; max_age counts from it.
	MatchedAt time.Time

	// BodyID is the first 16 bytes of the SHA-256 of Body.
	BodyID [16]byte
	// Source is the position of the event's record.
	Source Position
	// Registry is the version of the registry that the delivery was matched at.
	Registry RegistryVersion

	Traceparent, Tracestate string

	// Body is the bytes to POST. It may be shared between deliveries: never
	// write to it.
	Body []byte
}

// RegistryVersion is a state of the registry: its topic's ID and the position
// up to which it was read. Versions of different topics don't compare.
type RegistryVersion struct {
	TopicID [16]byte
	Offset  int64
}

// String returns "hex(topic ID)/offset".
func (v RegistryVersion) String() string { return string(v.append(nil)) }

func (v RegistryVersion) append(b []byte) []byte {
	b = hex.AppendEncode(b, v.TopicID[:])
	return strconv.AppendInt(append(b, '/'), v.Offset, 10)
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// DeliveryID derives the ID of the delivery of an event to an endpoint:
// "dlv_" and the base32 (RFC 4648, lower case, no padding) of the first 16
// bytes of the SHA-256 over the three parts, each behind its length in 4
// big-endian bytes. A replay, a crash or a producer that sends an event twice
// yields the same ID.
func DeliveryID(eventSource, eventID, endpointID string) string {
	buf := make([]byte, 0, 256)
	for _, part := range [...]string{eventSource, eventID, endpointID} {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(part)))
		buf = append(buf, part...)
	}
	sum := sha256.Sum256(buf)
	out := make([]byte, 0, len(DeliveryPrefix)+26)
	out = append(out, DeliveryPrefix...)
	return string(idEncoding.AppendEncode(out, sum[:16]))
}

// BodyID returns the first 16 bytes of the SHA-256 of a body.
func BodyID(body []byte) (id [16]byte) {
	sum := sha256.Sum256(body)
	copy(id[:], sum[:16])
	return id
}

// Identity is what makes two records of a deliveries partition repeats of one
// another: equal identities are the same delivery at the same place of the
// same run.
type Identity [16]byte

// Identity returns the delivery's identity. The ID's 128 bits are kept; run, n
// and deferrals are mixed in by bijections of 64 bits, so two places of one
// delivery never collide, and two deliveries collide only as two truncated
// SHA-256 would.
func (d *Delivery) Identity() (id Identity) {
	if !decodeID(&id, d.ID) {
		sum := sha256.Sum256([]byte(d.ID)) // not an ID of ours: hash it to the same width
		copy(id[:], sum[:16])
	}
	hi := binary.BigEndian.Uint64(id[:8]) ^ mix64(uint64(d.Run))
	lo := binary.BigEndian.Uint64(id[8:]) ^ mix64(uint64(uint32(d.N))<<32|uint64(uint32(d.Deferrals)))
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id
}

// decodeID reads the 16 bytes of a delivery ID. The length is checked first:
// Decode writes as much as it is given.
func decodeID(into *Identity, id string) bool {
	text, ok := strings.CutPrefix(id, DeliveryPrefix)
	if !ok || idEncoding.DecodedLen(len(text)) != len(into) {
		return false
	}
	_, err := idEncoding.Decode(into[:], []byte(text))
	return err == nil
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, OOPSLA 2014), a bijection.
func mix64(x uint64) uint64 {
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// Deferred returns a copy that was put back unsent, due at notBefore.
func (d *Delivery) Deferred(notBefore time.Time) *Delivery {
	c := *d
	c.Deferrals++
	c.NotBefore = notBefore
	return &c
}

// Retried returns a copy that comes after one more POST, at the schedule's
// next step, due at notBefore.
func (d *Delivery) Retried(notBefore time.Time) *Delivery {
	c := *d
	c.N++
	c.Step++
	c.NotBefore = notBefore
	return &c
}
