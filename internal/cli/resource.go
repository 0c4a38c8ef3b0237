package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
)

// Resource works on one kind of the API's resources and writes what it finds:
// tenants, keys, event types, contracts, the audit log.
type Resource struct {
	API *API
	// Path of the collection, escaped, such as /v1/tenants.
	Path string
	// Noun for people: "tenant".
	Noun string
	// Columns are the members that a table shows, in their order.
	Columns []string
	// JSON writes the API's answer in place of a text for people.
	JSON bool
	Out  io.Writer
}

func (r Resource) at(id string) string { return r.Path + "/" + url.PathEscape(id) }

// Create makes one and writes it.
func (r Resource) Create(ctx context.Context, body any) error {
	answer, err := r.API.call(ctx, http.MethodPost, r.Path, nil, nil, body)
	if err != nil {
		return fmt.Errorf("creating %s: %w", r.Noun, err)
	}
	return r.show(answer)
}

// Get writes one.
func (r Resource) Get(ctx context.Context, id string) error {
	answer, err := r.API.call(ctx, http.MethodGet, r.at(id), nil, nil, nil)
	if err != nil {
		return fmt.Errorf("getting %s %s: %w", r.Noun, id, err)
	}
	return r.show(answer)
}

// Update sends a JSON Merge Patch and writes what came of it. With an ifMatch
// other than 0 the change is refused when the version is another meanwhile.
func (r Resource) Update(ctx context.Context, id string, patch map[string]any, ifMatch int64) error {
	if len(patch) == 0 {
		return usagef("nothing to change: give at least one flag that says what")
	}
	header := http.Header{"Content-Type": {"application/merge-patch+json"}} // RFC 7396
	if ifMatch != 0 {
		header.Set("If-Match", fmt.Sprintf("%q", fmt.Sprint(ifMatch)))
	}
	answer, err := r.API.call(ctx, http.MethodPatch, r.at(id), nil, header, patch)
	if err != nil {
		return fmt.Errorf("updating %s %s: %w", r.Noun, id, err)
	}
	return r.show(answer)
}

// Delete removes one; done says what happened to it.
func (r Resource) Delete(ctx context.Context, id, done string) error {
	if _, err := r.API.call(ctx, http.MethodDelete, r.at(id), nil, nil, nil); err != nil {
		return fmt.Errorf("deleting %s %s: %w", r.Noun, id, err)
	}
	if r.JSON {
		return writeJSON(r.Out, map[string]string{done: id})
	}
	return writef(r.Out, "%s %s\n", done, printable(id))
}

// List writes up to most of them, page after page; 0 is all.
func (r Resource) List(ctx context.Context, query url.Values, most int) error {
	items, err := pages[map[string]json.RawMessage](ctx, r.API, r.Path, query, most)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	return r.table(items)
}

// ListAll writes what comes in one page and takes no limit.
func (r Resource) ListAll(ctx context.Context) error {
	answer, err := r.API.call(ctx, http.MethodGet, r.Path, nil, nil, nil)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	var got struct {
		Items []map[string]json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return fmt.Errorf("reading the list: %w", err)
	}
	return r.table(got.Items)
}

func (r Resource) table(items []map[string]json.RawMessage) error {
	if r.JSON {
		return writeJSON(r.Out, items)
	}
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.ReplaceAll(strings.Join(r.Columns, "\t"), "_", " ")))
	for _, item := range items {
		cells := make([]string, len(r.Columns))
		for i, name := range r.Columns {
			cells[i] = printable(strings.NewReplacer("\t", " ", "\n", " ").Replace(text(item[name])))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return flush(w)
}

// show writes one, its columns first.
func (r Resource) show(answer []byte) error {
	if r.JSON {
		return writeJSON(r.Out, json.RawMessage(answer))
	}
	var item map[string]json.RawMessage
	if err := json.Unmarshal(answer, &item); err != nil {
		return fmt.Errorf("reading the API's answer: %w", err)
	}
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', 0)
	names := slices.Clone(r.Columns)
	for _, name := range slices.Sorted(maps.Keys(item)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		value := text(item[name])
		if value == "" {
			continue
		}
		if name == "key" {
			value += "  (shown this once: keep it)"
		}
		fmt.Fprintf(w, "%s\t%s\n", strings.ReplaceAll(name, "_", " "), printable(value))
	}
	return flush(w)
}

// text is a JSON value for people.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return strings.Join(list, ",")
	}
	if t := string(raw); t != "null" && t != "[]" {
		return t
	}
	return ""
}
