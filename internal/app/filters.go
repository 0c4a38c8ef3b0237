package app

import (
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"posthorn/registry"
	"posthorn/registry/filter"
	"posthorn/webhook"
)

// filterTroubleEvery is how often an endpoint's trouble with its filter is
// recorded by a process.
const filterTroubleEvery = time.Hour

// filterTroubles counts the filters that could not decide, and records them for
// the API, an endpoint at most once an hour.
type filterTroubles struct {
	count func(reason string)
	send  func(key string, value []byte)
	log   *slog.Logger
	// exists reports whether the registry has an endpoint.
	exists func(endpointID string) bool

	mu   sync.Mutex
	said map[string]saidTrouble // by endpoint
}

type saidTrouble struct {
	expression string
	at         time.Time
}

func (f *filterTroubles) note(endpointID, expression string, why filter.Trouble) {
	f.count(string(why))
	now := time.Now().UTC()
	f.mu.Lock()
	last := f.said[endpointID]
	due := last.expression != expression || now.Sub(last.at) >= filterTroubleEvery
	if due {
		f.said[endpointID] = saidTrouble{expression, now}
	}
	f.mu.Unlock()
	if !due || !f.exists(endpointID) {
		return
	}
	f.log.Warn("a filter could not decide, and the event was left out", "endpoint", endpointID, "reason", why)
	value, err := json.Marshal(webhook.FilterTrouble{At: now, Reason: string(why), Expression: expression})
	if err != nil {
		f.log.Warn("recording a filter's trouble", "endpoint", endpointID, "error", err)
		return
	}
	f.send(registry.Key(registry.KindFilter, endpointID), value)
}

// changed forgets what was said of an endpoint's filter: it may be another one.
func (f *filterTroubles) changed(kind, id string) {
	if kind == registry.KindEndpoint {
		f.mu.Lock()
		delete(f.said, id)
		f.mu.Unlock()
	}
}
