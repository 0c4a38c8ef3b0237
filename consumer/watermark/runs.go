package watermark

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// Run is a stretch of finished offsets, From up to but not including To.
type Run struct{ From, To int64 }

// Runs are finished stretches, ascending and disjoint.
type Runs []Run

// take reports whether the offset is finished, dropping the runs below it: it
// is asked in ascending order.
func (r *Runs) take(offset int64) bool {
	rs := *r
	for len(rs) > 0 && rs[0].To <= offset {
		rs = rs[1:]
	}
	*r = rs
	return len(rs) > 0 && rs[0].From <= offset
}

// Append writes the runs relative to a base: for each the number of unfinished
// offsets before it and its length, both as unsigned varints (encoding/binary,
// base 128). The size grows with the number of holes, not with the span.
func (r Runs) Append(dst []byte, base int64) []byte {
	for _, run := range r {
		dst = binary.AppendUvarint(dst, uint64(run.From-base))
		dst = binary.AppendUvarint(dst, uint64(run.To-run.From))
		base = run.To
	}
	return dst
}

var errRuns = errors.New("decoding finished runs: not a sequence of gap and length")

// DecodeRuns is the inverse of [Runs.Append].
func DecodeRuns(b []byte, base int64) (Runs, error) {
	var rs Runs
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errRuns
		}
		length, m := binary.Uvarint(b[n:])
		// A gap of 0 cannot be: the watermark is unfinished, and two runs that
		// touch are one.
		if m <= 0 || gap == 0 || length == 0 || gap > math.MaxInt64 || length > math.MaxInt64 {
			return nil, errRuns
		}
		from := base + int64(gap)
		to := from + int64(length)
		if from < base || to < from {
			return nil, errRuns
		}
		rs = append(rs, Run{from, to})
		base, b = to, b[n+m:]
	}
	return rs, nil
}

func uvarintLen(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }
