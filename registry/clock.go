package registry

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// SkewLimit is how far the clocks of a host and of the broker may be apart
// before it has to be said: deliveries are early or late by as much.
const SkewLimit = 500 * time.Millisecond

// Skew is how far this host's clock is ahead of the broker's; behind it when
// negative.
type Skew struct {
	// Ahead is the middle of what the measurement leaves open.
	Ahead time.Duration
	// Within is how far the truth may be from that, either way: half of the
	// round trip, and half of the millisecond that Kafka's timestamps have.
	Within time.Duration
}

// Excessive reports whether the clocks are surely farther apart than
// [SkewLimit].
func (s Skew) Excessive() bool { return s.Ahead.Abs()-s.Within > SkewLimit }

// String is for people: "1.2s ahead of the broker's (±3ms)".
func (s Skew) String() string {
	side := "ahead of"
	if s.Ahead < 0 {
		side = "behind"
	}
	return fmt.Sprintf("%v %s the broker's (±%v)", s.Ahead.Abs().Round(time.Millisecond), side, s.Within.Round(100*time.Microsecond))
}

// Clock compares this host's clock with the broker's. The registry's topic has
// message.timestamp.type=LogAppendTime, so the broker stamps each heartbeat
// with its own time, and that lies between the moment we sent it and the moment
// our follower read it back. [Learned.Heartbeat] and the [Follower] that are
// given the same Clock tell it of both.
//
// The broker is the leader of the registry's partition; other brokers' clocks
// aren't seen. On a topic with CreateTime nothing is measured. A Clock is safe
// for concurrent use.
type Clock struct {
	now func() time.Time

	mu     sync.Mutex
	beat   string // ID of the heartbeat on its way; empty for none
	sentAt time.Time
	skew   Skew
	known  bool
}

// NewClock returns a clock that knows nothing yet. The function tells the
// host's time; nil means [time.Now].
func NewClock(now func() time.Time) *Clock {
	if now == nil {
		now = time.Now
	}
	return &Clock{now: now}
}

// Skew returns the last measurement that says something; false before the
// first.
func (c *Clock) Skew() (Skew, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew, c.known
}

// heartbeat is the value of the record heartbeat/registry.
type heartbeat struct {
	At time.Time `json:"at"`           // the writer's clock
	ID string    `json:"id,omitempty"` // by which its writer knows it again
}

// send begins a measurement; one that is under way is given up.
func (c *Clock) send() heartbeat {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beat, c.sentAt = rand.Text(), c.now()
	return heartbeat{At: c.sentAt.UTC(), ID: c.beat}
}

// read ends a measurement when a heartbeat is the one on its way, and reports
// whether it says something.
func (c *Clock) read(r *kgo.Record) (Skew, bool) {
	var h heartbeat
	if json.Unmarshal(r.Value, &h) != nil || h.ID == "" {
		return Skew{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.ID != c.beat {
		return Skew{}, false // another process's, or one given up
	}
	c.beat = ""
	if r.Attrs.TimestampType() != logAppendTime {
		return Skew{}, false
	}
	// Wall clocks are what is compared, so no monotonic readings. Kafka cuts
	// its time to milliseconds.
	sent, read := c.sentAt.Round(0), c.now().Round(0)
	least, most := sent.Sub(r.Timestamp)-time.Millisecond, read.Sub(r.Timestamp)
	if most < least {
		return Skew{}, false // our clock was set back in between
	}
	s := Skew{Ahead: (least + most) / 2, Within: (most - least) / 2}
	// A round trip that long leaves open on which side of the limit we are.
	if s.Within > SkewLimit/2 && !s.Excessive() {
		return Skew{}, false
	}
	c.skew, c.known = s, true
	return s, true
}

// logAppendTime is the timestamp type of records that the broker stamped.
const logAppendTime = 1

// heartbeatKey is the key of every process's heartbeats.
var heartbeatKey = Key(KindHeartbeat, "registry")
