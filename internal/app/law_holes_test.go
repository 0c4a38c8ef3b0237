package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/consumer"
	"posthorn/consumer/watermark"
	"posthorn/internal/telemetry"
	"posthorn/webhook"
)

// leaveFirst is a handler that finishes everything but the first record that it
// ever gets.
type leaveFirst struct {
	mu    sync.Mutex
	got   int
	first int64 // offset; -1 before
	keep  bool
}

func (h *leaveFirst) Take(_ *consumer.Lease, work []*consumer.Work) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range work {
		h.got++
		if h.first < 0 {
			h.first = w.Record.Offset
			if h.keep {
				continue
			}
		}
		w.Done()
	}
}
func (h *leaveFirst) Crowded(*consumer.Lease, float64)           {}
func (h *leaveFirst) Release(context.Context, []*consumer.Lease) {}
func (h *leaveFirst) Drain(context.Context)                      {}
func (h *leaveFirst) Room(ctx context.Context) error             { return ctx.Err() }
func (h *leaveFirst) count() (got int, first int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.got, h.first
}

func TestTwoHundredThousandFinishedAboveOneThatHangsAreNotReadTwice(t *testing.T) {
	const n = 200_000
	inVirtualTime(t, onePartition, func(w *world) {
		var rs []*kgo.Record
		now := time.Now()
		for i := range n {
			d := webhook.Delivery{ID: webhook.DeliveryID("test", fmt.Sprint(i), "ep_1"), EventID: "e", EndpointID: "ep_1", BegunAt: now, MatchedAt: now}
			rs = append(rs, &kgo.Record{Topic: "posthorn.deliveries", Key: []byte("ep_1"), Headers: webhook.HeadersAs[kgo.RecordHeader](d.AppendHeaders(nil))})
		}
		w.produceAll(rs)
		stage := func(h *leaveFirst) (kill func(), stop func()) {
			cable := &cuttable{dial: w.broker.DialContext, open: make(map[net.Conn]struct{})}
			m := telemetry.NewMetrics()
			s, err := consumer.NewStage(consumer.Config{Name: "test", Group: "g", Topics: []string{"posthorn.deliveries"},
				Client: []kgo.Opt{kgo.SeedBrokers(w.broker.Addrs()...), kgo.Dialer(cable.Dial)}, DedupWindow: time.Minute, DrainWithin: time.Second,
				Handler: h, Observer: &stageObserver{all: m, stage: m.Stage("test")}, Log: w.log})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { _ = s.Run(ctx); close(ended) }()
			return func() { cable.Cut(); cancel() }, func() { cancel(); <-ended }
		}
		first := &leaveFirst{first: -1, keep: true}
		kill, _ := stage(first)
		time.Sleep(15 * time.Second)
		if got, _ := first.count(); got != n {
			t.Fatalf("%d of %d read", got, n)
		}
		cs := w.commits("g")
		if len(cs) != 1 || cs[0].At != 0 || len(cs[0].Metadata) > 64 {
			t.Errorf("committed %+v, want offset 0 and a few characters", cs)
		}
		kill()
		second := &leaveFirst{first: -1}
		_, stop := stage(second)
		time.Sleep(30 * time.Second)
		if got, at := second.count(); got != 1 || at != 0 {
			t.Errorf("the successor got %d records, the first at %d; want the one that hung", got, at)
		}
		stop()
		time.Sleep(time.Minute) // until the one that was killed has wound up
		if cs := w.commits("g"); len(cs) != 1 || cs[0].At != n {
			t.Errorf("committed %+v, want all", cs)
		}
	})
}

func TestOneHangingRequestBelowThousandsOfFinishedOnesIsAllThatARestartRepeats(t *testing.T) {
	const n = 5000
	inVirtualTime(t, onePartition, func(w *world) {
		came := newArrivals()
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			if came.note(h) == 0 && h.endpoint == "/hangs" {
				hang(r)
			}
		})
		w.endpoint("hangs", "slow")
		w.endpoint("fine", "quick")
		p := w.process()
		time.Sleep(5 * time.Second)
		rs := []*kgo.Record{orderOf("first", "slow")}
		for i := range n {
			rs = append(rs, orderOf(fmt.Sprint(i), "quick"))
		}
		w.produceAll(rs)
		time.Sleep(8 * time.Second) // within the 15 s of the request that hangs
		if got := came.distinct("/fine"); got != n {
			t.Fatalf("%d of %d delivered above the one that hangs", got, n)
		}
		cs := w.commits("posthorn.dispatch")
		if len(cs) != 1 || cs[0].At != 0 || len(cs[0].Metadata) > 64 {
			t.Errorf("committed %+v, want offset 0 and a few characters", cs)
		}
		p.kill()
		p = w.process()
		time.Sleep(time.Minute)
		p.terminate()
		if again := came.repeated("/"); len(again) != 1 || !strings.HasPrefix(again[0], "/hangs") {
			t.Errorf("POSTed again: %v, want the one that hung", again)
		}
	})
}

func TestScatteredHolesOverflowTheMetadataAndStillCommit(t *testing.T) {
	const sick, rounds = 10, 400
	inVirtualTime(t, onePartition, func(w *world) {
		came := newArrivals()
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, r *http.Request) {
			came.note(h)
			if strings.HasPrefix(h.endpoint, "/hangs") {
				hang(r)
			}
		})
		w.endpoint("fine", "fine")
		for i := range sick {
			w.endpoint(fmt.Sprint("hangs", i), fmt.Sprint("slow.", i))
		}
		p := w.process()
		time.Sleep(5 * time.Second)
		var rs []*kgo.Record
		for i := range rounds {
			for k := range sick {
				rs = append(rs, orderOf(fmt.Sprint("s", k, ".", i), fmt.Sprint("slow.", k)), orderOf(fmt.Sprint("f", k, ".", i), "fine"))
			}
		}
		w.produceAll(rs)
		// Before five seconds of silence have passed no lane counts as hanging:
		// only the filling metadata makes them give up their queues.
		time.Sleep(3 * time.Second)
		if got := came.distinct("/fine"); got != sick*rounds {
			t.Fatalf("%d of %d delivered among those that hang", got, sick*rounds)
		}
		cs := w.commits("posthorn.dispatch")
		if len(cs) != 1 || len(cs[0].Metadata) > watermark.MetadataLimit {
			t.Fatalf("committed %+v", cs)
		}
		_, finished, err := watermark.DecodeMetadata(cs[0].Metadata, cs[0].At)
		if err != nil || len(finished) == 0 {
			t.Fatalf("metadata %q: %v, %v", cs[0].Metadata, finished, err)
		}
		crowded := make(map[string]int)
		for _, s := range w.settlements() {
			if s.Kind == webhook.KindPark {
				if s.Reason != webhook.ReasonCrowded {
					t.Fatalf("parked for %s", s.Reason)
				}
				crowded[s.EndpointID]++
			}
		}
		for id, n := range crowded {
			if n < rounds/2 {
				t.Errorf("%s gave up only %d of about %d queued", id, n, rounds)
			}
		}
		if len(crowded) < 4 {
			t.Errorf("%d lanes gave up their queues: %v", len(crowded), crowded)
		}
		inFlight := came.distinct("/hangs")
		p.kill()
		p = w.process()
		time.Sleep(12 * time.Second)
		// All else was committed well before: with the queues given up nothing
		// is left out of the metadata any more.
		if again := came.repeated("/fine"); len(again) != 0 {
			t.Errorf("%d finished deliveries were POSTed again, such as %s", len(again), again[0])
		}
		if again := came.repeated("/hangs"); len(again) > inFlight {
			t.Errorf("%d POSTed again of %d in flight", len(again), inFlight)
		}
		p.terminate()
		time.Sleep(time.Minute) // until the one that was killed has wound up
	})
}
