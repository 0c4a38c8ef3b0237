package dispatcher

import "time"

const (
	// youngFor is how long a POST counts as one that this machine is busy with:
	// connecting, writing, reading. One that takes longer waits for its receiver.
	youngFor = 20 * time.Millisecond
	// youngEach is how many POSTs may be young for each processor at a time.
	// With youngFor it leaves room for 6,400 a second and processor to receivers that
	// are slow to answer, which is more than a processor can make.
	youngEach = 128
)

// starts keeps this machine from beginning more POSTs than it can work on: a
// fan-out to thousands of endpoints would have thousands of goroutines connect
// at once, each with a stack, buffers and a connection of its own, and all of
// them late. POSTs that have a slot and find too many young ones wait here,
// those of one endpoint in order, the endpoints by turns, so that one with many
// delays nobody. A receiver that doesn't answer holds a place for youngFor at
// most. It knows no clock and no lock of its own; times may not go back.
type starts struct {
	most int
	// young POSTs in the order of their start, and with them some that have
	// ended: those are dropped when they come to the front.
	young []youngPost
	n     int // young ones that haven't ended
	// waiting jobs by endpoint, and the endpoints in the order of their turns.
	waiting map[string][]*job
	turns   []string
}

// youngPost is a start of a job, which may have several one after the other.
type youngPost struct {
	job   *job
	since time.Time
}

func newStarts(most int) *starts {
	return &starts{most: most, waiting: make(map[string][]*job)}
}

// offer takes in a job that may start, and appends to ready what starts now.
func (s *starts) offer(now time.Time, j *job, ready []*job) []*job {
	ready = s.due(now, ready)
	if s.n < s.most && len(s.turns) == 0 {
		return s.start(now, j, ready)
	}
	key := j.d.EndpointID
	if len(s.waiting[key]) == 0 {
		s.turns = append(s.turns, key)
	}
	s.waiting[key] = append(s.waiting[key], j)
	return ready
}

// ended takes a job out whose POST is over, and appends what starts in its place.
func (s *starts) ended(now time.Time, j *job, ready []*job) []*job {
	if !j.youngSince.IsZero() {
		j.youngSince = time.Time{}
		s.n--
	}
	return s.due(now, ready)
}

// due appends what may start because young POSTs have grown old.
func (s *starts) due(now time.Time, ready []*job) []*job {
	gone := 0
	for _, y := range s.young {
		if y.job.youngSince.Equal(y.since) {
			if now.Sub(y.since) < youngFor {
				break
			}
			y.job.youngSince = time.Time{}
			s.n--
		}
		s.young[gone] = youngPost{}
		gone++
	}
	if s.young = s.young[gone:]; len(s.young) == 0 {
		s.young = nil
	}
	for s.n < s.most && len(s.turns) > 0 {
		key := s.turns[0]
		s.turns[0] = ""
		s.turns = s.turns[1:]
		jobs := s.waiting[key]
		j := jobs[0]
		jobs[0] = nil
		if len(jobs) == 1 {
			delete(s.waiting, key)
		} else {
			s.waiting[key] = jobs[1:]
			s.turns = append(s.turns, key)
		}
		ready = s.start(now, j, ready)
	}
	return ready
}

func (s *starts) start(now time.Time, j *job, ready []*job) []*job {
	j.youngSince = now
	s.young = append(s.young, youngPost{j, now})
	s.n++
	return append(ready, j)
}

// next is when the oldest young POST grows old; false if nothing waits for it.
func (s *starts) next() (time.Time, bool) {
	if len(s.turns) == 0 {
		return time.Time{}, false
	}
	for _, y := range s.young {
		if y.job.youngSince.Equal(y.since) {
			return y.since.Add(youngFor), true
		}
	}
	return time.Time{}, false
}
