package schema_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"posthorn/internal/ledgertest"
)

// The views' answers, computed from the rows in Go: each row once, as a test knows
// which are the same.

type unit struct {
	id  string
	run int64
}

// status is one row of delivery_status, or of dead_deliveries.
type status struct {
	tenant, endpoint, eventID, eventType, state, response, reason string
	code                                                          uint16
	attempts                                                      int
	begun, matched, delivered, next, ended                        time.Time
	partition                                                     int32
	offset                                                        int64 // of the first delivery record; MaxInt64 without one
	settled                                                       bool
	due                                                           time.Time
}

// rank orders settlements by what they say of the delivery.
func rank(s ledgertest.Settlement) int {
	switch {
	case s.Outcome == "delivered":
		return 3
	case s.Outcome == "dead" || s.Kind == "dead":
		return 2
	case s.Kind == "discard":
		return 1
	}
	return 0
}

func before(a, b ledgertest.Settlement) int {
	if c := rank(a) - rank(b); c != 0 {
		return c
	}
	if c := int(a.N+a.Deferrals) - int(b.N+b.Deferrals); c != 0 {
		return c
	}
	return a.StartedAt.Compare(b.StartedAt)
}

func ended(s ledgertest.Settlement) time.Time {
	return s.StartedAt.Add(s.Duration.Truncate(time.Millisecond))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func statuses(rows ledgertest.Rows) map[unit]status {
	out := make(map[unit]status)
	first := make(map[unit]int64) // the lowest offset of either kind of row
	note := func(d ledgertest.Delivery, offset int64) (unit, status) {
		u := unit{d.ID, d.Run}
		s, ok := out[u]
		if !ok {
			s = status{tenant: d.Tenant, endpoint: d.EndpointID, eventID: d.EventID, state: "pending", begun: d.BegunAt, partition: d.Partition, offset: math.MaxInt64}
			first[u] = math.MaxInt64
		}
		if d.BegunAt.Before(s.begun) {
			s.begun = d.BegunAt
		}
		if offset < first[u] {
			first[u], s.matched, s.eventType = offset, d.MatchedAt, d.Type
		}
		return u, s
	}
	for _, d := range rows.Deliveries {
		u, s := note(d, d.Offset)
		s.offset = min(s.offset, d.Offset)
		out[u] = s
	}
	last := make(map[unit]ledgertest.Settlement)
	post := make(map[unit]ledgertest.Settlement)
	for _, x := range rows.Settlements {
		u, s := note(x.Of, x.Of.Offset+int64(x.N+x.Deferrals))
		if l, ok := last[u]; !ok || before(l, x) < 0 {
			last[u] = x
		}
		if x.Kind == "attempt" {
			s.attempts++
			if l, ok := post[u]; !ok || before(l, x) < 0 {
				post[u] = x
			}
		}
		if x.Outcome == "delivered" && (s.delivered.IsZero() || ended(x).Before(s.delivered)) {
			s.delivered = ended(x)
		}
		s.next, s.due, s.settled = later(s.next, x.NextAt), later(s.due, later(x.NextAt, ended(x))), true
		out[u] = s
	}
	for u, x := range last {
		s := out[u]
		s.state, s.reason, s.ended = []string{"pending", "discarded", "dead", "delivered"}[rank(x)], x.Reason, ended(x)
		s.code, s.response = post[u].Status, post[u].Response
		if s.state != "pending" {
			s.next = time.Time{}
		}
		out[u] = s
	}
	return out
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05.000")
}

func wantStatus(rows ledgertest.Rows) []string {
	var out []string
	for u, s := range statuses(rows) {
		code := "-"
		if s.code != 0 {
			code = fmt.Sprint(s.code)
		}
		out = append(out, strings.Join([]string{u.id, fmt.Sprint(u.run), s.tenant, s.endpoint, s.eventID, s.eventType, s.state, code, s.response, s.reason,
			fmt.Sprint(s.attempts), stamp(s.begun), stamp(s.matched), stamp(s.delivered), stamp(s.next)}, "|"))
	}
	slices.Sort(out)
	return out
}

const askStatus = `SELECT concatWithSeparator('|', delivery_id, toString(run), tenant, endpoint_id, event_id, event_type, state, ifNull(toString(status_code), '-'), response, reason,
	toString(attempts), toString(begun_at), toString(matched_at), ifNull(toString(delivered_at), '-'), ifNull(toString(next_at), '-')) AS line FROM delivery_status ORDER BY line`

func wantMinutes(rows ledgertest.Rows) []string {
	type key struct {
		tenant, endpoint string
		minute           time.Time
	}
	group := make(map[key][]ledgertest.Settlement)
	for _, s := range rows.Settlements {
		if s.Kind == "attempt" {
			k := key{s.Of.Tenant, s.Of.EndpointID, s.StartedAt.Truncate(time.Minute)}
			group[k] = append(group[k], s)
		}
	}
	var out []string
	for k, ss := range group {
		count := make(map[string]int)
		failures := make(map[string]int)
		var times []float64
		for _, s := range ss {
			switch s.Outcome {
			case "delivered":
				count["delivered"]++
			case "cut":
				count["cut"]++
				continue
			default:
				count["failed"]++
				failures[s.Reason]++
			}
			times = append(times, float64(s.Duration.Microseconds())/1000)
		}
		slices.Sort(times)
		p := func(q float64) string {
			if len(times) == 0 {
				return "-"
			}
			return fmt.Sprintf("%.3f", times[int(q*float64(len(times)))])
		}
		var reasons []string
		for _, r := range slices.Sorted(maps.Keys(failures)) {
			reasons = append(reasons, fmt.Sprintf("%s=%d", r, failures[r]))
		}
		out = append(out, strings.Join([]string{k.tenant, k.endpoint, k.minute.UTC().Format("2006-01-02 15:04:05"),
			fmt.Sprint(len(ss)), fmt.Sprint(count["delivered"]), fmt.Sprint(count["failed"]), fmt.Sprint(count["cut"]), strings.Join(reasons, ","), p(0.5), p(0.95), p(0.99)}, "|"))
	}
	slices.Sort(out)
	return out
}

const askMinutes = `SELECT concatWithSeparator('|', tenant, endpoint_id, toString(minute), toString(attempts), toString(delivered), toString(failed), toString(cut),
	arrayStringConcat(arraySort(arrayMap((k, v) -> concat(k, '=', toString(v)), mapKeys(failures), mapValues(failures))), ','),
	ifNull(printf('%.3f', p50_ms), '-'), ifNull(printf('%.3f', p95_ms), '-'), ifNull(printf('%.3f', p99_ms), '-')) AS line FROM endpoint_minutes ORDER BY line`

func wantExhausted(rows ledgertest.Rows) []string {
	count := make(map[string]int)
	for _, s := range statuses(rows) {
		if s.state == "dead" {
			count[strings.Join([]string{s.ended.UTC().Format(time.DateOnly), s.tenant, s.endpoint, s.reason}, "|")]++
		}
	}
	var out []string
	for k, n := range count {
		out = append(out, fmt.Sprintf("%s|%d", k, n))
	}
	slices.Sort(out)
	return out
}

const askExhausted = `SELECT concatWithSeparator('|', toString(day), tenant, endpoint_id, reason, toString(deliveries)) AS line FROM exhausted_by_reason ORDER BY line`

// wantReconciliation judges by the sentences of reconciliation's definition.
func wantReconciliation(rows ledgertest.Rows, progress []ledgertest.Progress, grace time.Duration) []string {
	type partition struct {
		topic string
		n     int32
	}
	latest := make(map[partition]ledgertest.Progress)
	for _, p := range progress {
		if k := (partition{p.Topic, p.Partition}); p.TakenAt.After(latest[k].TakenAt) {
			latest[k] = p
		}
	}
	asOf := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, p := range latest {
		if p.ReachedAt.Before(asOf) {
			asOf = p.ReachedAt
		}
	}
	judge := make(map[int32]ledgertest.Progress)
	for _, p := range progress {
		if p.Topic == "deliveries" && !p.TakenAt.After(asOf) && p.TakenAt.After(judge[p.Partition].TakenAt) {
			judge[p.Partition] = p
		}
	}
	count := make(map[time.Time]map[string]int)
	for _, s := range statuses(rows) {
		if s.offset == math.MaxInt64 || s.matched.After(asOf) {
			continue
		}
		j, known := judge[s.partition]
		if s.state == "pending" && known {
			lag := asOf.Sub(j.DoneAt)
			switch {
			case !s.settled && s.offset < j.DoneOffset:
				s.state = "missing"
			case s.settled && !s.due.Add(grace).Add(lag).After(asOf):
				s.state = "missing"
			}
		}
		minute := s.begun.Truncate(time.Minute)
		if count[minute] == nil {
			count[minute] = make(map[string]int)
		}
		count[minute][s.state]++
		count[minute]["matched"]++
	}
	var out []string
	for minute, n := range count {
		out = append(out, fmt.Sprintf("%s|%d|%d|%d|%d|%d|%d|%s", minute.UTC().Format("2006-01-02 15:04:05"),
			n["matched"], n["delivered"], n["pending"], n["dead"], n["discarded"], n["missing"], stamp(asOf)))
	}
	slices.Sort(out)
	return out
}

const askReconciliation = `SELECT concatWithSeparator('|', toString(minute), toString(matched), toString(delivered), toString(pending), toString(dead), toString(discarded), toString(missing), toString(as_of)) AS line
	FROM reconciliation ORDER BY line`

func lines(t *testing.T, l *ledgertest.Ledger, sql string, args ...any) []string {
	t.Helper()
	rows, err := l.Conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s: %d lines, want %d", what, len(got), len(want))
	shown := 0
	for _, s := range got {
		if !slices.Contains(want, s) && shown < 5 {
			t.Errorf("  got  %s", s)
			shown++
		}
	}
	shown = 0
	for _, s := range want {
		if !slices.Contains(got, s) && shown < 5 {
			t.Errorf("  want %s", s)
			shown++
		}
	}
}
