package api

import (
	"context"
	"encoding/base64"
	"iter"
	"strings"
)

// PageParams are the query of every list.
type PageParams struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"Most items on the page"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"The next of the page before"`
}

// Page is one page of a list.
type Page[T any] struct {
	_     struct{} `additionalProperties:"true"`
	Items []T      `json:"items"`
	Next  string   `json:"next,omitempty" doc:"The cursor of the next page; absent on the last. A page may be shorter than the limit, or empty, and not be the last"`
}

type pageOutput[T any] struct {
	Body Page[T]
}

// maxExamined bounds what one request reads when a filter lets little of it
// pass. The page is short then, and has a cursor.
const maxExamined = 10_000

// paginate makes a page of what items yields above the cursor's ID, in its
// order: of those that are kept (nil: all), as their view.
func paginate[T, V any](ctx context.Context, p PageParams, items func(after string) iter.Seq2[string, T], keep func(T) bool, view func(T) V) (*pageOutput[V], error) {
	after, ok := decodeCursor(p.Cursor)
	if !ok {
		return nil, invalid(badCursor)
	}
	out := &pageOutput[V]{Body: Page[V]{Items: []V{}}}
	examined, last := 0, ""
	for id, item := range items(after) {
		if len(out.Body.Items) == p.Limit || examined == maxExamined {
			out.Body.Next = encodeCursor(last) // there is at least this one
			return out, ctx.Err()
		}
		examined, last = examined+1, id
		if keep == nil || keep(item) {
			out.Body.Items = append(out.Body.Items, view(item))
		}
	}
	return out, ctx.Err()
}

var badCursor = FieldError{"query.cursor", "it is none: pass on the next of an earlier page as it is"}

// cursorMark begins what a cursor encodes, so that few other texts are one.
const cursorMark = "c1:"

// A cursor is the last ID of a page, in a form that doesn't invite to make
// one up.
func encodeCursor(id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorMark + id))
}

func decodeCursor(cursor string) (after string, ok bool) {
	if cursor == "" {
		return "", true
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(string(text), cursorMark)
}
