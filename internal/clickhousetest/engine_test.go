package clickhousetest

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	for range 2 {
		conn := Conn(t)
		if err := conn.Exec(t.Context(), "CREATE TABLE t (n UInt8) ENGINE = MergeTree ORDER BY n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		var n uint64
		if err := conn.QueryRow(t.Context(), "SELECT count() FROM t").Scan(&n); err != nil || n != 1 {
			t.Fatalf("count is %d, %v", n, err)
		}
	}
}
