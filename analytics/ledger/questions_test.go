package ledger_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"posthorn/analytics/schema"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/ledgertest"
	"posthorn/webhook"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m)) }

// town is a small ledger with something of everything. Its hour is the last one.
type town struct {
	*ledgertest.Ledger
	now    time.Time
	offset int64
}

func (w *town) ago(d time.Duration) time.Time { return w.now.Add(-d) }

func (w *town) deliver(tenant, endpoint, event, kind string, begun time.Time) ledgertest.Delivery {
	w.offset++
	d := ledgertest.Delivery{Tenant: tenant, EndpointID: endpoint, EventID: event, EventSource: "/shop", Type: kind, Body: `{"id":"` + event + `"}`,
		BegunAt: begun, MatchedAt: begun.Add(3 * time.Millisecond), Offset: w.offset}
	d.ID = webhook.DeliveryID(d.EventSource, d.EventID, d.EndpointID)
	w.Deliver(d)
	return d
}

func (w *town) post(d ledgertest.Delivery, n uint32, at time.Time, status uint16, reason, outcome string, took time.Duration, next time.Time) ledgertest.Settlement {
	s := ledgertest.Settlement{AttemptID: uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%s %d", d.ID, n)), Of: d, N: n, StartedAt: at, Duration: took, Status: status,
		Reason: reason, Outcome: outcome, Response: http.StatusText(int(status)), NextAt: next}
	w.Settle(s)
	return s
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{Ledger: ledgertest.New(t, schema.Options{}), now: time.Now().UTC().Truncate(time.Minute)}
	for i := range 10 { // yesterday all was well
		begun := w.ago(30*time.Hour - time.Duration(i)*time.Minute)
		for tenant, endpoint := range map[string]string{"acme": "ep_acme_1", "globex": "ep_globex"} {
			w.post(w.deliver(tenant, endpoint, fmt.Sprintf("evt-%d", i), "order.paid", begun), 0, begun, 200, "ok", "delivered", 50*time.Millisecond, time.Time{})
		}
	}
	paid := w.deliver("acme", "ep_acme_1", "evt-1042", "order.paid", w.ago(30*time.Minute))
	w.post(paid, 0, w.ago(30*time.Minute), 500, "status_5xx", "retry", 80*time.Millisecond, w.ago(29*time.Minute))
	repeat := w.post(paid, 1, w.ago(29*time.Minute), 200, "ok", "delivered", 90*time.Millisecond, time.Time{})
	w.Settle(repeat) // once more, from another batch
	w.post(w.deliver("acme", "ep_acme_2", "evt-1042", "order.paid", w.ago(30*time.Minute)), 0, w.ago(30*time.Minute), 200, "ok", "delivered", 20*time.Millisecond, time.Time{})

	w.post(w.deliver("acme", "ep_acme_1", "evt-1043", "order.created", w.ago(20*time.Minute)), 0, w.ago(20*time.Minute), 503, "status_5xx", "retry", 70*time.Millisecond, w.ago(-100*time.Minute))
	w.post(w.deliver("globex", "ep_globex", "evt-1044", "order.paid", w.ago(25*time.Minute)), 0, w.ago(25*time.Minute), 410, "status_410", "dead", 30*time.Millisecond, time.Time{})
	expired := w.post(w.deliver("globex", "ep_globex", "evt-1045", "order.paid", w.ago(24*time.Minute)), 0, w.ago(24*time.Minute), 0, "timeout", "retry", 9*time.Second, w.ago(23*time.Minute))
	expired.Kind, expired.Outcome, expired.Reason, expired.N, expired.StartedAt, expired.Duration, expired.NextAt = "dead", "", "expired", 1, w.ago(22*time.Minute), 0, time.Time{}
	expired.AttemptID = uuid.New()
	w.Settle(expired)
	throttled := w.deliver("globex", "ep_globex", "evt-1046", "order.paid", w.ago(26*time.Minute))
	w.post(throttled, 0, w.ago(26*time.Minute), 429, "status_429", "retry", 10*time.Millisecond, w.ago(25*time.Minute))
	w.post(throttled, 1, w.ago(25*time.Minute), 200, "ok", "delivered", 15*time.Millisecond, time.Time{})
	gone := ledgertest.Settlement{Kind: "discard", AttemptID: uuid.New(), Of: w.deliver("acme", "ep_acme_2", "evt-1047", "order.paid", w.ago(15*time.Minute)),
		StartedAt: w.ago(15 * time.Minute), Reason: "endpoint_deleted"}
	w.Settle(gone)
	// Its retry record vanished.
	w.post(w.deliver("acme", "ep_acme_1", "evt-1048", "order.paid", w.ago(50*time.Minute)), 0, w.ago(50*time.Minute), 500, "status_5xx", "retry", 60*time.Millisecond, w.ago(41*time.Minute))

	for topic, done := range map[string]int64{"deliveries": w.offset + 1, "attempts": -1} {
		w.Note(ledgertest.Progress{Topic: topic, ReachedAt: w.now, TakenAt: w.now, DoneOffset: done, DoneAt: w.now})
	}
	return w
}

// questions are the SQL blocks of the document by their number.
func questions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/analytics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, m := range regexp.MustCompile("(?s)\n### (\\d+)\\. [^\n]*\n(.*?)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(m[2], "\n### ") {
			t.Errorf("question %s has no SQL", m[1])
		}
		out[m[1]] = m[3]
	}
	if blocks := strings.Count(string(text), "```sql"); blocks != len(out) {
		t.Fatalf("%d blocks of SQL, %d questions", blocks, len(out))
	}
	return out
}

// tsv asks as curl would.
func (w *town) tsv(t *testing.T, sql string) string {
	t.Helper()
	u := url.URL{Scheme: "http", Host: clickhousetest.Shared(t).Addr(), Path: "/", RawQuery: url.Values{"database": {w.Database}, "default_format": {"TSV"}}.Encode()}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post(u.String(), "text/plain", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", response.Status, body)
	}
	return string(body)
}

func TestTheDocumentsQuestionsHaveTheirAnswers(t *testing.T) {
	w := newTown(t)
	at := func(d time.Duration) string { return w.ago(d).Format("2006-01-02 15:04:05.000") }
	minute := func(d time.Duration) string { return w.ago(d).Format("2006-01-02 15:04:05") }
	missing := webhook.DeliveryID("/shop", "evt-1048", "ep_acme_1")
	var yesterday []string
	for i := range 10 {
		yesterday = append(yesterday, at(30*time.Hour-time.Duration(9-i)*time.Minute)+fmt.Sprintf("	evt-%d	200	ok	OK", 9-i))
	}
	answers := map[string][]string{
		"1": {
			`ep_acme_1	delivered	200	2	ok	` + w.ago(29*time.Minute).Add(90*time.Millisecond).Format("2006-01-02 15:04:05.000") + `	\N`,
			`ep_acme_2	delivered	200	1	ok	` + w.ago(30*time.Minute).Add(20*time.Millisecond).Format("2006-01-02 15:04:05.000") + `	\N`,
		},
		"2": {
			at(30*time.Minute) + `	attempt	0	0	500	status_5xx	80	Internal Server Error`,
			at(29*time.Minute) + `	attempt	1	0	200	ok	90	OK`,
		},
		"3": {`order.paid	delivered	{"id":"evt-1042"}`},
		"4": {
			// In the whole day; the missing one isn't known as such to this view.
			`acme	ep_acme_1	evt-1048	1	status_5xx	-4`,
			`acme	ep_acme_1	evt-1043	1	status_5xx	`,
		},
		"5": {`globex	ep_globex	expired	1`, `globex	ep_globex	status_410	1`},
		"6": {`globex	ep_globex	1	` + at(26*time.Minute)},
		"7": {`globex	ep_globex	9000	4`, `acme	ep_acme_1	90	4`, `acme	ep_acme_2	20	1`},
		"8": {
			minute(26*time.Minute) + `	1	0	10	{'status_429':1}`,
			minute(25*time.Minute) + `	2	50	30	{'status_410':1}`,
			minute(24*time.Minute) + `	1	0	9000	{'timeout':1}`,
		},
		"9":  {`acme	ep_acme_1	100	25`, `globex	ep_globex	100	25`},
		"10": {`order.created	1	0	1`, `order.paid	4	2	3`},
		"11": {`ep_globex	0	3	{'status_410':1,'status_429':1,'timeout':1}`},
		"12": {`8	3	1	2	1	1`},
		"13": {`acme	ep_acme_1	` + missing + `	0	`},
		"14": append([]string{
			at(24*time.Minute) + `	evt-1045	0	timeout	`,
			at(25*time.Minute) + `	evt-1044	410	status_410	Gone`, // these two by attempt_id
			at(25*time.Minute) + `	evt-1046	200	ok	OK`,
			at(26*time.Minute) + `	evt-1046	429	status_429	Too Many Requests`,
		}, yesterday...),
		"15": {`acme	ep_acme_1	1	` + at(29*time.Minute) + `	2	0`, `globex	ep_globex	1	` + at(25*time.Minute) + `	0	2`},
	}
	asked := questions(t)
	if len(asked) < 12 {
		t.Errorf("%d questions, want twelve at least", len(asked))
	}
	for _, n := range slices.Sorted(maps.Keys(asked)) {
		// The document's deployment is this ledger's.
		sql := strings.ReplaceAll(asked[n], "2026-03-02 14:00:00", minute(28*time.Minute))
		got := strings.Split(strings.TrimSuffix(w.tsv(t, sql), "\n"), "\n")
		want, ok := answers[n]
		if !ok {
			t.Errorf("question %s has no answer here", n)
			continue
		}
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("question %s is answered\n%s\nwant\n%s", n, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if len(asked) != len(answers) {
		t.Errorf("%d questions, %d answers", len(asked), len(answers))
	}
}
