package app

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"posthorn/analytics/ledger"
	"posthorn/internal/clickhouse"
	"posthorn/internal/clickhousetest"
	"posthorn/internal/config"
	"posthorn/retrytopics"
)

// The whole line, in real time, for the engine is a process of its own: two
// deliveries fail, the record that would have tried one of them again is
// deleted, and the other one is delivered.
func TestADeletedRetryRecordIsMissingInTheReconciliation(t *testing.T) {
	t.Setenv("POSTHORN_LIBCHDB", clickhousetest.Library(t))
	var posts atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if posts.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer receiver.Close()
	dir := filepath.Join(t.TempDir(), "line")
	with := func(roles ...Role) func(*DevOptions) {
		return func(o *DevOptions) {
			o.Roles = roles
			o.Config.Delivery.AllowCIDR = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			o.Config.ClickHouse.Grace = time.Second
		}
	}
	d := startDev(t, dir, with(RoleMatch, RoleDispatch, RoleAPI, RoleAnalytics)) // nobody reads the tiers yet
	if status, text := d.ask(http.MethodPost, "/v1/tenants/acme/endpoints", "localhost", `{"url":"`+receiver.URL+`/hook"}`); status != http.StatusCreated {
		t.Fatalf("registering: %d %s", status, text)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(d.at.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, id := range []string{"one", "two"} {
		r := orderOf(id, "order.created")
		r.Topic = DevTopic
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	adm := kadm.NewClient(client)
	tier := retrytopics.RetryTopic(config.Default().Prefix, time.Second)
	waitUntil(t, "both deliveries wait on "+tier, func() bool {
		ends, err := adm.ListEndOffsets(t.Context(), tier)
		end, ok := ends.Lookup(tier, 0)
		return err == nil && ok && end.Offset == 2
	})
	var first kadm.Offsets
	first.Add(kadm.Offset{Topic: tier, Partition: 0, At: 1})
	if _, err := adm.DeleteRecords(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	d.end()

	d = startDev(t, dir, with())
	defer d.end()
	var last ledger.Counts
	waitUntil(t, "one is delivered and the other missing", func() bool {
		last = d.reconcile().Counts
		return last == ledger.Counts{Matched: 2, Delivered: 1, Missing: 1}
	})
	t.Logf("reconcile: matched=%d delivered=%d pending=%d dead=%d discarded=%d difference=%d",
		last.Matched, last.Delivered, last.Pending, last.Dead, last.Discarded, last.Missing)
}

// ledger connects to the ledger; the caller closes it.
func (d *devLine) ledger() driver.Conn {
	d.t.Helper()
	c := config.Default().ClickHouse
	c.Addr, c.Protocol = []string{strings.TrimPrefix(d.at.ClickHouse, "http://")}, config.ProtocolHTTP
	conn, err := clickhouse.OpenLedger(c)
	if err != nil {
		d.t.Fatal(err)
	}
	return conn
}

// exec runs a statement in the ledger.
func (d *devLine) exec(sql string) {
	d.t.Helper()
	conn := d.ledger()
	defer func() { _ = conn.Close() }()
	if err := conn.Exec(d.t.Context(), sql); err != nil {
		d.t.Fatal(err)
	}
}

// reconcile asks the ledger of the last hour.
func (d *devLine) reconcile() *ledger.Reconciliation {
	d.t.Helper()
	conn := d.ledger()
	defer func() { _ = conn.Close() }()
	r, err := ledger.New(conn).Reconcile(d.t.Context(), time.Now().Add(-time.Hour), time.Time{})
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// waitUntil asks until it is so; a minute is for machines that stall.
func waitUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for !so() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late:
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}
