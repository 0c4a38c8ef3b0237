package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// cleanups undoes what was started, last in, first out, each within a bounded
// time, so that one thing that hangs does not keep the others from stopping.
type cleanups struct {
	log   *slog.Logger
	stack []cleanup
}

type cleanup struct {
	name   string
	within time.Duration
	undo   func(ctx context.Context) error
}

func (c *cleanups) add(name string, within time.Duration, undo func(ctx context.Context) error) {
	c.stack = append(c.stack, cleanup{name, within, undo})
}

// run undoes everything. What doesn't end in time is left behind and reported.
func (c *cleanups) run() error {
	var errs []error
	for _, step := range slices.Backward(c.stack) {
		ctx, cancel := context.WithTimeout(context.Background(), step.within)
		ended := make(chan error, 1)
		go func() { ended <- step.undo(ctx) }()
		select {
		case err := <-ended:
			if err != nil {
				errs = append(errs, fmt.Errorf("stopping %s: %w", step.name, err))
			}
		case <-ctx.Done():
			// One that watches ctx itself has a moment to say so.
			select {
			case err := <-ended:
				errs = append(errs, fmt.Errorf("stopping %s: %w", step.name, err))
			case <-time.After(100 * time.Millisecond):
				errs = append(errs, fmt.Errorf("stopping %s: not done within %s, left behind", step.name, step.within))
			}
		}
		cancel()
		c.log.Debug("stopped", "part", step.name)
	}
	c.stack = nil
	return errors.Join(errs...)
}
