package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// EndpointChange is what an endpoint is created with, or what is changed of
// it: nil fields are left alone.
type EndpointChange struct {
	URL         *string   `json:"url,omitempty"`
	Description *string   `json:"description,omitempty"`
	Events      *[]string `json:"events,omitempty"`
	Filter      *string   `json:"filter,omitempty"`
	Contract    *string   `json:"contract,omitempty"`
	// Headers are those to set (nil values: to remove); a pointer to a nil map
	// removes all.
	Headers     *map[string]*string `json:"headers,omitempty"`
	Disabled    *bool               `json:"disabled,omitempty"`
	OnDisable   *string             `json:"on_disable,omitempty"`
	Paused      *bool               `json:"paused,omitempty"`
	RateLimit   *float64            `json:"rate_limit,omitempty"`
	MaxInFlight *int                `json:"max_in_flight,omitempty"`
	// Secret brings an existing signing secret along, at creation only.
	Secret *string `json:"secret,omitempty"`
}

// endpoint is what the API says of an endpoint.
type endpoint struct {
	ID          string            `json:"id"`
	Tenant      string            `json:"tenant"`
	URL         string            `json:"url"`
	Description string            `json:"description"`
	Events      []string          `json:"events"`
	Filter      string            `json:"filter"`
	Contract    string            `json:"contract"`
	Headers     map[string]string `json:"headers"`
	Disabled    bool              `json:"disabled"`
	Reason      string            `json:"disabled_reason"`
	DisabledAt  string            `json:"disabled_at"`
	Paused      bool              `json:"paused"`
	Failing     string            `json:"failing_since"`
	Purging     bool              `json:"purging"`
	Missed      *struct {
		From         string `json:"from"`
		Until        string `json:"until"`
		FailingSince string `json:"failing_since"`
	} `json:"missed"`
	RateLimit   float64 `json:"rate_limit"`
	MaxInFlight int     `json:"max_in_flight"`
	CreatedAt   string  `json:"created_at"`
	UpdatedAt   string  `json:"updated_at"`
	Version     int64   `json:"version"`
	Secret      string  `json:"secret"`
}

// Endpoints works on one tenant's endpoints and writes what it finds.
type Endpoints struct {
	API    *API
	Tenant string
	// JSON writes the API's answer in place of a text for people.
	JSON bool
	Out  io.Writer
}

func (e Endpoints) path(id string) string {
	p := "/v1/tenants/" + url.PathEscape(e.Tenant) + "/endpoints"
	if id != "" {
		p += "/" + url.PathEscape(id)
	}
	return p
}

// Create registers an endpoint and writes it with its signing secret, which no
// later answer has.
func (e Endpoints) Create(ctx context.Context, c EndpointChange) error {
	answer, err := e.API.call(ctx, http.MethodPost, e.path(""), nil, nil, c)
	if err != nil {
		return fmt.Errorf("creating endpoint: %w", err)
	}
	return e.show(answer)
}

// Get writes one endpoint.
func (e Endpoints) Get(ctx context.Context, id string) error {
	answer, err := e.API.call(ctx, http.MethodGet, e.path(id), nil, nil, nil)
	if err != nil {
		return fmt.Errorf("getting endpoint %s: %w", id, err)
	}
	return e.show(answer)
}

// Update changes an endpoint and writes it. With an ifMatch other than 0 the
// change is refused when the endpoint has another version meanwhile.
func (e Endpoints) Update(ctx context.Context, id string, c EndpointChange, ifMatch int64) error {
	if c == (EndpointChange{}) {
		return usagef("nothing to change: give at least one of --url, --events, --filter, --description, --header, --disabled, --on-disable, --rate-limit, --max-in-flight")
	}
	header := http.Header{"Content-Type": {"application/merge-patch+json"}} // RFC 7396
	if ifMatch != 0 {
		header.Set("If-Match", fmt.Sprintf("%q", fmt.Sprint(ifMatch)))
	}
	answer, err := e.API.call(ctx, http.MethodPatch, e.path(id), nil, header, c)
	if err != nil {
		return fmt.Errorf("updating endpoint %s: %w", id, err)
	}
	return e.show(answer)
}

// Enable has an endpoint matched and delivered to again, and says how what it
// missed is recovered; with recovering that is begun. Both may be repeated.
func (e Endpoints) Enable(ctx context.Context, id string, recovering bool) error {
	header := http.Header{"Content-Type": {"application/merge-patch+json"}}
	answer, err := e.API.call(ctx, http.MethodPatch, e.path(id), nil, header, map[string]bool{"disabled": false})
	if err != nil {
		return fmt.Errorf("enabling endpoint %s: %w", id, err)
	}
	var ep endpoint
	if err := json.Unmarshal(answer, &ep); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	if !recovering {
		if err := e.show(answer); err != nil || e.JSON || ep.Missed == nil {
			return err
		}
		return writef(e.Out, "\nTo recover what it missed: posthorn endpoint enable --tenant %s %s --recover\n", printable(e.Tenant), printable(id))
	}
	begun, err := e.API.call(ctx, http.MethodPost, e.path(id)+"/recover", nil, nil, nil)
	if err != nil {
		return fmt.Errorf("endpoint %s is enabled; recovering what it missed: %w", id, err)
	}
	if e.JSON {
		return writeJSON(e.Out, map[string]json.RawMessage{"endpoint": answer, "replay": begun})
	}
	if err := e.show(answer); err != nil {
		return err
	}
	if err := writef(e.Out, "\nIts recovery:\n"); err != nil {
		return err
	}
	return Replays{Deliveries(e)}.show(begun)
}

// Delete removes an endpoint.
func (e Endpoints) Delete(ctx context.Context, id string) error {
	if _, err := e.API.call(ctx, http.MethodDelete, e.path(id), nil, nil, nil); err != nil {
		return fmt.Errorf("deleting endpoint %s: %w", id, err)
	}
	if e.JSON {
		return writeJSON(e.Out, map[string]string{"deleted": id})
	}
	return writef(e.Out, "deleted %s\n", printable(id))
}

// List writes all endpoints of the tenant, page after page.
func (e Endpoints) List(ctx context.Context) error {
	items, err := pages[json.RawMessage](ctx, e.API, e.path(""), nil, 0)
	if err != nil {
		return fmt.Errorf("listing endpoints: %w", err)
	}
	if e.JSON {
		return writeJSON(e.Out, items)
	}
	w := tabwriter.NewWriter(e.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tCONTRACT\tEVENTS\tURL")
	for _, raw := range items {
		var ep endpoint
		if err := json.Unmarshal(raw, &ep); err != nil {
			return fmt.Errorf("reading the list of endpoints: %w", err)
		}
		fmt.Fprintln(w, printable(strings.Join([]string{ep.ID, stateOf(ep), ep.Contract, eventsOf(ep), ep.URL}, "\t")))
	}
	return flush(w)
}

func stateOf(ep endpoint) string {
	switch {
	case ep.Disabled:
		return "disabled"
	case ep.Paused:
		return "paused"
	}
	return "active"
}

func eventsOf(ep endpoint) string {
	if len(ep.Events) == 0 {
		return "(all)"
	}
	return strings.Join(ep.Events, ",")
}

// show writes the endpoint of an answer.
func (e Endpoints) show(answer []byte) error {
	if e.JSON {
		return writeJSON(e.Out, json.RawMessage(answer))
	}
	var ep endpoint
	if err := json.Unmarshal(answer, &ep); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	w := tabwriter.NewWriter(e.Out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, printable(value))
		}
	}
	line("id", ep.ID)
	line("tenant", ep.Tenant)
	line("url", ep.URL)
	line("description", ep.Description)
	line("events", eventsOf(ep))
	line("filter", ep.Filter)
	line("contract", ep.Contract)
	for _, name := range sortedKeys(ep.Headers) {
		line("header", name+": "+ep.Headers[name])
	}
	line("state", stateOf(ep))
	if ep.Disabled {
		line("disabled", ep.DisabledAt+", "+ep.Reason)
	}
	line("failing since", ep.Failing)
	if ep.Missed != nil {
		line("missed events", "from "+cmp.Or(ep.Missed.FailingSince, ep.Missed.From)+" to "+ep.Missed.Until)
	}
	if ep.Purging {
		line("backlog", "being purged")
	}
	if ep.RateLimit > 0 {
		line("rate limit", fmt.Sprintf("%g/s", ep.RateLimit))
	}
	if ep.MaxInFlight > 0 {
		line("max in flight", fmt.Sprint(ep.MaxInFlight))
	}
	line("created", ep.CreatedAt)
	line("updated", ep.UpdatedAt)
	line("version", fmt.Sprint(ep.Version))
	if ep.Secret != "" {
		line("secret", ep.Secret+"  (shown this once: keep it)")
	}
	return flush(w)
}

// ParseHeaders reads headers of the form "Name: value". The error is a
// [*UsageError].
func ParseHeaders(lines []string) (map[string]*string, error) {
	headers := map[string]*string{}
	for _, l := range lines {
		name, value, ok := strings.Cut(l, ":")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, usagef(`--header %q: want "Name: value"`, l)
		}
		name = http.CanonicalHeaderKey(name)
		if _, twice := headers[name]; twice {
			return nil, usagef("--header %s: given twice", name)
		}
		value = strings.TrimSpace(value)
		headers[name] = &value
	}
	return headers, nil
}

// ReadSecret returns a secret given as such, or as @file, so that it needn't
// appear in the list of processes. A line break at the file's end is not part
// of it.
func ReadSecret(text string) (string, error) {
	file, ok := strings.CutPrefix(text, "@")
	if !ok {
		return text, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
