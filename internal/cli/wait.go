package cli

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// lookEvery is how often a command that waits asks again.
const lookEvery = 200 * time.Millisecond

// until asks until that is done or fails, for so long at most, and once at least.
// It reports whether it is done; the end of ctx is an error.
func until(ctx context.Context, most time.Duration, ask func(context.Context) (done bool, err error)) (bool, error) {
	end := time.Now().Add(most)
	for {
		done, err := ask(ctx)
		if done || err != nil {
			return done, err
		}
		left := time.Until(end)
		if left <= 0 {
			return false, nil
		}
		timer := time.NewTimer(min(left, lookEvery))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		}
	}
}

// notYet reports whether the API says that there is no such thing, which may come:
// the ledger is some seconds behind.
func notYet(err error) bool {
	refused, ok := errors.AsType[*APIError](err)
	return ok && refused.Status == http.StatusNotFound
}
