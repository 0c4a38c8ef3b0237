package sink

import (
	"context"
	"slices"
	"time"
)

// The names that the progress table has for the inputs; topics may have any
// prefix.
const (
	RoleDeliveries = "deliveries"
	RoleAttempts   = "attempts"
)

// progress is a row of the progress table: all that lay on the partition at
// reachedAt is in ClickHouse.
type progress struct {
	role      string
	partition int32
	reachedAt time.Time
	next      int64
	// doneOffset of a deliveries partition is what the dispatchers' group had
	// committed at takenAt: all below has had its settlements acknowledged
	// before. doneAt is when the record there was written, takenAt if there is
	// none, and zero if that isn't known.
	doneOffset int64
	doneAt     time.Time
	takenAt    time.Time
}

// sample is where a log ended at a time.
type sample struct {
	at  time.Time
	end int64
}

// samples turn a position into a time, whatever the clocks of producers say:
// what lay below the end of the log at a time was written before it.
type samples struct {
	open    []sample // not reached, ascending
	reached time.Time
}

// mostSamples bounds what a partition remembers while ClickHouse is away; then
// every other one is forgotten, and times are reached in larger steps.
const mostSamples = 512

func (s *samples) note(at time.Time, end int64) {
	if len(s.open) >= mostSamples {
		for i := range mostSamples / 2 {
			s.open[i] = s.open[2*i+1]
		}
		s.open = s.open[:mostSamples/2]
	}
	s.open = append(s.open, sample{at, end})
}

// upTo returns the time reached when all below next is inserted; it is zero
// until the first sample is.
func (s *samples) upTo(next int64) time.Time {
	n := 0
	for n < len(s.open) && s.open[n].end <= next {
		s.reached = s.open[n].at
		n++
	}
	s.open = slices.Delete(s.open, 0, n)
	return s.reached
}

// timeIndex knows about when the records of a partition were written, by the
// clocks of those who did.
type timeIndex struct {
	points []point // ascending; of equal times there may be several
}

type point struct {
	offset int64
	at     time.Time
}

// mostPoints bounds an index; then every other point is forgotten.
const mostPoints = 4096

// note remembers a record, at most one a second. One that is of an earlier time
// than those before it says that their time was too late.
func (x *timeIndex) note(offset int64, at time.Time) {
	if n := len(x.points); n > 0 {
		if offset <= x.points[n-1].offset {
			return
		}
		for i := n - 1; i >= 0 && x.points[i].at.After(at); i-- {
			x.points[i].at = at
		}
		if at.Sub(x.points[n-1].at) < time.Second {
			return
		}
		if n >= mostPoints {
			for i := range mostPoints / 2 {
				x.points[i] = x.points[2*i]
			}
			x.points = x.points[:mostPoints/2]
		}
	}
	x.points = append(x.points, point{offset, at})
}

// at returns a time before which neither the record at the offset nor one behind
// it was written; zero if that isn't known. What lies below is forgotten.
func (x *timeIndex) at(offset int64) time.Time {
	n := 0
	for n < len(x.points) && x.points[n].offset <= offset {
		n++
	}
	if n == 0 {
		return time.Time{}
	}
	x.points = slices.Delete(x.points, 0, n-1)
	return x.points[0].at
}

func (s *Sink) progressLoop(ctx context.Context) {
	tick := time.NewTicker(s.cfg.ProgressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, max(s.cfg.ProgressEvery, commitWithin))
		if err := s.writeProgress(within); err != nil && ctx.Err() == nil {
			s.log.Warn("writing the ledger's progress", "error", err)
		}
		cancel()
	}
}

func (s *Sink) writeProgress(ctx context.Context) error {
	taken := time.Now() // before what it is the time of
	ends, err := s.adm.ListEndOffsets(ctx, s.cfg.Deliveries, s.cfg.Attempts)
	if err != nil {
		return err
	}
	// After the ends: a record that was written and done in between would
	// have a watermark beyond the end.
	done, err := s.cfg.Watermarks(ctx)
	if err != nil {
		return err
	}
	rows := s.progress(taken, time.Now(), func(id tp) (int64, bool) {
		o, ok := ends.Lookup(id.topic, id.partition)
		return o.Offset, ok && o.Err == nil
	}, done)
	if len(rows) > 0 {
		least := rows[0].reachedAt
		for _, r := range rows {
			if r.reachedAt.Before(least) {
				least = r.reachedAt
			}
		}
		if least.After(epoch) {
			s.cfg.Observer.Reached(least)
		}
	}
	if err := insert(ctx, s.cfg.Conn, s.cfg.Database, TableProgress, "", progressColumns, s.begin(rows, taken)); err != nil {
		return err
	}
	s.mu.Lock()
	s.begun = true
	s.mu.Unlock()
	return nil
}

// begin adds, the first time, a row of every partition there is, also of those
// that are another member's: one without a row would not keep the others from
// passing it.
func (s *Sink) begin(rows []progress, taken time.Time) []progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		return rows
	}
	for topic, role := range map[string]string{s.cfg.Deliveries: RoleDeliveries, s.cfg.Attempts: RoleAttempts} {
		for p := range s.cfg.Partitions[topic] {
			rows = append(rows, progress{role: role, partition: int32(p), reachedAt: epoch, doneOffset: -1, takenAt: taken})
		}
	}
	return rows
}

// progress returns the rows of the partitions that we have. Where a log ended
// is known as of ended, and what was done as of doneBy. That of a partition that
// is halted has reached nothing: without one for as long as rows are kept it would
// no longer hold the ledger's time back.
func (s *Sink) progress(ended, doneBy time.Time, end func(tp) (int64, bool), done map[int32]int64) []progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []progress
	for id, p := range s.parts {
		if p.leaving {
			continue
		}
		if s.halted[id] != nil {
			rows = append(rows, progress{role: s.role(id.topic), partition: id.partition, reachedAt: epoch, doneOffset: -1, takenAt: doneBy})
			continue
		}
		at, ok := end(id)
		if !ok {
			continue
		}
		p.samples.note(ended, at)
		// Zero while it isn't known: such a row keeps the ledger from being taken
		// for complete without this partition.
		reached := orEpoch(p.samples.upTo(p.buf.next))
		row := progress{role: s.role(id.topic), partition: id.partition, reachedAt: reached, next: p.buf.next, doneOffset: -1, doneAt: doneBy, takenAt: doneBy}
		if id.topic == s.cfg.Deliveries {
			row.doneOffset = done[id.partition] // 0 before the first commit
			if row.doneOffset < at {
				row.doneAt = p.index.at(row.doneOffset)
			}
			if row.doneAt.After(doneBy) { // by a clock that is ahead of ours
				row.doneAt = doneBy
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (s *Sink) role(topic string) string {
	if topic == s.cfg.Deliveries {
		return RoleDeliveries
	}
	return RoleAttempts
}
