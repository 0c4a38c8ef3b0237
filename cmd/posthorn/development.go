package main

import (
	"strings"

	"posthorn/internal/app"
	"posthorn/internal/config"
)

// Where a development line listens unless its ports were chosen.
const (
	developmentAPI        = "http://127.0.0.1:9464"
	developmentClickHouse = "127.0.0.1:8123"
)

// developmentLine returns where a development line that was started in this
// directory listens, with its usual ports where none was.
func developmentLine() (app.Addresses, error) {
	a, err := app.ReadAddresses(defaultDataDir)
	if a == (app.Addresses{}) {
		a = app.Addresses{Kafka: config.Default().Kafka.Brokers[0], Admin: developmentAPI, ClickHouse: "http://" + developmentClickHouse}
	}
	return a, err
}

// developmentBroker sets the broker of a development line where the
// configuration names none.
func developmentBroker(cfg *config.Config) error {
	if cfg.Origin("kafka.brokers") != (config.Origin{}) {
		return nil
	}
	a, err := developmentLine()
	if err == nil {
		cfg.Kafka.Brokers = []string{a.Kafka}
	}
	return err
}

// developmentLedger returns the ClickHouse of a development line, host:port.
func developmentLedger() (string, error) {
	a, err := developmentLine()
	return strings.TrimPrefix(a.ClickHouse, "http://"), err
}
