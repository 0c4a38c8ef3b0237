package sink

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/webhook"
)

func TestAPlanSurvivesItsMetadata(t *testing.T) {
	for _, p := range []*plan{nil, {0, 0}, {7, 7}, {7, 1 << 40}} {
		at := int64(7)
		if p != nil {
			at = p.first
		}
		got := parsePlan(p.metadata(), at)
		if (got == nil) != (p == nil) || got != nil && *got != *p {
			t.Errorf("%v came back as %v", p, got)
		}
	}
	for _, foreign := range []string{"", "member-1", "ph1:AA", "ph-sink1:x", "ph-sink1:6", "ph-sink1:-1"} {
		if p := parsePlan(foreign, 7); p != nil {
			t.Errorf("%q was taken for the plan %v", foreign, *p)
		}
	}
}

// log is a partition: some offsets are missing, some records lead to no row,
// and bodies repeat as a fan-out's do.
func randomLog(r *rand.Rand) (offsets []int64, items []func() *item) {
	at := int64(r.IntN(5))
	for range 50 + r.IntN(100) {
		at += 1 + int64(r.IntN(3)/2)
		offsets = append(offsets, at)
		offset, body := at, byte(r.IntN(5))
		switch r.IntN(4) {
		case 0:
			items = append(items, func() *item { return nil })
		case 1:
			size := int64(1 + r.IntN(50))
			items = append(items, func() *item { return &item{offset: offset, bytes: size, settlement: &webhook.Settlement{}} })
		default:
			items = append(items, func() *item {
				return &item{offset: offset, bytes: 10, delivery: &webhook.Delivery{BodyID: [16]byte{body}, Body: slices.Repeat([]byte{body}, 20)}}
			})
		}
	}
	return offsets, items
}

// Whoever cuts a plan, and however the records came in, the batch is the same:
// otherwise its token would stand for other rows, which ClickHouse drops.
func TestAPlanIsAlwaysTheSameBatch(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		offsets, items := randomLog(r)
		l := limits{1 + r.IntN(20), int64(1 + r.IntN(300))}
		batches := make(map[plan][]string)
		covered := int64(0) // committed
		var planned *plan
		for crashes := 0; covered <= offsets[len(offsets)-1]; crashes++ {
			if crashes > 10_000 {
				t.Fatalf("seed %d: no progress at %d", seed, covered)
			}
			b := newBuffer(covered, planned)
			i, _ := slices.BinarySearch(offsets, covered)
			for crash := false; !crash; {
				for range r.IntN(30) { // read a little
					if i < len(offsets) {
						b.add(offsets[i], items[i](), time.Time{})
						i++
					}
				}
				if !b.waiting() || (!b.full(l) && r.IntN(3) > 0 && i < len(offsets)) {
					crash = i >= len(offsets) && !b.waiting()
					continue
				}
				batch := b.cut(l)
				var rows []string
				for _, it := range batch {
					row := fmt.Sprint(it.offset)
					if it.delivery != nil {
						row += fmt.Sprint(" ", it.delivery.BodyID[0], len(it.delivery.Body))
					}
					rows = append(rows, row)
				}
				if known, ok := batches[*b.plan]; ok && !slices.Equal(known, rows) {
					t.Fatalf("seed %d: plan %v was %v and is %v", seed, *b.plan, known, rows)
				}
				batches[*b.plan] = rows
				planned = b.plan
				if crash = r.IntN(3) == 0; crash { // between plan and insert, or insert and commit
					break
				}
				b.inserted(time.Time{})
				covered, planned = b.next, nil
				crash = r.IntN(4) == 0
				if covered > offsets[len(offsets)-1] {
					crash = true
				}
			}
		}
		var all []string
		for _, rows := range batches {
			all = append(all, rows...)
		}
		want := 0
		for _, it := range items {
			if it() != nil {
				want++
			}
		}
		slices.Sort(all)
		if len(all) != want || len(slices.Compact(all)) != want {
			t.Fatalf("seed %d: %d rows in all batches, want each of %d once", seed, len(all), want)
		}
	}
}

func TestTheBytesOfABufferComeToNothing(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		offsets, items := randomLog(r)
		b := newBuffer(0, nil)
		var sum int64
		for i := range offsets {
			sum += b.add(offsets[i], items[i](), time.Time{})
			if r.IntN(10) == 0 {
				b.cut(limits{5, 100})
				sum -= b.inserted(time.Time{})
			}
		}
		for b.waiting() {
			b.cut(limits{5, 100})
			sum -= b.inserted(time.Time{})
		}
		if sum != 0 || b.bytes != 0 || len(b.bodies) != 0 {
			t.Fatalf("seed %d: %d bytes, %d in the buffer, %d bodies", seed, sum, b.bytes, len(b.bodies))
		}
	}
}

func TestABodyIsKeptOnceForItsFanOutAndIsACopy(t *testing.T) {
	b := newBuffer(0, nil)
	fetched := []byte("a body")
	for i := range int64(3) {
		b.add(i, &item{offset: i, delivery: &webhook.Delivery{BodyID: [16]byte{1}, Body: fetched}}, time.Time{})
	}
	fetched[0] = 'X'
	for _, it := range b.items {
		if string(it.delivery.Body) != "a body" || &it.delivery.Body[0] != &b.items[0].delivery.Body[0] {
			t.Errorf("body %q isn't the shared copy", it.delivery.Body)
		}
	}
}

func settled(t *testing.T, change func(*webhook.Settlement)) *kgo.Record {
	t.Helper()
	now := time.Now()
	s := &webhook.Settlement{Kind: webhook.KindPark, DeliveryID: "dlv_1", EndpointID: "ep_1", StartedAt: now, BegunAt: now, MatchedAt: now}
	change(s)
	value, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{Value: value, Timestamp: now}
}

func TestARecordReadTwiceIsOneSettlementAndAnotherIsAnother(t *testing.T) {
	id := func(r *kgo.Record) uuid.UUID {
		it, err := readSettlement(r)
		if err != nil {
			t.Fatal(err)
		}
		return it.attemptID
	}
	at := time.Now()
	park := settled(t, func(s *webhook.Settlement) { s.StartedAt = at })
	later := settled(t, func(s *webhook.Settlement) { s.StartedAt = at.Add(time.Millisecond) })
	if first, again := id(park), id(park); first != again || first == id(later) {
		t.Errorf("ids %s %s %s", first, again, id(later))
	}
	if v := id(park).Version(); v != 8 {
		t.Errorf("version %d, want 8", v)
	}
	own := uuid.Must(uuid.NewV7())
	if got := id(settled(t, func(s *webhook.Settlement) { s.AttemptID = own.String() })); got != own {
		t.Errorf("attempt %s became %s", own, got)
	}
}

// A producer's clock may say anything. Tables are partitioned by begun_at.
func TestAWildClockOfAProducerMakesNoPartitionOfItsOwn(t *testing.T) {
	matched := time.Now().Truncate(time.Millisecond).UTC()
	for _, begun := range []time.Time{time.UnixMilli(0), matched.AddDate(-1, 0, 0), matched.AddDate(3, 0, 0), {}} {
		it, err := readSettlement(settled(t, func(s *webhook.Settlement) { s.BegunAt, s.MatchedAt = begun, matched }))
		if err != nil {
			t.Fatal(err)
		}
		if !it.settlement.BegunAt.Equal(matched) {
			t.Errorf("begun %s stayed %s", begun, it.settlement.BegunAt)
		}
	}
	near := matched.Add(-time.Hour)
	it, err := readSettlement(settled(t, func(s *webhook.Settlement) { s.BegunAt, s.MatchedAt = near, matched }))
	if err != nil || !it.settlement.BegunAt.Equal(near) {
		t.Errorf("begun %s became %s (%v)", near, it.settlement.BegunAt, err)
	}
}

func TestATimeIsReachedWhenAllThatLayThereIsInserted(t *testing.T) {
	var s samples
	t0 := time.Unix(1000, 0)
	s.note(t0, 10)
	s.note(t0.Add(time.Second), 10)
	s.note(t0.Add(2*time.Second), 15)
	if got := s.upTo(9); !got.IsZero() {
		t.Errorf("at 9 of 10: %s", got)
	}
	if got := s.upTo(10); !got.Equal(t0.Add(time.Second)) {
		t.Errorf("at 10: %s", got)
	}
	if got := s.upTo(14); !got.Equal(t0.Add(time.Second)) {
		t.Errorf("at 14: %s", got)
	}
	for i := range 10 * mostSamples { // ClickHouse is away
		s.note(t0.Add(time.Duration(i+3)*time.Second), int64(20+i))
	}
	if len(s.open) > mostSamples {
		t.Errorf("%d samples are kept", len(s.open))
	}
	if got, want := s.upTo(1<<40), t0.Add(time.Duration(10*mostSamples+2)*time.Second); !got.Equal(want) {
		t.Errorf("reached %s, want %s", got, want)
	}
}

func TestTheIndexOfTimesIsNeverLaterThanTheRecord(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	var x timeIndex
	at := time.Unix(1000, 0)
	written := make([]time.Time, 0, 40_000)
	for i := range 40_000 {
		at = at.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
		written = append(written, at)
		x.note(int64(i), at)
	}
	if len(x.points) > mostPoints {
		t.Errorf("%d points are kept", len(x.points))
	}
	for i := 0; i < len(written); i += 1 + r.IntN(50) {
		got := x.at(int64(i))
		if got.IsZero() || got.After(written[i]) {
			t.Fatalf("record %d was written %s, the index says %s", i, written[i], got)
		}
	}
	// A host's clock that was an hour ahead for one record.
	var skewed timeIndex
	skewed.note(0, time.Unix(1000, 0))
	skewed.note(1, time.Unix(4600, 0))
	skewed.note(2, time.Unix(1001, 0))
	skewed.note(3, time.Unix(1002, 0))
	for i, want := range []int64{1000, 1001, 1001, 1002} {
		if got := skewed.at(int64(i)); got.Unix() != want {
			t.Errorf("record %d after a clock that was ahead: %d, want %d", i, got.Unix(), want)
		}
	}
	var empty timeIndex
	if got := empty.at(5); !got.IsZero() {
		t.Errorf("nothing is known, and yet %s", got)
	}
}
