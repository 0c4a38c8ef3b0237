package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"posthorn/webhook"
)

const (
	replaysPath = "/v1/tenants/{tenant}/replays"
	replayPath  = replaysPath + "/{id}"

	defaultReplayRate = 100
	// maxUnended is how many replays of a tenant may be under way or paused.
	maxUnended = 10
	// Of those that ended, so many are kept for so long.
	keptReplays, keptFor = 100, 30 * 24 * time.Hour
)

// ReplayParam is the path of a replay.
type ReplayParam struct {
	TenantParam
	ID string `path:"id" maxLength:"64" doc:"The replay's ID" example:"rpl_aguhqyl7kjzdrgvlq5xwlkaw2i"`
}

type replayOutput struct{ Body Replay }

func (s *server) registerReplays() {
	const tag = "replays"
	s.huma.OpenAPI().Tags = append(s.huma.OpenAPI().Tags, &huma.Tag{Name: tag, Description: "Deliveries made anew, of past events or of what failed"})
	register(s, huma.Operation{
		OperationID: "createReplay", Method: http.MethodPost, Path: replaysPath, Tags: []string{tag},
		Summary:       "Replay events to an endpoint, or retry what failed",
		Description:   "Deliveries are made at the rate at most, no faster than the endpoint takes them, and more slowly where live ones would wait longer beside them. With Idempotency-Key a request may be repeated: a repeat is answered 200 with the replay as it is by then.",
		DefaultStatus: http.StatusAccepted,
		Responses: s.responses(map[int]any{http.StatusOK: Replay{}}, http.StatusBadRequest, http.StatusNotFound,
			http.StatusUnprocessableEntity, http.StatusServiceUnavailable),
	}, s.createReplay)
	register(s, huma.Operation{
		OperationID: "listReplays", Method: http.MethodGet, Path: replaysPath, Tags: []string{tag},
		Summary: "List a tenant's replays", Description: "In the order of their IDs. Those that ended are kept for 30 days, the latest hundred.",
		Responses: s.responses(nil, http.StatusBadRequest),
	}, s.listReplays)
	register(s, huma.Operation{
		OperationID: "getReplay", Method: http.MethodGet, Path: replayPath, Tags: []string{tag},
		Summary: "Read a replay with its progress", Responses: s.responses(nil, http.StatusNotFound),
	}, s.getReplay)
	for _, wish := range []struct {
		operation, verb, summary string
		change                   func(*webhook.Replay)
	}{
		{"pauseReplay", "pause", "Pause a replay", func(r *webhook.Replay) { r.Paused = true }},
		{"resumeReplay", "resume", "Let a replay go on", func(r *webhook.Replay) { r.Paused = false }},
		{"cancelReplay", "cancel", "End a replay", func(r *webhook.Replay) { r.Cancelled = true }},
	} {
		register(s, huma.Operation{
			OperationID: wish.operation, Method: http.MethodPost, Path: replayPath + "/" + wish.verb, Tags: []string{tag},
			Summary:     wish.summary,
			Description: "Deliveries that are on the line stay there. What is so already stays so.",
			Responses:   s.responses(nil, http.StatusNotFound, http.StatusConflict),
		}, func(ctx context.Context, in *ReplayParam) (*replayOutput, error) {
			return s.changeReplay(ctx, in, wish.change)
		})
	}
}

type createReplayInput struct {
	TenantParam
	IdempotencyParam
	Body ReplayCreate
}

type createReplayOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the replay is read"`
	Body     Replay
}

func (s *server) createReplay(ctx context.Context, in *createReplayInput) (*createReplayOutput, error) {
	r := in.Body.replay(in.Tenant)
	if in.IdempotencyKey != "" {
		if p := idempotencyKeyProblem(in.IdempotencyKey); p != "" {
			return nil, invalid(FieldError{"header.Idempotency-Key", p})
		}
		if err := s.onceOf(&r.RecordMeta, KindReplay+" "+in.Tenant, in.IdempotencyKey, &in.Body); err != nil {
			return nil, err
		}
		r.ID = webhook.ReplayPrefix + r.Once
	}
	if errs := s.checkReplay(&in.Body, r); len(errs) > 0 {
		return nil, invalid(errs...)
	}
	if r.Kind == webhook.ReplayFailed {
		if err := s.needLedger(); err != nil {
			return nil, err
		}
	}
	key := replayKey(r.Tenant, r.ID)
	var found *webhook.Replay
	err := s.update(ctx, func(tx Tx) (*note, error) {
		found = nil
		if old, ok := replays.get(tx, key); ok {
			switch {
			case r.Once == "":
				return nil, fmt.Errorf("creating replay: the new ID %s is taken", r.ID)
			case old.Request != r.Request:
				return nil, keyReused()
			}
			found = old
			return nil, nil
		}
		if ep, ok := tx.Get(r.EndpointID); !ok || ep.Tenant != r.Tenant {
			return nil, notFound(r.EndpointID)
		}
		if err := sweepReplays(tx, r.Tenant); err != nil {
			return nil, err
		}
		r.Run = freeRun(tx, r)
		if in.Body.Until.IsZero() {
			r.Until = tx.Now()
		}
		if err := replays.put(tx, key, r); err != nil {
			return nil, err
		}
		return &note{Tenant: r.Tenant, Kind: KindReplay, ID: r.ID, Fields: changedFields(nil, r)}, tx.StartReplay(key)
	})
	if err != nil {
		return nil, err
	}
	out := &createReplayOutput{Status: http.StatusAccepted,
		Location: strings.NewReplacer("{tenant}", url.PathEscape(r.Tenant), "{id}", r.ID).Replace(replayPath)}
	if found != nil {
		p := progressOf(s.cfg.Records, key)
		out.Status, out.Body = http.StatusOK, viewOfReplay(found, &p)
		return out, nil
	}
	out.Body = viewOfReplay(r, &webhook.ReplayProgress{})
	s.log.InfoContext(ctx, "replay created", "tenant", r.Tenant, "endpoint", r.EndpointID, "replay", r.ID, "kind", r.Kind)
	return out, nil
}

func (c *ReplayCreate) replay(tenant string) *webhook.Replay {
	r := &webhook.Replay{
		ID: webhook.ReplayPrefix + strings.ToLower(rand.Text()), Tenant: tenant, EndpointID: c.Endpoint, Kind: c.Kind,
		Since: kafkaTime(c.Since), Until: c.Until.UTC(), Events: c.Events, States: c.States, Rate: c.Rate, Paused: c.Paused,
	}
	if r.Kind == "" {
		r.Kind = webhook.ReplayEvents
	}
	if r.Rate == 0 {
		r.Rate = defaultReplayRate
	}
	return r
}

func (s *server) checkReplay(c *ReplayCreate, r *webhook.Replay) []FieldError {
	errs := append(s.checkSubscription(r.Events, ""), checkSpan("", c.Since, c.Until)...)
	if c.Since.IsZero() {
		errs = append(errs, FieldError{"since", "it is missing"})
	} else if c.Since.After(time.Now()) {
		errs = append(errs, FieldError{"since", "it is in the future"})
	}
	if len(r.States) > 0 && r.Kind != webhook.ReplayFailed {
		errs = append(errs, FieldError{"states", "only a retry goes by the states of deliveries; set kind to retry"})
	}
	if strings.Contains(r.Tenant, "/") {
		errs = append(errs, FieldError{"path.tenant", "no tenant's name holds a slash"})
	}
	return errs
}

// freeRun returns the run of a new replay: the time of its request, or the first
// moment after it that is no other replay's of the endpoint. Of two in one run, the
// deliveries that both make would be made once.
func freeRun(tx Tx, r *webhook.Replay) int64 {
	taken := make(map[int64]bool)
	for _, other := range replays.all(tx, r.Tenant+"/", "") {
		if other.EndpointID == r.EndpointID {
			taken[other.Run] = true
		}
	}
	run := tx.Now().UnixMilli()
	for taken[run] {
		run++
	}
	return run
}

// sweepReplays refuses one too many, and removes those that ended long ago.
func sweepReplays(tx Tx, tenant string) error {
	type ended struct {
		key string
		at  time.Time
	}
	var over []ended
	unended := 0
	for key := range replays.all(tx, tenant+"/", "") {
		p := progressOf(tx, key)
		if !p.Ended() {
			unended++
			continue
		}
		over = append(over, ended{key, p.EndedAt})
	}
	if unended >= maxUnended {
		p := newProblem(http.StatusForbidden, "Tenant %q has %d replays under way or paused, which is the most. Cancel one, or wait for its end.", tenant, unended)
		p.Type, p.Title = TypeLimitReached, "Limit of replays reached"
		return p
	}
	for len(over) > 0 {
		oldest := 0
		for i := range over {
			if over[i].at.Before(over[oldest].at) {
				oldest = i
			}
		}
		if len(over) < keptReplays && tx.Now().Sub(over[oldest].at) < keptFor {
			return nil
		}
		if err := replays.delete(tx, over[oldest].key); err != nil {
			return err
		}
		if err := tx.PutRaw(KindProgress, over[oldest].key, nil); err != nil {
			return err
		}
		over[oldest] = over[len(over)-1]
		over = over[:len(over)-1]
	}
	return nil
}

type listReplaysInput struct {
	TenantParam
	PageParams
}

func (s *server) listReplays(ctx context.Context, in *listReplaysInput) (*pageOutput[Replay], error) {
	return paginate(ctx, in.PageParams, func(after string) iter.Seq2[string, *webhook.Replay] {
		return replays.all(s.cfg.Records, in.Tenant+"/", after)
	}, nil, func(r *webhook.Replay) Replay {
		p := progressOf(s.cfg.Records, replayKey(r.Tenant, r.ID))
		return viewOfReplay(r, &p)
	})
}

func noReplay(id string) *Problem {
	return newProblem(http.StatusNotFound, "The tenant has no replay %.80q.", id)
}

func (s *server) getReplay(ctx context.Context, in *ReplayParam) (*replayOutput, error) {
	key := replayKey(in.Tenant, in.ID)
	r, ok := replays.get(s.cfg.Records, key)
	if !ok {
		return nil, noReplay(in.ID)
	}
	p := progressOf(s.cfg.Records, key)
	v := viewOfReplay(r, &p)
	if s.cfg.Ledger != nil && p.Produced > 0 {
		d, err := s.cfg.Ledger.Run(ctx, r.Tenant, r.EndpointID, r.Run)
		if err != nil {
			s.log.WarnContext(ctx, "asking the ledger", "error", err)
		} else {
			v.Deliveries = d
		}
	}
	return &replayOutput{v}, nil
}

func (s *server) changeReplay(ctx context.Context, in *ReplayParam, change func(*webhook.Replay)) (*replayOutput, error) {
	key := replayKey(in.Tenant, in.ID)
	var r *webhook.Replay
	err := s.update(ctx, func(tx Tx) (*note, error) {
		old, ok := replays.get(tx, key)
		if !ok {
			return nil, noReplay(in.ID)
		}
		next := *old
		change(&next)
		r = &next
		fields := changedFields(old, r)
		if len(fields) == 0 {
			return nil, nil
		}
		if p := progressOf(tx, key); p.Ended() || old.Cancelled {
			return nil, newProblem(http.StatusConflict, "The replay has ended: it is %s.", stateOf(old, &p))
		}
		return &note{Tenant: r.Tenant, Kind: KindReplay, ID: r.ID, Fields: fields}, replays.put(tx, key, r)
	})
	if err != nil {
		return nil, err
	}
	p := progressOf(s.cfg.Records, key)
	return &replayOutput{viewOfReplay(r, &p)}, nil
}
