package source

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"posthorn/webhook"
)

func size(key, value []byte, headers []webhook.Header) int {
	n := len(key) + len(value)
	for _, h := range headers {
		n += len(h.Key) + len(h.Value) + headerOverhead
	}
	return n
}

func last(headers []webhook.Header, key string) string {
	return lastHeader(&Record{Headers: headers}, key)
}

func TestAnInvalidRecordKeepsWhatFits(t *testing.T) {
	rec := record("{", "a: 1", "posthorn_reason: theirs", "a: 2")
	_, inv := reader(t, cloud).Read(rec)
	key, value, headers := InvalidRecord(rec, inv)
	if string(key) != "k" || string(value) != "{" {
		t.Errorf("key %q, value %q", key, value)
	}
	for i, h := range rec.Headers {
		if headers[i].Key != h.Key || !bytes.Equal(headers[i].Value, h.Value) {
			t.Errorf("header %d became %v", i, headers[i])
		}
	}
	if got := last(headers, HeaderReason); got != string(inv.Reason) {
		t.Errorf("reason %q", got)
	}
	if got := last(headers, HeaderSource); got != "orders/3/42" {
		t.Errorf("source %q", got)
	}
	if last(headers, HeaderDetail) == "" || last(headers, HeaderLength) != "" || last(headers, HeaderSHA256) != "" || last(headers, HeaderDropped) != "" {
		t.Errorf("headers %v", headers)
	}

	rec.Value, rec.Key = nil, nil
	if key, value, _ := InvalidRecord(rec, inv); key != nil || value != nil {
		t.Errorf("nil became %v, %v", key, value)
	}
	rec.Value = bytes.Repeat([]byte("x"), maxInvalidValue)
	if _, value, headers := InvalidRecord(rec, inv); len(value) != maxInvalidValue || last(headers, HeaderLength) != "" {
		t.Error("a value of exactly 64 KiB was cut")
	}
}

func TestAFiveMebibyteEventLeavesAnAccountOfItself(t *testing.T) {
	rec := binary(strings.Repeat("{\"a\":1}\n", 5<<20/8))
	_, inv := reader(t, cloud).Read(rec)
	if inv == nil || inv.Reason != ReasonOversize {
		t.Fatalf("got %v", inv)
	}
	_, value, headers := InvalidRecord(rec, inv)
	sum := sha256.Sum256(rec.Value)
	if !bytes.Equal(value, rec.Value[:64<<10]) || last(headers, HeaderLength) != "5242880" || last(headers, HeaderSHA256) != hex.EncodeToString(sum[:]) {
		t.Errorf("%d bytes, headers %q", len(value), headers)
	}
}

func TestAnInvalidRecordNeverExceedsATopicsLimit(t *testing.T) {
	var many []webhook.Header
	for range 100_000 {
		many = append(many, webhook.Header{})
	}
	big := []byte(strings.Repeat("x", 5<<20))
	for name, headers := range map[string][]webhook.Header{
		"many empty": many,
		"one huge":   {{Key: "h", Value: big}, {Key: "i"}},
		"huge key":   {{Key: string(big)}},
	} {
		rec := &Record{Key: big, Value: big, Headers: headers, Position: webhook.Position{Topic: strings.Repeat("t", 249), Partition: 1 << 30, Offset: 1 << 62}}
		k, v, hs := InvalidRecord(rec, invalid(ReasonJSON, "%s", strings.Repeat("ü", 500)))
		if n := size(k, v, hs); n > 200<<10 {
			t.Errorf("%s: %d bytes", name, n)
		}
		if last(hs, HeaderDropped) == "" || last(hs, HeaderKeyLength) != fmt.Sprint(5<<20) {
			t.Errorf("%s: no note of what was left out", name)
		}
	}
}
