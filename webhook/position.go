package webhook

import (
	"fmt"
	"strconv"
	"strings"
)

// Position names one record of a Kafka log.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// String returns "topic/partition/offset".
func (p Position) String() string { return string(p.append(make([]byte, 0, len(p.Topic)+24))) }

func (p Position) append(b []byte) []byte {
	b = append(b, p.Topic...)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(p.Partition), 10)
	b = append(b, '/')
	return strconv.AppendInt(b, p.Offset, 10)
}

// ParsePosition is the inverse of [Position.String]. Kafka topic names hold no
// slash, so the form is unambiguous.
func ParsePosition(s string) (Position, error) {
	topic, rest, ok := strings.Cut(s, "/")
	part, off, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || topic == "" {
		return Position{}, fmt.Errorf("position %q: want topic/partition/offset", s)
	}
	p, err := strconv.ParseInt(part, 10, 32)
	if err != nil || p < 0 {
		return Position{}, fmt.Errorf("position %q: partition is not a number from 0 up", s)
	}
	o, err := strconv.ParseInt(off, 10, 64)
	if err != nil || o < 0 {
		return Position{}, fmt.Errorf("position %q: offset is not a number from 0 up", s)
	}
	return Position{Topic: topic, Partition: int32(p), Offset: o}, nil
}
