package replay

import (
	"context"
	"fmt"
	"testing"

	"posthorn/webhook"
)

// deaths is a ledger of numbered deliveries, of which the even ones are of a type
// that the replay is about.
type deaths int

func (d deaths) Count(context.Context, *webhook.Replay) (int64, error) { return int64(d), nil }

func (d deaths) Page(_ context.Context, _ *webhook.Replay, after string, limit int, bytes int64) (p Page, err error) {
	first := 0
	if after != "" {
		if _, err := fmt.Sscan(after, &first); err != nil {
			return p, err
		}
		first++
	}
	for n := first; n < int(d) && p.Looked < limit && bytes > 0; n++ {
		p.Looked++
		bytes -= pageBytes / 10
		p.Last = fmt.Sprint(n)
		if n%2 == 0 {
			p.Failed = append(p.Failed, Failed{Delivery: webhook.Delivery{ID: p.Last, Body: []byte("{}")}, Cursor: p.Last, Looked: p.Looked})
		}
	}
	p.More = p.Looked > 0
	return p, nil
}

func TestARetryHasLookedAtAllThatItCountedHoweverItIsCut(t *testing.T) {
	const total = 2*pageSize + 51
	for _, chunk := range []int{1, 7, pageSize} {
		var at *webhook.ReplayProgress
		made := map[string]int{}
		for successors, over := 0, false; !over; successors++ {
			s, err := OpenFailed(t.Context(), deaths(total), &webhook.Replay{}, at)
			if err != nil {
				t.Fatal(err)
			}
			at = &webhook.ReplayProgress{}
			for !over {
				b, err := s.Next(t.Context(), Target{})
				if err != nil {
					t.Fatal(err)
				}
				items := b.Items
				for len(items) > 0 {
					n := min(chunk, len(items))
					for _, i := range items[:n] {
						made[i.Delivery.ID]++
					}
					s.Passed(items[n-1])
					items = items[n:]
					if successors == 1 && len(items) > 0 { // it is killed within a page
						break
					}
				}
				if len(items) > 0 || successors == 0 { // and before a page is passed
					break
				}
				s.PassedAll()
				over = b.Finished
			}
			if err := s.Tell(at); err != nil {
				t.Fatal(err)
			}
			if at.Total != total || at.Finished > total {
				t.Fatalf("in chunks of %d: %d of %d", chunk, at.Finished, at.Total)
			}
		}
		if at.Finished != total || len(made) != (total+1)/2 {
			t.Errorf("in chunks of %d: looked at %d of %d, made %d", chunk, at.Finished, at.Total, len(made))
		}
		for id, n := range made {
			if n != 1 {
				t.Errorf("in chunks of %d: %s was made %d times", chunk, id, n)
			}
		}
	}
}
