package app

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"posthorn/internal/topics"
	"posthorn/registry"
	"posthorn/verify"
	"posthorn/webhook"
)

// registryLock is the registry as another process sees and changes it.
func (w *world) registryLock() (*registry.Store, *registry.Writer) {
	w.t.Helper()
	topic := topics.Name(w.cfg.Prefix, topics.RoleRegistry)
	f, err := registry.NewFollower(registry.FollowerConfig{Topic: topic, Opts: w.broker.ClientOpts(), Logger: w.log})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(func() { cancel(); f.Wait() })
	if err := f.Start(ctx); err != nil {
		w.t.Fatal(err)
	}
	writer, err := registry.NewWriter(registry.WriterConfig{Topic: topic, Opts: w.broker.ClientOpts(), Follower: f, Logger: w.log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(writer.Close)
	return f.Store(), writer
}

func TestARotatedAndReencryptedKeysetGivesNoBadSignatureUnderLoad(t *testing.T) {
	inVirtualTime(t, nil, func(w *world) {
		checker, err := verify.New(verify.Standard, []string{secretText})
		if err != nil {
			t.Fatal(err)
		}
		w.receiver(8080, func(h *hit, _ http.ResponseWriter, _ *http.Request) {
			if err := checker.Verify(h.header, []byte(h.body)); err != nil {
				t.Errorf("%s: %v", h.endpoint, err)
				h.status = 401
			}
		})
		var names []string
		name := func() string { names = append(names, fmt.Sprint("e", len(names))); return names[len(names)-1] }
		for range 150 {
			w.endpoint(name())
		}
		first, second := w.process(), w.process()
		store, writer := w.registryLock()
		time.Sleep(5 * time.Second)

		stop, stopped := make(chan struct{}), make(chan int)
		go func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					stopped <- i
					return
				case <-time.After(200 * time.Millisecond):
					r := orderOf(fmt.Sprint("load", i), "order.created")
					_ = w.client.ProduceSync(context.Background(), r)
				}
			}
		}()
		time.Sleep(time.Second)
		for round := range 2 {
			primary, err := registry.RotateKeysetFile(w.cfg.Registry.KeysetFile)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // registered with the new key, while the processes know the old one
				w.endpoint(name())
			}
			time.Sleep(time.Second)
			r, err := registry.Reencrypt(context.Background(), store, writer, w.keyset, nil, nil)
			if err != nil || r.Secrets != 150+3*round || r.Use[primary] != len(names) {
				t.Errorf("round %d: %+v, %v", round, r, err)
			}
			if _, err := registry.PruneKeysetFile(w.cfg.Registry.KeysetFile, r.Use.Has); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		close(stop)
		events := <-stopped
		time.Sleep(10 * time.Second)
		for i, name := range names {
			if got := len(w.received("/" + name)); i < 150 && got < events || got == 0 {
				t.Errorf("%s got %d of %d", name, got, events)
			}
		}
		first.terminate()
		second.terminate()
		for _, s := range w.settlements() {
			if s.Outcome != webhook.OutcomeDelivered {
				t.Errorf("settled %+v", s)
			}
		}
	})
}
