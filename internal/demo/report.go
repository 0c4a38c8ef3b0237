package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"posthorn/internal/app"
	"posthorn/internal/config"
)

// width is the most columns of a line.
const width = 100

// report writes to the screen: plain lines under headings, no colours, nothing
// that moves the cursor, so that it reads the same in a log.
type report struct {
	mu  sync.Mutex
	out io.Writer
}

func (r *report) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, args...)
}

func (r *report) heading(format string, args ...any) {
	r.printf("\n== "+format+"\n", args...)
}

// durations writes delays as the configuration does.
func durations(ds []time.Duration) string {
	texts := make([]string, len(ds))
	for i, d := range ds {
		texts[i] = config.FormatDuration(d)
	}
	return strings.Join(texts, ", ")
}

// line tells what runs, and what is not as it would be elsewhere.
func (r *report) line(a app.Addresses, dir, logPath string) {
	r.heading("Posthorn's line on an embedded Kafka broker")
	r.printf("kafka  %s\nadmin  %s (API, metrics, health)\ndata   %s\nlog    %s\n", a.Kafka, a.Admin, dir, logPath)
	if a.ClickHouse != "" {
		r.printf("ledger %s (ClickHouse)\n", a.ClickHouse)
	}
	r.printf("Different from a line in production, for the demo alone:\n")
	r.printf("  - retries after %s through delay topics of %s; by default minutes: %s\n",
		durations(schedule), durations(tiers), durations(config.Default().Delivery.Schedule))
	r.printf("  - deliveries to this machine are allowed (--allow-cidr %s), which are refused otherwise\n", loopback)
	r.printf("  - the https receiver's own certificate is trusted (delivery.ca_file)\n")
}

func (r *report) endpoints(es []*endpoint) {
	r.heading("%d endpoints, registered over the HTTP API, each with a signing secret of its own", len(es))
	r.printf("%-10s %-12s %-7s %-21s %s\n", "endpoint", "contract", "tenant", "events", "how it answers")
	for _, e := range es {
		events := strings.Join(e.events, " ")
		if events == "" {
			events = "(all)"
		}
		scheme := "http"
		if e.tls {
			scheme = "https"
		}
		how := map[manner]string{
			healthy: "200",
			failing: "503 to every third delivery's first POST",
			hanging: "not at all, until the others are done",
		}[e.manner]
		r.printf("%-10s %-12s %-7s %-21s %s: %s\n", e.name, e.contract, e.tenant, events, scheme, how)
	}
}

func (r *report) sending(events, deliveries int, perSecond float64) {
	r.heading("%d events through Kafka, %.0f a second: %d deliveries have to come of them", events, perSecond, deliveries)
}

func (r *report) progress(after time.Duration, p progress) {
	r.printf("%5.1fs  sent %d/%d  delivered %d/%d  verified %d  retried %d  dead %d  open %d (%d hang)\n",
		after.Seconds(), p.produced, p.events, p.delivered, p.deliveries, p.verified, p.retried, p.dead, p.open, p.openHang)
}

func (r *report) releasing(p progress) {
	if p.openHang > 0 {
		r.printf("        all but the hanging endpoint's are settled: now it answers, and gets its %d;\n", p.openHang)
		r.printf("        those put back meanwhile come when their wait on a delay topic is over, %s at most\n", config.FormatDuration(tiers[len(tiers)-1]))
	}
}

// hiddenHeaders are what every POST has, and no contract promises.
var hiddenHeaders = []string{"Accept-Encoding", "Content-Length", "Content-Type"}

func (r *report) samples(samples []*sample) {
	r.heading("One delivery of each contract as it was received, its signature verified")
	for i, s := range samples {
		if i > 0 {
			r.printf("\n")
		}
		r.printf("%s: %s to POST /%s\n", s.endpoint.contract, s.kind, s.endpoint.name)
		for _, name := range sortedNames(s.header) {
			r.printf("  %s\n", shorten(name+": "+s.header.Get(name), width-2))
		}
		r.printf("  %s\n", shorten(string(s.body), width-2))
	}
}

func sortedNames(h http.Header) []string {
	var names []string
	for name := range h {
		if !slices.Contains(hiddenHeaders, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// shorten cuts a line to so many characters, the last an ellipsis.
func shorten(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

func (r *report) sick(i illness) {
	r.heading("What the sick endpoints cost")
	if i.example.event != nil {
		t := i.example.tries
		r.printf("billing    answered 503 to %d deliveries, %d of them were delivered by a retry; for instance\n", i.failedFirst, i.recovered)
		r.printf("           %s: 503, then %s later %d\n", i.example.id, t[1].at.Sub(t[0].at).Round(time.Millisecond), t[1].status)
	}
	r.printf("warehouse  hung, and got %d of its %d deliveries when it answered again\n", i.hangDelivered, i.held)
	if i.measured > 0 {
		ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
		r.printf("healthy    from produced to received while it hung, %d deliveries:\n           p50 %s, p99 %s, slowest %s\n",
			i.measured, ms(i.p50), ms(i.p99), ms(i.slowest))
	}
}

// awaiting tells what the demo waits for before it shows the ledger.
func (r *report) awaiting() {
	r.printf("\nwaiting until ClickHouse has all of it, seconds after Kafka\n")
}

// shownLost is how many lost deliveries are named.
const shownLost = 20

func (r *report) result(res Result, open []string) {
	if len(open) > 0 {
		r.heading("Not delivered")
		for _, line := range open[:min(len(open), shownLost)] {
			r.printf("%s\n", line)
		}
		if more := len(open) - shownLost; more > 0 {
			r.printf("and %d more\n", more)
		}
	}
	if err := res.Err(); err != nil {
		r.printf("\n%v\n", err)
	}
	r.printf("\n%s\n", res)
}

// next prints commands that work as they stand.
func (r *report) next(ctx context.Context, command string, a app.Addresses) error {
	var secret [24]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return fmt.Errorf("making a secret: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	r.heading("Next: the line stays up until Ctrl-C; try in another terminal")
	for _, step := range nextSteps {
		r.printf("# %s\n", step.what)
		r.printf("%s\n", strings.NewReplacer("POSTHORN", command, "API", a.Admin, "KAFKA", a.Kafka, "CLICKHOUSE", strings.TrimPrefix(a.ClickHouse, "http://"), "TOPIC", app.DevTopic,
			"PORT", port, "SECRET", "whsec_"+base64.StdEncoding.EncodeToString(secret[:]),
			"LEDGER", config.Default().Prefix+".attempts").Replace(step.command))
	}
	r.printf("\nWhat the sample endpoints receive from now on is shown here:\n")
	return nil
}

var nextSteps = []struct{ what, command string }{
	{"the sample endpoints of a tenant",
		"POSTHORN endpoint list --api API --tenant acme"},
	{"an event of your own for them",
		`POSTHORN event send --brokers KAFKA --topic TOPIC --tenant acme \
  --type order.created --data '{"order_id":"mine"}'`},
	{"the same from any Kafka client: plain CloudEvents headers",
		`echo '{"order_id":"kcat"}' | kcat -P -b KAFKA -t TOPIC -H ce_specversion=1.0 \
  -H ce_id=$(date +%s) -H ce_source=/kcat -H ce_type=order.created -H ce_tenant=acme \
  -H content-type=application/json`},
	{"a receiver of your own that fails each delivery once, its endpoint, and an event for it",
		`POSTHORN listen --port PORT --fail-first 1 --secret SECRET &
POSTHORN endpoint create --api API --tenant me --events 'order.*' \
  --url http://127.0.0.1:PORT/hook --secret SECRET
POSTHORN event send --brokers KAFKA --topic TOPIC --tenant me \
  --type order.created --data '{"order_id":"mine"}'`},
	{"the ledger: how every attempt ended",
		`kcat -C -b KAFKA -t LEDGER -o -2 -e -q`},
	{"the same in ClickHouse (if it is on): what is retried, dead or pending, and whether it adds up",
		`POSTHORN query deliveries --clickhouse CLICKHOUSE --tenant acme --type invoice.paid --limit 5
POSTHORN query reconcile --clickhouse CLICKHOUSE`},
	{"metrics",
		`curl -s API/metrics | grep '^posthorn_settlements_total'`},
}

// freePort returns a port of loopback that is free now.
func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// arrived tells of a delivery that came after the result.
func (r *report) arrived(s *sample) {
	r.printf("%s  %s  /%s  %s  signature verified, answered %d\n", time.Now().Format("15:04:05"), s.id, s.endpoint.name,
		shorten(string(s.body), 30), s.status)
}
