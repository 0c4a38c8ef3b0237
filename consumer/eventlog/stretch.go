// Package eventlog reads stretches of topics for those that aren't a consumer
// group's member: a replay, a dry run, a resend that needs its event again.
// Nothing is committed; whoever reads keeps the position.
package eventlog

import (
	"slices"
	"time"
)

// Stretch is a part of one partition's log, and how far it has been read.
type Stretch struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	From      int64  `json:"from"`
	To        int64  `json:"to"` // not included
	// At is the next offset to read; what is below it is finished.
	At int64 `json:"at"`
	// Lost is how many offsets the log had dropped when they were to be read.
	Lost int64 `json:"lost,omitempty"`

	// seen is the timestamp of the last record read.
	seen time.Time
}

// Finished reports whether nothing is left to read.
func (s *Stretch) Finished() bool { return s.At >= s.To }

// Walk is the stretches of several partitions, read in about the order of their
// timestamps: next is always the one that is furthest behind.
type Walk []Stretch

// Next returns the index of the stretch to read from, -1 when all are finished.
func (w Walk) Next() int {
	next := -1
	for i := range w {
		if !w[i].Finished() && (next < 0 || w[i].seen.Before(w[next].seen)) {
			next = i
		}
	}
	return next
}

// Read moves a stretch on: what is below an offset is finished. at is the
// timestamp of the last record, or zero where there was none.
func (w Walk) Read(i int, next int64, at time.Time) {
	s := &w[i]
	s.At = min(max(s.At, next), s.To)
	if at.After(s.seen) {
		s.seen = at
	}
}

// Skip moves a stretch on over what its log no longer holds.
func (w Walk) Skip(i int, logStart int64) {
	s := &w[i]
	to := min(max(s.At, logStart), s.To)
	s.Lost += to - s.At
	s.At = to
}

// Progress returns how many offsets there are, and how many are finished.
func (w Walk) Progress() (total, finished, lost int64) {
	for i := range w {
		total += w[i].To - w[i].From
		finished += w[i].At - w[i].From
		lost += w[i].Lost
	}
	return total, finished, lost
}

// Clone returns a copy that shares nothing.
func (w Walk) Clone() Walk { return slices.Clone(w) }

// Reached returns up to which timestamp about everything has been read: that of
// the unfinished stretch that is furthest behind. It is zero while one hasn't been
// begun, and when all are finished.
func (w Walk) Reached() time.Time {
	if i := w.Next(); i >= 0 {
		return w[i].seen
	}
	return time.Time{}
}
