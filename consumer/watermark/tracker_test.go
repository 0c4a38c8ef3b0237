package watermark

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is the obvious tracker: a set of unfinished offsets.
type model struct {
	unfinished map[int64]bool
	next       int64
}

func (m *model) watermark() int64 {
	w := m.next
	for o := range m.unfinished {
		w = min(w, o)
	}
	return w
}

func TestWatermarkNeverPassesAnUnfinishedOffset(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tr := NewTracker(100, nil)
		m := model{unfinished: map[int64]bool{}, next: 100}
		tickets := map[int64]*Ticket{}
		for range 400 {
			if rng.IntN(3) > 0 || len(tickets) == 0 {
				o := m.next + int64(rng.IntN(3)/2) // a gap now and then
				tickets[o] = tr.Track(o)
				m.unfinished[o], m.next = true, o+1
			} else {
				o := anyKey(rng, tickets)
				tickets[o].Done()
				delete(tickets, o)
				delete(m.unfinished, o)
			}
			if got, want := tr.Watermark(), m.watermark(); got != want {
				t.Fatalf("seed %d: watermark %d, want %d", seed, got, want)
			}
			if tr.Pending() != len(m.unfinished) {
				t.Fatalf("seed %d: pending %d, want %d", seed, tr.Pending(), len(m.unfinished))
			}
		}
	}
}

func anyKey(rng *rand.Rand, m map[int64]*Ticket) int64 {
	keys := make([]int64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys[rng.IntN(len(keys))]
}

func TestASuccessorRepeatsOnlyWhatWasUnfinished(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tr := NewTracker(0, nil)
		finished := map[int64]bool{}
		for o := range int64(300) {
			k := tr.Track(o)
			if rng.IntN(4) > 0 {
				k.Done()
				finished[o] = true
			}
		}
		text := EncodeMetadata(tr.Snapshot(RunsLimit), 7)
		if len(text) > MetadataLimit {
			t.Fatalf("seed %d: %d characters", seed, len(text))
		}
		back, runs, err := DecodeMetadata(text, tr.Watermark())
		if err != nil || (tr.Watermark() >= 7 && back != 7) {
			if tr.Watermark() >= 7 || err == nil {
				t.Fatalf("seed %d: back %d, error %v", seed, back, err)
			}
			continue
		}
		// The successor reads half, hands over, and a third finishes.
		next := NewTracker(tr.Watermark(), runs)
		for o := tr.Watermark(); o < 150; o++ {
			if (next.Track(o) == nil) != finished[o] {
				t.Fatalf("seed %d: offset %d: finished %v", seed, o, finished[o])
			}
		}
		snap := next.Snapshot(RunsLimit)
		third := NewTracker(snap.Watermark, snap.Finished)
		for o := snap.Watermark; o < 300; o++ {
			if (third.Track(o) == nil) != finished[o] {
				t.Fatalf("seed %d: third owner, offset %d: finished %v", seed, o, finished[o])
			}
		}
	}
}

func TestEveryStateCanBeHandedOver(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		finished := map[int64]bool{}
		tr := NewTracker(0, nil)
		tickets := map[int64]*Ticket{}
		next := int64(0)
		for range 300 {
			switch n := rng.IntN(10); {
			case n == 0: // a handover: the successor begins from what is committed
				s := tr.Snapshot(RunsLimit)
				_, runs, err := DecodeMetadata(EncodeMetadata(s, 0), s.Watermark)
				if err != nil || !slices.Equal(runs, s.Finished) {
					t.Fatalf("seed %d: snapshot %+v reads as %v, %v", seed, s, runs, err)
				}
				if s.Watermark != tr.Watermark() {
					t.Fatalf("seed %d: watermark %d, snapshot %d", seed, tr.Watermark(), s.Watermark)
				}
				tr, tickets, next = NewTracker(s.Watermark, runs), map[int64]*Ticket{}, s.Watermark
			case n < 6 || len(tickets) == 0:
				k := tr.Track(next)
				if (k == nil) != finished[next] {
					t.Fatalf("seed %d: offset %d is finished: %v", seed, next, finished[next])
				}
				if k != nil {
					tickets[next] = k
				}
				next++
			default:
				o := anyKey(rng, tickets)
				tickets[o].Done()
				delete(tickets, o)
				finished[o] = true
			}
		}
	}
}

func TestALateCompletionOfAnEarlierAssignmentChangesNothing(t *testing.T) {
	tr := NewTracker(5, nil)
	k := tr.Track(5)
	tr.Close()
	k.Done()
	if tr.Watermark() != 5 || tr.Pending() != 1 {
		t.Fatalf("watermark %d, pending %d after close", tr.Watermark(), tr.Pending())
	}
}

func TestMetadataOfAFewHolesIsSmallHoweverLongTheSpan(t *testing.T) {
	tr := NewTracker(0, nil)
	for o := range int64(1_000_000) {
		k := tr.Track(o)
		if o%100_000 != 0 {
			k.Done()
		}
	}
	if n := len(EncodeMetadata(tr.Snapshot(RunsLimit), 0)); n > 80 {
		t.Fatalf("ten holes in a million take %d characters", n)
	}
}

func TestAnOverflowingSnapshotKeepsTheRunsNearestTheWatermark(t *testing.T) {
	tr := NewTracker(0, nil)
	for o := range int64(10_000) {
		k := tr.Track(o)
		if o%2 == 1 {
			k.Done()
		}
	}
	s := tr.Snapshot(RunsLimit)
	if s.Full <= 1 {
		t.Fatalf("full %v: the case is too small", s.Full)
	}
	if got := int64(len(s.Finished)) + s.LeftOut; got != 5000 {
		t.Fatalf("%d kept and %d left out of 5000", len(s.Finished), s.LeftOut)
	}
	for i, r := range s.Finished {
		if want := (Run{int64(2*i + 1), int64(2*i + 2)}); r != want {
			t.Fatalf("run %d is %v, want %v", i, r, want)
		}
	}
	if n := len(EncodeMetadata(s, 1<<40)); n > MetadataLimit {
		t.Fatalf("%d characters", n)
	}
}

func TestForeignMetadataIsNoHolesAndNoCrash(t *testing.T) {
	for _, text := range []string{"", "consumer-1-uuid", "ph1:!", "ph2:AA", "ph1:AAAB", "ph1:AAEA"} {
		if _, runs, err := DecodeMetadata(text, 10); err == nil || runs != nil {
			t.Errorf("%q: runs %v, error %v", text, runs, err)
		}
	}
}

func FuzzDecodeMetadata(f *testing.F) {
	f.Add("ph1:AAEB", int64(4))
	f.Add(EncodeMetadata(Snapshot{Watermark: 9, Finished: Runs{{11, 15}, {20, 400}}}, 3), int64(9))
	f.Fuzz(func(t *testing.T, text string, base int64) {
		if base < 0 {
			return
		}
		back, runs, err := DecodeMetadata(text, base)
		if err != nil {
			return
		}
		if back < 0 || back > base {
			t.Fatalf("back %d of %d", back, base)
		}
		at := base
		for _, r := range runs {
			if r.From <= at && !(r.From == at && at == base) || r.To <= r.From {
				t.Fatalf("runs %v from %d are not ascending and disjoint", runs, base)
			}
			at = r.To
		}
		b2, r2, err := DecodeMetadata(EncodeMetadata(Snapshot{Watermark: base, Finished: runs}, back), base)
		if err != nil || b2 != back || !slices.Equal(r2, runs) {
			t.Fatalf("not stable: %d %v %v", b2, r2, err)
		}
	})
}

func TestRepeatsAreKnownWithinTheWindowAndTheLeastCount(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	m := NewMemory[int](time.Minute, 10)
	for o := range int64(100) {
		if m.Note(int(o), o, at(int(o))) {
			t.Fatalf("offset %d taken for a repeat", o)
		}
	}
	// The watermark is at 100: its window reaches to second 39.
	if from := m.Forget(100); from != 39 {
		t.Fatalf("a successor reads from %d, want 39", from)
	}
	if !m.Note(39, 100, at(100)) || m.Note(38, 101, at(101)) {
		t.Fatal("the window's edge is not where it should be")
	}
	// All at once much later: time forgets, the count keeps the last ten.
	m.Note(1000, 102, at(10_000))
	m.Note(1001, 103, at(10_000))
	if from := m.Forget(104); from != 94 {
		t.Fatalf("a successor reads from %d, want 94", from)
	}
}

func TestMemoryReachesBackFromTheWatermarkNotFromTheReader(t *testing.T) {
	m := NewMemory[int](time.Minute, 1)
	for o := range int64(1000) {
		m.Note(int(o), o, time.Unix(o, 0))
	}
	if from := m.Forget(100); from != 39 {
		t.Fatalf("a successor at watermark 100 reads from %d, want 39", from)
	}
}

func TestAChainOfRepeatsStaysKnown(t *testing.T) {
	m := NewMemory[string](time.Minute, 0)
	for o := range int64(10) {
		if rep := m.Note("a", o, time.Unix(o*50, 0)); rep != (o > 0) {
			t.Fatalf("record %d: repeat %v", o, rep)
		}
		m.Forget(o + 1)
	}
}

func BenchmarkTrackDone(b *testing.B) {
	tr := NewTracker(0, nil)
	b.ReportAllocs()
	var o int64
	for b.Loop() {
		tr.Track(o).Done()
		o++
	}
}

func BenchmarkSnapshotOfTenThousandHoles(b *testing.B) {
	tr := NewTracker(0, nil)
	for o := range int64(20_000) {
		if k := tr.Track(o); o%2 == 1 {
			k.Done()
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		tr.Snapshot(RunsLimit)
	}
}
