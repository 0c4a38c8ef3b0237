package lanes

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkDelivery is one Offer that starts and its Finish, over as many lanes
// as named.
func BenchmarkDelivery(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("lanes=%d", n), func(b *testing.B) {
			s := must(b, Config{})
			keys := make([]string, n)
			now := time.Unix(0, 0)
			for i := range keys {
				keys[i] = fmt.Sprintf("ep_%026d", i)
				s.Offer(now, keys[i], 0, 1, Options{})
				s.Finish(now, keys[i], OK, 0, nil)
			}
			start := make([]int, 0, 16)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				now = now.Add(time.Microsecond)
				key := keys[i%n]
				i += 7919
				s.Offer(now, key, 0, 1, Options{})
				start = s.Finish(now, key, OK, time.Microsecond, start[:0])
			}
		})
	}
}

// BenchmarkBacklog is one Offer that queues and one Finish that starts another,
// while 1,000 other lanes have POSTs in flight.
func BenchmarkBacklog(b *testing.B) {
	for _, rate := range []float64{0, 1e6} {
		b.Run(fmt.Sprintf("rate=%g", rate), func(b *testing.B) {
			s := must(b, Config{})
			now := time.Unix(0, 0)
			for i := range 1000 {
				s.Offer(now, fmt.Sprintf("ep_%026d", i), 0, 1, Options{})
			}
			for range 100 {
				s.Offer(now, "k", 0, 1, Options{Rate: rate})
			}
			start := make([]int, 0, 16)
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Microsecond)
				s.Offer(now, "k", 0, 1, Options{Rate: rate, Returning: true})
				start = s.Finish(now, "k", OK, 4*time.Microsecond, start[:0])
			}
		})
	}
}

// BenchmarkNewLanes is the cost of an endpoint that is met, and forgotten again.
func BenchmarkNewLanes(b *testing.B) {
	s := must(b, Config{IdleLanes: 1000})
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = fmt.Sprintf("ep_%026d", i)
	}
	now := time.Unix(0, 0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		key := keys[i%len(keys)]
		i++
		s.Offer(now, key, 0, 1, Options{})
		s.Finish(now, key, OK, 0, nil)
	}
}
