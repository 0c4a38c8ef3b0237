package lanes

import (
	"errors"
	"fmt"
	"time"
)

// Config is the shape of a [Set]. The zero value of a field means its default.
type Config struct {
	// InitialWidth is how many POSTs a new lane may have in flight; default 4.
	InitialWidth int
	// MaxWidth is the most that a lane may grow to; default 256, or MaxInFlight
	// if that is less.
	MaxWidth int
	// QueueRecords and QueueBytes bound the queue of one lane; defaults 4,096
	// and 4 MiB. A single item larger than QueueBytes fits an empty queue.
	QueueRecords int
	QueueBytes   int
	// SuspectBytes bounds the queue of a lane that has not succeeded, ever or
	// for SlowAfter of failures, as QueueBytes does; default QueueBytes. Nobody
	// knows how long such a lane would keep what it queues.
	SuspectBytes int
	// QueueFor bounds the queue of a lane in time: more than can be worked off in
	// it, at the pace that is known, isn't queued. Default 20 s, or twice MinTurn
	// if that is more: the first that are spilled are back when half is gone.
	QueueFor time.Duration
	// MaxInFlight bounds the POSTs in flight over all lanes; default 4,096.
	MaxInFlight int
	// SickShare is the part of MaxInFlight up to which lanes known to be sick
	// are given slots, in (0, 1]; default 1/4.
	SickShare float64
	// UnprovenShare is the part of MaxInFlight up to which lanes that are sick
	// or have not proven themselves are given slots, in [SickShare, 1]; default
	// 3/4, or SickShare if that is more.
	UnprovenShare float64
	// SlowAfter is how long a POST may be out before its lane counts as sick,
	// and how long a lane may go without a success before it counts as hanging;
	// default 5 s.
	SlowAfter time.Duration
	// MinTurn is the shortest wait of a spilled delivery and MaxTurn the
	// longest; defaults 5 s and 1 h.
	MinTurn, MaxTurn time.Duration
	// IdleLanes is how many lanes with nothing to do are remembered for what was
	// learned of them, at about 600 bytes each, and IdleFor for how long;
	// defaults 100,000 and 30 min.
	IdleLanes int
	IdleFor   time.Duration
}

// DefaultQueueBytes is what QueueBytes is where nothing is said.
const DefaultQueueBytes = 4 << 20

func or[N int | float64 | time.Duration](v, def N) N {
	if v == 0 {
		return def
	}
	return v
}

func (c Config) withDefaults() Config {
	c.InitialWidth = or(c.InitialWidth, 4)
	c.MaxInFlight = or(c.MaxInFlight, 4096)
	c.MaxWidth = or(c.MaxWidth, min(max(256, c.InitialWidth), max(c.MaxInFlight, c.InitialWidth)))
	c.QueueRecords = or(c.QueueRecords, 4096)
	c.QueueBytes = or(c.QueueBytes, DefaultQueueBytes)
	c.SuspectBytes = or(c.SuspectBytes, c.QueueBytes)
	c.SickShare = or(c.SickShare, 0.25)
	c.UnprovenShare = or(c.UnprovenShare, max(0.75, c.SickShare))
	c.SlowAfter = or(c.SlowAfter, 5*time.Second)
	c.MinTurn = or(c.MinTurn, 5*time.Second)
	c.MaxTurn = or(c.MaxTurn, max(time.Hour, c.MinTurn))
	c.QueueFor = or(c.QueueFor, max(20*time.Second, 2*c.MinTurn))
	c.IdleLanes = or(c.IdleLanes, 100_000)
	c.IdleFor = or(c.IdleFor, 30*time.Minute)
	return c
}

// Validate reports every field that is out of its range, after defaults.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("lanes: "+format, args...))
		}
	}
	check(c.InitialWidth >= 1, "InitialWidth is %d, want at least 1", c.InitialWidth)
	check(c.MaxWidth >= c.InitialWidth, "MaxWidth is %d, want at least InitialWidth (%d)", c.MaxWidth, c.InitialWidth)
	check(c.QueueRecords >= 1, "QueueRecords is %d, want at least 1", c.QueueRecords)
	check(c.QueueBytes >= 1, "QueueBytes is %d, want at least 1", c.QueueBytes)
	check(c.SuspectBytes >= 1 && c.SuspectBytes <= c.QueueBytes,
		"SuspectBytes is %d, want at least 1 and at most QueueBytes (%d)", c.SuspectBytes, c.QueueBytes)
	check(c.MaxInFlight >= 1, "MaxInFlight is %d, want at least 1", c.MaxInFlight)
	check(c.SickShare > 0 && c.SickShare <= 1, "SickShare is %v, want a part in (0, 1]", c.SickShare)
	check(c.UnprovenShare >= c.SickShare && c.UnprovenShare <= 1,
		"UnprovenShare is %v, want a part in [SickShare (%v), 1]", c.UnprovenShare, c.SickShare)
	check(c.SlowAfter >= 10*time.Millisecond, "SlowAfter is %v, want at least 10ms", c.SlowAfter)
	check(c.MinTurn > 0, "MinTurn is %v, want more than 0", c.MinTurn)
	check(c.MaxTurn >= c.MinTurn, "MaxTurn is %v, want at least MinTurn (%v)", c.MaxTurn, c.MinTurn)
	check(c.QueueFor >= 10*time.Millisecond, "QueueFor is %v, want at least 10ms", c.QueueFor)
	check(c.IdleLanes >= 0, "IdleLanes is %d, want at least 0", c.IdleLanes)
	check(c.IdleFor > 0, "IdleFor is %v, want more than 0", c.IdleFor)
	return errors.Join(errs...)
}
