package api

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Backlog is what waits for an endpoint, as far as the ledger has come.
type Backlog struct {
	_        struct{}   `additionalProperties:"true"`
	Waiting  int64      `json:"waiting" doc:"Deliveries without an end: the sum of queued, parked and retrying"`
	Queued   int64      `json:"queued" doc:"Never handled yet: on their way, queued or in flight"`
	Parked   int64      `json:"parked" doc:"Put back unsent: the endpoint's queue was full or makes no progress, or its breaker is open"`
	Retrying int64      `json:"retrying" doc:"Failed; wait for their next attempt"`
	Due      BacklogDue `json:"due" doc:"When the next attempts of the parked and retrying are due"`

	OldestAt     *time.Time `json:"oldest_at" nullable:"true" doc:"When the oldest was begun; null when nothing waits"`
	LastDueAt    *time.Time `json:"last_due_at" nullable:"true" doc:"The latest time at which an attempt is planned; null when none is"`
	AgeSeconds   float64    `json:"age_seconds" doc:"Since oldest_at"`
	Rate         float64    `json:"rate" doc:"Deliveries that ended a second, delivered or dead, while the endpoint was POSTed to in the last five minutes"`
	DrainSeconds *float64   `json:"drain_seconds" nullable:"true" doc:"Time that the backlog needs: at that rate, and not before last_due_at. null when nothing ended in the last five minutes: then nobody knows, and neither where it would take for ever"`
	AsOf         time.Time  `json:"as_of" doc:"Up to when the ledger knows everything; what came later may be missing here. 1970-01-01 while that isn't known"`
}

// BacklogDue counts attempts by when they are due.
type BacklogDue struct {
	_           struct{} `additionalProperties:"true"`
	Overdue     int64    `json:"overdue" doc:"Due now: being made, or the ledger hasn't heard of them yet"`
	Minute      int64    `json:"within_1m"`
	FiveMinutes int64    `json:"within_5m" doc:"And later than in 1 minute"`
	QuarterHour int64    `json:"within_15m" doc:"And later than in 5 minutes"`
	Later       int64    `json:"later"`
}

// estimate fills in what follows from the rest, at a time.
func (b *Backlog) estimate(now time.Time, rateLimit float64) {
	if b.OldestAt != nil {
		b.AgeSeconds = max(now.Sub(*b.OldestAt).Seconds(), 0)
	}
	rate := b.Rate
	if rateLimit > 0 {
		rate = min(rate, rateLimit)
	}
	var drain float64
	switch {
	case b.Waiting == 0:
	case rate <= 0:
		return
	default:
		drain = float64(b.Waiting) / rate
		if b.LastDueAt != nil {
			drain = max(drain, b.LastDueAt.Sub(now).Seconds())
		}
	}
	if drain = math.Round(drain*10) / 10; !math.IsInf(drain, 0) { // JSON has no word for that
		b.DrainSeconds = &drain
	}
}

func (s *server) registerBacklog() {
	register(s, huma.Operation{
		OperationID: "getBacklog", Method: http.MethodGet, Path: endpointPath + "/backlog", Tags: []string{"endpoints"},
		Summary:     "See what waits for an endpoint, how old it is and how long it needs",
		Description: "From the ledger in ClickHouse, which is some seconds behind the line: as_of says how far it has come. Without ClickHouse the answer is 503.",
		Responses:   s.responses(nil, http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	}, s.getBacklog)
}

type backlogOutput struct{ Body Backlog }

func (s *server) getBacklog(ctx context.Context, in *EndpointParam) (*backlogOutput, error) {
	ep, err := endpointOf(s.cfg.Endpoints, in.Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	if err := s.needLedger(); err != nil {
		return nil, err
	}
	b, err := s.cfg.Ledger.Backlog(ctx, in.Tenant, in.ID)
	if err != nil {
		return nil, s.ledgerProblem(ctx, err)
	}
	b.estimate(time.Now(), ep.RateLimit)
	return &backlogOutput{Body: *b}, nil
}
