package lanes

import "time"

// widthControl decides how many POSTs a lane may have in flight. It judges
// rounds of about as many completions as the lane is wide:
//
//   - the first failure of a round takes a tenth off at once, because what is
//     refused is refused quickly: by the end of the round the slot would have
//     been used, and an attempt spent, many times over. If more than three in ten
//     of a round fail all the same, its end takes off that part (at most half);
//   - a round whose latency has passed twice the baseline narrows it in
//     proportion, never below where lanes start: an endpoint that queues inside
//     itself is kept busy, with about as much again waiting in it, and can't
//     push the lane down to one;
//   - otherwise, and up to one and a half times the baseline, a lane that could
//     have used more grows by one, or doubles while nothing has stopped it yet.
//     For a few rounds after a failure it grows by a quarter, so that feeling for
//     the limit costs about one delivery in fifty an attempt.
//
// Between 1.5 and 2 times the baseline it stays: that gap is what makes it
// settle. The baseline is the least smoothed latency seen, so it must be
// measured afresh now and then: under a steady flood the latency is never
// unloaded. Every half minute (or 64 rounds, if that is more) the lane is run at
// about half its width, first until what started before is gone, then to
// measure. The width is held to where latency reaches the crowded mark, so
// width * baseline / crowded at most just saturates the endpoint: the
// measurement can't drift upwards, and costs under 2 % of the capacity.
type widthControl struct {
	width     float64
	initial   int
	max       int
	doubling  bool // nothing has stopped its growth yet
	saturated bool // wanted more than its width in this round
	cut       bool // has had its tenth taken off in this round
	cautious  int8 // rounds left of slow growth
	phase     phase

	done, failed int           // completions and failures in this round
	sum          time.Duration // of the latencies of its successes
	smooth       time.Duration // moving average over rounds
	baseline     time.Duration // 0: not known yet
	probeAt      instant
}

type phase uint8

const (
	steady phase = iota
	draining
	measuring
)

const (
	probeEvery = 30 * time.Second
	// jitter is what latency may rise by without meaning anything: scheduling
	// and timers, which would otherwise dominate endpoints a millisecond away.
	jitter = 5 * time.Millisecond
	// idleForgets is after how long without work a width is old news.
	idleForgets = instant(30 * time.Second)
)

func newWidth(c *Config) widthControl {
	return widthControl{width: float64(c.InitialWidth), initial: c.InitialWidth, max: c.MaxWidth, doubling: true, probeAt: never}
}

// fresh reports whether the lane would start anew at the width that it has.
func (w *widthControl) fresh() bool { return w.width == float64(w.initial) }

func (w *widthControl) now() int {
	if w.phase != steady {
		part := float64(w.baseline) / float64(w.crowded())
		return max(int(w.width*part), min(w.initial, int(w.width)))
	}
	return int(w.width)
}

// narrow falls back to one POST at a time, to grow anew by doubling.
func (w *widthControl) narrow() {
	*w = widthControl{width: 1, initial: w.initial, max: w.max, doubling: true, probeAt: never}
}

// rest is called when the lane has work again after a long idle time: what the
// endpoint could take then says little about now.
func (w *widthControl) rest() {
	start := min(w.width, float64(w.initial))
	*w = widthControl{width: start, initial: w.initial, max: w.max, doubling: true, probeAt: never}
}

// round is how many completions are judged together: enough to average over,
// and at least one of each POST in flight.
func (w *widthControl) round() int {
	n := int(w.width)
	return max(min(4*n, 16), n)
}

// observe counts one completion.
func (w *widthControl) observe(now instant, ok bool, latency time.Duration) {
	w.done++
	if ok {
		w.sum += latency
	} else {
		w.failed++
		if !w.cut {
			w.cut, w.doubling, w.cautious, w.phase = true, false, 8, steady
			w.width = max(1, w.width*0.9)
			w.done, w.failed, w.sum = 0, 0, 0 // judge what comes of it
			return
		}
	}
	if w.done < w.round() {
		return
	}
	w.judge(now)
	w.done, w.failed, w.sum, w.saturated, w.cut = 0, 0, 0, false, false
}

func (w *widthControl) judge(now instant) {
	succeeded := w.done - w.failed
	if w.cut {
		w.cautious, w.phase = 8, steady
		if part := float64(succeeded) / float64(w.done); part < 0.7 {
			w.width = max(1, w.width*max(0.5, part))
		} else if w.saturated {
			w.grow()
		}
		return
	}
	mean := w.sum / time.Duration(succeeded)
	switch w.phase {
	case draining:
		w.phase = measuring
		return
	case measuring:
		// What was measured at half the width says nothing yet about the whole
		// of it: begin in the gap, where the width stays.
		w.phase, w.smooth = steady, mean*7/4
		w.baselined(now, mean)
		return
	}
	if w.baseline == 0 {
		w.smooth = mean
		w.baselined(now, mean)
	}
	w.smooth += (mean - w.smooth) / 4
	w.baseline = min(w.baseline, w.smooth)

	floor := min(w.width, float64(w.initial))
	comfortable, crowded := w.baseline*3/2+jitter, w.crowded()
	switch {
	case w.doubling && mean > comfortable:
		// The last doubling went too far: undo it.
		w.doubling = false
		w.width = max(floor, w.width/2)
		w.smooth = w.baseline
	case w.smooth > crowded:
		w.doubling = false
		w.width = max(floor, w.width*max(0.8, float64(crowded)/float64(w.smooth)))
	case w.saturated && w.smooth <= comfortable:
		w.grow()
	}
	w.cautious = max(0, w.cautious-1)
	if now < w.probeAt {
		return
	}
	if w.width > float64(w.initial) {
		w.phase = draining
	} else {
		// As narrow as latency ever makes it: what it shows is the baseline, also
		// of an endpoint that has become slower for good.
		w.baselined(now, w.smooth)
	}
}

// crowded is the latency that is too much for the width.
func (w *widthControl) crowded() time.Duration { return w.baseline*2 + jitter }

func (w *widthControl) baselined(now instant, latency time.Duration) {
	w.baseline = latency
	w.probeAt = now + instant(max(probeEvery, 64*latency))
}

func (w *widthControl) grow() {
	switch {
	case w.doubling:
		w.width *= 2
	case w.cautious > 0:
		w.width += 0.25
	default:
		w.width++
	}
	if w.width >= float64(w.max) {
		w.width, w.doubling = float64(w.max), false
	}
}
