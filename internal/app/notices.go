package app

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"posthorn/contract"
	"posthorn/registry"
	"posthorn/registry/lifecycle"
	"posthorn/webhook"
)

// notice is that an endpoint is on its way to being disabled, or there.
type notice struct {
	endpointID string
	percent    int // 50, 75 or 100
	reason     webhook.DisabledReason
	state      lifecycle.State
	at         time.Time // of what it goes by
	// inactiveFor is of the reason inactive: how long without an event.
	inactiveFor time.Duration
}

const (
	// noticesWaiting bounds the notices that wait to be written, and
	// noticesAtOnce those that are: they share transactions.
	noticesWaiting, noticesAtOnce = 4096, 64
	// noticeAgain is the wait after one could not be written.
	noticeAgain = 5 * time.Second
	// changeSeen is how long after an endpoint's change the last attempt begins that
	// knows nothing of it.
	changeSeen = 2 * time.Second
	// inactiveEvery is how often endpoints without events are looked for, the first
	// time within inactiveFirst: a process may not live for an hour.
	inactiveEvery, inactiveFirst = time.Hour, 5 * time.Minute
)

// The operational events.
const (
	typeFailing  = "endpoint.failing"
	typeDisabled = "endpoint.disabled"
	// eventsFrom is their CloudEvents source.
	eventsFrom = "posthorn"
)

// notices is the one place that disables endpoints by itself. Each change and
// its operational event are one transaction under the registry's write lock: the
// event is there once, if and only if the change was made.
type notices struct {
	writer    *registry.Writer
	store     *registry.Store
	contracts contract.Set
	events    string // topics
	audit     string
	// fails reports whether an occurrence of failing still goes on.
	fails   func(endpointID string, since time.Time) bool
	count   func(event string)
	log     *slog.Logger
	waiting chan notice
}

// raise takes a notice in; false if too many wait.
func (ns *notices) raise(n notice) bool {
	select {
	case ns.waiting <- n:
		return true
	default:
		return false
	}
}

// run writes what is raised until ctx ends.
func (ns *notices) run(ctx context.Context) {
	var writing errgroup.Group
	writing.SetLimit(noticesAtOnce)
	for {
		select {
		case <-ctx.Done():
			_ = writing.Wait() // nothing there returns an error
			return
		case n := <-ns.waiting:
			writing.Go(func() error { ns.write(ctx, n); return nil })
		}
	}
}

// write makes a notice's change, again and again until it is made or found to
// be no longer true.
func (ns *notices) write(ctx context.Context, n notice) {
	for {
		var said string
		err := ns.writer.Update(ctx, func(tx *registry.Tx) (err error) {
			said, err = ns.change(tx, n)
			return err
		})
		switch {
		case err == nil && said != "":
			ns.count(said)
			ns.log.Warn("an endpoint fails, or was disabled", "event", said, "endpoint", n.endpointID, "reason", n.reason, "percent", n.percent, "failing_since", n.state.FailingSince)
			return
		case err == nil, ctx.Err() != nil:
			return
		}
		ns.log.Warn("a notice of an endpoint could not be written, trying again", "endpoint", n.endpointID, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(noticeAgain):
		}
	}
}

// warned is the record "notice/<endpoint ID>": the last warning of an
// occurrence, so that no owner warns of it twice, and what is to be recovered
// after the last one that ended in disabling, which may be an earlier one.
type warned struct {
	FailingSince time.Time `json:"failing_since"`
	Percent      int       `json:"percent"`
	// DisabledAt is when it was last disabled after failing, MissedSince since when
	// it had failed by then.
	DisabledAt  time.Time `json:"disabled_at,omitzero"`
	MissedSince time.Time `json:"missed_since,omitzero"`
}

// change decides under the lock; it returns what was done, if anything.
func (ns *notices) change(tx *registry.Tx, n notice) (string, error) {
	ep, ok := tx.Get(n.endpointID)
	if !ok || ep.Disabled {
		return "", nil
	}
	active := activeSince(ep)
	switch n.reason {
	case webhook.DisabledGone:
		if n.at.Before(ep.UpdatedAt.Add(changeSeen)) {
			return "", nil // it may have been asked at an earlier URL; one that is gone says so again
		}
	case webhook.DisabledInactive:
		if !lifecycle.Inactive(healthOf(tx.Raw(registry.KindHealth, ep.ID)), active, n.inactiveFor, tx.Now()) {
			return "", nil
		}
	case webhook.DisabledFailing, webhook.DisabledExhausted, webhook.DisabledRequested:
		if n.state.FailingSince.Before(active) {
			return "", nil // it was enabled again since
		}
		// The notice may have waited for long, since the registry couldn't be
		// written. Another owner by now raises its own.
		if !ns.fails(ep.ID, n.state.FailingSince) {
			return "", nil
		}
	}
	if n.percent < 100 {
		return ns.warn(tx, ep, n)
	}
	ep.Disabled, ep.DisabledReason = true, n.reason
	if err := tx.Put(ep); err != nil {
		return "", err
	}
	entry, err := json.Marshal(webhook.AuditEntry{V: webhook.AuditVersion, At: tx.Now(), Actor: "system", Operation: "disableEndpoint",
		Tenant: ep.Tenant, Kind: registry.KindEndpoint, ID: ep.ID, Fields: []string{"disabled", "disabled_reason"}})
	if err != nil {
		return "", fmt.Errorf("encoding an audit entry: %w", err)
	}
	if err := tx.Append(ns.audit, []byte(ep.Tenant), entry); err != nil {
		return "", err
	}
	if !n.state.FailingSince.IsZero() {
		if err := ns.told(tx, ep.ID, warned{n.state.FailingSince, n.percent, ep.DisabledAt, n.state.FailingSince}); err != nil {
			return "", err
		}
	}
	data := noticeData{EndpointID: ep.ID, Reason: n.reason, DisabledAt: &ep.DisabledAt}
	data.failing(n)
	return "endpoint_disabled", ns.emit(tx, ep, typeDisabled, ep.DisabledAt.Format(time.RFC3339Nano), data)
}

func (ns *notices) warn(tx *registry.Tx, ep *webhook.Endpoint, n notice) (string, error) {
	var before warned
	if value, ok := tx.Raw(registry.KindNotice, ep.ID); ok {
		_ = json.Unmarshal(value, &before) // one that can't be read warned of nothing
	}
	if before.FailingSince.Equal(n.state.FailingSince) && before.Percent >= n.percent {
		return "", nil
	}
	if err := ns.told(tx, ep.ID, warned{n.state.FailingSince, n.percent, before.DisabledAt, before.MissedSince}); err != nil {
		return "", err
	}
	data := noticeData{EndpointID: ep.ID, Reason: n.reason, Percent: n.percent}
	data.failing(n)
	return "endpoint_failing", ns.emit(tx, ep, typeFailing, fmt.Sprint(n.state.FailingSince.Format(time.RFC3339Nano), " ", n.percent), data)
}

func (ns *notices) told(tx *registry.Tx, id string, w warned) error {
	value, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("encoding a warning: %w", err)
	}
	return tx.PutRaw(registry.KindNotice, id, value)
}

// noticeData is the data of an operational event. The endpoint's URL and headers
// may hold what is nobody else's business, so they aren't in it.
type noticeData struct {
	EndpointID   string                 `json:"endpoint_id"`
	Reason       webhook.DisabledReason `json:"reason"`
	Percent      int                    `json:"percent,omitempty"` // of the way to being disabled
	FailingSince *time.Time             `json:"failing_since,omitempty"`
	Exhausted    int                    `json:"exhausted,omitempty"`
	DisabledAt   *time.Time             `json:"disabled_at,omitempty"`
}

func (d *noticeData) failing(n notice) {
	if !n.state.FailingSince.IsZero() {
		d.FailingSince, d.Exhausted = &n.state.FailingSince, n.state.Exhausted
	}
}

// emit appends an operational event, a CloudEvent in binary mode. Its ID follows
// from the endpoint and the occurrence.
func (ns *notices) emit(tx *registry.Tx, ep *webhook.Endpoint, kind, occurrence string, data noticeData) error {
	value, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encoding an operational event: %w", err)
	}
	sum := sha256.Sum256([]byte(ep.ID + " " + kind + " " + occurrence))
	id := "evt_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
	r := &kgo.Record{Topic: ns.events, Key: []byte(ep.Tenant), Value: value}
	for _, h := range [][2]string{
		{"ce_specversion", "1.0"}, {"ce_id", id}, {"ce_source", eventsFrom}, {"ce_type", kind}, {"ce_subject", ep.ID},
		{"ce_time", tx.Now().Format(time.RFC3339Nano)}, {"ce_tenant", ep.Tenant}, {"content-type", "application/json"},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return tx.AppendRecord(r)
}

// watchInactive looks for endpoints whose contract deactivates them after a time
// without events.
func (ns *notices) watchInactive(ctx context.Context) {
	limits := make(map[string]time.Duration)
	for _, name := range ns.contracts.Names() {
		if c, _ := ns.contracts.Get(name); c.InactiveAfter() > 0 {
			limits[name] = c.InactiveAfter()
		}
	}
	if len(limits) == 0 {
		return
	}
	wait := rand.N(inactiveFirst) // not all processes at once
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			wait = inactiveEvery/2 + rand.N(inactiveEvery/2)
		}
		now := time.Now()
		for _, id := range ns.store.IDs(registry.KindEndpoint) {
			ep, ok := ns.store.Get(id)
			if !ok || ep.Disabled || limits[ep.Contract] == 0 {
				continue
			}
			if state := healthOf(ns.store.Raw(registry.KindHealth, id)); lifecycle.Inactive(state, activeSince(ep), limits[ep.Contract], now) {
				ns.raise(notice{endpointID: id, percent: 100, reason: webhook.DisabledInactive, at: now, inactiveFor: limits[ep.Contract]})
			}
		}
	}
}
