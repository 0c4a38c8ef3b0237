package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

// replay asks for a replay as the API does.
func (w *world) replay(r webhook.Replay) {
	w.t.Helper()
	w.replayRecord(r)
	w.produce(&kgo.Record{Topic: "posthorn.replays", Key: []byte(r.Tenant + "/" + r.ID), Value: []byte("{}")})
}

// replayRecord writes the user's record of a replay as it is.
func (w *world) replayRecord(r webhook.Replay) {
	w.t.Helper()
	value, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.produce(&kgo.Record{Topic: "posthorn.registry", Key: []byte("replay/" + r.Tenant + "/" + r.ID), Value: value})
}

// replayProgress is what the registry's topic says last of a replay.
func (w *world) replayProgress(id string) (last webhook.ReplayProgress) {
	w.t.Helper()
	for _, r := range w.read("posthorn.registry") {
		if string(r.Key) == "progress/acme/"+id {
			last = webhook.ReplayProgress{}
			if err := json.Unmarshal(r.Value, &last); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return last
}

func (w *world) waitFor(id, state string) webhook.ReplayProgress {
	w.t.Helper()
	for range 300 {
		time.Sleep(time.Second)
		if p := w.replayProgress(id); p.State == state {
			return p
		}
	}
	w.t.Fatalf("the replay is %+v, not %s", w.replayProgress(id), state)
	panic("unreachable")
}

// history produces n events for acme of type order.created, each among one of
// another type and one of another tenant.
func (w *world) history(n int) {
	w.t.Helper()
	var rs []*kgo.Record
	for i := range n {
		id := fmt.Sprintf("e%04d", i)
		foreign := orderOf("f"+id, "order.created")
		foreign.Headers[4].Value = []byte("globex")
		for _, r := range []*kgo.Record{orderOf(id, "order.created"), orderOf("x"+id, "stock.changed"), foreign} {
			r.Key = []byte(id)
			rs = append(rs, r)
		}
	}
	w.produceAll(rs)
}

// delivered checks that every event of the history came to a path, and no more of
// them twice than what a killed process had POSTed and not committed yet.
func (w *world) delivered(path, endpoint string, n, twiceAtMost int, other ...string) {
	w.t.Helper()
	seen := map[string]int{}
	for _, h := range w.received(path) {
		if !slices.Contains(other, h.id) {
			seen[h.id]++
		}
	}
	twice := 0
	for i := range n {
		switch seen[webhook.DeliveryID("shop", fmt.Sprintf("e%04d", i), endpoint)] {
		case 0:
			w.t.Errorf("event %d is missing", i)
		case 1:
		default:
			twice++
		}
	}
	if len(seen) != n || twice > twiceAtMost {
		w.t.Errorf("%d deliveries of %d events, %d of them came more than once", len(seen), n, twice)
	}
}

func TestAReplayReachesANewEndpointWholeWhateverIsKilled(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, nil)
		const n = 600
		w.history(n)
		p := w.process()
		time.Sleep(3 * time.Second)
		late := w.endpoint("late", "order.*")
		until := time.Now()
		time.Sleep(time.Second)
		w.event("after", "order.created") // live, and no part of the replay
		w.replay(webhook.Replay{ID: "rpl_1", Tenant: "acme", EndpointID: late.ID, Kind: webhook.ReplayEvents, Run: until.UnixMilli(),
			Since: until.Add(-time.Hour), Until: until, Rate: 50})
		time.Sleep(5 * time.Second)
		half := len(w.received("/late"))
		if half < 20 || half > 400 {
			t.Errorf("%d of %d after 5 s at 50 a second", half, n)
		}
		p.kill()
		time.Sleep(time.Second)
		p = w.process()
		time.Sleep(14 * time.Second) // the dead member's session has to end first
		p.terminate()
		p = w.process()
		end := w.waitFor("rpl_1", webhook.ReplayCompleted)
		time.Sleep(time.Minute) // and the killed one gives up
		p.terminate()
		// Kills repeat what was in flight or not committed: 50 a second, for 100 ms.
		w.delivered("/late", late.ID, n, 10, webhook.DeliveryID("shop", "after", late.ID))
		if end.Produced < n || end.Produced > n+100 || end.Finished != end.Total || end.Lost != 0 {
			t.Errorf("at its end: %+v", end)
		}
		for _, s := range w.settlements() {
			if s.EventID != "after" && (s.Run != until.UnixMilli() || s.Origin != webhook.OriginReplay || s.BegunAt.UnixMilli() != s.Run) {
				t.Errorf("settled as run %d of origin %s", s.Run, s.Origin)
				break
			}
		}
	})
}

func TestAReplayGoesByTheSubscriptionAsItIsNow(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, nil)
		w.history(100)
		p := w.process()
		time.Sleep(3 * time.Second)
		late := w.endpoint("late")
		late.Filter = `data.id >= "e0090" && data.id < "f"`
		late.Version++
		w.put(late)
		w.replay(webhook.Replay{ID: "rpl_1", Tenant: "acme", EndpointID: late.ID, Kind: webhook.ReplayEvents, Run: time.Now().UnixMilli(),
			Since: time.Now().Add(-time.Hour), Until: time.Now(), Events: []string{"order.*"}, Rate: 1000})
		w.waitFor("rpl_1", webhook.ReplayCompleted)
		time.Sleep(3 * time.Second)
		p.terminate()
		if hits := w.received("/late"); len(hits) != 10 {
			t.Errorf("%d deliveries of ten that type, filter and tenant let pass", len(hits))
		}
	})
}

func TestAReplayIsPausedResumedAndCancelledByItsRecord(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, nil)
		w.history(400)
		p := w.process()
		time.Sleep(3 * time.Second)
		late := w.endpoint("late", "order.*")
		r := webhook.Replay{ID: "rpl_1", Tenant: "acme", EndpointID: late.ID, Kind: webhook.ReplayEvents, Run: time.Now().UnixMilli(),
			Since: time.Now().Add(-time.Hour), Until: time.Now(), Rate: 20}
		w.replay(r)
		time.Sleep(5 * time.Second)
		r.Paused = true
		w.replayRecord(r)
		w.waitFor("rpl_1", webhook.ReplayPaused)
		time.Sleep(3 * time.Second)
		paused := len(w.received(""))
		time.Sleep(time.Minute)
		if now := len(w.received("")); now != paused || now < 20 || now > 200 {
			t.Errorf("%d deliveries when it was paused, %d a minute later", paused, now)
		}
		// A paused one has a new owner, which keeps it so.
		p.terminate()
		p = w.process()
		time.Sleep(10 * time.Second)
		if now := len(w.received("")); now != paused {
			t.Errorf("%d deliveries when it was paused, %d with a new owner", paused, now)
		}
		r.Paused = false
		w.replayRecord(r)
		time.Sleep(5 * time.Second)
		resumed := len(w.received(""))
		if resumed < paused+20 {
			t.Errorf("%d deliveries when it was paused, %d 5 s after", paused, resumed)
		}
		late.Disabled = true
		late.Version++
		w.put(late)
		w.waitFor("rpl_1", webhook.ReplayWaiting)
		late.Disabled = false
		late.Version++
		w.put(late)
		time.Sleep(3 * time.Second)
		r.Cancelled = true
		w.replayRecord(r)
		end := w.waitFor("rpl_1", webhook.ReplayCancelled)
		time.Sleep(3 * time.Second)
		at := len(w.received(""))
		time.Sleep(time.Minute)
		if now := len(w.received("")); now != at || now >= 400 || end.EndedAt.IsZero() {
			t.Errorf("%d deliveries when it was cancelled, %d a minute later; %+v", at, now, end)
		}
		p.terminate()
	})
}

func TestWhatIsLiveWaitsBehindNoMoreThanASecondOfAReplay(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { time.Sleep(200 * time.Millisecond) })
		const n = 2000
		w.history(n)
		p := w.process()
		time.Sleep(3 * time.Second)
		slow := w.endpoint("slow", "order.*", "live.*")
		slow.MaxInFlight = 2 // ten a second
		slow.Version++
		w.put(slow)
		w.replay(webhook.Replay{ID: "rpl_1", Tenant: "acme", EndpointID: slow.ID, Kind: webhook.ReplayEvents, Run: time.Now().UnixMilli(),
			Since: time.Now().Add(-time.Hour), Until: time.Now(), Rate: 1000})
		time.Sleep(20 * time.Second)
		for i := range 30 {
			id := fmt.Sprintf("live%d", i)
			sent := time.Now()
			w.event(id, "live.now")
			time.Sleep(3 * time.Second)
			took := time.Duration(-1)
			for _, h := range w.received("/slow") {
				if h.id == webhook.DeliveryID("shop", id, slow.ID) {
					took = h.at.Sub(sent)
				}
			}
			if took < 0 || took > 1500*time.Millisecond {
				t.Errorf("a live event took %v behind a replay", took)
			}
		}
		if replayed := len(w.received("/slow")); replayed < 600 {
			t.Errorf("%d deliveries in 110 s to an endpoint that takes ten a second", replayed)
		}
		p.terminate()
	})
}
