package app

import (
	"context"
	"errors"
	"fmt"

	"posthorn/consumer/eventlog"
	"posthorn/webhook"
)

// errEventGone says that an event can't be read again.
var errEventGone = errors.New("its event is no longer on its topic")

// rebuilder reads an event again from where it lies. Its error is errEventGone,
// wrapped, where no later try can help.
func (l *Line) rebuilder(log *eventlog.Log, events *sourceEvents) func(ctx context.Context, at webhook.Position) (*webhook.Event, error) {
	return func(ctx context.Context, at webhook.Position) (*webhook.Event, error) {
		if at.Topic == "" {
			return nil, fmt.Errorf("%w: it never was on one", errEventGone)
		}
		records, _, err := log.Fetch(ctx, at.Topic, at.Partition, at.Offset, 1) // one batch at least
		if gone, ok := errors.AsType[*eventlog.OutOfRangeError](err); ok {
			return nil, fmt.Errorf("%w: %w", errEventGone, gone)
		}
		if err != nil {
			return nil, err
		}
		if len(records) == 0 || records[0].Offset != at.Offset {
			return nil, fmt.Errorf("%w: nothing lies at %s", errEventGone, at)
		}
		task, why := events.Read(records[0])
		if why != nil {
			return nil, fmt.Errorf("%w: what lies at %s is none: %s", errEventGone, at, why.Detail)
		}
		return task.Event, nil
	}
}

// isEvent reports whether an event that was read again is the one that a delivery
// was made of. A topic that was made anew has others at the old places, and may have
// them under the old IDs: of another tenant, none must get out.
func isEvent(e *webhook.Event, tenant, eventType, source, id string) bool {
	return e.Tenant == tenant && e.Type == eventType && e.Source == source && e.ID == id
}
