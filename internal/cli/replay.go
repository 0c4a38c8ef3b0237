package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
)

// ReplayOrder is what a replay is created with; zero values are the API's
// defaults.
type ReplayOrder struct {
	Endpoint string    `json:"endpoint"`
	Kind     string    `json:"kind,omitempty"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until,omitzero"`
	Events   []string  `json:"events,omitempty"`
	States   []string  `json:"states,omitempty"`
	Rate     float64   `json:"rate,omitempty"`
	Paused   bool      `json:"paused,omitempty"`
}

// replay is what the API says of a replay.
type replay struct {
	ID         string  `json:"id"`
	EndpointID string  `json:"endpoint_id"`
	Kind       string  `json:"kind"`
	Since      string  `json:"since"`
	Until      string  `json:"until"`
	Rate       float64 `json:"rate"`
	State      string  `json:"state"`
	Reason     string  `json:"reason"`
	Progress   struct {
		Total    int64 `json:"total"`
		Scanned  int64 `json:"scanned"`
		Produced int64 `json:"produced"`
		Skipped  int64 `json:"skipped"`
		Lost     int64 `json:"lost"`
	} `json:"progress"`
	Deliveries *struct {
		Delivered int64 `json:"delivered"`
		Pending   int64 `json:"pending"`
		Dead      int64 `json:"dead"`
		Discarded int64 `json:"discarded"`
	} `json:"deliveries"`
}

// Replays works on a tenant's replays and writes what it finds.
type Replays struct{ Deliveries }

// ended reports whether all is on the line and, as far as there is a ledger, what
// became of it is there.
func (v *replay) ended() bool {
	switch v.State {
	case "cancelled", "failed":
		return true
	case "completed":
		d := v.Deliveries
		return d == nil || d.Pending == 0 && d.Delivered+d.Dead+d.Discarded >= v.Progress.Produced
	}
	return false
}

// Create begins a replay. A key lets the command be repeated. With a wait it writes
// the replay once that has ended.
func (r Replays) Create(ctx context.Context, o ReplayOrder, key string, wait time.Duration) error {
	answer, err := r.API.call(ctx, http.MethodPost, r.path("replays"), nil, once(key), o)
	if err != nil {
		return fmt.Errorf("creating replay: %w", err)
	}
	if wait == 0 {
		return r.show(answer)
	}
	var v replay
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	return r.Get(ctx, v.ID, wait)
}

// Get writes one replay. It waits until that has ended and its deliveries have, for
// so long at most; one that hasn't is written too, and is an error if it was waited
// for.
func (r Replays) Get(ctx context.Context, id string, wait time.Duration) error {
	var answer []byte
	done, err := until(ctx, wait, func(ctx context.Context) (_ bool, err error) {
		if answer, err = r.API.call(ctx, http.MethodGet, r.path("replays", id), nil, nil, nil); err != nil {
			return false, err
		}
		var v replay
		if err := json.Unmarshal(answer, &v); err != nil {
			return false, fmt.Errorf("reading the API's answer: %w", err)
		}
		return v.ended(), nil
	})
	if err != nil {
		return fmt.Errorf("getting replay %s: %w", id, err)
	}
	if err := r.show(answer); err != nil || done || wait == 0 {
		return err
	}
	return fmt.Errorf("replay %s, or one of its deliveries, has not ended after %s", printable(id), wait)
}

// Do pauses, resumes or cancels a replay.
func (r Replays) Do(ctx context.Context, verb, id string) error {
	answer, err := r.API.call(ctx, http.MethodPost, r.path("replays", id, verb), nil, nil, nil)
	if err != nil {
		return fmt.Errorf("%s of replay %s: %w", verb, id, err)
	}
	return r.show(answer)
}

// List writes the tenant's replays.
func (r Replays) List(ctx context.Context) error {
	items, err := pages[json.RawMessage](ctx, r.API, r.path("replays"), nil, 0)
	if err != nil {
		return fmt.Errorf("listing replays: %w", err)
	}
	if r.JSON {
		return writeJSON(r.Out, items)
	}
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tENDPOINT\tSTATE\tSCANNED\tPRODUCED\tSINCE\tUNTIL")
	for _, raw := range items {
		var v replay
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("reading the list of replays: %w", err)
		}
		fmt.Fprintln(w, printable(strings.Join([]string{v.ID, v.Kind, v.EndpointID, v.State,
			fmt.Sprintf("%d/%d", v.Progress.Scanned, v.Progress.Total), fmt.Sprint(v.Progress.Produced), v.Since, v.Until}, "\t")))
	}
	return flush(w)
}

func (r Replays) show(answer []byte) error {
	if r.JSON {
		return writeJSON(r.Out, json.RawMessage(answer))
	}
	var v replay
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("id", "%s", v.ID)
	line("kind", "%s", v.Kind)
	line("endpoint", "%s", v.EndpointID)
	line("since", "%s", v.Since)
	line("until", "%s", v.Until)
	line("rate", "%g/s", v.Rate)
	line("state", "%s", v.State)
	if v.Reason != "" {
		line("reason", "%s", v.Reason)
	}
	line("scanned", "%d of %d", v.Progress.Scanned, v.Progress.Total)
	line("produced", "%d", v.Progress.Produced)
	if v.Progress.Skipped > 0 {
		line("skipped", "%d", v.Progress.Skipped)
	}
	if v.Progress.Lost > 0 {
		line("lost", "%d", v.Progress.Lost)
	}
	if d := v.Deliveries; d != nil {
		line("deliveries", "%d delivered, %d pending, %d dead, %d discarded", d.Delivered, d.Pending, d.Dead, d.Discarded)
	}
	return flush(w)
}
