package schema

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"posthorn/internal/clickhousetest"
)

var forms = map[string]Options{
	"one server":         {},
	"with a sign-in":     {User: "posthorn", Password: `it's \ "odd"`},
	"cluster":            {Cluster: "main-1"},
	"replicated cluster": {Cluster: "main-1", Replicated: true, Database: "hooks"},
	"replicated by UUID": {Cluster: "main-1", Replicated: true, ReplicaPath: "/ch/{uuid}/{shard}", ReplicaName: "{host}"},
}

func rendered(t *testing.T, o Options) []Statement {
	t.Helper()
	statements, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return statements
}

func TestEveryStatementOfEveryFormParses(t *testing.T) {
	conn := clickhousetest.Conn(t)
	for form, o := range forms {
		for _, s := range rendered(t, o) {
			var formatted string
			if err := conn.QueryRow(t.Context(), "SELECT formatQuery({sql:String})", clickhouse.Named("sql", s.SQL)).Scan(&formatted); err != nil {
				t.Errorf("%s: %s: %v\n%s", form, s.Name, err, s.SQL)
			}
		}
	}
}

func TestAClusterIsNamedInEveryStatementAndOneServerInNone(t *testing.T) {
	for form, o := range forms {
		for _, s := range rendered(t, o) {
			if got, want := strings.Count(s.SQL, " ON CLUSTER 'main-1'"), min(len(o.Cluster), 1); got != want {
				t.Errorf("%s: %s names the cluster %d times, want %d:\n%s", form, s.Name, got, want, s.SQL)
			}
			if o.Cluster == "" {
				for _, word := range []string{"_local", "Distributed", "Replicated", "cluster("} {
					if strings.Contains(s.SQL, word) {
						t.Errorf("%s: %s: %s on one server:\n%s", form, s.Name, word, s.SQL)
					}
				}
			}
			if strings.Contains(s.SQL, "{{") || strings.Contains(s.SQL, "<no value>") {
				t.Errorf("%s: %s isn't rendered:\n%s", form, s.Name, s.SQL)
			}
		}
	}
}

func TestWhatAClusterStoresIsReplicatedAndSharded(t *testing.T) {
	all := rendered(t, forms["replicated cluster"])
	has := func(parts ...string) {
		t.Helper()
		if !slices.ContainsFunc(all, func(s Statement) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s.SQL, p) })
		}) {
			t.Errorf("no statement has all of %q", parts)
		}
	}
	const replica = "('/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
	has("CREATE DATABASE IF NOT EXISTS `hooks` ON CLUSTER 'main-1'")
	has("CREATE TABLE IF NOT EXISTS `hooks`.`deliveries_local`", "ENGINE = ReplicatedReplacingMergeTree"+replica+", precedence)", "replicated_deduplication_window = 10000")
	has("CREATE TABLE IF NOT EXISTS `hooks`.`attempts_local`", "ENGINE = ReplicatedReplacingMergeTree"+replica+")")
	has("CREATE TABLE IF NOT EXISTS `hooks`.`messages_local`", "ENGINE = ReplicatedReplacingMergeTree"+replica+", begun_at)")
	has("CREATE TABLE IF NOT EXISTS `hooks`.`progress_local`", "ENGINE = ReplicatedMergeTree"+replica+")")
	// All of a delivery is on one shard; a body is where its ID says.
	has("CREATE TABLE IF NOT EXISTS `hooks`.`deliveries` ON", "AS `hooks`.`deliveries_local`", "Distributed('main-1', 'hooks', 'deliveries_local', cityHash64(delivery_id))")
	has("CREATE TABLE IF NOT EXISTS `hooks`.`attempts` ON", "Distributed('main-1', 'hooks', 'attempts_local', cityHash64(delivery_id))")
	has("CREATE TABLE IF NOT EXISTS `hooks`.`messages` ON", "Distributed('main-1', 'hooks', 'messages_local', cityHash64(body_id))")
	// What is told of each delivery is told by its shard.
	has("CREATE OR REPLACE VIEW `hooks`.`delivery_status_local`", "FROM `hooks`.`deliveries_local`", "FROM `hooks`.`attempts_local`")
	has("CREATE OR REPLACE TABLE `hooks`.`delivery_status` ON", "Distributed('main-1', 'hooks', 'delivery_status_local')")
	has("CREATE OR REPLACE VIEW `hooks`.`delivery_status_between`", "cluster('main-1', view(\nSELECT")
	has("CREATE OR REPLACE VIEW `hooks`.`reckoning_local`", "FROM `hooks`.`attempts_local`", "FROM `hooks`.`progress`")
	has("CREATE OR REPLACE VIEW `hooks`.`reconciliation`", "FROM `hooks`.`reckoning`\n")
	has("CREATE OR REPLACE VIEW `hooks`.`endpoint_minutes`", "FROM `hooks`.`attempts` FINAL")
	// The record of migrations is one for all shards, which may name their replicas
	// alike.
	has("`hooks`.`schema_migrations`", "('/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}')")
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		`database "a-b"`:        {Database: "a-b"},
		"cluster":               {Cluster: "a'b"},
		"needs a cluster":       {Replicated: true},
		"replica path":          {ReplicaPath: "relative/{table}"},
		"share one path":        {Cluster: "c", Replicated: true, ReplicaPath: "/clickhouse/{shard}"},
		"replica name":          {ReplicaName: "it's"},
		"TTL of deliveries 36h": {DeliveriesTTL: 36 * time.Hour},
		"TTL of attempts -24h":  {AttemptsTTL: -24 * time.Hour},
		"TTL of bodies 1m":      {BodiesTTL: time.Minute},
		"TTL of attempts 24h0m0s: want that of deliveries, 2160h0m0s": {AttemptsTTL: 24 * time.Hour},
		"grace 1.5s":             {Grace: 1500 * time.Millisecond},
		"password: needs a user": {Password: "x"},
	} {
		if _, err := Render(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// Views carry a checksum of their text for everyone to see. All of that text is known
// but the password.
func TestNoChecksumIsAQuickTestOfAPassword(t *testing.T) {
	comment := func(password string) string {
		for _, s := range rendered(t, Options{User: "posthorn", Password: password}) {
			if s.Name == "message_bodies" {
				text, sum, _ := strings.Cut(s.SQL, "\nCOMMENT '")
				file, err := files.ReadFile("views/10_message_bodies.sql")
				if err != nil {
					t.Fatal(err)
				}
				whole, err := dialect{Options{User: "posthorn", Password: password}.withDefaults()}.render("", string(file))
				if err != nil || !strings.HasPrefix(strings.TrimSpace(whole), text) {
					t.Fatalf("%q isn't what was made of %q (%v)", text, whole, err)
				}
				if strings.HasPrefix(sum, checksum(whole)) {
					t.Error("the checksum is that of the text with the password")
				}
				return sum
			}
		}
		t.Fatal("no dictionary")
		return ""
	}
	if comment("one") == comment("two") {
		t.Error("a changed password isn't noticed")
	}
}

func TestFilesAreCutIntoStatements(t *testing.T) {
	got := split("-- about a\nSELECT ';' -- no end; here\n;\n\n-- about nothing\n")
	want := []string{"-- about a\nSELECT ';' -- no end; here"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
