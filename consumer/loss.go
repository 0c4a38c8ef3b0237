package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer/watermark"
)

// LossError says that records which had not been worked on are gone from the
// log: retention was shorter than the lag, or the topic was made anew.
type LossError struct {
	Topic     string
	Partition int32
	// Committed is the offset that was to be read next, or to begin at.
	Committed int64
	// Start and End are those of the log when the loss was found. Start is -1
	// where it is not what matters: the log was cut to End.
	Start int64
	End   int64
}

func (e *LossError) Error() string {
	if e.Start < 0 {
		return fmt.Sprintf("%s/%d: the log no longer has what was to be read next after offset %d (it was cut to %d), so records were lost "+
			"before they were worked on; find out why, then start again with --accept-loss to go on", e.Topic, e.Partition, e.Committed, e.End)
	}
	return fmt.Sprintf("%s/%d: the committed offset %d is outside the log (%d to %d), so records were lost before they were worked on; "+
		"find out why, then start with --accept-loss to go on", e.Topic, e.Partition, e.Committed, e.Start, e.End)
}

// loss is why a lease was halted, as its commits tell it to the next owner.
type loss struct {
	watermark.Loss
	// same says that the log below the cut is what it was, so that what is
	// finished there stays finished.
	same bool
}

// metadata returns what to commit for a halted lease.
func (l *loss) metadata(snap watermark.Snapshot, readFrom int64) (at int64, text string) {
	if l.same {
		snap = snap.Below(l.CutTo)
	}
	return snap.Watermark, l.Mark(watermark.EncodeMetadata(snap, snap.Watermark-readFrom))
}

// locateWithin bounds one question for where a partition's log lies.
const locateWithin = 5 * time.Second

// extent is where a partition's log lay.
type extent struct{ start, end int64 }

// fetchFailed sees to a partition whose log doesn't have what was to be read
// next. It runs in the goroutine that polls.
func (s *Stage) fetchFailed(topic string, p int32, err error) {
	s.mu.Lock()
	l := s.leases[partition{topic, p}]
	s.mu.Unlock()
	if l == nil { // told late: it is another member's by now
		return
	}
	var told *kgo.ErrDataLoss
	switch {
	case errors.As(err, &told):
		// Found by the epochs of the leaders, so the cut is exact, and the topic
		// is the same: the client never follows one that was made anew.
		s.dataLost(l, &loss{watermark.Loss{ReadTo: told.ConsumedTo, CutTo: told.ResetTo}, true},
			&LossError{Topic: topic, Partition: p, Committed: told.ConsumedTo, Start: -1, End: told.ResetTo}, told.ConsumedTo-told.ResetTo)
	case errors.Is(err, kerr.OffsetOutOfRange):
		s.locate(l)
	}
}

// dataLost halts a partition until someone accepts the loss. Its commits go on,
// and say so.
func (s *Stage) dataLost(l *Lease, why *loss, err *LossError, records int64) {
	s.mu.Lock()
	p := partition{l.Topic, l.Partition}
	if s.leases[p] != l || s.halted[p] != nil {
		s.mu.Unlock()
		return
	}
	s.halted[p] = err
	l.lost.Store(why)
	l.changes.Add(1) // to be committed, even if nothing gets done
	s.mu.Unlock()
	s.cfg.Observer.Lost(l.Topic, l.Partition, records)
	s.log.Error("records were lost before they were worked on", "stage", s.cfg.Name, "error", err)
	s.wake()
}

// locate asks where the log of a lease lies whose position is outside it; the
// partition is paused until [Stage.relocate] has the answer. Neither the
// goroutine that polls nor a rebalance waits for it.
func (s *Stage) locate(l *Lease) {
	if l.failure.Load() != nil || l.locating.Swap(true) {
		return
	}
	s.locating.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), locateWithin)
		defer cancel()
		found, err := s.extent(ctx, l)
		if err != nil {
			s.log.Warn("finding where a log begins, trying again", "stage", s.cfg.Name, "error", err)
			time.AfterFunc(restartAtFirst, func() { // read on, and fail again
				l.locating.Store(false)
				s.wake()
			})
			return
		}
		l.extent.Store(&found)
		s.wake()
	})
}

func (s *Stage) extent(ctx context.Context, l *Lease) (extent, error) {
	starts, err := s.adm.ListStartOffsets(ctx, l.Topic)
	if err != nil {
		return extent{}, fmt.Errorf("listing start offsets: %w", err)
	}
	ends, err := s.adm.ListEndOffsets(ctx, l.Topic)
	if err != nil {
		return extent{}, fmt.Errorf("listing end offsets: %w", err)
	}
	start, end, err := bounds(starts, ends, l.Topic, l.Partition)
	return extent{start, end}, err
}

// relocate moves leases into their logs. Below a lease's first unfinished
// record there was nothing left to do: what retention took there were records
// to be noted, and nothing is lost. It runs in the goroutine that polls.
func (s *Stage) relocate() {
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	var lost []func()
	s.mu.Lock()
	for p, l := range s.leases {
		log := l.extent.Swap(nil)
		if log == nil {
			continue
		}
		l.locating.Store(false)
		if s.halted[p] != nil || l.failure.Load() != nil {
			continue
		}
		halt := func(start, records int64) {
			lost = append(lost, func() {
				s.dataLost(l, &loss{Loss: watermark.Loss{ReadTo: l.next, CutTo: log.end}},
					&LossError{Topic: p.topic, Partition: p.id, Committed: max(l.next, l.from), Start: start, End: log.end}, records)
			})
		}
		switch unread := max(l.next, l.from); {
		case l.next > log.end:
			halt(-1, l.next-log.end)
		case log.start > unread:
			halt(log.start, log.start-unread)
		default:
			l.next = max(l.next, log.start)
			l.readFrom.Store(max(l.readFrom.Load(), log.start))
			s.log.Info("the window of repeats is shorter than it was: retention took its beginning", "stage", s.cfg.Name,
				"topic", p.topic, "partition", p.id, "offset", l.next)
			if offsets[p.topic] == nil {
				offsets[p.topic] = make(map[int32]kgo.EpochOffset)
			}
			offsets[p.topic][p.id] = kgo.EpochOffset{Epoch: -1, Offset: l.next}
		}
	}
	s.mu.Unlock()
	for _, halt := range lost {
		halt()
	}
	if len(offsets) > 0 {
		s.client.SetOffsets(offsets)
	}
}
