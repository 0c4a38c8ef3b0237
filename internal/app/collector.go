package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// roomForGarbage is the least that the heap may grow by between two runs of
// the garbage collector, and roomShare the least part of what is live.
//
// Go's default lets garbage grow to the size of what is live. A process that
// delivers with few endpoints has 20 MiB live and makes 100 MB of garbage a
// second: a tenth of its CPU went into collecting. One with a million endpoints
// has hundreds of MiB live, and as much again would be a waste.
const (
	roomForGarbage = 64 << 20
	roomShare      = 3
)

// collectorPercent is the GOGC for that many live bytes.
func collectorPercent(live uint64) int {
	live = max(live, 4<<20) // below that Go's own least heap rules
	return int(max(roomForGarbage, live/roomShare) * 100 / live)
}

var collector sync.Once

// paceCollector adjusts the garbage collector to what is live after each of its
// runs, for the life of the process, unless the environment has GOGC.
func paceCollector() {
	collector.Do(func() {
		if _, set := os.LookupEnv("GOGC"); set {
			return
		}
		now := 100
		var adjust func(*[16]byte)
		adjust = func(*[16]byte) {
			sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			metrics.Read(sample)
			// Setting it stops the world for a moment: not for little.
			if want := collectorPercent(sample[0].Value.Uint64()); want < now*9/10 || want > now*11/10 {
				now = want
				debug.SetGCPercent(want)
			}
			runtime.SetFinalizer(new([16]byte), adjust) // the next run finds it unreachable
		}
		runtime.SetFinalizer(new([16]byte), adjust)
	})
}
