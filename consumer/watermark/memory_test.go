package watermark

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// plainMemory is a Memory that is nothing but a list.
type plainMemory struct {
	window time.Duration
	least  int64
	notes  []plainNote
}

type plainNote struct {
	id     int
	offset int64
	at     int64
}

func (m *plainMemory) note(id int, offset int64, at time.Time, latest *int64) bool {
	*latest = max(*latest, at.UnixMilli())
	known := slices.ContainsFunc(m.notes, func(n plainNote) bool { return n.id == id })
	m.notes = append(m.notes, plainNote{id, offset, *latest})
	return known
}

func (m *plainMemory) forget(watermark int64) int64 {
	below := -1
	for i, n := range m.notes {
		if n.offset < watermark {
			below = i
		}
	}
	if below >= 0 {
		horizon := m.notes[below].at - m.window.Milliseconds()
		for len(m.notes) > 0 && m.notes[0].at < horizon && m.notes[0].offset < watermark-m.least {
			m.notes = m.notes[1:]
		}
	}
	if len(m.notes) == 0 {
		return watermark
	}
	return min(m.notes[0].offset, watermark)
}

func TestTheMemoryAgreesWithAPlainList(t *testing.T) {
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 2))
		window, least := time.Duration(r.IntN(3000))*time.Millisecond, r.IntN(50)
		m := NewMemory[int](window, least)
		plain := &plainMemory{window: window, least: int64(least)}
		m.base = chunkMask - uint32(r.IntN(3)) // numbers wrap around soon
		ids := 1 + r.IntN(4000)
		offset, watermark, latest := int64(r.IntN(1000)), int64(0), int64(-1<<62)
		now := time.UnixMilli(1_700_000_000_000)
		for range 3000 {
			switch r.IntN(12) {
			case 0:
				watermark = max(watermark, offset-int64(r.IntN(300)))
				if got, want := m.Forget(watermark), plain.forget(watermark); got != want {
					t.Fatalf("seed %d: a successor at %d reads from %d, want %d", seed, watermark, got, want)
				}
				if m.Len() != len(plain.notes) {
					t.Fatalf("seed %d: %d remembered, want %d", seed, m.Len(), len(plain.notes))
				}
			case 1:
				now = now.Add(time.Duration(r.IntN(400)-100) * time.Millisecond)
			default:
				offset += 1 + int64(r.IntN(3))
				switch r.IntN(1500) {
				case 0:
					offset += 1<<32 - 100
				case 1:
					now = now.Add((1<<32 - 100) * time.Millisecond)
				}
				id := r.IntN(ids)
				if got, want := m.Note(id, offset, now), plain.note(id, offset, now, &latest); got != want {
					t.Fatalf("seed %d: %d at offset %d: repeat %v, want %v", seed, id, offset, got, want)
				}
			}
		}
	}
}

func TestAMemoryGivesBackWhatABurstTook(t *testing.T) {
	m := NewMemory[int](time.Second, 10)
	for i := range 200_000 {
		m.Note(i, int64(i), time.UnixMilli(0))
	}
	for i := range 1000 { // slowly
		m.Note(-i-1, int64(200_000+i), time.UnixMilli(int64(2000+i*100)))
		m.Forget(int64(200_000 + i))
	}
	if m.Len() > 100 || len(m.chunks) > 2 || len(m.table.slots) > 1024 {
		t.Errorf("%d records in %d chunks and %d slots", m.Len(), len(m.chunks), len(m.table.slots))
	}
}

// bytes/record is what each of the 600,000 remembered takes.
func BenchmarkMemoryNote(b *testing.B) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := NewMemory[[16]byte](time.Minute, 10_000)
	var id [16]byte
	r := rand.New(rand.NewPCG(1, 1))
	offset := int64(0)
	note := func() {
		for i := range id {
			id[i] = byte(r.Uint64())
		}
		m.Note(id, offset, time.UnixMilli(offset/10))
		offset++
		if offset%500 == 0 {
			m.Forget(offset - 100)
		}
	}
	for range 610_000 {
		note()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	taken := float64(after.HeapAlloc-before.HeapAlloc) / float64(m.Len())
	b.ReportAllocs()
	for b.Loop() {
		note()
	}
	b.ReportMetric(taken, "bytes/record")
}
