package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestACommandWaitsNoLongerThanItWasAskedTo(t *testing.T) {
	failure := errors.New("no")
	for name, c := range map[string]struct {
		most   time.Duration
		doneAt int // the question that is done; 0 for none
		err    error
		asked  int
		took   time.Duration
	}{
		"without a wait it asks once":            {0, 2, nil, 1, 0},
		"what is done at once isn't waited for":  {time.Minute, 1, nil, 1, 0},
		"what is done later ends the wait":       {time.Minute, 3, nil, 3, 2 * lookEvery},
		"what never is ends with the time":       {time.Second + 50*time.Millisecond, 0, nil, 7, time.Second + 50*time.Millisecond},
		"a failure ends it":                      {time.Minute, 0, failure, 1, 0},
		"it asks once more at the time's end":    {lookEvery / 2, 2, nil, 2, lookEvery / 2},
		"a time below 0 is as good as none left": {-time.Second, 0, nil, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, begun := 0, time.Now()
				done, err := until(t.Context(), c.most, func(context.Context) (bool, error) {
					asked++
					return asked == c.doneAt, c.err
				})
				if done != (c.doneAt != 0 && c.asked == c.doneAt) || !errors.Is(err, c.err) || asked != c.asked || time.Since(begun) != c.took {
					t.Errorf("done %v, %v, asked %d times in %s", done, err, asked, time.Since(begun))
				}
			})
		})
	}
}

func TestAnInterruptedCommandWaitsNoMore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if done, err := until(ctx, time.Hour, func(context.Context) (bool, error) { cancel(); return false, nil }); done || !errors.Is(err, context.Canceled) {
		t.Errorf("done %v, %v", done, err)
	}
}

func TestMoreThanAListShowsIsNotWaitedFor(t *testing.T) {
	var wrong *UsageError
	if err := (Deliveries{}).List(t.Context(), DeliveryQuery{Limit: 2, AtLeast: 3, Wait: time.Minute}); !errors.As(err, &wrong) {
		t.Error(err)
	}
}

func TestAReplayHasEndedOnceWhatBecameOfItIsInTheLedger(t *testing.T) {
	for answer, want := range map[string]bool{
		`{"state":"queued"}`:  false,
		`{"state":"running"}`: false,
		`{"state":"paused"}`:  false,
		`{"state":"waiting"}`: false,
		`{"state":"cancelled","progress":{"produced":2},"deliveries":{"pending":2}}`: true,
		`{"state":"failed"}`:    true,
		`{"state":"completed"}`: true, // nothing was produced, or there is no ledger
		`{"state":"completed","progress":{"produced":4},"deliveries":{"delivered":3}}`:                        false,
		`{"state":"completed","progress":{"produced":4},"deliveries":{"delivered":3,"pending":1}}`:            false,
		`{"state":"completed","progress":{"produced":4},"deliveries":{"delivered":2,"dead":1,"discarded":1}}`: true,
	} {
		var v replay
		if err := json.Unmarshal([]byte(answer), &v); err != nil {
			t.Fatal(err)
		}
		if v.ended() != want {
			t.Errorf("%s: %v", answer, v.ended())
		}
	}
}

func TestADeliveryWhoseAttemptsAloneAreInTheLedgerIsNotCalledPastItsTime(t *testing.T) {
	for answer, want := range map[string]string{
		`{"state":"delivered"}`:                                     "the ledger has the attempts alone",
		`{"state":"delivered","content_type":"text/plain"}`:         "the payload is past its time",
		`{"state":"delivered","content_type":"a/b","payload":"{}"}`: "payload:\n{}",
	} {
		var v delivery
		if err := json.Unmarshal([]byte(answer), &v); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := (Deliveries{Out: &out}).show([]byte(answer), &v); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v\n%s", answer, err, &out)
		}
	}
}
