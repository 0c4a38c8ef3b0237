package sink

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// An event's body begins with its time and number at fixed places:
//
//	{"at":"1764060000123456789","n":"0000000042", …
const (
	atFrom, atTo = 7, 26
	nFrom, nTo   = 33, 43
)

// Body returns an order of about 1 KiB as JSON, event n, without its time; see
// [SetTime].
func Body(n int64) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"at":"0000000000000000000","n":"%010d","type":"order.created","data":{"order":{"id":"ord_%016x","status":"paid","currency":"EUR","total":%d.%02d,"customer":{"id":"cus_%012x","email":"customer-%d@example.com","locale":"de-DE"},"items":[`,
		n, uint64(n)*0x9e3779b97f4a7c15, n%900+10, n%100, uint64(n)*0xbf58476d1ce4e5b9>>16, n)
	for i := range int64(4) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"SKU-%06d","title":"Article number %d","quantity":%d,"price":%d.%02d}`, (n*7+i*131)%1000000, (n*31+i)%5000, i+1, (n+i*13)%200, i*25)
	}
	fmt.Fprintf(&b, `],"shipping":{"carrier":"post","tracking":"%032x","address":{"street":"Long Street %d","city":"Berlin","zip":"10115","country":"DE"}},"note":"`, uint64(n)*0x94d049bb133111eb, n%300)
	for b.Len() < 1020 {
		b.WriteByte("the quick brown fox jumps over the lazy dog "[b.Len()%44])
	}
	b.WriteString(`"}}}`)
	return b.Bytes()
}

// SetTime writes the time of production into a body.
func SetTime(body []byte, at time.Time) {
	copy(body[atFrom:atTo], strconv.AppendInt(nil, at.UnixNano(), 10))
}

// Stamp reads the time and number of a body.
func Stamp(body []byte) (at time.Time, n int64, ok bool) {
	if len(body) < nTo {
		return at, 0, false
	}
	nanos, err := strconv.ParseInt(string(body[atFrom:atTo]), 10, 64)
	if err != nil {
		return at, 0, false
	}
	n, err = strconv.ParseInt(string(body[nFrom:nTo]), 10, 64)
	return time.Unix(0, nanos), n, err == nil && n >= 0
}
