package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/webhook"
)

func TestATenantAndEverythingArePausedAndResumedOnce(t *testing.T) {
	c := start(t)
	for path, id := range map[string]string{"/v1/tenants/acme/pause": "tenant/acme", "/v1/pause": "all"} {
		if p := decode[Pause](c.do("GET", path, "").want(http.StatusOK)); p.Paused {
			t.Errorf("%s: %+v from the start", path, p)
		}
		changes := len(c.store.audit)
		first := decode[Pause](c.do("PUT", path, `{"reason":"the flood"}`).want(http.StatusOK))
		again := decode[Pause](c.do("PUT", path, "").want(http.StatusOK))
		got := decode[Pause](c.do("GET", path, "").want(http.StatusOK))
		if _, ok := c.store.Raw(webhook.KindPause, id); !ok || !first.Paused || first.Since.IsZero() || first != again || again != got || got.Reason != "the flood" {
			t.Errorf("%s: %+v, then %+v, read %+v", path, first, again, got)
		}
		c.do("DELETE", path, "").want(http.StatusNoContent)
		c.do("DELETE", path, "").want(http.StatusNoContent)
		if _, ok := c.store.Raw(webhook.KindPause, id); ok || decode[Pause](c.do("GET", path, "").want(http.StatusOK)).Paused {
			t.Errorf("%s is paused still", path)
		}
		if n := len(c.store.audit) - changes; n != 2 {
			t.Errorf("%s: %d entries in the audit log, want 2", path, n)
		}
		c.do("PUT", path, `{"reason":"`+strings.Repeat("x", 501)+`"}`).wantFields("reason")
	}
	c.do("PUT", "/v1/tenants/a%20b/pause", "").wantFields("path.tenant")
}

func TestPausingAndDisablingAreSettingsOfAnEndpoint(t *testing.T) {
	c := start(t)
	made := c.create(`{"url":"https://a.b","paused":true,"on_disable":"park"}`)
	path := acme + "/" + made.ID
	if ep, _ := c.store.Get(made.ID); !ep.Paused || ep.OnDisable != webhook.OnDisablePark || !made.Paused || made.OnDisable != "park" {
		t.Errorf("made %+v, stored %+v", made, ep)
	}
	got := decode[Endpoint](c.do("PATCH", path, `{"paused":false,"on_disable":null}`).want(http.StatusOK))
	if ep, _ := c.store.Get(made.ID); ep.Paused || ep.OnDisable != "" || got.Paused || got.OnDisable != "discard" || got.Version != 2 {
		t.Errorf("patched to %+v, stored %+v", got, ep)
	}
	c.do("PATCH", path, `{"on_disable":"drop"}`).wantFields("on_disable")
	c.do("POST", acme, `{"url":"https://a.b","on_disable":"drop"}`).wantFields("on_disable")
}

func TestAPurgeIsATimeThatOnlyMovesForward(t *testing.T) {
	c := start(t)
	made := c.create(plainBody)
	path := acme + "/" + made.ID
	if made.Purging || !made.PurgeBefore.IsZero() {
		t.Errorf("purging from the start: %+v", made)
	}
	hour := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	old := decode[Endpoint](c.do("PUT", path+"/purge", `{"before":"`+hour.Format(time.RFC3339)+`"}`).want(http.StatusOK))
	if !old.PurgeBefore.Equal(hour) || !old.Purging || old.Version != 2 {
		t.Errorf("of what is older than an hour, just now: %+v", old)
	}
	now := decode[Endpoint](c.do("PUT", path+"/purge", "", "If-Match", `"2"`).want(http.StatusOK))
	if time.Since(now.PurgeBefore) > time.Minute || !now.Purging || now.Version != 3 {
		t.Errorf("now: %+v", now)
	}
	for _, long := range []webhook.Endpoint{{PurgeBefore: hour, PurgedAt: hour.Add(time.Minute)}, {PurgeBefore: hour}} {
		if viewOf(&long).Purging {
			t.Errorf("it was purged an hour ago: %+v", long)
		}
	}
	back := decode[Endpoint](c.do("PUT", path+"/purge", `{"before":"`+hour.Format(time.RFC3339)+`"}`).want(http.StatusOK))
	if !back.PurgeBefore.Equal(now.PurgeBefore) || back.Version != 3 {
		t.Errorf("it went back: %+v", back)
	}
	c.do("PUT", path+"/purge", `{"before":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`).wantFields("before")
	c.do("PUT", path+"/purge", "", "If-Match", `"2"`).want(http.StatusPreconditionFailed)
	c.do("PUT", "/v1/tenants/globex/endpoints/"+made.ID+"/purge", "").want(http.StatusNotFound)
}

func TestWhatWasMissedIsSaidWhileDisabledAndAfter(t *testing.T) {
	from, until := time.Now().Add(-time.Hour).UTC(), time.Now().UTC()
	off := viewOf(&webhook.Endpoint{Disabled: true, DisabledReason: webhook.DisabledFailing, DisabledAt: from, EnabledAt: from.Add(-time.Hour)})
	if !off.DisabledAt.Equal(from) || off.DisabledReason != "failing" {
		t.Errorf("disabled: %+v", off)
	}
	if on := viewOf(&webhook.Endpoint{DisabledAt: from, EnabledAt: until}); !on.DisabledAt.IsZero() || on.DisabledReason != "" {
		t.Errorf("enabled again: %+v", on)
	}
	records := memoryRecords{}
	for _, never := range []webhook.Endpoint{{}, {DisabledAt: from}, {Disabled: true, DisabledAt: from, EnabledAt: from.Add(-time.Hour)}} {
		if m := missedOf(records, &never); m != nil {
			t.Errorf("%+v missed %+v", never, m)
		}
	}
	if m := missedOf(records, &webhook.Endpoint{DisabledAt: from, EnabledAt: until}); m == nil || *m != (Missed{From: from, Until: until}) {
		t.Errorf("enabled again: %+v", m)
	}
}
