package replay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"posthorn/consumer"
	"posthorn/webhook"
)

// Registry is what replays are written into.
type Registry interface {
	// WaitCurrent blocks while the registry may be behind its topic.
	WaitCurrent(ctx context.Context) error
	// Version is the state that is read.
	Version() webhook.RegistryVersion
	// Replay and Progress return the records of a replay, by "tenant/ID".
	Replay(key string) (*webhook.Replay, bool)
	Progress(key string) (*webhook.ReplayProgress, bool)
	// Save writes the progress of a replay and waits until Kafka has it.
	Save(ctx context.Context, key string, p *webhook.ReplayProgress) error
	// Target returns an endpoint as it is now; false if there is none.
	Target(id string) (Target, bool)
}

// Target is the endpoint that a replay goes to.
type Target struct {
	Contract string
	// Held says why nothing can be delivered now; empty if it can.
	Held string
	// Trickle says that the endpoint's breaker is open: a delivery now and then
	// finds out whether it is well again.
	Trickle bool
	// Matches reports whether the endpoint is subscribed to an event.
	Matches func(e *webhook.Event) bool
}

// Source is what deliveries are made of. It isn't safe for concurrent use.
type Source interface {
	// Next returns what follows the last batch, or, the first time and after
	// [Source.Rewind], what follows the position.
	Next(ctx context.Context, to Target) (Batch, error)
	// Passed moves the position behind an item, whose delivery is acknowledged,
	// and PassedAll behind the last batch.
	Passed(i Item)
	PassedAll()
	// Rewind forgets what Next has returned and wasn't passed.
	Rewind()
	// Tell writes the position and the measures of the way into p.
	Tell(p *webhook.ReplayProgress) error
}

// Batch is a part of what there is.
type Batch struct {
	Items    []Item
	Scanned  int  // records looked at
	Finished bool // nothing follows
}

// Item is one delivery to be made. Run, origin, times and the registry's version
// are filled in when it is put on the line.
type Item struct {
	Delivery webhook.Delivery
	// Skip says that no body can be made: it is counted and left out.
	Skip   bool
	place  int    // of the log: which stretch
	next   int64  // of the log: the offset behind it
	cursor string // of the ledger
	looked int    // of the ledger: at how many of the page, up to it
}

// Line is where deliveries go.
type Line interface {
	// Put puts deliveries on the line and returns their offsets, when all are
	// acknowledged. Its context only ends the waiting.
	Put(ctx context.Context, ds []*webhook.Delivery) (offsets []int64, err error)
	// Finished returns which of an endpoint's offsets dispatch has done.
	Finished(ctx context.Context, endpointID string) (func(offset int64) bool, error)
}

// Config of a [Runner].
type Config struct {
	Registry Registry
	Line     Line
	// Source opens what a replay is made of, at the position of its progress (nil
	// at the start).
	Source func(ctx context.Context, r *webhook.Replay, at *webhook.ReplayProgress) (Source, error)
	// Waits are those of live deliveries in this process.
	Waits *Waits
	Log   *slog.Logger
}

// Validate reports what is missing.
func (c *Config) Validate() error {
	var errs []error
	for _, need := range []struct {
		ok   bool
		what string
	}{{c.Registry != nil, "Registry"}, {c.Line != nil, "Line"}, {c.Source != nil, "Source"}, {c.Waits != nil, "Waits"}, {c.Log != nil, "Log"}} {
		if !need.ok {
			errs = append(errs, fmt.Errorf("replay: %s is required", need.what))
		}
	}
	return errors.Join(errs...)
}

// ErrNever is wrapped by errors that no later try can change: the replay fails.
var ErrNever = errors.New("it can't be replayed")

// lease is the part of [consumer.Lease] that a job needs.
type lease interface {
	Live(now time.Time) bool
	Ended() bool
	Fail(err error)
}

var _ lease = (*consumer.Lease)(nil)
