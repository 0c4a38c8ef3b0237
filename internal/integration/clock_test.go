//go:build integration

package integration

import (
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"posthorn/internal/kafkatest"
)

// The broker runs on this very host: what the line measures must be nothing,
// to within what it says itself, and no warning.
func TestTheClockOfABrokerOnTheSameHostIsFoundToAgree(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	w := newWorld(t, broker.Addrs(), setup{prefix: "clock"})
	w.apply()
	p := w.run()
	var skew, bound float64
	poll(t, time.Minute, "a measurement of the clocks", func() bool {
		m := p.metrics()
		var known bool
		skew, known = m["posthorn_clock_skew_seconds"]
		bound = m["posthorn_clock_skew_bound_seconds"]
		return known
	})
	t.Logf("the clock is ahead by %.6f s within %.6f s", skew, bound)
	if math.Abs(skew) > bound || bound <= 0 || bound > 0.25 {
		t.Errorf("ahead by %v s within %v s, and it is the same clock", skew, bound)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || strings.Contains(string(body), "warnings") {
		t.Errorf("/readyz: %s, %v", body, err)
	}
	p.terminate()
}
