package schema

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"posthorn/internal/clickhousetest"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m)) }

func world(t *testing.T) (driver.Conn, Options) {
	t.Helper()
	database := clickhousetest.Database(t)
	return clickhousetest.Dial(t, clickhousetest.Shared(t), ""), Options{Database: database}
}

func mustMigrate(t *testing.T, conn driver.Conn, o Options) []string {
	t.Helper()
	applied, err := Migrate(t.Context(), conn, o)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func text(t *testing.T, conn driver.Conn, sql string, args ...any) string {
	t.Helper()
	var s string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// catalogue is everything that a migration could change.
func catalogue(t *testing.T, conn driver.Conn, o Options) string {
	t.Helper()
	return text(t, conn, `SELECT toString(groupArray((name, uuid, create_table_query))) FROM
		(SELECT * FROM system.tables WHERE database = {db:String} ORDER BY name)`, clickhouse.Named("db", o.Database))
}

func TestMigratingTwiceChangesNothing(t *testing.T) {
	conn, o := world(t)
	first := mustMigrate(t, conn, o)
	if !slices.Contains(first, "migration 0001_deliveries") || !slices.Contains(first, "view reconciliation_between") || !slices.Contains(first, "dictionary message_bodies") {
		t.Fatalf("applied %q", first)
	}
	before := catalogue(t, conn, o)
	if again := mustMigrate(t, conn, o); len(again) != 0 {
		t.Errorf("the second migration applied %q", again)
	}
	if after := catalogue(t, conn, o); after != before {
		t.Errorf("the second migration changed\n%s\nto\n%s", before, after)
	}
}

func TestMigratorsAtOnceDoNotDisturbEachOther(t *testing.T) {
	conn, o := world(t)
	for round := range 2 {
		// A round begins with nothing, the second with views that all differ.
		o.Grace = time.Duration(round+1) * time.Minute
		o.AttemptsTTL = DefaultTTL + time.Duration(round+1)*24*time.Hour
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = Migrate(t.Context(), conn, o) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		if again := mustMigrate(t, conn, o); len(again) != 0 {
			t.Errorf("round %d: left undone: %q", round, again)
		}
		if s := text(t, conn, "SELECT toString(count()) FROM "+o.Database+".reckoning"); s != "0" {
			t.Errorf("reckoning has %s rows", s)
		}
	}
}

func TestChangedSettingsAreApplied(t *testing.T) {
	conn, o := world(t)
	mustMigrate(t, conn, o)

	o.DeliveriesTTL, o.AttemptsTTL, o.BodiesTTL = 10*24*time.Hour, 11*24*time.Hour, 12*24*time.Hour
	want := []string{"TTL of deliveries: 10d, was 90d", "TTL of messages: 12d, was 30d", "TTL of attempts: 11d, was 90d"}
	if got := mustMigrate(t, conn, o); len(got) < 3 || !slices.Equal(got[:3], want) {
		t.Errorf("applied %q, want %q and the views that leave out what is past them", got, want)
	}
	for table, want := range map[string]string{
		"deliveries": "TTL toDateTime(begun_at) + toIntervalDay(10)",
		"attempts":   "TTL toDateTime(begun_at) + toIntervalDay(11)",
		"messages":   "TTL toDateTime(begun_at) + toIntervalDay(12)",
		"progress":   "TTL toDateTime(taken_at) + toIntervalDay(7)",
	} {
		got := text(t, conn, "SELECT engine_full FROM system.tables WHERE database = {db:String} AND name = {name:String}",
			clickhouse.Named("db", o.Database), clickhouse.Named("name", table))
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", table, got, want)
		}
	}

	o.Grace = 7 * time.Minute
	// What may be made from the changed view is made anew too.
	if got := mustMigrate(t, conn, o); !slices.Contains(got, "view reckoning") || slices.Contains(got, "view delivery_status") {
		t.Errorf("applied %q", got)
	}
	if got := text(t, conn, "SELECT as_select FROM system.tables WHERE database = {db:String} AND name = 'reckoning'", clickhouse.Named("db", o.Database)); !strings.Contains(got, "toIntervalSecond(420)") {
		t.Errorf("the grace isn't in the view: %s", got)
	}
	if got := mustMigrate(t, conn, o); len(got) != 0 {
		t.Errorf("applied once more: %q", got)
	}
}

func TestATTLDropsWhatIsOlder(t *testing.T) {
	conn, o := world(t)
	mustMigrate(t, conn, o)
	if err := conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO %s.attempts (attempt_id, endpoint_id, started_at, begun_at)
		SELECT generateUUIDv4(), 'e', t, t FROM (SELECT now64(3, 'UTC') - toIntervalDay(arrayJoin([0, 20])) AS t)`, o.Database)); err != nil {
		t.Fatal(err)
	}
	o.DeliveriesTTL, o.AttemptsTTL = 10*24*time.Hour, 10*24*time.Hour
	mustMigrate(t, conn, o)
	if err := conn.Exec(t.Context(), "OPTIMIZE TABLE "+o.Database+".attempts FINAL SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
	if n := text(t, conn, "SELECT toString(count()) FROM "+o.Database+".attempts"); n != "1" {
		t.Errorf("%s rows are left, want the young one", n)
	}
}

func TestAViewThatSomebodyDroppedComesBack(t *testing.T) {
	conn, o := world(t)
	mustMigrate(t, conn, o)
	if err := conn.Exec(t.Context(), "DROP VIEW "+o.Database+".endpoint_minutes"); err != nil {
		t.Fatal(err)
	}
	if got := mustMigrate(t, conn, o); !slices.Contains(got, "view endpoint_minutes") {
		t.Errorf("applied %q", got)
	}
}

// edited is the package's files with one of them changed or taken away.
func edited(t *testing.T, name string, edit func(string) string) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	for _, pattern := range []string{"*.sql", "views/*.sql"} {
		names, err := fs.Glob(files, pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			b, err := fs.ReadFile(files, n)
			if err != nil {
				t.Fatal(err)
			}
			out[n] = &fstest.MapFile{Data: b}
		}
	}
	if edit == nil {
		delete(out, name)
	} else {
		out[name] = &fstest.MapFile{Data: []byte(edit(string(out[name].Data)))}
	}
	return out
}

func TestAnAppliedMigrationIsNeverChanged(t *testing.T) {
	conn, o := world(t)
	mustMigrate(t, conn, o)
	_, err := migrate(t.Context(), conn, o, edited(t, "0003_attempts.sql", func(s string) string { return s + "-- a word more\n" }))
	if err == nil || !strings.Contains(err.Error(), "0003_attempts") || !strings.Contains(err.Error(), "never changed") {
		t.Errorf("error %v, want one that names 0003_attempts", err)
	}
}

func TestADatabaseOfANewerProgramIsRefused(t *testing.T) {
	conn, o := world(t)
	mustMigrate(t, conn, o)
	_, err := migrate(t.Context(), conn, o, edited(t, "0004_progress.sql", nil))
	if err == nil || !strings.Contains(err.Error(), "0004_progress") || !strings.Contains(err.Error(), "newer") {
		t.Errorf("error %v, want one that names 0004_progress", err)
	}
}

func TestErrorsNameTheMigrationAndNoPassword(t *testing.T) {
	conn, o := world(t)
	o.User, o.Password = "nobody", "hunter2hunter2"
	_, err := migrate(t.Context(), conn, o, edited(t, "views/10_message_bodies.sql", func(s string) string {
		return strings.Replace(s, "LAYOUT(COMPLEX_KEY_DIRECT())", "LAYOUT(NO_SUCH_LAYOUT())", 1)
	}))
	if err == nil || !strings.Contains(err.Error(), "message_bodies") {
		t.Errorf("error %v, want one that names message_bodies", err)
	} else if strings.Contains(err.Error(), o.Password) {
		t.Errorf("the error tells the password: %v", err)
	}
}
