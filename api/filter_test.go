package api

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"posthorn/webhook"
)

func TestAFilterIsASettingAndItsTroubleIsShownWhileItLasts(t *testing.T) {
	c := start(t)
	made := c.create(`{"url":"https://a.b","filter":"data.n > 1"}`)
	path := acme + "/" + made.ID
	if ep, _ := c.store.Get(made.ID); ep.Filter != "data.n > 1" || made.Filter != ep.Filter {
		t.Errorf("made %+v, stored %+v", made, ep)
	}
	trouble := func(at time.Time, expression string) {
		t.Helper()
		value, err := json.Marshal(webhook.FilterTrouble{At: at, Reason: "error", Expression: expression})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.store.Update(t.Context(), func(tx Tx) error { return tx.PutRaw(kindFilter, made.ID, value) }); err != nil {
			t.Fatal(err)
		}
	}
	shown := func() *FilterTrouble {
		return decode[Endpoint](c.do("GET", path, "").want(http.StatusOK)).FilterTrouble
	}
	trouble(time.Now(), "data.n > 1")
	if got := shown(); got == nil || got.Reason != "error" {
		t.Errorf("shown %+v", got)
	}
	trouble(time.Now().Add(-25*time.Hour), "data.n > 1")
	if got := shown(); got != nil {
		t.Errorf("a day after, shown %+v", got)
	}
	trouble(time.Now(), "data.n > 2")
	if got := shown(); got != nil {
		t.Errorf("of another expression, shown %+v", got)
	}
	if got := decode[Endpoint](c.do("PATCH", path, `{"filter":null}`).want(http.StatusOK)); got.Filter != "" || got.Version != 2 {
		t.Errorf("removed: %+v", got)
	}
}
