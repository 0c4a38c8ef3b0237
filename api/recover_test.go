package api

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestARecoveryReplaysOnceWhatWasMissedAndNothingFromBeforeAPurge(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID + "/recover"
	c.do("POST", path, "").want(http.StatusConflict) // it was never disabled
	c.do("POST", acme+"/nosuch/recover", "").want(http.StatusNotFound)
	c.do("POST", "/v1/tenants/globex/endpoints/"+made.ID+"/recover", "").want(http.StatusNotFound)

	hour := func(h int) time.Time { return time.Date(2026, 11, 1, h, 0, 0, 0, time.UTC) }
	set := func(disabled bool, from, until, purged time.Time) {
		c.store.mu.Lock()
		defer c.store.mu.Unlock()
		ep := c.store.endpoints[made.ID]
		ep.Disabled, ep.DisabledAt, ep.EnabledAt, ep.PurgeBefore, ep.CreatedAt = disabled, from, until, purged, hour(1)
	}
	expect := func(since, until time.Time) Replay {
		t.Helper()
		r := decode[Replay](c.do("POST", path, "").want(http.StatusAccepted))
		if !r.Since.Equal(since) || !r.Until.Equal(until) || r.EndpointID != made.ID || r.Kind != "replay" {
			t.Errorf("%+v, want %v to %v", r, since, until)
		}
		if again := decode[Replay](c.do("POST", path, "").want(http.StatusOK)); again.ID != r.ID {
			t.Errorf("a repeat made %+v besides %+v", again, r)
		}
		return r
	}
	set(true, hour(8), hour(2), time.Time{})
	c.do("POST", path, "").want(http.StatusConflict) // it misses events still
	set(false, hour(8), hour(12), time.Time{})
	first := expect(hour(8).Add(-10*time.Minute), hour(12).Add(recoverAfter))

	set(false, hour(1).Add(time.Minute), hour(12), time.Time{}) // soon after it was made
	expect(hour(1), hour(12).Add(recoverAfter))
	set(false, hour(8), hour(12), time.Time{})

	// What failed before counts only if this disabling followed from it.
	notice := func(disabledAt time.Time) {
		// It fails again since, and was warned of that.
		value := fmt.Sprintf(`{"failing_since":%q,"percent":50,"disabled_at":%q,"missed_since":%q}`, hour(14).Format(time.RFC3339), disabledAt.Format(time.RFC3339), hour(3).Format(time.RFC3339))
		if err := c.store.Update(t.Context(), func(tx Tx) error { return tx.PutRaw(kindNotice, made.ID, []byte(value)) }); err != nil {
			t.Fatal(err)
		}
	}
	notice(hour(7))
	if a := c.do("POST", path, "").want(http.StatusOK); decode[Replay](a).ID != first.ID {
		t.Errorf("another disabling's failures: %s", a.body)
	}
	notice(hour(8))
	if got := decode[Endpoint](c.do("GET", acme+"/"+made.ID, "").want(http.StatusOK)); got.Missed == nil || !got.Missed.FailingSince.Equal(hour(3)) {
		t.Errorf("missed %+v", got.Missed)
	}
	expect(hour(3).Add(-10*time.Minute), hour(12).Add(recoverAfter))
	set(false, hour(8), hour(12), hour(9))
	expect(hour(9), hour(12).Add(recoverAfter))
	set(false, hour(8), hour(12), hour(13))
	c.do("POST", path, "").want(http.StatusConflict) // all of it was purged
}
