package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

// delivery is what the API says of a delivery.
type delivery struct {
	ID          string `json:"id"`
	Run         int64  `json:"run"`
	EndpointID  string `json:"endpoint_id"`
	EventID     string `json:"event_id"`
	EventType   string `json:"event_type"`
	State       string `json:"state"`
	StatusCode  *int   `json:"status_code"`
	Response    string `json:"response"`
	Attempts    int64  `json:"attempts"`
	BegunAt     string `json:"begun_at"`
	DeliveredAt string `json:"delivered_at"`
	NextRetryAt string `json:"next_retry_at"`
	Reason      string `json:"reason"`

	Origin          string  `json:"origin"`
	ContentType     string  `json:"content_type"`
	Payload         *string `json:"payload"`
	PayloadEncoding string  `json:"payload_encoding"`
	Runs            []struct {
		Run     int64     `json:"run"`
		Origin  string    `json:"origin"`
		State   string    `json:"state"`
		History []attempt `json:"history"`
	} `json:"runs"`
}

// attempt is what the API says of one handling of a delivery.
type attempt struct {
	Kind        string  `json:"kind"`
	StartedAt   string  `json:"started_at"`
	DurationMS  float64 `json:"duration_ms"`
	StatusCode  *int    `json:"status_code"`
	Outcome     string  `json:"outcome"`
	Reason      string  `json:"reason"`
	NextRetryAt string  `json:"next_retry_at"`
}

// Deliveries looks a tenant's deliveries up and writes what it finds.
type Deliveries struct {
	API    *API
	Tenant string
	// JSON writes the API's answer in place of a text for people.
	JSON bool
	Out  io.Writer
}

func (d Deliveries) path(rest ...string) string {
	p := []string{"/v1/tenants", url.PathEscape(d.Tenant)}
	for _, part := range rest {
		p = append(p, url.PathEscape(part))
	}
	return strings.Join(p, "/")
}

// DeliveryQuery says which deliveries; what is empty doesn't matter.
type DeliveryQuery struct {
	Endpoint, Type, Event, State string
	Since, Until                 time.Time
	Limit                        int // in all

	// AtLeast so many are waited for, for Wait at most.
	AtLeast int
	Wait    time.Duration
}

func httpStatus(code *int) string {
	if code == nil {
		return "-"
	}
	return fmt.Sprint(*code)
}

func orNone(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// List writes deliveries, newest first. Fewer than were waited for are an error,
// after they were written.
func (d Deliveries) List(ctx context.Context, q DeliveryQuery) error {
	if q.Limit > 0 && q.AtLeast > q.Limit {
		return usagef("--at-least %d: --limit shows %d at most", q.AtLeast, q.Limit)
	}
	query := url.Values{}
	for name, value := range map[string]string{"endpoint": q.Endpoint, "type": q.Type, "event": q.Event, "state": q.State} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	var items []json.RawMessage
	enough, err := until(ctx, q.Wait, func(ctx context.Context) (_ bool, err error) {
		items, err = pages[json.RawMessage](ctx, d.API, d.path("deliveries"), query, q.Limit)
		return len(items) >= q.AtLeast, err
	})
	if err != nil {
		return fmt.Errorf("listing deliveries: %w", err)
	}
	if err := d.table(items); err != nil {
		return err
	}
	if q.Wait > 0 && !enough {
		return fmt.Errorf("of the %d waited for there are %d after %s", q.AtLeast, len(items), q.Wait)
	}
	return nil
}

func (d Deliveries) table(items []json.RawMessage) error {
	if d.JSON {
		return writeJSON(d.Out, items)
	}
	w := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BEGUN\tID\tRUN\tTYPE\tENDPOINT\tSTATE\tATTEMPTS\tSTATUS\tREASON\tNEXT")
	for _, raw := range items {
		var v delivery
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("reading the list of deliveries: %w", err)
		}
		fmt.Fprintln(w, printable(strings.Join([]string{v.BegunAt, v.ID, fmt.Sprint(v.Run), v.EventType, v.EndpointID, v.State,
			fmt.Sprint(v.Attempts), httpStatus(v.StatusCode), orNone(v.Reason), orNone(v.NextRetryAt)}, "\t")))
	}
	return flush(w)
}

// Get writes one delivery with its attempts and its payload. It waits until the
// delivery has ended, for so long at most.
func (d Deliveries) Get(ctx context.Context, id string, wait time.Duration) error {
	return d.ended(ctx, id, 0, wait)
}

// whole reports whether the record of the delivery is in the ledger, and not its
// attempts alone: the ledger reads the two apart.
func (v *delivery) whole() bool { return v.Payload != nil || v.ContentType != "" }

// ended waits until a delivery's last run has ended, which is the given one or a
// later one, and writes it. One that hasn't is written too, and is an error if it
// was waited for.
func (d Deliveries) ended(ctx context.Context, id string, run int64, wait time.Duration) error {
	var answer []byte
	var v delivery
	done, err := until(ctx, wait, func(ctx context.Context) (bool, error) {
		got, err := d.API.call(ctx, http.MethodGet, d.path("deliveries", id), nil, nil, nil)
		if err != nil {
			if wait > 0 && notYet(err) {
				return false, nil
			}
			return false, err
		}
		v = delivery{}
		if err := json.Unmarshal(got, &v); err != nil {
			return false, fmt.Errorf("reading the API's answer: %w", err)
		}
		answer = got
		return v.Run >= run && v.State != "pending" && v.whole(), nil
	})
	if err != nil {
		return fmt.Errorf("getting delivery %s: %w", id, err)
	}
	if answer == nil {
		return fmt.Errorf("the ledger has no delivery %s after %s", printable(id), wait)
	}
	if err := d.show(answer, &v); err != nil || done || wait == 0 {
		return err
	}
	if v.Run < run {
		return fmt.Errorf("the ledger has no run %d of delivery %s after %s", run, printable(id), wait)
	}
	if v.State == "pending" {
		return fmt.Errorf("delivery %s is still pending after %s", printable(id), wait)
	}
	return fmt.Errorf("the ledger has the attempts of delivery %s alone after %s", printable(id), wait)
}

func (d Deliveries) show(answer []byte, v *delivery) error {
	if d.JSON {
		return writeJSON(d.Out, json.RawMessage(answer))
	}
	w := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"id", v.ID}, {"event", v.EventID}, {"type", v.EventType}, {"endpoint", v.EndpointID}, {"state", v.State}, {"origin", v.Origin},
		{"status", httpStatus(v.StatusCode)}, {"reason", v.Reason}, {"attempts", fmt.Sprint(v.Attempts)}, {"begun", v.BegunAt},
		{"delivered", orNone(v.DeliveredAt)}, {"next retry", orNone(v.NextRetryAt)}, {"response", strings.ReplaceAll(v.Response, "\n", " ")},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], printable(line[1]))
		}
	}
	fmt.Fprintln(w, "\nRUN\tSTARTED\tKIND\tSTATUS\tOUTCOME\tREASON\tMS\tNEXT")
	for _, r := range v.Runs {
		for _, a := range r.History {
			fmt.Fprintln(w, printable(strings.Join([]string{fmt.Sprint(r.Run), a.StartedAt, a.Kind, httpStatus(a.StatusCode), orNone(a.Outcome), a.Reason,
				fmt.Sprintf("%.1f", a.DurationMS), orNone(a.NextRetryAt)}, "\t")))
		}
	}
	if err := flush(w); err != nil {
		return err
	}
	switch {
	case !v.whole():
		return writef(d.Out, "\nthe ledger has the attempts alone: the rest comes within seconds, or is past its time\n")
	case v.Payload == nil:
		return writef(d.Out, "\nthe payload is past its time in the ledger\n")
	case v.PayloadEncoding == "base64":
		return writef(d.Out, "\npayload, in base64:\n%s\n", *v.Payload)
	}
	return writef(d.Out, "\npayload:\n%s\n", printable(*v.Payload))
}

// sent is a delivery that was put on the line.
type sent struct {
	DeliveryID string `json:"delivery_id"`
	Run        int64  `json:"run"`
	EventType  string `json:"event_type"`
}

// Resend sends one delivery again. A key lets the command be repeated. With a wait
// it writes the delivery once that has ended.
func (d Deliveries) Resend(ctx context.Context, id, key string, wait time.Duration) error {
	answer, err := d.API.call(ctx, http.MethodPost, d.path("deliveries", id, "resend"), nil, once(key), nil)
	if err != nil {
		return fmt.Errorf("sending delivery %s again: %w", id, err)
	}
	return d.sent(ctx, answer, wait)
}

func once(key string) http.Header {
	if key == "" {
		return nil
	}
	return http.Header{"Idempotency-Key": {key}}
}

// sent writes what was put on the line, or what becomes of it.
func (d Deliveries) sent(ctx context.Context, answer []byte, wait time.Duration) error {
	var v sent
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	switch {
	case wait > 0:
		return d.ended(ctx, v.DeliveryID, v.Run, wait)
	case d.JSON:
		return writeJSON(d.Out, json.RawMessage(answer))
	}
	return writef(d.Out, "sent %s as run %d; see it with: posthorn delivery get %s --tenant %s\n", printable(v.DeliveryID), v.Run, printable(v.DeliveryID), printable(d.Tenant))
}

// Test sends a test event to an endpoint. With a wait it writes the delivery once
// that has ended.
func (d Deliveries) Test(ctx context.Context, endpoint, eventType, key string, wait time.Duration) error {
	var body any
	if eventType != "" {
		body = map[string]string{"event_type": eventType}
	}
	answer, err := d.API.call(ctx, http.MethodPost, d.path("endpoints", endpoint, "test"), nil, once(key), body)
	if err != nil {
		return fmt.Errorf("testing endpoint %s: %w", endpoint, err)
	}
	return d.sent(ctx, answer, wait)
}

// Backlog writes what waits for an endpoint.
func (d Deliveries) Backlog(ctx context.Context, endpoint string) error {
	answer, err := d.API.call(ctx, http.MethodGet, d.path("endpoints", endpoint, "backlog"), nil, nil, nil)
	if err != nil {
		return fmt.Errorf("asking for the backlog of %s: %w", endpoint, err)
	}
	if d.JSON {
		return writeJSON(d.Out, json.RawMessage(answer))
	}
	var v struct {
		Waiting      int64    `json:"waiting"`
		Queued       int64    `json:"queued"`
		Parked       int64    `json:"parked"`
		Retrying     int64    `json:"retrying"`
		OldestAt     string   `json:"oldest_at"`
		AgeSeconds   float64  `json:"age_seconds"`
		Rate         float64  `json:"rate"`
		DrainSeconds *float64 `json:"drain_seconds"`
		AsOf         string   `json:"as_of"`
	}
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	needs := "unknown: nothing ended in the last five minutes"
	if v.DrainSeconds != nil {
		needs = seconds(*v.DrainSeconds)
	}
	return writef(d.Out, "%d waiting: %d queued, %d parked, %d retrying\noldest: %s (%s)\nends: %.1f a second; needs: %s\nas of %s\n",
		v.Waiting, v.Queued, v.Parked, v.Retrying, orNone(v.OldestAt), seconds(v.AgeSeconds), v.Rate, needs, v.AsOf)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// DryRun tries a subscription on the events since a time.
func (d Deliveries) DryRun(ctx context.Context, events []string, filter string, since time.Time, samples int) error {
	answer, err := d.API.call(ctx, http.MethodPost, d.path("dry-run"), nil, nil, struct {
		Events  []string  `json:"events,omitempty"`
		Filter  string    `json:"filter,omitempty"`
		Since   time.Time `json:"since"`
		Samples int       `json:"samples"`
	}{events, filter, since, samples})
	if err != nil {
		return fmt.Errorf("trying a subscription: %w", err)
	}
	if d.JSON {
		return writeJSON(d.Out, json.RawMessage(answer))
	}
	var v struct {
		Matched int64 `json:"matched"`
		Scanned int64 `json:"scanned"`
		// Undecided is how many the filter failed on.
		Undecided int64 `json:"undecided"`
		Types     []struct {
			Type   string `json:"type"`
			Events int64  `json:"events"`
		} `json:"types"`
		Samples []struct {
			ID   string  `json:"id"`
			Type string  `json:"type"`
			Time string  `json:"time"`
			Data *string `json:"data"`
		} `json:"samples"`
		Cut   string `json:"cut"`
		Until string `json:"scanned_until"`
	}
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	if err := writef(d.Out, "%d of %d events would match\n", v.Matched, v.Scanned); err != nil {
		return err
	}
	if v.Undecided > 0 {
		if err := writef(d.Out, "the filter failed on %d, which are left out\n", v.Undecided); err != nil {
			return err
		}
	}
	if v.Cut != "none" {
		if err := writef(d.Out, "cut by its bound of %s, at about %s: ask again with a later --since\n", v.Cut, v.Until); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(d.Out, 0, 0, 2, ' ', 0)
	for _, n := range v.Types {
		fmt.Fprintf(w, "%d\t%s\n", n.Events, printable(n.Type))
	}
	if err := flush(w); err != nil { // the columns of samples are others
		return err
	}
	for _, e := range v.Samples {
		data := "(too long to show)"
		if e.Data != nil {
			data = *e.Data
		}
		fmt.Fprintln(w, printable(e.Time+"\t"+e.Type+"\t"+e.ID+"\t"+strings.ReplaceAll(data, "\n", " ")))
	}
	return flush(w)
}
