package clickhouse

import (
	"os"
	"strings"
	"testing"

	"posthorn/internal/clickhousetest"
	"posthorn/internal/config"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m)) }

// asking returns what asking the ledger of a configuration fails with.
func asking(t *testing.T, change func(*config.ClickHouse)) string {
	t.Helper()
	c := config.Default().ClickHouse
	c.Password = "hunter2hunter2"
	change(&c)
	conn, err := OpenLedger(c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var n uint64
	err = Explain(t.Context(), c, conn.QueryRow(t.Context(), "SELECT count() FROM deliveries").Scan(&n))
	if err == nil {
		t.Fatal("it was answered")
	}
	text := err.Error()
	if strings.Contains(text, "://") || strings.Contains(text, string(c.Password)) || strings.Contains(text, "client_protocol_version") {
		t.Errorf("the error tells the URL: %s", text)
	}
	return text
}

func TestAnErrorSaysTheNextStepAndNoURL(t *testing.T) {
	engine := clickhousetest.Shared(t).Addr()
	for _, c := range []struct {
		addr, protocol, database string
		wants                    string
	}{
		{"127.0.0.1:1", config.ProtocolHTTP, "posthorn", "nothing listens at 127.0.0.1:1: start"},
		{"127.0.0.1:1", config.ProtocolNative, "posthorn", "nothing listens at 127.0.0.1:1: start"},
		{engine, config.ProtocolHTTP, "nothing_here", "posthorn clickhouse migrate"},
		{engine, config.ProtocolHTTP, "default", "posthorn clickhouse migrate"},
		{engine, config.ProtocolNative, "posthorn", "clickhouse.protocol: http"},
	} {
		text := asking(t, func(ch *config.ClickHouse) {
			ch.Addr, ch.Protocol, ch.Database = []string{c.addr}, c.protocol, c.database
		})
		if !strings.Contains(text, c.wants) {
			t.Errorf("%s %s %s: %s", c.addr, c.protocol, c.database, text)
		}
	}
}

func TestHTTPToAPortOfTheNativeProtocolIsToldApart(t *testing.T) {
	server := clickhousetest.NewServer(t)
	text := asking(t, func(ch *config.ClickHouse) { ch.Addr, ch.Protocol = []string{server.Addr}, config.ProtocolHTTP })
	if !strings.Contains(text, "is a port of the native protocol: set clickhouse.protocol: native") {
		t.Error(text)
	}
}
