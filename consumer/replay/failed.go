package replay

import (
	"context"
	"encoding/json"
	"fmt"

	"posthorn/webhook"
)

// pageSize and pageBytes bound the deliveries that are asked for at a time: each
// comes with its body, and a replay keeps them until they are on the line. That is
// memory beside the byte budget, for each of [atOnce] replays.
const pageSize, pageBytes = 100, 1 << 20

// Ledger knows the deliveries that failed.
type Ledger interface {
	// Count returns how many a replay is about.
	Count(ctx context.Context, r *webhook.Replay) (int64, error)
	// Page looks at up to limit of them behind a cursor, "" at the start, and
	// returns those of the replay's event types. It ends with the one whose body
	// makes it so many bytes. Each delivery comes once, whatever its runs.
	Page(ctx context.Context, r *webhook.Replay, after string, limit int, bytes int64) (Page, error)
}

// Page is a part of the deliveries that failed.
type Page struct {
	Failed []Failed
	Looked int    // at how many of those that [Ledger.Count] counts
	Last   string // cursor of the last of them, "" if there is none
	More   bool   // whether any are left
}

// Failed is a delivery to be made again.
type Failed struct {
	Delivery webhook.Delivery // Body is nil if it can't be had any more
	Cursor   string
	Looked   int // at how many of the page, up to this one
}

// failed is deliveries of the ledger as a [Source].
type failed struct {
	ledger Ledger
	replay *webhook.Replay
	at     failedPosition
	// Of the last page, and how many had been looked at before it.
	page   Page
	before int64
}

// failedPosition is the form of a position.
type failedPosition struct {
	Cursor   string `json:"cursor"`
	Total    int64  `json:"total"`
	Finished int64  `json:"finished"`
}

// OpenFailed counts the deliveries of a replay, or goes on where its progress
// says.
func OpenFailed(ctx context.Context, l Ledger, r *webhook.Replay, at *webhook.ReplayProgress) (Source, error) {
	f := &failed{ledger: l, replay: r}
	if at != nil {
		if err := json.Unmarshal(at.Position, &f.at); err != nil {
			return nil, fmt.Errorf("%w: reading its position: %w", ErrNever, err)
		}
		return f, nil
	}
	var err error
	f.at.Total, err = l.Count(ctx, r)
	return f, err
}

// Next implements [Source].
func (f *failed) Next(ctx context.Context, _ Target) (Batch, error) {
	page, err := f.ledger.Page(ctx, f.replay, f.at.Cursor, pageSize, pageBytes)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{Scanned: page.Looked, Finished: !page.More}
	for i := range page.Failed {
		it := &page.Failed[i]
		b.Items = append(b.Items, Item{Delivery: it.Delivery, Skip: it.Delivery.Body == nil, cursor: it.Cursor, looked: it.Looked})
	}
	page.Failed = nil // each has its body
	f.page, f.before = page, f.at.Finished
	return b, nil
}

// Passed implements [Source].
func (f *failed) Passed(i Item) {
	f.at.Cursor, f.at.Finished = i.cursor, f.before+int64(i.looked)
}

// PassedAll implements [Source].
func (f *failed) PassedAll() {
	if f.page.Last != "" {
		f.at.Cursor, f.at.Finished = f.page.Last, f.before+int64(f.page.Looked)
	}
}

// Rewind implements [Source]: Next always goes on from the position.
func (f *failed) Rewind() {}

// Tell implements [Source].
func (f *failed) Tell(p *webhook.ReplayProgress) (err error) {
	p.Total, p.Finished = f.at.Total, f.at.Finished
	if p.Position, err = json.Marshal(f.at); err != nil {
		return fmt.Errorf("encoding a replay's position: %w", err)
	}
	return nil
}
