package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheManualNamesEveryKeyAndNoOther(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| key | variable")
	if !ok {
		t.Fatal("the table of keys isn't there")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var named []string
	for row := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) < 3 || strings.Contains(cells[1], "sources[]") {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z0-9_.]+)`").FindAllStringSubmatch(cells[1], -1) {
			named = append(named, m[1])
			if variable := strings.ToUpper(strings.ReplaceAll(m[1], ".", "_")); !strings.Contains(cells[2], "`"+variable+"`") {
				t.Errorf("%s: its variable isn't %s there", m[1], variable)
			}
		}
	}
	keys := leaves(reflect.TypeFor[Config](), "")
	for _, key := range keys {
		if !slices.Contains(named, key) {
			t.Errorf("%s isn't in the manual", key)
		}
	}
	for _, key := range named {
		if !slices.Contains(keys, key) {
			t.Errorf("%s is in the manual, and there is no such key", key)
		}
	}
}
