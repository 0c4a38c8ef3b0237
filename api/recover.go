package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	recoverPath = endpointPath + "/recover"

	// recoverBefore is how far before the time that was missed a recovery begins:
	// what was produced then may have been matched only when the endpoint was
	// disabled already, by matchers that lagged. It is as late as a replay takes
	// records to be written after their time.
	recoverBefore = 10 * time.Minute
	// recoverAfter is how long after the endpoint was enabled a recovery ends: all
	// matchers know of it by then.
	recoverAfter = 2 * time.Second
)

func (s *server) registerRecover() {
	register(s, huma.Operation{
		OperationID: "recoverEndpoint", Method: http.MethodPost, Path: recoverPath, Tags: []string{"endpoints"},
		Summary:       "Recover what an endpoint missed while it was disabled",
		Description:   "Begins a replay of the events that the enabled endpoint missed, from 10 minutes before missed.failing_since (or missed.from) to missed.until; what had arrived in those 10 minutes comes again, with the same delivery ID. It goes by the subscription as it is now and begins no earlier than the last purge and the endpoint's creation. A repeat of the request finds the same replay and is answered 200.",
		DefaultStatus: http.StatusAccepted,
		Responses:     s.responses(map[int]any{http.StatusOK: Replay{}}, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict),
	}, s.recoverEndpoint)
}

func (s *server) recoverEndpoint(ctx context.Context, in *EndpointParam) (*createReplayOutput, error) {
	order := createReplayInput{TenantParam: in.TenantParam}
	// Under the lock, since another process may have enabled it a moment ago.
	err := s.update(ctx, func(tx Tx) (*note, error) {
		ep, err := endpointOf(tx, in.Tenant, in.ID)
		if err != nil {
			return nil, err
		}
		missed := missedOf(tx, ep)
		switch {
		case ep.Disabled:
			return nil, newProblem(http.StatusConflict, "The endpoint is disabled and misses events still. Enable it first.")
		case missed == nil:
			return nil, newProblem(http.StatusConflict, "The endpoint was never disabled: it has missed nothing.")
		}
		since := missed.From
		if !missed.FailingSince.IsZero() {
			since = missed.FailingSince
		}
		since = since.Add(-recoverBefore)
		for _, earliest := range [...]time.Time{ep.CreatedAt, ep.PurgeBefore} {
			if since.Before(earliest) {
				since = earliest
			}
		}
		until := missed.Until.Add(recoverAfter)
		if !since.Before(until) {
			return nil, newProblem(http.StatusConflict, "What the endpoint missed was purged since.")
		}
		order.Body = ReplayCreate{Endpoint: ep.ID, Since: since, Until: until}
		order.IdempotencyKey = "recover " + ep.ID + " " + since.Format(time.RFC3339Nano) + " " + until.Format(time.RFC3339Nano)
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(min(recoverAfter, time.Until(order.Body.Until))): // clocks may differ
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.createReplay(ctx, &order)
}
