package app

import (
	"net/http"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"posthorn/webhook"
)

func TestAnEventIsDeliveredOnceSignedAndRecorded(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, nil)
		w.endpoint("shop", "order.*")
		w.event("e1", "order.created")
		p := w.process()
		time.Sleep(10 * time.Second)
		hits := w.received("/shop")
		if len(hits) != 1 || hits[0].body != `{"id":"e1"}` || hits[0].header.Get("Webhook-Signature") == "" {
			t.Fatalf("received %+v", hits)
		}
		ss := w.settlements()
		if len(ss) != 1 || ss[0].Kind != webhook.KindAttempt || ss[0].Outcome != webhook.OutcomeDelivered || ss[0].Status != 200 {
			t.Fatalf("settled %+v", ss)
		}
		p.terminate()
	})
}

func TestARealDeliveryVerifiesWithTheStandardWebhooksLibrary(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, nil)
		w.endpoint("shop", "order.*")
		w.event("e1", "order.created")
		p := w.process()
		time.Sleep(10 * time.Second)
		for _, h := range w.received("/shop") {
			lib, err := standardwebhooks.NewWebhook(secretText)
			if err != nil {
				t.Fatal(err)
			}
			if err := lib.Verify([]byte(h.body), h.header); err != nil {
				t.Errorf("the library refuses %v: %v", h.header, err)
			}
			if err := lib.Verify([]byte(h.body+" "), h.header); err == nil {
				t.Error("the library takes a changed body")
			}
		}
		if n := len(w.received("/shop")); n != 1 {
			t.Errorf("%d received, want 1", n)
		}
		p.terminate()
	})
}

func TestAttemptsComeAtZeroOneSixAndTwentyOneMinutesNeverEarly(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) { h.status = 503 })
		w.endpoint("shop")
		p := w.process()
		time.Sleep(5 * time.Second)
		begun := time.Now()
		w.event("e1", "order.created")
		time.Sleep(25 * time.Minute)
		hits := w.received("/shop")
		if len(hits) != 4 {
			t.Fatalf("%d attempts, want 4", len(hits))
		}
		for i, want := range []time.Duration{0, time.Minute, 6 * time.Minute, 21 * time.Minute} {
			if got := hits[i].at.Sub(begun); got < want || got > want+time.Second {
				t.Errorf("attempt %d came after %v, want %v", i, got, want)
			}
		}
		if dead := w.read("posthorn.dead"); len(dead) != 1 {
			t.Errorf("%d dead letters, want 1", len(dead))
		}
		p.terminate()
	})
}
