package ledgertest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"posthorn/webhook"
)

// Rows is a made-up stretch of the log.
type Rows struct {
	Deliveries  []Delivery
	Settlements []Settlement
}

// Random makes rows of about n deliveries that began in the hours before end:
// delivered, dead, discarded and waiting ones; parked and cut; in later runs;
// matched twice; of events that were sent twice; delivered again after they were;
// and a few without either row.
func Random(r *rand.Rand, n int, end time.Time) Rows {
	var out Rows
	end = end.Truncate(time.Millisecond)
	for i := range n {
		endpoint := r.IntN(5)
		d := Delivery{
			Tenant: fmt.Sprintf("tenant-%d", endpoint%2), EndpointID: fmt.Sprintf("ep_%d", endpoint),
			EventID: fmt.Sprintf("evt-%d", i/2), EventSource: "/shop", Type: []string{"order.created", "order.paid"}[i/2%2],
			Body:    fmt.Sprintf(`{"event":%d}`, i/2),
			BegunAt: end.Add(-time.Duration(r.Int64N(int64(40 * time.Hour)))).Truncate(time.Millisecond), Partition: int32(endpoint), Offset: int64(i * 100),
		}
		d.ID = webhook.DeliveryID(d.EventSource, d.EventID, d.EndpointID)
		if r.IntN(6) == 0 {
			d.Run = d.BegunAt.UnixMilli()
			d.Origin = "resend"
		}
		d.MatchedAt = d.BegunAt.Add(time.Duration(r.IntN(50)) * time.Millisecond)
		if r.IntN(20) != 0 {
			out.Deliveries = append(out.Deliveries, d)
		}
		if r.IntN(5) == 0 { // matched once more after a crash, on a host whose clock is another
			again := d
			again.Offset += 50
			again.MatchedAt = d.BegunAt.Add(time.Duration(r.IntN(50)) * time.Millisecond)
			out.Deliveries = append(out.Deliveries, again)
		}
		if r.IntN(10) == 0 { // sent once more, perhaps on another day
			again := d
			again.Offset += 60
			again.BegunAt = d.BegunAt.Add(time.Duration(r.Int64N(int64(time.Hour)))).Truncate(time.Millisecond)
			again.MatchedAt = again.BegunAt.Add(time.Millisecond)
			out.Deliveries = append(out.Deliveries, again)
		}
		out.Settlements = append(out.Settlements, randomSettlements(r, d)...)
	}
	return out
}

func randomSettlements(r *rand.Rand, d Delivery) (out []Settlement) {
	at := d.MatchedAt
	s := Settlement{Of: d}
	for range r.IntN(6) {
		at = at.Add(time.Duration(1+r.IntN(1000)) * time.Millisecond)
		s.AttemptID, s.StartedAt, s.Duration, s.NextAt = UUID(r), at, time.Duration(1+r.IntN(900_000))*time.Microsecond, time.Time{}
		s.Kind, s.Status, s.Outcome, s.Response = "attempt", 0, "", ""
		switch r.IntN(9) {
		case 0:
			s.Kind, s.Reason, s.Duration, s.NextAt = "park", "lane_full", 0, at.Add(5*time.Second)
			out = append(out, s)
			s.Deferrals++
		case 1:
			s.Outcome, s.Reason, s.NextAt = "cut", "cut", at.Add(5*time.Second)
			out = append(out, s)
			s.Deferrals++
		case 2, 3, 4:
			s.Outcome, s.Reason, s.Status, s.Response, s.NextAt = "retry", "status_5xx", 503, "busy", at.Add(time.Minute)
			if r.IntN(3) == 0 {
				s.Reason, s.Status, s.Response = "timeout", 0, ""
			}
			out = append(out, s)
			s.N++
		case 5:
			s.Kind, s.Reason, s.Duration = "discard", "endpoint_deleted", 0
			return append(out, s)
		case 6:
			if r.IntN(2) == 0 {
				s.Kind, s.Reason, s.Duration = "dead", "expired", 0
			} else {
				s.Outcome, s.Reason, s.Status, s.Response = "dead", "status_410", 410, "gone"
			}
			out = append(out, s)
			if r.IntN(2) == 0 {
				return out
			}
			s.N++ // and yet another owner went on with it
		default:
			s.Outcome, s.Reason, s.Status, s.Response = "delivered", "ok", 200, fmt.Sprintf("thanks %d", s.N)
			out = append(out, s)
			if r.IntN(4) != 0 {
				return out
			}
			s.N++ // and was delivered or failed again
		}
	}
	return out
}
