package main

import (
	"testing"

	"github.com/alecthomas/kong"
)

func TestTheDemoKnowsTheDefaultsThatItReplaces(t *testing.T) {
	var g grammar
	p, err := kong.New(&g)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse([]string{"dev"}); err != nil {
		t.Fatal(err)
	}
	if d := g.Dev; d.DataDir != defaultDataDir || d.KafkaPort != defaultKafkaPort || d.AdminPort != defaultAdminPort {
		t.Errorf("the grammar's are %q, %d and %d", d.DataDir, d.KafkaPort, d.AdminPort)
	}
}
