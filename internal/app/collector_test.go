package app

import "testing"

func TestGarbageHasRoomByWhatIsLive(t *testing.T) {
	for live, want := range map[uint64]uint64{ // where the heap is collected next
		20 << 20:  84 << 20,
		64 << 20:  128 << 20,
		192 << 20: 256 << 20,
		900 << 20: 1200 << 20,
	} {
		next := live + live*uint64(collectorPercent(live))/100
		if next > want || next < want-live/50 {
			t.Errorf("with %d MiB live the collector runs at %d MiB, want %d", live>>20, next>>20, want>>20)
		}
	}
	if p := collectorPercent(0); p < 100 || p > 5000 {
		t.Errorf("%d percent of nothing", p)
	}
}
