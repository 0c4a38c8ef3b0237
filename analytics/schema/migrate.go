package schema

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Migrate brings the ledger up to date and returns what it did, a line for each:
// "migration 0001_deliveries", "view delivery_status", "TTL of attempts: 10d, was
// 90d"; nothing when there was nothing to do. conn may be of any database; the user needs the
// rights to create databases, tables, views and dictionaries.
//
// Several processes may migrate at once: every statement may run twice. On a cluster
// that keeps no Keeper (Replicated is false) what was applied is recorded on the
// connection's server alone; another one applies it again, which changes nothing.
func Migrate(ctx context.Context, conn driver.Conn, o Options) (applied []string, err error) {
	return migrate(ctx, conn, o, files)
}

func migrate(ctx context.Context, conn driver.Conn, o Options, from fs.FS) ([]string, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	m := migration{conn: conn, d: dialect{o.withDefaults()}}
	migrations, err := m.d.objects(from, "*.sql")
	if err != nil {
		return nil, err
	}
	views, err := m.d.objects(from, "views/*.sql")
	if err != nil {
		return nil, err
	}
	for _, sql := range m.d.bootstrap() {
		if err := conn.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("creating ledger database %s: %w", m.d.Database, err)
		}
	}
	for _, step := range []func() error{
		func() error { return m.tables(ctx, migrations) },
		func() error { return m.ttls(ctx) },
		func() error { return m.views(ctx, views) },
	} {
		if err := step(); err != nil {
			return m.applied, err
		}
	}
	return m.applied, nil
}

type migration struct {
	conn    driver.Conn
	d       dialect
	applied []string
}

func (m *migration) tables(ctx context.Context, migrations []object) error {
	recorded, err := m.recorded(ctx)
	if err != nil {
		return err
	}
	known := make(map[int]bool, len(migrations))
	for _, obj := range migrations {
		known[obj.version] = true
		for _, r := range recorded[obj.version] {
			if r.checksum != obj.checksum {
				return fmt.Errorf("migrating ledger: %s was applied with another text (as %s, checksum %.12s, now %.12s): a migration that was applied is never changed, add another",
					obj.name, r.name, r.checksum, obj.checksum)
			}
		}
	}
	for version, rs := range recorded {
		if !known[version] {
			return fmt.Errorf("migrating ledger: %s was applied, which this program doesn't know: a newer one migrated this database", rs[0].name)
		}
	}
	for _, obj := range migrations {
		if len(recorded[obj.version]) > 0 {
			continue
		}
		if err := m.run(ctx, obj); err != nil {
			return err
		}
		m.applied = append(m.applied, "migration "+obj.name)
		record := "INSERT INTO " + m.d.table("schema_migrations") + " (version, name, checksum, applied_at) SELECT {version:UInt32}, {name:String}, {checksum:String}, now64(3, 'UTC')"
		err := m.conn.Exec(ctx, record, clickhouse.Named("version", obj.version), clickhouse.Named("name", obj.name), clickhouse.Named("checksum", obj.checksum))
		if err != nil {
			return fmt.Errorf("recording migration %s: %w", obj.name, err)
		}
	}
	return nil
}

type record struct{ name, checksum string }

func (m *migration) recorded(ctx context.Context) (map[int][]record, error) {
	rows, err := m.conn.Query(ctx, "SELECT DISTINCT version, name, checksum FROM "+m.d.table("schema_migrations")+" ORDER BY version")
	if err != nil {
		return nil, fmt.Errorf("reading applied migrations: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err has told what went wrong
	out := make(map[int][]record)
	for rows.Next() {
		var version uint32
		var r record
		if err := rows.Scan(&version, &r.name, &r.checksum); err != nil {
			return nil, fmt.Errorf("reading applied migrations: %w", err)
		}
		out[int(version)] = append(out[int(version)], r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading applied migrations: %w", err)
	}
	return out, nil
}

// ttls sets the TTLs that differ. Only the parts' notes of it are made anew, not
// the parts.
func (m *migration) ttls(ctx context.Context) error {
	for _, t := range m.d.ttls() {
		name := t.table
		if m.d.Cluster != "" {
			name += "_local"
		}
		want, err := m.d.ttl(t.table)
		if err != nil {
			return err
		}
		var engine string
		err = m.conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {name:String}",
			clickhouse.Named("database", m.d.Database), clickhouse.Named("name", name)).Scan(&engine)
		if err != nil {
			return fmt.Errorf("reading TTL of %s: %w", name, err)
		}
		if strings.Contains(engine, " TTL "+want+" SETTINGS ") {
			continue
		}
		alter := "ALTER TABLE " + m.d.stored(t.table) + m.d.onCluster() + " MODIFY TTL " + want + " SETTINGS materialize_ttl_after_modify = 1, mutations_sync = 0"
		if err := m.conn.Exec(ctx, alter); err != nil {
			return fmt.Errorf("changing TTL of %s: %w", name, err)
		}
		m.applied = append(m.applied, fmt.Sprintf("TTL of %s: %dd, was %s", t.table, t.keep/day, ttlOf(engine)))
	}
	return nil
}

// days finds a TTL as [dialect.ttl] writes it.
var days = regexp.MustCompile(` TTL toDateTime\(\w+\) \+ toIntervalDay\((\d+)\) SETTINGS `)

// ttlOf is the TTL of a table for people.
func ttlOf(engine string) string {
	if m := days.FindStringSubmatch(engine); m != nil {
		return m[1] + "d"
	}
	if _, ttl, ok := strings.Cut(engine, " TTL "); ok {
		ttl, _, _ = strings.Cut(ttl, " SETTINGS ")
		return ttl
	}
	return "none"
}

// views creates anew what differs from what is there, and what comes after it, as
// that may be made from it.
func (m *migration) views(ctx context.Context, views []object) error {
	rows, err := m.conn.Query(ctx, "SELECT name, comment FROM system.tables WHERE database = {database:String}", clickhouse.Named("database", m.d.Database))
	if err != nil {
		return fmt.Errorf("reading views: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err has told what went wrong
	there := make(map[string]string)
	for rows.Next() {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return fmt.Errorf("reading views: %w", err)
		}
		there[name] = comment
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading views: %w", err)
	}
	differs := false
	for _, obj := range views {
		for _, sql := range obj.statements {
			differs = differs || there[created(sql)] != obj.checksum
		}
		if !differs {
			continue
		}
		if err := m.run(ctx, obj); err != nil {
			return err
		}
		for _, sql := range obj.statements {
			m.applied = append(m.applied, kindOf(sql)+" "+created(sql))
		}
	}
	return nil
}

// run runs an object's statements. What went wrong is told without the statement,
// which may hold a password.
func (m *migration) run(ctx context.Context, obj object) error {
	for _, sql := range obj.statements {
		if err := m.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("applying %s: %w", obj.name, err)
		}
	}
	return nil
}
