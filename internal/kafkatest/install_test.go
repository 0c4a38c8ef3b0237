package kafkatest

import (
	"errors"
	"testing"
)

func TestJavaVersionsAreReadInBothNumberings(t *testing.T) {
	for out, want := range map[string]int{
		`openjdk version "17.0.15" 2025-04-15`:                        17,
		`openjdk version "21" 2023-09-19`:                             21,
		`java version "1.8.0_392"`:                                    8,
		`openjdk version "26-ea" 2026-03-17`:                          26,
		"Picked up _JAVA_OPTIONS: -Xmx1g\nopenjdk version \"17.0.1\"": 17,
	} {
		if got, ok := parseJavaVersion([]byte(out)); !ok || got != want {
			t.Errorf("%q: %d, %v", out, got, ok)
		}
	}
	if _, ok := parseJavaVersion([]byte("command not found")); ok {
		t.Error("read a version where there is none")
	}
}

func TestAMachineWithoutJavaIsSaidToBeOne(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	if _, err := install(t.Context()); !errors.Is(err, errUnavailable) {
		t.Errorf("got %v", err)
	}
}
