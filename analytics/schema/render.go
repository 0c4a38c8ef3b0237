package schema

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed *.sql views/*.sql
var files embed.FS

// Statement is one statement of SQL.
type Statement struct {
	// Name is the file's: "0003_attempts" of a migration, "delivery_status" of a
	// view. A file's statements follow one another.
	Name string
	// Version is the migration's number; 0 of what is created anew when it differs.
	Version int
	// SQL may hold the dictionary's password: it is not for logs.
	SQL string
}

// object is one file, rendered.
type object struct {
	name       string
	version    int
	checksum   string // of a migration: the file's text; of a view: the rendered text
	statements []string
}

// Render returns all statements for an empty database, in order.
func Render(o Options) ([]Statement, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := dialect{o.withDefaults()}
	out := []Statement{}
	for _, sql := range d.bootstrap() {
		out = append(out, Statement{Name: "schema_migrations", SQL: sql})
	}
	migrations, err := d.objects(files, "*.sql")
	if err != nil {
		return nil, err
	}
	views, err := d.objects(files, "views/*.sql")
	if err != nil {
		return nil, err
	}
	for _, obj := range append(migrations, views...) {
		for _, sql := range obj.statements {
			out = append(out, Statement{Name: obj.name, Version: obj.version, SQL: sql})
		}
	}
	return out, nil
}

// fileName is NNNN_name.sql of migrations, NN_name.sql of views, whose number is
// only their order.
var fileName = regexp.MustCompile(`^(\d+)_([a-z_]+)\.sql$`)

func (d dialect) objects(from fs.FS, pattern string) ([]object, error) {
	names, err := fs.Glob(from, pattern) // sorted
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", pattern, err)
	}
	noted, err := d.noted()
	if err != nil {
		return nil, err
	}
	out := make([]object, 0, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		m := fileName.FindStringSubmatch(path.Base(name))
		if m == nil {
			return nil, fmt.Errorf("reading %s: want a number, _ and a name", name)
		}
		rendered, err := d.render(name, string(text))
		if err != nil {
			return nil, err
		}
		obj := object{name: m[2], statements: split(rendered)}
		if path.Dir(name) == "." {
			obj.name = strings.TrimSuffix(name, ".sql")
			if obj.version, err = strconv.Atoi(m[1]); err != nil {
				return nil, fmt.Errorf("reading %s: %w", name, err)
			}
			obj.checksum = checksum(string(text))
		} else {
			shown, err := noted.render(name, string(text))
			if err != nil {
				return nil, err
			}
			obj.checksum = checksum(shown)
			// What a view was made from is noted at the view itself: one that somebody
			// dropped or replaced comes back.
			for i, sql := range obj.statements {
				obj.statements[i] = sql + "\nCOMMENT '" + obj.checksum + "'"
			}
		}
		out = append(out, obj)
	}
	return out, nil
}

// noted is the dialect whose texts checksums are made of. Whoever sees a view sees
// its checksum, and knows all of its text but the password: that is in it only as a
// hash that is slow to try, so that a changed one is noticed and none is guessed.
func (d dialect) noted() (dialect, error) {
	if d.Password == "" {
		return d, nil
	}
	slow, err := pbkdf2.Key(sha256.New, d.Password, []byte("posthorn ledger "+d.Database+" "+d.User), 600_000, sha256.Size)
	if err != nil {
		return d, fmt.Errorf("hashing the password: %w", err)
	}
	d.Password = hex.EncodeToString(slow)
	return d, nil
}

func checksum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// comment is a line of commentary, and the line break before what follows it.
var comment = regexp.MustCompile(`(?m)^\s*--.*\n`)

// split cuts text at semicolons that end a line. Comments that stand between
// statements go; those within stay with their statement.
func split(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ";\n") {
		if strings.TrimSpace(comment.ReplaceAllString(part+"\n", "")) != "" {
			out = append(out, strings.TrimSpace(part))
		}
	}
	return out
}

// creates finds the name of what a statement creates.
var creates = regexp.MustCompile("^CREATE OR REPLACE (VIEW|TABLE|DICTIONARY) `[^`]*`\\.`([^`]*)`")

// created is the name of what a view's statement creates.
func created(sql string) string {
	_, name := creation(sql)
	return name
}

// kindOf is what a view's statement creates: "view", "table" or "dictionary".
func kindOf(sql string) string {
	kind, _ := creation(sql)
	return strings.ToLower(kind)
}

func creation(sql string) (kind, name string) {
	m := creates.FindStringSubmatch(strings.TrimSpace(comment.ReplaceAllString(sql, "")))
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}

// dialect is what the templates call.
type dialect struct{ Options }

func (d dialect) render(name, text string) (string, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"stored":          d.stored,
		"name":            d.table,
		"dictionary":      func(n string) string { return literal(d.Database + "." + n) },
		"literal":         literal,
		"onCluster":       d.onCluster,
		"engine":          d.engine,
		"deduplication":   d.deduplication,
		"ttl":             d.ttl,
		"distributed":     d.distributed,
		"distributedView": d.distributedView,
		"everywhere":      d.everywhere,
		"endEverywhere":   d.endEverywhere,
		"kept":            kept,
		"always":          func() reach { return reach{d.Options, "\n        WHERE " + kept(d.DeliveriesTTL)} },
		"around":          func() reach { return reach{d.Options, "\n        WHERE " + kept(d.DeliveriesTTL) + around} },
		"signIn":          d.signIn,
		"seconds":         func(t time.Duration) int64 { return int64(t / time.Second) },
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("rendering %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("rendering %s: %w", name, err)
	}
	return b.String(), nil
}

// reach is which rows a view reads.
type reach struct {
	Options
	Where string
}

// kept are the rows that aren't past a TTL. Those that are go part by part, and so
// not at once: what is left of a delivery would look pending, or missing.
func kept(ttl time.Duration) string {
	return fmt.Sprintf("begun_at >= now64(3, 'UTC') - toIntervalDay(%d)", ttl/day)
}

// around is an hour more on both sides: where an event lies on its log twice, the
// other half of a delivery may be there.
const around = `
            AND begun_at >= {since:DateTime64(3, 'UTC')} - INTERVAL 1 HOUR AND begun_at < {until:DateTime64(3, 'UTC')} + INTERVAL 1 HOUR`

// table is the name that people ask.
func (d dialect) table(name string) string { return "`" + d.Database + "`.`" + name + "`" }

// stored is the name of what lies on each server.
func (d dialect) stored(name string) string {
	if d.Cluster != "" {
		name += "_local"
	}
	return d.table(name)
}

func (d dialect) onCluster() string {
	if d.Cluster == "" {
		return ""
	}
	return " ON CLUSTER " + literal(d.Cluster)
}

func (d dialect) engine(name string, args ...string) string {
	if d.Replicated {
		name = "Replicated" + name
		args = append([]string{literal(d.ReplicaPath), literal(d.ReplicaName)}, args...)
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// deduplication is how many inserts a table remembers: a batch that is sent again
// is no second batch. Keeper forgets by age too: after a week.
func (d dialect) deduplication() string {
	if d.Replicated {
		return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
	}
	return "non_replicated_deduplication_window = 10000"
}

// ttls are the tables that lose rows with time. The column is the time that
// counts.
func (d dialect) ttls() []struct {
	table, column string
	keep          time.Duration
} {
	return []struct {
		table, column string
		keep          time.Duration
	}{
		{"deliveries", "begun_at", d.DeliveriesTTL},
		{"messages", "begun_at", d.BodiesTTL},
		{"attempts", "begun_at", d.AttemptsTTL},
		{"progress", "taken_at", 7 * day},
	}
}

// ttl is written as ClickHouse writes it back, so that it can be compared.
func (d dialect) ttl(table string) (string, error) {
	for _, t := range d.ttls() {
		if t.table == table {
			return fmt.Sprintf("toDateTime(%s) + toIntervalDay(%d)", t.column, t.keep/day), nil
		}
	}
	return "", fmt.Errorf("table %s has no TTL", table)
}

func (d dialect) distributed(name, key string) string {
	if d.Cluster == "" {
		return ""
	}
	return "CREATE TABLE IF NOT EXISTS " + d.table(name) + d.onCluster() + " AS " + d.stored(name) +
		"\nENGINE = Distributed(" + literal(d.Cluster) + ", " + literal(d.Database) + ", " + literal(name+"_local") + ", " + key + ");"
}

// distributedView asks a view on every shard, where all of a delivery is, and not
// its tables: what travels is answers, not rows.
func (d dialect) distributedView(name string) string {
	if d.Cluster == "" {
		return ""
	}
	return "CREATE OR REPLACE TABLE " + d.table(name) + d.onCluster() + " AS " + d.stored(name) +
		"\nENGINE = Distributed(" + literal(d.Cluster) + ", " + literal(d.Database) + ", " + literal(name+"_local") + ");"
}

func (d dialect) everywhere() string {
	if d.Cluster == "" {
		return "("
	}
	return "cluster(" + literal(d.Cluster) + ", view("
}

func (d dialect) endEverywhere() string {
	if d.Cluster == "" {
		return ")"
	}
	return "))"
}

func (d dialect) signIn() string {
	if d.User == "" {
		return ""
	}
	return "USER " + literal(d.User) + " PASSWORD " + literal(d.Password) + " "
}

// bootstrap is what has to be there before anything can be recorded.
func (d dialect) bootstrap() []string {
	all := d
	// Every server has all of it, whatever its shard; each shard may call its
	// replicas 1, 2, …
	if strings.Contains(d.ReplicaPath, "{shard}") {
		all.ReplicaPath = strings.ReplaceAll(d.ReplicaPath, "{shard}", "all")
		all.ReplicaName = "{shard}-" + d.ReplicaName
	}
	return []string{
		"CREATE DATABASE IF NOT EXISTS `" + d.Database + "`" + d.onCluster(),
		"CREATE TABLE IF NOT EXISTS " + d.table("schema_migrations") + d.onCluster() + `
(
    version    UInt32,
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ` + all.engine("ReplacingMergeTree") + `
ORDER BY (version, checksum)`,
	}
}

// literal quotes a string for SQL.
func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
